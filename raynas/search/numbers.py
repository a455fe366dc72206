"""The numbers of a search's trials."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable


class TrialNumbers:
    """Gives out trial numbers, none twice and none that belongs to others.

    Args:
        first: The lowest number to give out.
        gaps: Numbers to give out before all others: those of trials that a killed driver had
            started and never stored.
        taken: Numbers of other searches of the run; they are skipped.
    """

    def __init__(
        self, first: int = 0, gaps: Iterable[int] = (), taken: Collection[int] = ()
    ) -> None:
        self._next = first
        self._taken = frozenset(taken)
        self._gaps = deque(gap for gap in gaps if gap not in self._taken)

    def take(self) -> int:
        """Return the next number."""
        if self._gaps:
            return self._gaps.popleft()
        while self._next in self._taken:
            self._next += 1
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Give out ``number`` again before all others: nothing was made of it."""
        self._gaps.appendleft(number)
