"""This module gives out the numbers of a search's trials."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from raynas.core import Trial

#: Upper limit on trials that a killed driver can have started and not stored.
MOST_LOST = 100_000


@dataclass(frozen=True)
class NumberPlan:
    """The numbers that new trials of a stage and method may get.

    Attributes:
        first: The lowest number above all that are stored.
        gaps: Numbers to give out before: those of trials that a killed driver had started and
            never stored.
        taken: Numbers of all other trials of the run.
    """

    first: int
    gaps: Sequence[int]
    taken: frozenset[int]

    @classmethod
    def of(cls, past: Iterable[Trial], stored: Collection[int]) -> NumberPlan:
        """Plan the numbers of a stage and method.

        Args:
            past: Its stored trials.
            stored: The numbers of all trials of the run.

        Returns:
            The plan.
        """
        own = {trial.number for trial in past}
        taken = frozenset(stored) - own
        lost: set[int] = set()
        # if more are missing than a driver can lose, the numbers were never given out
        if own and max(own) - _begin(own, taken) - len(stored) <= MOST_LOST:
            lost = set(range(_begin(own, taken), max(own))) - set(stored)
        return cls(max(stored, default=-1) + 1, sorted(lost), taken)

    def from_the_start(self, past: Iterable[Trial]) -> NumberPlan:
        """Plan the same for a search that is gone through again from its first proposal on.

        Its numbers begin above all that were stored before it; numbers that others took since are
        skipped.

        Args:
            past: Its stored trials.

        Returns:
            The plan.
        """
        own = {trial.number for trial in past}
        return NumberPlan(_begin(own, self.taken), (), self.taken)


def _begin(own: Collection[int], taken: Collection[int]) -> int:
    """Return the first number of a stage and method: above all that were stored before it."""
    lowest = min(own, default=None)
    return max((n for n in taken if lowest is None or n < lowest), default=-1) + 1


class TrialNumbers:
    """A source of trial numbers, none twice and none that belongs to others.

    Args:
        plan: The numbers that may be given out.

    Example:
        >>> numbers = TrialNumbers(NumberPlan(first=5, gaps=(2,), taken=frozenset({5})))
        >>> [numbers.take() for _ in range(3)]
        [2, 6, 7]
    """

    def __init__(self, plan: NumberPlan) -> None:
        self._next, self._taken = plan.first, plan.taken
        self._gaps, self._lost = deque(plan.gaps), frozenset(plan.gaps)

    def take(self) -> int:
        """Return the next number.

        Returns:
            A number that was not given out before.
        """
        if self._gaps:
            return self._gaps.popleft()
        while self._next in self._taken:
            self._next += 1
        self._next += 1
        return self._next - 1

    def is_lost(self, number: int) -> bool:
        """Return whether an earlier session gave the number out and did not store its trial.

        Args:
            number: The number.

        Returns:
            True for a number of a gap.
        """
        return number in self._lost

    def give_back(self, number: int) -> None:
        """Give out a number again before all others, because no trial was made of it.

        Args:
            number: The number.
        """
        self._gaps.appendleft(number)
