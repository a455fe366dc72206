"""This module has random search without replacement, the baseline of every report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, SearchProblem, Trial
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.spaces.base import SearchSpace


@dataclass
class Random(Sampler):
    """A uniform random sampler that proposes each architecture once up to isomorphism.

    The proposal for a number depends on space, seed and number only, unless it is taken already
    (see :class:`~raynas.samplers.distinct.ArchitectureDeduplicator`): neither results nor the
    number of workers nor an interruption change it.

    Example:
        >>> from raynas.core import Objective, SearchProblem
        >>> from raynas.spaces import NASBench201
        >>> sampler = Random()
        >>> goal = (Objective("val_accuracy", "max"),)
        >>> problem = SearchProblem(goal, max_step=1, seed=1, run="a")
        >>> sampler.setup(NASBench201(), problem)
        >>> sampler.ask(0) == sampler.ask(1)
        False
    """

    name: ClassVar[str] = "random"

    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start a new stream of architectures.

        Args:
            space: The search space.
            problem: The search problem, of which only the seed counts.
        """
        self._distinct = ArchitectureDeduplicator(space, problem.seed)

    def ask(self, number: int) -> Architecture:
        """Return the architecture for a number, or the next one that is not taken.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        arch = self._distinct.fresh(number)
        self._distinct.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Do nothing: random search does not learn."""

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take the proposals of stored trials."""
        for trial in trials:
            self._distinct.replay(trial)
