"""This module makes Optuna's samplers functions of seed and history.

It is imported only by a sampler in use, because it imports Optuna.
"""

from __future__ import annotations

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

Distributions = dict[str, BaseDistribution]
Generations = dict[int, tuple[tuple[int, ...], list[FrozenTrial]]]
"""Generation -> (ids of the pool it was selected from, its parents)."""


class _KnownSpace(BaseSampler):
    """A mixin with the distributions; Optuna would infer them at every ask."""

    space: Distributions

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """Return the distributions that have more than one option."""
        return {n: d for n, d in sorted(self.space.items()) if not d.single()}


class TPEPart(_KnownSpace, TPESampler):
    """The TPE of Optuna (Bergstra et al. 2011); its state is the study."""


class GPPart(_KnownSpace, GPSampler):
    """The Gaussian process of Optuna with log expected improvement; its state is the study."""


class CMAESPart(_KnownSpace, CmaEsSampler):
    """The CMA-ES of Optuna (Hansen 2016).

    Its state is pickled in the trials, so a stored history is asked for again.
    """


class NSGA2Part(_KnownSpace, NSGAIISampler):
    """The NSGA-II of Optuna with generations by trial number.

    The k-th completed trial is of generation k // population. Optuna writes the generation on a
    trial when it is asked, and caches the parents in the study: both depend on the order of asks
    and tells, which a stored history does not have. Counted by number they follow from the
    completed trials alone. With one worker the two are the same.

    Attributes:
        generations: Generation -> (ids of the pool it was selected from, its parents).
    """

    generations: Generations

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return the generation that a new trial belongs to.

        Args:
            study: The study.
            trial: The new trial, not used.

        Returns:
            Index of the generation, from 0.
        """
        return len(_completed(study)) // self._size()

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the trials of a generation.

        Args:
            study: The study.
            generation: Index of the generation, from 0.

        Returns:
            Completed trials in the order of their numbers.
        """
        size = self._size()
        return _completed(study)[generation * size : (generation + 1) * size]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation.

        Args:
            study: The study.
            generation: Index of the generation, from 0.

        Returns:
            The selected trials; none for generation 0.
        """
        parents: list[FrozenTrial] = []
        for g in range(1, generation + 1):
            pool = self.get_population(study, g - 1) + parents
            key = tuple(t.number for t in pool)
            if self.generations.get(g, ((), []))[0] != key:
                self.generations[g] = (key, self.select_parent(study, g))
            parents = self.generations[g][1]
        return parents

    def _size(self) -> int:
        assert self.population_size is not None
        return self.population_size


def _completed(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
