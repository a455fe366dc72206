"""The methods that are compared, with their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Architecture, SearchProblem, Trial, rng_for
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
"""The samplers that take several objectives."""


@dataclass
class RepeatingRandom(Sampler):
    """A sampler that draws uniformly from the whole space, so that architectures may repeat."""

    name: ClassVar[str] = "repeating"

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Remember the space and the seed."""
        self._space, self._seed = space, problem.seed

    def ask(self, number: int) -> Architecture:
        """Return a random architecture."""
        return self._space.sample(rng_for(self._seed, self.name, number))

    def tell(self, trial: Trial) -> None:
        """Ignore a result: the sampler does not learn."""

    def replay(self, trials: Iterable[Trial]) -> None:
        """Ignore the results of an earlier session: the sampler does not learn."""


PUBLISHED: Mapping[str, Callable[[], Sampler]] = {
    "random": RepeatingRandom,
    "evolution": lambda: RegularizedEvolution(population=10, sample=3),
    # the published table does not state the rate: this one, of several from 0.01 to 0.5, fits best
    "reinforce": lambda: Reinforce(lr=0.07, distinct=False),
    "bohb": lambda: BOHB(candidates=4, random=0.0, distinct=False),
}
"""The samplers with the settings of the published runs."""

CLUSTER_STEP = 12  # epochs of the cheap training
_TENTH = 10  # one in so many trials goes on
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
