"""Random search without replacement: the baseline of every report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, Problem, Trial
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import Distinct
from raynas.spaces.base import SearchSpace


@dataclass
class Random(Sampler):
    """Uniform, each architecture once up to isomorphism.

    The proposal for a number depends on space, seed and number only, unless it is taken already
    (see :class:`~raynas.samplers.distinct.Distinct`): neither results nor the number of workers
    nor an interruption change it.
    """

    name: ClassVar[str] = "random"

    _distinct: Distinct = field(init=False, repr=False, compare=False)

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        self._distinct = Distinct(space, problem.seed)

    def ask(self, number: int) -> Architecture:
        arch = self._distinct.fresh(number)
        self._distinct.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""

    def replay(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            self._distinct.replay(trial)
