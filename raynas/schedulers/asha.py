"""Asynchronous successive halving, the stopping variant.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from raynas.core import Decision, Measurement, Objective, Problem, Trial, TrialState, UserError
from raynas.core import signed as signed_values
from raynas.core.pareto import pareto_order
from raynas.schedulers.base import Rung, Scheduler

Values = tuple[float, ...]


@dataclass
class ASHA(Scheduler):
    """Trials below the best ``1/factor`` of their rung stop.

    Rungs lie at ``min_step * factor**k`` below ``max_step`` (default: the problem's), in exact
    integers. A trial is entered in a rung with its first measurement at or after that step; one
    that jumps over several rungs is entered in the highest only.

    The rule: of ``n`` trials entered in a rung so far, the share of the rung is
    ``ceil(n / factor)``. A trial that enters a rung goes on if it is among the share's best
    there, and among the best of twice the share in every lower rung. Between rungs nothing
    stops. Of equal values the lower trial number ranks first; several objectives rank by Pareto
    front, then crowding. So

    * the best of all rungs that it entered never stops (with equals: the lowest number),
    * a stream in which each trial is better than the one before passes a rung whole, since each
      is the best when it comes; of those overtaken meanwhile only twice the share pass the next.

    A measurement without finite objectives stops the trial and enters no rung. Decisions depend
    on the measurements only, not on a random state or on the order in which trials report.
    """

    min_step: int = 1
    factor: int = 3
    max_step: int | None = None

    name: ClassVar[str] = "asha"

    _objectives: tuple[Objective, ...] = field(init=False, repr=False, compare=False)
    _rungs: list[_Rung] = field(init=False, repr=False, compare=False)
    _end: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for setting, value, least in (
            ("min_step", self.min_step, 1),
            ("factor", self.factor, 2),
            ("max_step", self.max_step, 1),
        ):
            if value is not None and (value < least or value != int(value)):
                raise UserError(f"ASHA: {setting} = {value}", allowed=f"integers from {least}")

    def setup(self, problem: Problem) -> None:
        self._objectives = problem.objectives
        self._end = problem.max_step
        if self.max_step is not None:
            self._end = min(self.max_step, problem.max_step)
        single = len(problem.objectives) == 1
        self._rungs = [_Rung(step, self.factor, single) for step in self._steps()]

    def decide(self, trial: Trial) -> Decision:
        if not self._finite(trial, trial.last):
            return Decision.STOP
        rung = self._enter(trial, trial.last)
        if rung is None:
            return Decision.CONTINUE
        if trial.step >= self._end or rung.entries[trial.number][0] != trial.step:
            return Decision.CONTINUE
        lower = [r for r in self._rungs if r is not rung and trial.number in r.entries]
        if rung.keeps(trial.number) and all(r.keeps(trial.number, 2) for r in lower):
            rung.stopped.discard(trial.number)
            return Decision.CONTINUE
        rung.stopped.add(trial.number)
        return Decision.STOP

    def replay(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            rung = None
            for measurement in trial.measurements:
                if self._finite(trial, measurement):
                    rung = self._enter(trial, measurement)
            if rung is None or trial.state is not TrialState.STOPPED:
                continue
            if rung.entries[trial.number][0] == trial.step:
                rung.stopped.add(trial.number)

    def rungs(self) -> tuple[Rung, ...]:
        return tuple(Rung(r.step, len(r.entries), r.promoted) for r in self._rungs)

    def _steps(self) -> list[int]:
        steps, step = [], self.min_step
        while step < self._end:
            steps.append(step)
            step *= self.factor
        return steps

    def _finite(self, trial: Trial, measurement: Measurement | None) -> bool:
        if measurement is None:
            return False
        values = [trial.values(measurement).get(o.metric) for o in self._objectives]
        return all(v is not None and math.isfinite(v) for v in values)

    def _enter(self, trial: Trial, measurement: Measurement | None) -> _Rung | None:
        """The highest rung that the trial is entered in by this step, entered where due."""
        assert measurement is not None
        step = measurement.step
        place = bisect.bisect_right([r.step for r in self._rungs], step)
        if place == 0:
            return None
        rung = self._rungs[place - 1]
        entry = rung.entries.get(trial.number)
        # a worker that resumed measures a step again; the store keeps its later word
        if entry is None or entry[0] == step:
            rung.enter(
                trial.number, step, signed_values(self._objectives, trial.values(measurement))
            )
        return rung


class _Rung:
    """The trials entered at one step, and their order."""

    def __init__(self, step: int, factor: int, single: bool) -> None:
        self.step = step
        self.entries: dict[int, tuple[int, Values]] = {}  # number -> (step measured, values)
        self.stopped: set[int] = set()  # by the measurement that entered them
        self._factor = factor
        self._single = single
        self._sorted: list[tuple[float, int]] = []  # one objective: (-value, number)
        self._places: dict[int, int] | None = None  # several: number -> place, when up to date

    @property
    def promoted(self) -> int:
        return len(self.entries) - len(self.stopped)

    def enter(self, number: int, step: int, values: Values) -> None:
        old = self.entries.get(number)
        if old == (step, values):
            return
        self.entries[number] = (step, values)
        self._places = None
        if self._single:
            if old is not None:
                self._sorted.pop(bisect.bisect_left(self._sorted, (-old[1][0], number)))
            bisect.insort(self._sorted, (-values[0], number))

    def keeps(self, number: int, times: int = 1) -> bool:
        """Whether the trial is among the best ``times`` the rung's share."""
        return self._place(number) < times * math.ceil(len(self.entries) / self._factor)

    def _place(self, number: int) -> int:
        if self._single:
            key = (-self.entries[number][1][0], number)
            return bisect.bisect_left(self._sorted, key)
        if self._places is None:
            numbers = sorted(self.entries)
            points = np.array([self.entries[n][1] for n in numbers], dtype=np.float64)
            self._places = {numbers[i]: place for place, i in enumerate(pareto_order(points))}
        return self._places[number]
