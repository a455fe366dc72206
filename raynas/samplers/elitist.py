"""This module has the evolution of Zen-NAS, whose population are the best architectures ever found.

Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021,
https://arxiv.org/abs/2102.01063, algorithm 1.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, SearchProblem, Trial, TrialState, rng_for, signed
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least, one_objective
from raynas.spaces.base import SearchSpace

FOUNDERS = 11
"""Number of completed trials from which parents are drawn, as in the authors' code."""


@dataclass
class ElitistEvolution(Sampler):
    """An evolution that mutates uniformly drawn members of the best trials so far.

    The population are the ``population`` best of all trials that completed; of equals the younger
    ones, so that the search drifts on a plateau. Rejected, stopped and failed trials never enter.
    Until there are eleven members, or ``population`` if that is less, mutants of ``start`` are
    proposed, after ``start`` itself; without a ``start``, random architectures. A child that is
    known up to isomorphism is mutated again.

    A proposal depends on seed and history only, not on the order in which trials ended.

    Attributes:
        population: Largest number of members.
        start: Text form of the first architecture; empty begins with random ones.

    Raises:
        UserError: A setting is outside its range, or at ``setup`` there are several objectives or
            ``start`` is not of the space.
    """

    population: int = 256
    start: str = ""

    name: ClassVar[str] = "elitist"

    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _start: Architecture | None = field(init=False, repr=False, compare=False)
    # (score, number, proposal), worst first
    _members: list[tuple[float, int, Architecture]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("ElitistEvolution", "population", self.population, 1)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with an empty population.

        Args:
            space: The search space.
            problem: The search problem, with one objective.

        Raises:
            UserError: There are several objectives, or ``start`` is not of the space.
        """
        one_objective("ElitistEvolution", problem)
        self._problem, self._distinct = problem, ArchitectureDeduplicator(space, problem.seed)
        self._start = space.architecture(self.start) if self.start else None
        self._members = []

    def ask(self, number: int) -> Architecture:
        """Return a mutant of a member, or an architecture to begin with.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        child = self._propose(number)
        self._distinct.add(child)
        return child

    def _propose(self, number: int) -> Architecture:
        rng = rng_for(self._problem.seed, self.name, number)
        if len(self._members) >= min(FOUNDERS, self.population):
            parent = self._members[int(rng.integers(len(self._members)))][2]
        elif self._start is None:
            return self._distinct.fresh(number)
        elif self._start not in self._distinct:
            return self._start
        else:
            parent = self._start
        return self._distinct.variant(parent, rng, number)

    def tell(self, trial: Trial) -> None:
        """Let a completed trial join the population; the worst member leaves."""
        values = trial.values()
        score = values.get(self._problem.objectives[0].metric, math.nan)
        if trial.state is not TrialState.COMPLETE or not math.isfinite(score):
            return
        member = signed(self._problem.objectives, values)[0], trial.number, trial.proposal
        bisect.insort(self._members, member, key=lambda m: m[:2])
        del self._members[: -self.population]

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials:
            self._distinct.replay(trial)
            if trial.state.ended:
                self.tell(trial)
