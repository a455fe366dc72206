"""The numbers of a search's trials."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from raynas.core import Trial

#: a driver that was killed has started and not stored fewer trials than this
MOST_LOST = 100_000


@dataclass(frozen=True)
class NumberPlan:
    """Which numbers the new trials of a stage and arm may get.

    Attributes:
        first: The lowest one behind all that are stored.
        gaps: Numbers to give out before: those of trials that a killed driver had started and
            never stored.
        taken: Numbers of all other trials of the run.
    """

    first: int
    gaps: Sequence[int]
    taken: frozenset[int]

    @classmethod
    def of(cls, past: Iterable[Trial], stored: Collection[int]) -> NumberPlan:
        """Plan the numbers of a stage and arm.

        Args:
            past: Its stored trials.
            stored: The numbers of all trials of the run.
        """
        own = {trial.number for trial in past}
        taken = frozenset(stored) - own
        lost: set[int] = set()
        # more are missing than any driver can have lost: the numbers were not given out by us
        if own and max(own) - _begin(own, taken) - len(stored) <= MOST_LOST:
            lost = set(range(_begin(own, taken), max(own))) - set(stored)
        return cls(max(stored, default=-1) + 1, sorted(lost), taken)

    def from_the_start(self, past: Iterable[Trial]) -> NumberPlan:
        """Plan the same for a search that is gone through again from its first proposal on.

        Its numbers begin behind all that were there before it; what others took since is skipped.
        """
        own = {trial.number for trial in past}
        return NumberPlan(_begin(own, self.taken), (), self.taken)


def _begin(own: Collection[int], taken: Collection[int]) -> int:
    """The number with which a stage and arm began: behind all that were stored before it."""
    lowest = min(own, default=None)
    return max((n for n in taken if lowest is None or n < lowest), default=-1) + 1


class TrialNumbers:
    """Gives out trial numbers, none twice and none that belongs to others.

    Args:
        plan: Which ones.
    """

    def __init__(self, plan: NumberPlan) -> None:
        self._next, self._taken = plan.first, plan.taken
        self._gaps, self._lost = deque(plan.gaps), frozenset(plan.gaps)

    def take(self) -> int:
        """Return the next number."""
        if self._gaps:
            return self._gaps.popleft()
        while self._next in self._taken:
            self._next += 1
        self._next += 1
        return self._next - 1

    def is_lost(self, number: int) -> bool:
        """Whether ``number`` was given out before, in an earlier session that did not store it."""
        return number in self._lost

    def give_back(self, number: int) -> None:
        """Give out ``number`` again before all others: nothing was made of it."""
        self._gaps.appendleft(number)
