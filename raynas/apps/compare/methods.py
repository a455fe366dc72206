"""The methods that are compared, with the settings in which they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Architecture, Problem, Trial, rng_for
from raynas.samplers import (
    BOHB,
    NSGA2,
    TPE,
    Guided,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Reinforce,
    Sampler,
)
from raynas.schedulers import (
    ASHA,
    PASHA,
    CurvePrediction,
    Hyperband,
    NoStopping,
    PromotionASHA,
    Scheduler,
    SuccessiveHalving,
)
from raynas.spaces import SearchSpace

SAMPLERS: Mapping[str, Callable[[], Sampler]] = {
    "random": Random,
    "evolution": RegularizedEvolution,
    "reinforce": Reinforce,
    "bohb": BOHB,
    "local": LocalSearch,
    "nsga2": NSGA2,
    "tpe": TPE,
    "guided": Guided,
}
SEVERAL = ("random", "evolution", "nsga2", "tpe", "guided")
"""Those that take several objectives."""


@dataclass
class Repeating(Sampler):
    """Uniform draws, each from the whole space."""

    name: ClassVar[str] = "repeating"

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        self._space, self._seed = space, problem.seed

    def ask(self, number: int) -> Architecture:
        return self._space.sample(rng_for(self._seed, self.name, number))

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""

    def replay(self, trials: Iterable[Trial]) -> None:
        """Nothing to remember."""


PUBLISHED: Mapping[str, Callable[[], Sampler]] = {
    "random": Repeating,
    "evolution": lambda: RegularizedEvolution(population=10, sample=3),
    # the published table does not say the rate: of some from 0.01 to 0.5 the one that fits best
    "reinforce": lambda: Reinforce(lr=0.07, distinct=False),
    "bohb": lambda: BOHB(candidates=4, random=0.0, distinct=False),
}
"""In the settings of the published runs."""

CLUSTER_STEP = 12  # of the cheap training
_TENTH = 10  # of the trials goes on
SCHEDULERS: Mapping[str, Callable[[], Scheduler]] = {
    "none": NoStopping,
    "halving": lambda: SuccessiveHalving(CLUSTER_STEP, _TENTH),
    "halving_waits": lambda: SuccessiveHalving(CLUSTER_STEP, _TENTH, size=1000, overlap=False),
    "hyperband": lambda: Hyperband(CLUSTER_STEP, _TENTH),
    "asha": lambda: ASHA(CLUSTER_STEP, _TENTH),
    "asha_promotion": lambda: PromotionASHA(CLUSTER_STEP, _TENTH),
    "pasha": lambda: PASHA(CLUSTER_STEP, _TENTH),
    "curves": lambda: CurvePrediction(),
}
