"""This module restores proposals of known architectures, which a stored history does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from raynas.core import Architecture, Trial
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import canonical_or_itself

#: Largest gap of missing numbers that can be repeats; a larger gap was never given out.
MOST_MISSING = 100_000


class RepeatReplay:
    """The restored answers that a sampler got when it repeated a known architecture.

    A search answers a proposal of a known architecture from what is known of it and stores no row.
    The sampler has learned from the answer all the same. In a stored history such proposals are
    missing numbers. As the proposal for a number follows from space, seed and what was told, each
    missing number is asked for again: if the proposal is an architecture of an earlier trial, the
    sampler is told of it again.

    With one worker this gives back the state that was lost. With several the repeats count as if
    each trial had been told before the next number was asked.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._restored: dict[int, Architecture] = {}

    def __contains__(self, number: int) -> bool:
        """Return whether the number was restored: it was asked for and told."""
        return number in self._restored

    def __getitem__(self, number: int) -> Architecture:
        """Return the proposal for a restored number."""
        return self._restored[number]

    def within(
        self, trials: Iterable[Trial], propose: Callable[[int], Architecture]
    ) -> Iterator[Trial]:
        """Yield the trials, and between them the repeats that are missing.

        Args:
            trials: A stored history in the order of its numbers.
            propose: Returns the sampler's proposal for a number. It is called when all that was
                yielded before has been taken in, and must change nothing.

        Yields:
            Stored and restored trials in the order of their numbers.
        """
        known: dict[Architecture, Trial] = {}
        expected: int | None = None
        for trial in trials:
            first_missing = trial.number if expected is None else expected
            if trial.number - first_missing > MOST_MISSING:
                first_missing = trial.number  # these numbers were never given out
            for number in range(first_missing, trial.number):
                proposal = propose(number)
                first = known.get(canonical_or_itself(self._space, proposal))
                if first is not None and first.state.ended:
                    yield replace(first, number=number, proposal=proposal)
                    self._restored[number] = proposal  # it was told meanwhile
            known.setdefault(canonical_or_itself(self._space, trial.proposal), trial)
            expected = trial.number + 1
            yield trial
