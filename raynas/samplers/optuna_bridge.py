"""This module puts Optuna's samplers behind ask and tell.

The study is in memory and has the run's id as its name. The store is the only truth, and
``replay`` makes the study again. Optuna is told of a trial:

===========  ====================================================================================
COMPLETE     its values; with one objective also the value at every step
STOPPED      PRUNED with the value at every step, which TPE ranks below all completed trials, the
             further ones first. With several objectives Optuna takes no intermediate values, and
             TPE would count the earliest pruned trials as good; there a small violated constraint,
             which shrinks with the steps reached, gives the same order
INFEASIBLE   its violated constraints. PRUNED, or COMPLETE where all objectives were measured to
             the last step
FAILED       FAIL, which no sampler sees. A COMPLETE trial without finite objectives counts as this
===========  ====================================================================================

NSGA-II, GP and CMA-ES learn from Optuna's COMPLETE trials only.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from raynas.core import (
    Architecture,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    rng_for,
    seed_for,
)
from raynas.core.ability import has
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler

    from raynas.samplers.optuna_parts import Distributions

_STOPPED_VIOLATION = 1e-6  # far below the violation of a real bound


@dataclass(frozen=True)
class _Ending:
    """An ended trial in Optuna's terms: the name of its state, values, curve and constraints."""

    state: str
    values: list[float] | None
    curve: dict[int, float]
    constraints: dict[str, float]


@runtime_checkable
class PreparesSearch(Protocol):
    """A sampler that checks a space before a search, or keeps more than Optuna's study."""

    def prepare(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Check space and problem, and forget all trials; called by ``setup``.

        Args:
            space: The search space.
            problem: The search problem.

        Raises:
            UserError: The sampler cannot work in this space.
        """


@dataclass
class OptunaSampler(Sampler):
    """The common part of Optuna's samplers; a subclass adds settings and ``_part``.

    One that must check the space, or keep more than the study, is one that
    :class:`PreparesSearch`.

    An ordered choice is the integer index of its option, any other choice is categorical. The
    proposal for a number depends on seed and history only: Optuna's random state is made anew for
    every ask. Optuna often repeats itself in a small space; a proposal that is known up to
    isomorphism is replaced by a mutant that is not.
    """

    _learns_bounds: ClassVar[bool] = True
    _replays_by_asking: ClassVar[bool] = False

    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _study: optuna.Study = field(init=False, repr=False, compare=False)
    _distributions: Distributions = field(init=False, repr=False, compare=False)
    _pending: dict[int, optuna.Trial] = field(init=False, repr=False, compare=False)

    @abstractmethod
    def _part(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler with every setting explicit."""

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with an empty study.

        Args:
            space: The search space.
            problem: The search problem.

        Raises:
            UserError: The sampler cannot work in this space.
        """
        if has(self, PreparesSearch):
            self.prepare(space, problem)
        self._space, self._problem = space, problem
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._distributions = _distributions(space)
        self._study = _new_study(problem)
        self._pending = {}

    def ask(self, number: int) -> Architecture:
        """Return Optuna's proposal, or a mutant of it where it is known.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        trial = self._draw(number)
        arch = self._architecture(trial)
        if arch in self._distinct:
            self._drop(trial)
            rng = rng_for(self._problem.seed, self.name, number, "variant")
            arch = self._distinct.variant(arch, rng, number)
            trial = self._pin(arch)
        self._distinct.add(arch)
        self._pending[number] = trial
        return arch

    def tell(self, trial: Trial) -> None:
        """Tell Optuna how a trial ended; the module's table says in which terms.

        Args:
            trial: A trial that has ended.
        """
        from optuna.trial import TrialState as OptunaState

        ending = self._ending(trial)
        asked = self._pending.pop(trial.number)
        for step, value in ending.curve.items():
            asked.report(value, step)
        for name, value in ending.constraints.items():
            asked.set_constraint(name, value)
        completes = ending.state == "COMPLETE"
        values = ending.values if completes else None
        self._study.tell(asked, values, state=OptunaState[ending.state])

    def replay(self, trials: Iterable[Trial]) -> None:
        """Make the study again from stored trials.

        Args:
            trials: Stored trials in the order of their numbers.
        """
        for trial in trials:
            self._distinct.replay(trial)
            if self._replays_by_asking:
                self._pending[trial.number] = self._ask_again(trial)
                if trial.state.ended:
                    self.tell(trial)
            elif trial.state.ended:
                self._add(trial)
            else:
                self._pending[trial.number] = self._pin(trial.proposal)

    def _seed(self, number: int) -> int:
        return seed_for(self._problem.seed, self.name, number)

    def _draw(self, number: int) -> optuna.Trial:
        """Return Optuna's own proposal, known or not, as a RUNNING trial."""
        self._study.sampler = self._part(self._seed(number))
        return self._study.ask(self._distributions)

    def _pin(self, arch: Architecture) -> optuna.Trial:
        """Return a RUNNING trial with these options."""
        if not self._replays_by_asking:
            from optuna.samplers import RandomSampler

            self._study.sampler = RandomSampler(seed=0)  # nothing is drawn: spare the model's work
        self._study.enqueue_trial(self._params(arch))
        return self._study.ask(self._distributions)

    def _drop(self, trial: optuna.Trial) -> None:
        from optuna.trial import TrialState as OptunaState

        self._study.tell(trial, state=OptunaState.FAIL)

    def _ask_again(self, trial: Trial) -> optuna.Trial:
        asked = self._draw(trial.number)
        if asked.params == self._params(trial.proposal):
            return asked
        self._drop(asked)
        return self._pin(trial.proposal)

    def _add(self, trial: Trial) -> None:
        from optuna.trial import TrialState as OptunaState
        from optuna.trial import create_trial

        ending = self._ending(trial)
        self._study.add_trial(
            create_trial(
                state=OptunaState[ending.state],
                values=ending.values,
                params=self._params(trial.proposal),
                distributions=self._distributions,
                intermediate_values=ending.curve,
                constraints=ending.constraints,
            )
        )

    def _params(self, arch: Architecture) -> dict[str, int]:
        return {c.name: c.options.index(arch[c.name]) for c in self._space.choices}

    def _architecture(self, trial: optuna.Trial) -> Architecture:
        chosen = trial.params
        return self._space.architecture(
            {c.name: c.options[chosen[c.name]] for c in self._space.choices}
        )

    def _ending(self, trial: Trial) -> _Ending:
        values = [trial.values().get(o.metric, math.nan) for o in self._problem.objectives]
        measured = all(map(math.isfinite, values)) and trial.last is not None
        constraints = self._constraints(trial)
        if trial.state is TrialState.FAILED or (
            trial.state is TrialState.COMPLETE and not measured
        ):
            return _Ending("FAIL", None, {}, {})
        curve = self._curve(trial)
        broken = any(v > 0 for v in self._bound_violations(trial).values())
        full = measured and trial.step >= self._problem.max_step and broken
        if trial.state is TrialState.COMPLETE or (trial.state is TrialState.INFEASIBLE and full):
            return _Ending("COMPLETE", values, curve, constraints)
        last = [curve[max(curve)]] if curve else None
        return _Ending("PRUNED", last, curve, constraints)

    def _curve(self, trial: Trial) -> dict[int, float]:
        """Return step -> value, with one objective; Optuna refuses it with several."""
        if len(self._problem.objectives) > 1:
            return {}
        metric = self._problem.objectives[0].metric
        points = {m.step: trial.values(m).get(metric, math.nan) for m in trial.measurements}
        return {step: value for step, value in points.items() if math.isfinite(value)}

    def _bound_violations(self, trial: Trial) -> dict[str, float]:
        """Return one entry per bound; the GP needs the same entries on every trial."""
        found = {str(b): trial.violations.get(str(b), 0.0) for b in self._problem.bounds}
        return {name: 1.0 if math.isnan(v) else v for name, v in found.items()}

    def _constraints(self, trial: Trial) -> dict[str, float]:
        if not self._learns_bounds:
            return {}
        constraints = self._bound_violations(trial)
        infeasible = trial.state is TrialState.INFEASIBLE
        if infeasible and not any(v > 0 for v in constraints.values()):
            constraints["infeasible"] = 1.0  # it did not fit into memory
        if trial.state is TrialState.STOPPED and len(self._problem.objectives) > 1:
            left = 1.0 - trial.step / (self._problem.max_step + 1)
            constraints["stopped"] = _STOPPED_VIOLATION * left
        return constraints


def _distributions(space: SearchSpace) -> Distributions:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        c.name: IntDistribution(0, len(c) - 1)
        if c.ordered
        else CategoricalDistribution(tuple(range(len(c))))
        for c in space.choices
    }


def _new_study(problem: SearchProblem) -> optuna.Study:
    import optuna

    with quiet():
        return optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            study_name=problem.run,
            load_if_exists=False,
            directions=directions(problem.objectives),
            pruner=optuna.pruners.NopPruner(),
        )


def directions(objectives: Iterable[Objective]) -> list[Literal["maximize", "minimize"]]:
    """Return the objectives' directions in Optuna's words.

    Args:
        objectives: The objectives.

    Returns:
        "maximize" or "minimize" for each.

    Example:
        >>> from raynas.core import Objective
        >>> directions([Objective("val_accuracy", "max"), Objective("params", "min")])
        ['maximize', 'minimize']
    """
    return ["maximize" if o.direction == "max" else "minimize" for o in objectives]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from announcing new studies within the block.

    Its log level is restored after the block, for users who log with it.

    Yields:
        Nothing of use; the value is None.
    """
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
