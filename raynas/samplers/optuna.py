"""This module has Optuna's samplers as samplers of raynas.

:mod:`raynas.samplers.optuna_bridge` says what Optuna is told of a trial. NSGA-II, GP and CMA-ES
learn from Optuna's COMPLETE trials only.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from raynas.core import SearchProblem, UserError
from raynas.core.fields import check_fields
from raynas.samplers.distinct import at_least, one_objective
from raynas.samplers.optuna_bridge import OptunaSampler
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from raynas.samplers.optuna_parts import Generations


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

    def prepare(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start without generations."""
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

    def prepare(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Check that the space has ordered choices only, and the problem one objective.

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
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
