"""A run's table as arrays, and its costs, best values, rungs, fronts and intervals.

It uses numpy only, without loops over rows, so that 100,000 rows take a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.analysis.descriptions import objectives_of
from raynas.analysis.formatting import UNITS
from raynas.analysis.intervals import PAIRS_FROM, IntervalEstimate, rank_correlations
from raynas.core import Objective, TrialState
from raynas.core.metrics import SCORE_UNIT, TEST_ACCURACY
from raynas.core.pareto import hypervolume_gain, pareto_front
from raynas.core.trial import LARGEST_VALUE, LONGEST
from raynas.store.schema import COLUMNS, FINAL, SEARCH

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Strings = NDArray[np.object_]

RANDOM = "random"
DRAWN = ("random", "optuna-random", "exhaustive", "listed")
"""Methods that propose without regard to results: their architectures are independent draws."""
COSTS = ("params", "macs")
LATENCY = "latency_ms"
_TIMES = (0.0, 253_402_300_799.0)  # the years 1970 to 9999, which calendars know
_NO_STEP = 2**31 - 1  # sorts a row without a step behind all steps of its trial
_FIXED = frozenset(column.name for column in COLUMNS)


@dataclass(frozen=True)
class TrialColumns:
    """The trials of a run as arrays, one entry per trial, ordered by number.

    Attributes:
        number: (n,) numbers.
        stage: (n,) stages of the run.
        arm: (n,) names of the methods that proposed them.
        state: (n,) states.
        arch: (n,) architectures as texts.
        arch_id: (n,) ids of the architectures.
        message: (n,) last messages; empty without one.
        seed: (n,) seeds.
        seconds: (n,) worker seconds of all their rows.
        step: (n,) last step measured, 0 before the first.
        values: Metric -> (n,) its last finite value, or NaN.
        measured: (n,) index of the row that carries the last finite value of the first objective,
            or -1.
    """

    number: Ints
    stage: Strings
    arm: Strings
    state: Strings
    arch: Strings
    arch_id: Strings
    message: Strings
    seed: Ints
    seconds: Floats
    step: Ints
    values: Mapping[str, Floats]
    measured: Ints

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class RowColumns:
    """The rows of a run's table as arrays, ordered by trial and step.

    Attributes:
        owner: (rows,) index of the row's trial in :class:`TrialColumns`.
        step: (rows,) steps; 0 where the store has null.
        seconds: (rows,) worker seconds.
        time: (rows,) seconds since 1970.
        session: (rows,) number of the start of the run that wrote the row.
        scoring: (rows,) True where the row is of step 0, the scores of a candidate, and measured no
            training.
        values: Metric -> (rows,) values, NaN where absent.
    """

    owner: Ints
    step: Ints
    seconds: Floats
    time: Floats
    session: Ints
    scoring: Bools
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class RunStatistics:
    """The table of a run as arrays.

    Attributes:
        objectives: Objectives of the search.
        description: The described experiment.
        units: Metric -> unit, where it has one.
        arms: Methods of the search, the main one first.
        trials: One entry per trial.
        rows: One entry per row.
    """

    objectives: tuple[Objective, ...]
    description: Mapping[str, Any]
    units: Mapping[str, str]
    arms: tuple[str, ...]
    trials: TrialColumns
    rows: RowColumns

    @property
    def main(self) -> str | None:
        """The method of the smallest trial number, with which the others are compared.

        Returns:
            Its name; None without trials of a search.
        """
        return self.arms[0] if self.arms else None

    @property
    def random(self) -> str | None:
        """The compared method that searches at random.

        Returns:
            Its name; None where there is none beside the main method.
        """
        return next((a for a in self.arms[1:] if a.lower().startswith(RANDOM)), None)

    def unit(self, metric: str) -> str:
        """Return the unit of a metric.

        Args:
            metric: Name of a column.

        Returns:
            The unit; empty where it is not known.
        """
        return self.units.get(metric, UNITS.get(metric, ""))

    def is_score(self, metric: str) -> bool:
        """Return True when the metric is a proxy's score, by its unit.

        Args:
            metric: Name of a column.
        """
        return self.unit(metric) == SCORE_UNIT

    def searching(self, arm: str | None = None) -> Bools:
        """Select the trials of the search.

        Args:
            arm: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the trials of the search.
        """
        mask: Bools = self.trials.stage == SEARCH
        return mask if arm is None else mask & (self.trials.arm == arm)

    def has_state(self, state: TrialState) -> Bools:
        """Select the trials in one state.

        Args:
            state: The state.

        Returns:
            (trials,) True for the trials in it.
        """
        return np.asarray(self.trials.state == state.value, dtype=np.bool_)

    def screened(self, arm: str | None = None) -> Bools:
        """Select the candidates of the search that were scored to be kept or screened out.

        Args:
            arm: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the candidates.
        """
        mask = np.zeros(len(self.trials), dtype=bool)
        mask[self.rows.owner[self.rows.scoring]] = True
        return mask & self.searching(arm)

    def screened_out(self, arm: str | None = None) -> Bools:
        """Select the candidates of the search that were not trained because of their scores.

        Candidates for which there are no scores count, too.

        Args:
            arm: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the candidates that were screened out.
        """
        scored = self.screened()
        stopped, failed = self.has_state(TrialState.STOPPED), self.has_state(TrialState.FAILED)
        once = np.bincount(self.rows.owner, minlength=len(scored)) == 1  # else it was started
        beyond = self.has_state(TrialState.INFEASIBLE) & scored & once
        unscored = failed & ~scored & np.isin(self.trials.arm, self.trials.arm[scored])
        mine = self.searching(arm) & (self.trials.step == 0)
        return np.asarray(mine & (stopped | beyond | unscored), dtype=np.bool_)

    def points(self) -> Floats:
        """Return the objectives of all trials, signed so that higher is better.

        Returns:
            (trials, objectives) values; NaN where not measured.
        """
        columns = [o.sign * self.trials.values[o.metric] for o in self.objectives]
        return np.stack(columns, axis=1)

    def complete(self, arm: str | None = None) -> Ints:
        """Return the indices of the search's COMPLETE trials whose objectives are all finite.

        Args:
            arm: Only those of this method; None for all methods.

        Returns:
            (m,) indices into the run's trials.
        """
        finite = np.isfinite(self.points()).all(axis=1)
        return np.flatnonzero(self.searching(arm) & self.has_state(TrialState.COMPLETE) & finite)


def load(table: pa.Table, description: Mapping[str, Any]) -> RunStatistics:
    """Load the table of a store as arrays.

    Args:
        table: Rows in any order; it may be empty.
        description: The ``description`` of the run's run.json.

    Returns:
        The run.

    Raises:
        UserError: The description was not written by raynas.
    """
    import pyarrow as pa

    description = description if isinstance(description, Mapping) else {}
    objectives = objectives_of(description)
    number = _ints(table["trial"], 0)
    step = _ints(table["step"], _NO_STEP)
    time = np.clip(_ints(table["time"].cast(pa.int64()), 0) / 1e6, *_TIMES)
    order = np.lexsort((time, step, number))
    number, step, time = number[order], step[order], time[order]
    scoring = step == 0
    step = np.where(step == _NO_STEP, 0, step)
    starts = np.flatnonzero(np.r_[True, number[1:] != number[:-1]]) if len(number) else _none()
    owner = np.cumsum(np.isin(np.arange(len(number)), starts)) - 1
    seconds = _floats(table["seconds"])[order]
    with np.errstate(invalid="ignore"):
        seconds = np.where((seconds >= 0) & (seconds <= LONGEST), seconds, 0.0)
    wanted = [n for n in table.column_names if n not in _FIXED]
    wanted += [o.metric for o in objectives if o.metric not in (*wanted, "seconds")]
    values = {
        n: _usable(table[n])[order] if n in table.column_names else np.full(len(order), np.nan)
        for n in dict.fromkeys([*wanted, *COSTS])
    }
    session = _ints(table["session"], 0)[order]
    rows = RowColumns(owner, step, seconds, time, session, scoring, values)
    trials = _trials(table, order, rows, number, starts, objectives[0])
    return RunStatistics(objectives, description, _units(table), _arms(trials), trials, rows)


def _trials(
    table: pa.Table, order: Ints, rows: RowColumns, number: Ints, starts: Ints, first: Objective
) -> TrialColumns:
    ends = np.r_[starts[1:], len(number)] - 1 if len(starts) else _none()
    last = order[ends]

    def text(name: str) -> Strings:
        taken = table[name].take(last).to_pylist()
        return np.array([t or "" for t in taken] + [None], dtype=object)[:-1]

    finite = {n: _last_finite(v, starts) for n, v in rows.values.items()}
    values = {n: np.where(i >= 0, rows.values[n][i], np.nan) for n, i in finite.items()}
    seconds = np.add.reduceat(rows.seconds, starts) if len(starts) else np.empty(0)
    values["seconds"] = seconds
    measured = finite.get(first.metric, ends)
    if first.metric in (*COSTS, "seconds"):
        measured = ends
    step = np.maximum.reduceat(rows.step, starts) if len(starts) else _none()
    return TrialColumns(
        number[starts], text("stage"), text("arm"), text("state"), text("arch"), text("arch_id"),
        text("message"), _ints(table["seed"].take(last), 0), seconds, step, values, measured,
    )  # fmt: skip


def _last_finite(values: Floats, starts: Ints) -> Ints:
    """Per group of rows the index of its last finite value, or -1."""
    if not len(starts):
        return _none()
    index = np.where(np.isfinite(values), np.arange(len(values)), -1)
    return np.maximum.reduceat(index, starts)


def _none() -> Ints:
    return np.empty(0, dtype=np.int64)


def _ints(column: Any, null: int) -> Ints:
    return np.asarray(column.fill_null(null).to_numpy(), dtype=np.int64)


def _floats(column: Any) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _usable(column: Any) -> Floats:
    """(rows,) the values, infinite beyond the largest that may be computed with."""
    values = _floats(column)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) > LARGEST_VALUE, np.copysign(np.inf, values), values)


def _units(table: pa.Table) -> dict[str, str]:
    found = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in table.schema}
    return {name: unit for name, unit in found.items() if unit}


def _arms(trials: TrialColumns) -> tuple[str, ...]:
    return tuple(dict.fromkeys(trials.arm[trials.stage == SEARCH]))


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


@dataclass(frozen=True)
class TauEstimate:
    """A rank correlation, Kendall's tau-b, with its 95 % interval.

    Attributes:
        tau: The correlation, from -1 to 1.
        low: Lower end of the interval; NaN with fewer than ``PAIRS_FROM`` pairs.
        high: Upper end of the interval; NaN with fewer than ``PAIRS_FROM`` pairs.
        n: Number of pairs.
    """

    tau: float
    low: float
    high: float
    n: int


def kendall(x: Floats, y: Floats, *, independent: bool = True) -> TauEstimate | None:
    """Compute Kendall's tau-b of two arrays.

    Args:
        x: (n,) values without NaN.
        y: (n,) values without NaN.
        independent: Whether the pairs are independent; else there is no interval.

    Returns:
        The correlation; None where it is not defined (n < 3, or one side is constant).

    Example:
        >>> import numpy as np
        >>> kendall(np.arange(4.0), np.array([0.0, 1.0, 3.0, 2.0])).n
        4
    """
    if len(x) < 3 or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    tau = rank_correlations(x, y)[1]
    shown = tau.estimate() if independent else IntervalEstimate(tau.value)
    return TauEstimate(shown.value, shown.low, shown.high, len(x))


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


@dataclass(frozen=True)
class SizeRanking:
    """The baseline that ranks architectures by their number of parameters alone.

    Attributes:
        rank: Correlation of parameters with the first objective over ``n`` distinct COMPLETE
            architectures, see :func:`sample`; None where it is not defined.
        largest: Index of the trial with the most parameters of all.
        n: Number of architectures.
    """

    rank: TauEstimate | None
    largest: int
    n: int


def size_ranking(run: RunStatistics) -> SizeRanking | None:
    """Compute the params-only baseline over all methods.

    Args:
        run: The loaded run.

    Returns:
        The ranking; None without a COMPLETE trial of known size.
    """
    done = ranked(run)
    params = run.trials.values["params"][done]
    done, params = done[np.isfinite(params)], params[np.isfinite(params)]
    if not len(done):
        return None
    quality = run.points()[:, 0]
    ties = np.lexsort((quality[done], params))
    params = run.trials.values["params"]
    chosen, independent = sample(run, np.isfinite(params))
    rank = kendall(params[chosen], quality[chosen], independent=independent)
    return SizeRanking(rank, int(done[ties[-1]]), len(chosen))


@dataclass(frozen=True)
class RungCount:
    """The counts of one rung of a scheduler.

    Attributes:
        arm: Name of the method.
        step: Step of the rung.
        reached: Number of trials that reached it.
        went_on: Number of trials that were measured beyond it and not stopped there.
        stopped: Number of trials that the scheduler stopped there, or later, before the next rung.
        rank: Correlation of the values at this rung with the last ones, over COMPLETE trials only,
            so that the worst are missing; None where it is not computed.
    """

    arm: str
    step: int
    reached: int
    went_on: int
    stopped: int
    rank: TauEstimate | None = field(default=None, compare=False)


def last_step(run: RunStatistics) -> int:
    """Return the step at which trials are complete, as far as the table shows it.

    Args:
        run: The loaded run.

    Returns:
        The step; 0 when there are no trials.
    """
    steps = run.trials.step[run.complete()]
    return int(steps.max() if len(steps) else max(run.trials.step, default=0))


def rung_steps(run: RunStatistics) -> list[int]:
    """Return the rungs below the last step.

    They come from the scheduler's settings, else from the steps at which trials were stopped.

    Args:
        run: The loaded run.

    Returns:
        Steps in ascending order.
    """
    settings = run.description.get("scheduler") or {}
    # while nothing is complete, the highest step seen may be a rung itself
    top = settings.get("max_step") or last_step(run) + (not len(run.complete()))
    step, factor = settings.get("min_step"), settings.get("factor")
    if isinstance(step, int) and isinstance(factor, int) and step >= 1 and factor >= 2:
        steps = []
        while step < top:
            steps.append(step)
            step *= factor
        return steps
    stopped = run.searching() & run.has_state(TrialState.STOPPED)
    return sorted({int(s) for s in run.trials.step[stopped]} - {0})


def rungs(run: RunStatistics, arm: str, *, ranks: bool = False) -> list[RungCount]:
    """Count the trials of one method at its rungs, low to high.

    A rung counts at a trial's first step at or above it.

    Args:
        run: The loaded run.
        arm: Name of the method.
        ranks: Whether rank correlations with the last values are computed, too.

    Returns:
        One entry per rung.
    """
    steps = rung_steps(run)
    mine = run.searching(arm)
    halted = mine & run.has_state(TrialState.STOPPED)
    result = []
    for step, following in zip(steps, [*steps, math.inf][1:], strict=True):
        above = run.rows.owner[run.rows.step >= step]
        rows = np.bincount(above, minlength=len(run.trials))
        here = halted & (run.trials.step >= step) & (run.trials.step < following)
        result.append(
            RungCount(
                arm,
                step,
                int((mine & (rows >= 1)).sum()),
                int((mine & (rows >= 2) & ~here).sum()),
                int(here.sum()),
                _rung_rank(run, arm, step) if ranks else None,
            )
        )
    return result


def _rung_rank(run: RunStatistics, arm: str, step: int) -> TauEstimate | None:
    objective = run.objectives[0]
    if objective.metric in (*COSTS, "seconds"):
        return None
    done = run.complete(arm)
    values = run.rows.values[objective.metric]
    usable = np.flatnonzero((run.rows.step >= step) & np.isfinite(values))
    owners, first = np.unique(run.rows.owner[usable], return_index=True)
    early = np.full(len(run.trials), np.nan)
    early[owners] = values[usable[first]]
    done = done[np.isfinite(early[done])]
    late = run.trials.values[objective.metric][done]
    return kendall(early[done], late, independent=arm in DRAWN)


def front(run: RunStatistics, arm: str | None, metrics: Sequence[tuple[str, float]]) -> Ints:
    """Return the COMPLETE trials on the Pareto front of ``metrics``, one trial per architecture.

    Args:
        run: The loaded run.
        arm: Only those of this method; None for all methods.
        metrics: Pairs of name and sign (+1: higher is better).

    Returns:
        (m,) indices of trials, the best of the first metric first.
    """
    done = ranked(run, arm)
    points = np.stack([sign * run.trials.values[m][done] for m, sign in metrics], axis=1)
    known = np.isfinite(points).all(axis=1)
    return done[known][pareto_front(points[known])]


@dataclass(frozen=True)
class FinalistResult:
    """One architecture, retrained from scratch over seeds and measured on the test images.

    Attributes:
        arch_id: Id of the architecture.
        arm: Method of its first trial in this stage.
        seeds: Seeds of the trainings that are complete.
        values: (seeds,) test results, in the unit of the test metric.
        failed: Number of trainings that failed.
    """

    arch_id: str
    arm: str
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
            arch_id, run.trials.arm[index[0]], tuple(int(s) for s in run.trials.seed[done]),
            run.trials.values[metric][done], failed,
        )  # fmt: skip
    return result


def best(run: RunStatistics, arm: str | None = None) -> int | None:
    """Return the index of the best COMPLETE search trial by the first objective.

    Test data are never used.

    Before the first is COMPLETE: the best among those measured furthest.

    Args:
        run: The loaded run.
        arm: Only those of this method; None for all methods.

    Returns:
        The index; None before the first measurement.
    """
    quality = run.points()[:, 0] if len(run.trials) else np.empty(0)
    done = run.complete(arm)
    if not len(done):
        done = np.flatnonzero(run.searching(arm) & np.isfinite(quality) & (run.trials.step > 0))
        if not len(done):
            return None
        done = done[run.trials.step[done] == run.trials.step[done].max()]
    return int(done[np.argmax(quality[done])])


def ranked(run: RunStatistics, arm: str | None = None) -> Ints:
    """Return the COMPLETE search trials, one per architecture, best first by the first objective.

    Args:
        run: The loaded run.
        arm: Only those of this method; None for all methods.

    Returns:
        (m,) indices of trials.
    """
    done = run.complete(arm)
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
    done = done[np.isin(run.trials.arm[done], DRAWN)]
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
