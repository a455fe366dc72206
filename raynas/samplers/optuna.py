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

import importlib.util
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from raynas.core import (
    Architecture,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    UserError,
    rng_for,
    seed_for,
)
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least, one_objective
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler

    from raynas.samplers.optuna_parts import Distributions, Generations

_STOPPED_VIOLATION = 1e-6  # far below the violation of a real bound


@dataclass(frozen=True)
class _Ending:
    """An ended trial in Optuna's terms: the name of its state, values, curve and constraints."""

    state: str
    values: list[float] | None
    curve: dict[int, float]
    constraints: dict[str, float]


@dataclass
class OptunaSampler(Sampler):
    """The common part of Optuna's samplers; a subclass adds settings and ``_part``.

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
            from raynas.samplers.optuna_parts import RandomPart

            self._study.sampler = RandomPart(seed=0)  # nothing is drawn: spare the model's work
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


@dataclass
class TPE(OptunaSampler):
    """The tree-structured Parzen estimator of Optuna (Bergstra et al. 2011); a good default.

    Attributes:
        n_startup: Number of random trials at the beginning.
        candidates: Draws per ask.
        multivariate: Whether the choices are modelled together, which is also several times
            faster.
        constant_liar: Whether pending trials repel proposals.

    Raises:
        UserError: A setting is outside its range.
    """

    n_startup: int = 10
    candidates: int = 24
    multivariate: bool = True
    constant_liar: bool = True

    name: ClassVar[str] = "tpe"

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("TPE", "n_startup", self.n_startup, 1)
        at_least("TPE", "candidates", self.candidates, 1)

    def _part(self, seed: int) -> BaseSampler:
        from raynas.samplers.optuna_parts import TPEPart

        part = TPEPart(
            n_startup_trials=self.n_startup,
            n_ei_candidates=self.candidates,
            multivariate=self.multivariate,
            group=False,
            constant_liar=self.constant_liar,
            seed=seed,
        )
        part.space = self._distributions
        return part


@dataclass
class NSGA2(OptunaSampler):
    """The NSGA-II of Optuna (Deb et al. 2002), for several objectives and fast evaluators.

    An ask takes some milliseconds.

    Attributes:
        population: Size of a generation, 2 or more.
        crossover: Probability of a crossover, from 0 to 1.
        swapping: Probability per choice that a crossover swaps it, from 0 to 1.
        mutation: Probability per choice, None for one over the number of choices.

    Raises:
        UserError: A setting is outside its range.
    """

    population: int = 50
    crossover: float = 0.9
    swapping: float = 0.5
    mutation: float | None = None

    name: ClassVar[str] = "nsga2"

    _generations: Generations = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("NSGA2", "population", self.population, 2)
        for setting in ("crossover", "swapping", "mutation"):
            value = getattr(self, setting)
            if value is not None and not 0.0 <= value <= 1.0:
                raise UserError(f"NSGA2: {setting} = {value}", expected="0 to 1")

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with an empty study and no generations."""
        super().setup(space, problem)
        self._generations = {}

    def _part(self, seed: int) -> BaseSampler:
        from raynas.samplers.optuna_parts import NSGA2Part

        part = NSGA2Part(
            population_size=self.population,
            mutation=None,
            mutation_prob=self.mutation,
            crossover=None,
            crossover_prob=self.crossover,
            swapping_prob=self.swapping,
            seed=seed,
        )
        part.space, part.generations = self._distributions, self._generations
        return part


@dataclass
class GP(OptunaSampler):
    """The Gaussian process of Optuna (log expected improvement), for expensive evaluators.

    An ask takes 0.1 seconds and more.

    Attributes:
        n_startup: Number of complete trials before which proposals are random.

    Raises:
        UserError: A setting is outside its range.
    """

    n_startup: int = 10

    name: ClassVar[str] = "gp"

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("GP", "n_startup", self.n_startup, 1)

    def _part(self, seed: int) -> BaseSampler:
        from raynas.samplers.optuna_parts import GPPart

        part = GPPart(
            n_startup_trials=self.n_startup,
            independent_sampler=None,
            deterministic_objective=False,
            warn_independent_sampling=False,
            seed=seed,
        )
        part.space = self._distributions
        return part


@dataclass
class CMAES(OptunaSampler):
    """The CMA-ES of Optuna (Hansen 2016), for one objective and spaces of ordered choices only.

    Bounds reject proposals, but it learns nothing from them. Its state is not in the store: after
    a resume the history counts as if told in the order of the trials' numbers, which is exact
    with one worker.

    Attributes:
        n_startup: Number of random trials at the beginning.
        population: Size of a generation; None for 4 + 3 ln(choices).

    Raises:
        UserError: A setting is outside its range.
    """

    n_startup: int = 1
    population: int | None = None

    name: ClassVar[str] = "cmaes"
    _learns_bounds: ClassVar[bool] = False
    _replays_by_asking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("CMAES", "n_startup", self.n_startup, 1)
        if self.population is not None:
            at_least("CMAES", "population", self.population, 2)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with an empty study.

        Args:
            space: A search space of ordered choices.
            problem: The search problem, with one objective.

        Raises:
            UserError: Some choices have no order, there are several objectives, or the package
                ``cmaes`` is not installed.
        """
        unordered = [c.name for c in space.choices if not c.ordered and len(c) > 1]
        if unordered:
            raise UserError(
                f"CMAES cannot search space {space.name!r}: these choices are not ordered: "
                + ", ".join(unordered),
                expected="spaces of ordered choices only",
                hint="use TPE, NSGA2, GP or RegularizedEvolution",
            )
        one_objective("CMAES", problem)
        if importlib.util.find_spec("cmaes") is None:
            raise UserError(
                "CMAES needs the package 'cmaes'", hint="run `pip install 'raynas[cmaes]'`"
            )
        super().setup(space, problem)

    def _part(self, seed: int) -> BaseSampler:
        from raynas.samplers.optuna_parts import CMAESPart

        part = CMAESPart(
            n_startup_trials=self.n_startup,
            independent_sampler=None,
            warn_independent_sampling=False,
            consider_pruned_trials=False,
            popsize=self.population,
            use_separable_cma=False,
            with_margin=False,
            lr_adapt=False,
            seed=seed,
        )
        part.space = self._distributions
        return part


@dataclass
class OptunaRandom(OptunaSampler):
    """The random sampler of Optuna, to compare with; ``Random`` is exact and faster."""

    name: ClassVar[str] = "optuna-random"

    def _part(self, seed: int) -> BaseSampler:
        from raynas.samplers.optuna_parts import RandomPart

        return RandomPart(seed=seed)


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
