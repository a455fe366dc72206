"""This module has the rungs of successive halving, and the order of trials in them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from raynas.core import Measurement, Objective, SearchProblem, Trial, UserError
from raynas.core import signed as signed_values
from raynas.core.ability import has
from raynas.core.fields import check_fields
from raynas.core.pareto import pareto_order
from raynas.core.renamed import renamed_names
from raynas.schedulers.base import Scheduler, require_integer

Values = tuple[float, ...]


def rung_steps(first: int, factor: int, end: int) -> list[int]:
    """Return the steps ``first * factor**k`` below ``end``, in exact integers.

    Args:
        first: Step of the lowest rung.
        factor: Ratio of neighboring steps.
        end: Step that all rungs are below.

    Returns:
        Steps from low to high.

    Example:
        >>> rung_steps(1, 3, 27)
        [1, 3, 9]
    """
    steps, step = [], first
    while step < end:
        steps.append(step)
        step *= factor
    return steps


@runtime_checkable
class KeepsMoreState(Protocol):
    """A scheduler that keeps more than its rungs."""

    def reset(self) -> None:
        """Forget all trials; called by ``setup`` when the rungs are there."""


@dataclass
class RungScheduler(Scheduler):
    """The common part of schedulers with rungs at ``min_step * factor**k`` below ``max_step``.

    A trial is entered in a rung with its first measurement at or after that step; one that jumps
    over several rungs is entered in the highest only. Of equal values the lower trial number
    ranks first; several objectives rank by Pareto front, then crowding. A subclass that keeps more
    state than the rungs is one that :class:`KeepsMoreState`.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.

    Raises:
        UserError: A setting is outside its range.
    """

    min_step: int = 1
    factor: int = 3
    max_step: int | None = None

    _objectives: tuple[Objective, ...] = field(init=False, repr=False, compare=False)
    _rungs: list[RungRanking] = field(init=False, repr=False, compare=False)
    _end: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for setting, least in (("min_step", 1), ("factor", 2), ("max_step", 1)):
            value = getattr(self, setting)
            if value is not None:
                setattr(self, setting, require_integer(type(self).__name__, setting, value, least))

    def setup(self, problem: SearchProblem) -> None:
        """Start with empty rungs.

        Args:
            problem: Objectives and last step of the search.

        Raises:
            UserError: ``min_step`` is above the last step.
        """
        self._objectives = problem.objectives
        self._end = problem.max_step
        if self.max_step is not None:
            self._end = min(self.max_step, problem.max_step)
        if self.min_step > self._end:
            raise UserError(
                f"{type(self).__name__}: min_step = {self.min_step}, and an evaluation has "
                f"{self._end} steps, so no trial would ever be compared",
                expected=f"integers from 1 to {self._end}",
            )
        self._rungs = self._standings()
        if has(self, KeepsMoreState):
            self.reset()

    def ranked_rungs(self) -> Sequence[RungRanking]:
        """Return the rungs from low to high, with their trials."""
        return self._rungs

    def _standings(self) -> list[RungRanking]:
        single = len(self._objectives) == 1
        steps = rung_steps(self.min_step, self.factor, self._end)
        return [RungRanking(step, self.factor, single) for step in steps]

    def _finite(self, trial: Trial, measurement: Measurement | None) -> bool:
        if measurement is None:
            return False
        values = [trial.values(measurement).get(o.metric) for o in self._objectives]
        return all(v is not None and math.isfinite(v) for v in values)

    def _enter(
        self, trial: Trial, measurement: Measurement | None, rungs: list[RungRanking] | None = None
    ) -> RungRanking | None:
        """Enter the trial in the highest rung that its step reaches, where due.

        Returns the highest of ``rungs`` (default: all) that it is entered in by this step, or None.
        """
        assert measurement is not None
        rungs = self._rungs if rungs is None else rungs
        step = measurement.step
        place = bisect.bisect_right([r.step for r in rungs], step)
        if place == 0:
            return None
        rung = rungs[place - 1]
        entry = rung.entries.get(trial.number)
        # a resumed worker may measure a step again; the store keeps the later row
        if entry is None or entry[0] == step:
            rung.enter(
                trial.number, step, signed_values(self._objectives, trial.values(measurement))
            )
        return rung


class RungRanking:
    """The trials entered in one rung, and their order.

    Args:
        step: Step of the rung.
        factor: Ratio of the steps of neighboring rungs.
        single: Whether there is one objective.

    Attributes:
        step: Step of the rung.
        entries: Trial number -> (measured step, objectives; higher is better).
        stopped: Numbers of trials that the measurement which entered them stopped or paused.
    """

    def __init__(self, step: int, factor: int, single: bool) -> None:
        self.step = step
        self.entries: dict[int, tuple[int, Values]] = {}  # number -> (measured step, values)
        self.stopped: set[int] = set()  # by the measurement that entered them
        self._factor = factor
        self._single = single
        self._sorted: list[tuple[float, int]] = []  # one objective: (-value, number)
        self._places: dict[int, int] | None = (
            None  # several objectives: number -> rank; None when outdated
        )

    @property
    def promoted(self) -> int:
        """The number of trials that went on from the rung."""
        return len(self.entries) - len(self.stopped)

    def enter(self, number: int, step: int, values: Values) -> None:
        """Enter a trial, or replace its values.

        Args:
            number: Number of the trial.
            step: Step of its measurement.
            values: Its objectives, higher is better.
        """
        old = self.entries.get(number)
        if old == (step, values):
            return
        self.entries[number] = (step, values)
        self._places = None
        if self._single:
            if old is not None:
                self._sorted.pop(bisect.bisect_left(self._sorted, (-old[1][0], number)))
            bisect.insort(self._sorted, (-values[0], number))

    def best(self, count: int) -> list[int]:
        """Return the best trials.

        Args:
            count: Number of trials.

        Returns:
            Their numbers, best first; fewer where the rung has fewer.
        """
        if self._single:
            return [number for _, number in self._sorted[:count]]
        return sorted(self.entries, key=self._place)[:count]

    def keeps(self, number: int, times: int = 1) -> bool:
        """Return whether a trial is among the best of its rung.

        Args:
            number: Number of the trial.
            times: Multiple of the rung's share, ``ceil(n / factor)`` of n trials.

        Returns:
            True if its rank is within the multiple.
        """
        share = -(-len(self.entries) // self._factor)  # rounded up
        return self._place(number) < times * share

    def _place(self, number: int) -> int:
        if self._single:
            key = (-self.entries[number][1][0], number)
            return bisect.bisect_left(self._sorted, key)
        if self._places is None:
            numbers = sorted(self.entries)
            points = np.array([self.entries[n][1] for n in numbers], dtype=np.float64)
            self._places = {numbers[i]: place for place, i in enumerate(pareto_order(points))}
        return self._places[number]


__getattr__ = renamed_names(__name__, Halving="RungScheduler")
