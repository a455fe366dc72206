"""This module checks that measurements of a trial follow on one another without a lost step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import final

from raynas.core import Trial

#: Number of fresh starts of a trial of which nothing is stored; each time a worker died before.
_FRESH_STARTS = 10


@final
class StepContinuity:
    """A record of the distance between the steps of an evaluator.

    An evaluator may measure every step, or every fifth for instance.
    A worker that measured from the start shows this distance. For one that goes on from a
    checkpoint it is unknown which step was measured before, and whether its row was lost with the
    driver.

    Example:
        >>> steps = StepContinuity()
        >>> steps.broken(last=2, step=4, after=2, before=[1, 2])
        False
        >>> steps.broken(last=4, step=6, after=5, before=[1, 2, 4])
        True
    """

    def __init__(self) -> None:
        self._widest = 1
        self._anew: Counter[int] = Counter()

    def broken(self, last: int, step: int, after: int | None, before: Iterable[int]) -> bool:
        """Return whether a measurement leaves a hole in the curve of its trial.

        Args:
            last: The last step before it; 0 for none.
            step: Step of the measurement, beyond ``last``.
            after: The step that its worker had measured before; None when that is not known. Then
                the measurement follows if it is no farther from ``last`` than steps are apart, of
                this trial or of others.
            before: All steps of the trial before it, from the first one up.

        Returns:
            True if a step between is missing.
        """
        if after is None:
            distances = (b - a for a, b in pairwise(chain([0], before)))
            return step - last > max(distances, default=1) and step - last > self._widest
        if after == last:
            self._widest = max(self._widest, step - last)
        return after > last

    def may_begin_anew(self, number: int, last: int) -> bool:
        """Return whether a trial with a hole may start from the beginning to fill it, and count it.

        Args:
            number: Number of the trial.
            last: The last step before the hole. With 0 the distance of its steps is not known, and
                nothing but time is lost: ten starts are allowed. Else only one is.

        Returns:
            False when the allowed starts are used up.
        """
        self._anew[number] += 1
        return self._anew[number] <= (1 if last else _FRESH_STARTS)


def steps_of(trial: Trial) -> Iterator[int]:
    """Return the known steps of a trial's evaluation.

    Args:
        trial: The trial.

    Returns:
        Steps from the first one up, without screening scores at step 0.
    """
    return (m.step for m in trial.measurements if m.step > 0)


def hole_message(step: int, last: int) -> str:
    """Return the message of a trial whose evaluator left out steps.

    Args:
        step: Step of the measurement after the hole.
        last: The last step before the hole.

    Returns:
        The message.
    """
    return (
        f"the evaluator reported step {step} after step {last}, and the steps between are "
        "missing; it must report every step, in order"
    )
