"""This module has local search, which moves from the best known architecture to a better neighbor.

White, Nolen, Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021,
https://arxiv.org/abs/2005.02960, where it is a hard baseline on tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from raynas.core import Architecture, SearchProblem, Trial, TrialState, UserError, rng_for, signed
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least, one_objective
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import canonical_or_itself

Score = tuple[int, float]  # steps reached (a complete trial: beyond all), value; higher is better


@dataclass
class LocalSearch(Sampler):
    """A sampler that climbs from random architectures to better neighbors.

    A neighbor differs in one choice.

    When no neighbor is better, a new climb starts from new random architectures. The state of a
    climb follows from the history alone: the numbers of the trials and how they ended, not when.
    Failed and infeasible trials are never moved to; a completed trial beats every stopped one.

    Attributes:
        initial: Number of random architectures at the start of a climb.
        improvement: "first" moves to a neighbor as soon as it is better, "best" to the best one
            when all neighbors are known.

    Raises:
        UserError: A setting is outside its range, or at ``setup`` there are several objectives.
    """

    initial: int = 10
    improvement: Literal["first", "best"] = "first"

    name: ClassVar[str] = "local"

    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _numbers: dict[Architecture, int] = field(init=False, repr=False, compare=False)  # canonical
    _scores: dict[int, tuple[Score, Architecture]] = field(init=False, repr=False, compare=False)
    _near: dict[Architecture, list[Architecture]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("LocalSearch", "initial", self.initial, 1)
        if self.improvement not in ("first", "best"):
            raise UserError(
                f"LocalSearch: improvement = {self.improvement}", expected="first, best"
            )

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start the first climb.

        Args:
            space: The search space, which gives neighbors.
            problem: The search problem, with one objective.

        Raises:
            UserError: There are several objectives.
        """
        one_objective("LocalSearch", problem)
        self._problem, self._space = problem, space
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._numbers, self._scores, self._near = {}, {}, {}

    def ask(self, number: int) -> Architecture:
        """Return an unknown neighbor, or a random architecture at the start of a climb.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        arch = self._propose(number)
        self._distinct.add(arch)
        self._numbers[canonical_or_itself(self._space, arch)] = number
        return arch

    def _propose(self, number: int) -> Architecture:
        open_ = self._open()
        if not open_:
            return self._distinct.fresh(number)
        rng = rng_for(self._problem.seed, self.name, number)
        return open_[int(rng.integers(len(open_)))]

    def tell(self, trial: Trial) -> None:
        """Remember the value of a COMPLETE or STOPPED trial."""
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED) or trial.last is None:
            return
        values = trial.values()
        if np.isfinite(values.get(self._problem.objectives[0].metric, np.nan)):
            done = trial.state is TrialState.COMPLETE
            step = self._problem.max_step + 1 if done else trial.step
            value = signed(self._problem.objectives, values)[0]
            self._scores[trial.number] = (step, value), trial.proposal

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials:
            self._distinct.replay(trial)
            self._numbers.setdefault(canonical_or_itself(self._space, trial.proposal), trial.number)
            if trial.state.ended:
                self.tell(trial)

    def _open(self) -> list[Architecture]:
        """Return the unknown neighbors of the climb's position; none before it has one."""
        asked = sorted(self._numbers.values())
        begin = 0
        while True:
            members = [n for n in asked if n >= begin]
            if len(members) < self.initial:
                return []
            here = self._here(members)
            if here is None:
                return []
            unknown = [a for a in self._neighbours(here) if a not in self._distinct]
            if unknown:
                return unknown
            begin = 1 + self._closed(here)  # a climb has ended; the next one began after it

    def _here(self, members: list[int]) -> Architecture | None:
        """Return the position of the climb of these trials (numbers from its beginning on)."""
        first = members if self.improvement == "first" else members[: self.initial]
        here = self._best(first)
        while here is not None and self.improvement == "best":
            near = self._neighbours(self._scores[here][1])
            if any(a not in self._distinct for a in near):
                break
            numbers = [self._numbers[canonical_or_itself(self._space, a)] for a in near]
            # an earlier climb's trials lead nowhere new
            better = self._best([here, *(n for n in numbers if n >= members[0])])
            if better is None or better == here:
                break
            here = better
        return None if here is None else self._scores[here][1]

    def _best(self, numbers: Iterable[int]) -> int | None:
        """Return the number of the best trial; of equals the lowest number."""
        scored = [n for n in numbers if n in self._scores]
        return max(scored, key=lambda n: (self._scores[n][0], -n), default=None)

    def _closed(self, here: Architecture) -> int:
        """Return the number of the trial with which the last neighbor became known."""
        around = [here, *self._neighbours(here)]
        return max(self._numbers[canonical_or_itself(self._space, a)] for a in around)

    def _neighbours(self, arch: Architecture) -> list[Architecture]:
        if arch not in self._near:
            self._near[arch] = list(self._space.neighbors(arch))
        return self._near[arch]
