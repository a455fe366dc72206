"""The trials of a run that answer a question: the best, the front, the finalists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raynas.analysis.intervals import PAIRS_FROM
from raynas.analysis.statistics import DRAWN, Bools, Floats, Ints, RunStatistics
from raynas.core import TrialState
from raynas.core.metrics import TEST_ACCURACY
from raynas.core.pareto import hypervolume_gain, pareto_front
from raynas.store.schema import FINAL


def running_hypervolume(points: Floats, everything: Floats) -> Floats:
    """Compute the share of the box spanned by ``everything`` that the first trials dominate.

    Args:
        points: (n, d) objectives, higher is better, in the order in which they were found.
        everything: (m, d) all that the box must hold, m >= 1.

    Returns:
        (n,) entry k is the share that ``points[:k + 1]`` dominate. It never falls.
    """
    if not len(points):
        return np.empty(0)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    corner = np.full(points.shape[1], -1e-9)
    result = np.empty(len(points))
    front = np.empty((0, points.shape[1]))
    value = 0.0
    for k, point in enumerate(scaled):
        if not np.any(np.all(front >= point, axis=1)):
            value += hypervolume_gain(front, point, corner)
            front = np.vstack([front[~np.all(front <= point, axis=1)], point])
        result[k] = value
    return result


def distinct(run: RunStatistics, chosen: Ints) -> Ints:
    """Reduce ``chosen`` to one trial per architecture, the first of each.

    Args:
        run: The run.
        chosen: (n,) indices of trials.

    Returns:
        (m,) indices, in their order.
    """
    _, first = np.unique(run.trials.arch_id[chosen].astype(str), return_index=True)
    return chosen[np.sort(first)]


def front(run: RunStatistics, method: str | None, metrics: Sequence[tuple[str, float]]) -> Ints:
    """Return the COMPLETE trials on the Pareto front of ``metrics``, one trial per architecture.

    Args:
        run: The loaded run.
        method: Only those of this method; None for all methods.
        metrics: Pairs of name and sign (+1: higher is better).

    Returns:
        (m,) indices of trials, the best of the first metric first.
    """
    done = ranked(run, method)
    points = np.stack([sign * run.trials.values[m][done] for m, sign in metrics], axis=1)
    known = np.isfinite(points).all(axis=1)
    return done[known][pareto_front(points[known])]


@dataclass(frozen=True)
class FinalistResult:
    """One architecture, retrained from scratch over seeds and measured on the test images.

    Attributes:
        arch_id: Id of the architecture.
        method: Method of its first trial in this stage.
        seeds: Seeds of the trainings that are complete.
        values: (seeds,) test results, in the unit of the test metric.
        failed: Number of trainings that failed.
    """

    arch_id: str
    method: str
    seeds: tuple[int, ...]
    values: Floats
    failed: int

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN without any."""
        return float(self.values.mean()) if len(self.values) else math.nan

    @property
    def std(self) -> float:
        """The sample standard deviation over seeds; NaN with one seed."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else math.nan


def test_metric(run: RunStatistics) -> str | None:
    """Return the name of the test set's counterpart of the first objective.

    A proxy's score has none: finalists that were chosen by one show their accuracy.

    Args:
        run: The loaded run.

    Returns:
        The name of the column; None where the table has none.
    """
    first = run.objectives[0].metric
    name = TEST_ACCURACY.name if run.is_score(first) else "test_" + first.removeprefix("val_")
    return name if name in run.trials.values else None


def finals(run: RunStatistics, stage: str = FINAL) -> dict[str, FinalistResult]:
    """Return the test results of the finalists.

    Args:
        run: The loaded run.
        stage: The final stage, or the one of fine-tuning.

    Returns:
        Id of the architecture -> its result; empty before the stage began.
    """
    metric = test_metric(run)
    mine: Bools = run.trials.stage == stage
    if metric is None or not mine.any():
        return {}
    result = {}
    for arch_id in dict.fromkeys(run.trials.arch_id[mine]):
        index = np.flatnonzero(mine & (run.trials.arch_id == arch_id))
        values = run.trials.values[metric][index]
        done = index[np.isfinite(values) & run.has_state(TrialState.COMPLETE)[index]]
        failed = int(run.has_state(TrialState.FAILED)[index].sum())
        result[arch_id] = FinalistResult(
            arch_id, run.trials.method[index[0]], tuple(int(s) for s in run.trials.seed[done]),
            run.trials.values[metric][done], failed,
        )  # fmt: skip
    return result


def best(run: RunStatistics, method: str | None = None) -> int | None:
    """Return the index of the best COMPLETE search trial by the first objective.

    Test data are never used.

    Before the first is COMPLETE: the best among those measured furthest.

    Args:
        run: The loaded run.
        method: Only those of this method; None for all methods.

    Returns:
        The index; None before the first measurement.
    """
    quality = run.points()[:, 0] if len(run.trials) else np.empty(0)
    done = run.complete(method)
    if not len(done):
        done = np.flatnonzero(run.searching(method) & np.isfinite(quality) & (run.trials.step > 0))
        if not len(done):
            return None
        done = done[run.trials.step[done] == run.trials.step[done].max()]
    return int(done[np.argmax(quality[done])])


def ranked(run: RunStatistics, method: str | None = None) -> Ints:
    """Return the COMPLETE search trials, one per architecture, best first by the first objective.

    Args:
        run: The loaded run.
        method: Only those of this method; None for all methods.

    Returns:
        (m,) indices of trials.
    """
    done = run.complete(method)
    order = np.argsort(-run.points()[done, 0], kind="stable")
    return distinct(run, done[order])


def sample(run: RunStatistics, usable: Bools) -> tuple[Ints, bool]:
    """Choose the architectures by which scores, or size, are judged.

    A search that learns from results has relatives among its architectures: they agree in size
    and in quality whatever those have to do with each other, and no interval holds.

    Args:
        run: The run.
        usable: (trials,) True for those that may be taken.

    Returns:
        COMPLETE search trials, one per architecture, best first: those of the methods ``DRAWN``
        where they are enough for an interval, and True; else all of them, and False.
    """
    every = ranked(run)
    done = run.complete()
    done = done[np.isin(run.trials.method[done], DRAWN)]
    drawn = distinct(run, done[np.argsort(-run.points()[done, 0], kind="stable")])
    drawn = drawn[usable[drawn]]
    return (drawn, True) if len(drawn) >= PAIRS_FROM else (every[usable[every]], False)


def wall_seconds(run: RunStatistics) -> float:
    """Return the time from the first to the last row, pauses between sessions left out.

    Args:
        run: The loaded run.

    Returns:
        Seconds.
    """
    total = 0.0
    for session in np.unique(run.rows.session):
        index = np.flatnonzero(run.rows.session == session)
        first = index[np.argmin(run.rows.time[index])]
        total += run.rows.time[index].max() - run.rows.time[first] + run.rows.seconds[first]
    return float(total)
