"""Whether the measurements of a trial follow on one another, or some were lost between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import final

from raynas.core import Trial

#: so often a trial is started anew of which nothing is stored; a worker died before each time
_FRESH_STARTS = 10


@final
class Continuity:
    """What is known of the steps that an evaluator measures: all of them, or every fifth.

    A worker that measured from the start shows it. Of one that goes on from a checkpoint nobody
    knows which step was measured before, and whether its row was lost with the driver.
    """

    def __init__(self) -> None:
        self._widest = 1
        self._anew: Counter[int] = Counter()

    def broken(self, last: int, step: int, after: int | None, before: Iterable[int]) -> bool:
        """Whether a measurement leaves a hole in the curve of its trial.

        Args:
            last: The last step before it; 0 for none.
            step: Of the measurement, beyond ``last``.
            after: The step that its worker had measured before; None when that is not known. Then
                it follows when it is no farther from ``last`` than steps are apart, of this trial
                or of others.
            before: All steps of the trial before it, from the first one up.
        """
        if after is None:
            distances = (b - a for a, b in pairwise(chain([0], before)))
            return step - last > max(distances, default=1) and step - last > self._widest
        if after == last:
            self._widest = max(self._widest, step - last)
        return after > last

    def may_begin_anew(self, number: int, last: int) -> bool:
        """Whether a trial with a hole is started from nothing to fill it, which is counted.

        Args:
            number: Of the trial.
            last: The last step before the hole. With none before, how far apart its steps are is
                not known, and nothing but time is lost; else once must do.
        """
        self._anew[number] += 1
        return self._anew[number] <= (1 if last else _FRESH_STARTS)


def steps_of(trial: Trial) -> Iterator[int]:
    """Return the steps that are known of a trial's evaluation, from the first one up."""
    return (m.step for m in trial.measurements if m.step > 0)


def hole_message(step: int, last: int) -> str:
    """Return the message of a trial whose evaluator left out steps before ``step``."""
    return (
        f"the evaluator reported step {step} after step {last}, and the steps between are "
        "missing; it must report every step, in order"
    )
