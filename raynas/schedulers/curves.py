"""This module has early stopping by predicted learning curves.

A trial is compared with earlier trials that had similar values: the gain from its step to a later
one is learned from the run's own curves. Like the predictive termination of K. Swersky, J. Snoek,
R. Adams, "Freeze-Thaw Bayesian Optimization" (arXiv 1406.3896) and T. Domhan, J. Springenberg, F.
Hutter, "Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation
of Learning Curves" (IJCAI 2015), with a regression in place of a family of curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import Decision, Measurement, Objective, SearchProblem, Trial, UserError, signed
from raynas.core.fields import check_fields
from raynas.schedulers.base import Scheduler, require_integer

Floats = NDArray[np.float64]
Curve = dict[int, tuple[float, ...]]


@dataclass
class CurvePrediction(Scheduler):
    """A scheduler that stops trials whose predicted curve will not be among the best ones.

    After each measurement from ``min_step`` on, the trial's objectives at a later step, the
    horizon, are predicted from its curve so far: by a linear regression of the gain on the value
    and on its last growth, over at most ``neighbours`` trials that were measured at both steps,
    those with the nearest values. The horizon is the last step that ``enough`` others reached. The
    trial stops when at least ``best`` others have there, in every objective, more than the upper
    end of its interval. A share ``confidence`` of such trials stays below this end (one-sided).

    Before ``enough`` others went further, nothing stops. The interval is as wide as the trials
    differ, so noise in the curves, not a fixed share, decides how many trials stop. A measurement
    without finite objectives stops the trial. Decisions depend on the measurements only.

    Attributes:
        best: Number of trials that must be better at the horizon.
        confidence: Confidence of the interval, from 0.5 to below 1.
        min_step: First step after which a trial may stop.
        enough: Number of other trials that a prediction needs, 4 or more.
        neighbours: Largest number of trials in a regression, 4 or more.

    Raises:
        UserError: A setting is outside its range.
    """

    best: int = 3
    confidence: float = 0.95
    min_step: int = 1
    enough: int = 5
    neighbours: int = 50

    name: ClassVar[str] = "curves"

    _objectives: tuple[Objective, ...] = field(init=False, repr=False, compare=False)
    _end: int = field(init=False, repr=False, compare=False)
    _curves: dict[int, Curve] = field(init=False, repr=False, compare=False)
    _reached: dict[int, set[int]] = field(init=False, repr=False, compare=False)  # step -> trials
    _values: dict[int, Floats] = field(init=False, repr=False, compare=False)  # step -> theirs

    def __post_init__(self) -> None:
        check_fields(self)
        for setting, least in (("best", 1), ("min_step", 1), ("enough", 4), ("neighbours", 4)):
            value = getattr(self, setting)
            setattr(self, setting, require_integer("CurvePrediction", setting, value, least))
        if not 0.5 <= self.confidence < 1:
            raise UserError(
                f"CurvePrediction: confidence = {self.confidence}", expected="0.5 to below 1"
            )

    def setup(self, problem: SearchProblem) -> None:
        """Start without any curves.

        Args:
            problem: Objectives and last step of the search.

        Raises:
            UserError: ``min_step`` is above the last step.
        """
        self._objectives, self._end = problem.objectives, problem.max_step
        if self.min_step > self._end:
            raise UserError(
                f"CurvePrediction: min_step = {self.min_step}, and an evaluation has {self._end} "
                "steps, so no trial would ever be compared",
                expected=f"integers from 1 to {self._end}",
            )
        self._curves, self._reached, self._values = {}, {}, {}

    def decide(self, trial: Trial) -> Decision:
        """Return STOP for a trial whose predicted end is below the best ones, else CONTINUE.

        Args:
            trial: The trial, with its last measurement.

        Returns:
            CONTINUE or STOP.
        """
        if trial.last is None or not self._enter(trial, trial.last):
            return Decision.STOP
        step = trial.step
        if not self.min_step <= step < self._end:
            return Decision.CONTINUE
        upper = self.predict(trial.number, step)
        if upper is None:
            return Decision.CONTINUE
        horizon, ends = upper
        better = np.all(self._rivals(horizon) > ends, axis=1).sum()
        return Decision.STOP if better >= self.best else Decision.CONTINUE

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over the curves of stored trials."""
        for trial in trials:
            for measurement in trial.measurements:
                self._enter(trial, measurement)

    def predict(self, number: int, step: int) -> tuple[int, Floats] | None:
        """Predict the objectives of a trial at the last step that enough others reached.

        Args:
            number: Number of the trial.
            step: Its last measured step.

        Returns:
            The horizon and the upper ends of the intervals there, (objectives,) signed so that
            higher is better; None where too few others went further.
        """
        here = self._reached.get(step, set())
        for horizon in sorted(self._reached, reverse=True):
            if horizon <= step:
                return None
            others = sorted((here & self._reached[horizon]) - {number})
            if len(others) >= self.enough:
                ends = [
                    self._upper(number, others, step, horizon, j)
                    for j in range(len(self._objectives))
                ]
                return horizon, np.array(ends)
        return None

    def _rivals(self, step: int) -> Floats:
        """Return the objectives (n, objectives) of all trials that reached the step."""
        if step not in self._values:
            values = [self._curves[number][step] for number in self._reached[step]]
            self._values[step] = np.array(values, dtype=np.float64)
        return self._values[step]

    def _upper(
        self, number: int, others: list[int], step: int, horizon: int, objective: int
    ) -> float:
        from scipy.stats import t as student

        own = self._seen(number, step, objective)
        seen = np.array([self._seen(n, step, objective) for n in others])
        later = np.array([self._curves[n][horizon][objective] for n in others])
        near = np.argsort(np.abs(seen[:, 0] - own[0]), kind="stable")[: self.neighbours]
        mean, deviation, freedom = _regression(seen[near], later[near] - seen[near, 0], own)
        return float(own[0] + mean + student.ppf(self.confidence, freedom) * deviation)

    def _seen(self, number: int, step: int, objective: int) -> Floats:
        """Return (2,) the value at ``step`` and its growth since half of the steps."""
        curve = self._curves[number]
        value = curve[step][objective]
        before = max((s for s in curve if s <= step // 2), default=step)
        return np.array([value, value - curve[before][objective]])

    def _enter(self, trial: Trial, measurement: Measurement) -> bool:
        """Remember the measurement; return whether all its objectives are finite."""
        values = trial.values(measurement)
        known = [values.get(o.metric, math.nan) for o in self._objectives]
        if not all(map(math.isfinite, known)):
            return False
        if measurement.step:
            curve = self._curves.setdefault(trial.number, {})
            curve[measurement.step] = signed(self._objectives, values)
            self._reached.setdefault(measurement.step, set()).add(trial.number)
            self._values.pop(measurement.step, None)
        return True


def _regression(x: Floats, y: Floats, at: Floats) -> tuple[float, float, int]:
    """Return mean, deviation and degrees of freedom of a new ``y`` at ``at``.

    ``at`` is (d,), ``x`` (n, d), ``y`` (n,). This is a ridge regression on standardised columns,
    so that few or equal values do no harm; the deviation is that of the residuals, larger away
    from the data.
    """
    centre, unit = x.mean(axis=0), x.std(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    z, new = (x - centre) / unit, (at - centre) / unit
    inverse = np.linalg.inv(z.T @ z + np.eye(z.shape[1]))
    slope = inverse @ z.T @ (y - y.mean())
    freedom = max(len(y) - 1 - x.shape[1], 1)
    rest = y - y.mean() - z @ slope
    variance = float(rest @ rest) / freedom
    spread = variance * (1 + 1 / len(y) + float(new @ inverse @ new))
    return float(y.mean() + new @ slope), math.sqrt(spread), freedom
