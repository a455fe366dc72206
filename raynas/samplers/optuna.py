"""Optuna's samplers behind ask and tell.

The study is in memory and bears the run's id; the store is the only truth, and ``replay`` makes
the study anew. What Optuna is told of a trial:

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
    Problem,
    Trial,
    TrialState,
    UserError,
    rng_for,
    seed_for,
)
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import Distinct, at_least, one_objective
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler

    from raynas.samplers.optuna_parts import Distributions, Generations

_STOPPED_VIOLATION = 1e-6  # far below the violation of a real bound


@dataclass(frozen=True)
class _Ending:
    """How Optuna hears of an ended trial: its state by name, and what belongs to it."""

    state: str
    values: list[float] | None
    curve: dict[int, float]
    constraints: dict[str, float]


@dataclass
class OptunaSampler(Sampler):
    """What all of Optuna's samplers share; a subclass gives its settings and ``_part``.

    An ordered choice is the integer index of its option, another is categorical. The proposal for
    a number depends on seed and history only: Optuna's random state is made anew for every ask.
    A proposal that is known up to isomorphism (Optuna repeats itself readily in a small space)
    gives way to a mutant of it that is not.
    """

    _learns_bounds: ClassVar[bool] = True
    _replays_by_asking: ClassVar[bool] = False

    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _distinct: Distinct = field(init=False, repr=False, compare=False)
    _study: optuna.Study = field(init=False, repr=False, compare=False)
    _distributions: Distributions = field(init=False, repr=False, compare=False)
    _pending: dict[int, optuna.Trial] = field(init=False, repr=False, compare=False)

    @abstractmethod
    def _part(self, seed: int) -> BaseSampler:
        """Optuna's sampler with every setting explicit."""

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        self._space, self._problem = space, problem
        self._distinct = Distinct(space, problem.seed)
        self._distributions = _distributions(space)
        self._study = _new_study(problem)
        self._pending = {}

    def ask(self, number: int) -> Architecture:
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
        """Optuna's own proposal, known or not; RUNNING from now on."""
        self._study.sampler = self._part(self._seed(number))
        return self._study.ask(self._distributions)

    def _pin(self, arch: Architecture) -> optuna.Trial:
        """A RUNNING trial with these options."""
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
        """Step -> value, with one objective; Optuna refuses it with several."""
        if len(self._problem.objectives) > 1:
            return {}
        metric = self._problem.objectives[0].metric
        points = {m.step: trial.values(m).get(metric, math.nan) for m in trial.measurements}
        return {step: value for step, value in points.items() if math.isfinite(value)}

    def _bound_violations(self, trial: Trial) -> dict[str, float]:
        """One entry per bound, as the GP wants the same ones on every trial."""
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
    """Tree-structured Parzen estimator (Bergstra et al. 2011); a good default.

    ``n_startup``: random trials first. ``candidates``: draws per ask. ``multivariate``: model the
    choices together; also several times faster. ``constant_liar``: pending trials repel.
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
    """NSGA-II (Deb et al. 2002), for several objectives and fast evaluators (some ms an ask).

    ``mutation``: probability per choice, None for one over the number of choices.
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
                raise UserError(f"NSGA2: {setting} = {value}", allowed="0 to 1")

    def setup(self, space: SearchSpace, problem: Problem) -> None:
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
    """Gaussian process (log expected improvement); for dear evaluators, 0.1 s an ask and more.

    ``n_startup``: random trials until so many are complete.
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
    """CMA-ES (Hansen 2016), for one objective and spaces whose choices are all ordered.

    ``population``: None for 4 + 3 ln(choices). Bounds reject proposals but teach it nothing. Its
    state is not in the store: after a resume the history counts as if told in the order of the
    trials' numbers, which is exact with one worker.
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

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        unordered = [c.name for c in space.choices if not c.ordered and len(c) > 1]
        if unordered:
            raise UserError(
                f"CMAES cannot search space {space.name!r}: these choices have no order: "
                + ", ".join(unordered),
                allowed="spaces of ordered choices only",
                cure="use TPE, NSGA2, GP or RegularizedEvolution",
            )
        one_objective("CMAES", problem)
        if importlib.util.find_spec("cmaes") is None:
            raise UserError(
                "CMAES needs the package 'cmaes'", cure="run `pip install 'raynas[cmaes]'`"
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
    """Optuna's random sampler, to compare with; ``Random`` is exact and faster."""

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


def _new_study(problem: Problem) -> optuna.Study:
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
    """The objectives' directions in Optuna's words."""
    return ["maximize" if o.direction == "max" else "minimize" for o in objectives]


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna announces every new study; its level is put back, for users who log with it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
