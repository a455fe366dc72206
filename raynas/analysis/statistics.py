"""What a run's table says: costs, best values, rungs, fronts, intervals. numpy only, no loops
over rows, so that 100,000 rows take a fraction of a second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.analysis.descriptions import objectives_of
from raynas.analysis.formatting import UNITS
from raynas.analysis.intervals import PAIRS_FROM, Estimate, rank_correlations
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
"""Arms that propose without regard to results: only their architectures are independent draws."""
COSTS = ("params", "macs")
LATENCY = "latency_ms"
_TIMES = (0.0, 253_402_300_799.0)  # the years 1970 to 9999, which calendars know
_NO_STEP = 2**31 - 1  # sorts a row without a step behind all steps of its trial
_FIXED = frozenset(column.name for column in COLUMNS)


@dataclass(frozen=True)
class Trials:
    """One entry per trial, by number. ``values``: metric -> its last finite value, or NaN;
    ``measured``: index of the row that carries the last finite value of the first objective, or
    -1. ``step``: the last step measured, 0 before the first."""

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
class Rows:
    """One entry per row of the table, ordered by trial and step (0 where the store has null).
    ``owner``: index of the row's trial in :class:`Trials`. ``time`` in seconds since 1970.
    ``scoring``: the row is of step 0, a candidate's scores, and measured no training."""

    owner: Ints
    step: Ints
    seconds: Floats
    time: Floats
    session: Ints
    scoring: Bools
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class Run:
    """A run's table as arrays. ``arms``: the arms of the search, the main one first."""

    objectives: tuple[Objective, ...]
    description: Mapping[str, Any]
    units: Mapping[str, str]
    arms: tuple[str, ...]
    trials: Trials
    rows: Rows

    @property
    def main(self) -> str | None:
        """The arm of the smallest trial number; the others are what it is compared with."""
        return self.arms[0] if self.arms else None

    @property
    def random(self) -> str | None:
        """The comparing arm that searches at random, if there is one beside the main arm."""
        return next((a for a in self.arms[1:] if a.lower().startswith(RANDOM)), None)

    def unit(self, metric: str) -> str:
        return self.units.get(metric, UNITS.get(metric, ""))

    def is_score(self, metric: str) -> bool:
        """Whether the metric is a proxy's score, by its unit."""
        return self.unit(metric) == SCORE_UNIT

    def searching(self, arm: str | None = None) -> Bools:
        """(trials,) True for the trials of the search, of one arm or of all."""
        mask: Bools = self.trials.stage == SEARCH
        return mask if arm is None else mask & (self.trials.arm == arm)

    def has_state(self, state: TrialState) -> Bools:
        return np.asarray(self.trials.state == state.value, dtype=np.bool_)

    def screened(self, arm: str | None = None) -> Bools:
        """(trials,) True for candidates of the search that were scored to be kept or left out."""
        mask = np.zeros(len(self.trials), dtype=bool)
        mask[self.rows.owner[self.rows.scoring]] = True
        return mask & self.searching(arm)

    def screened_out(self, arm: str | None = None) -> Bools:
        """(trials,) True for candidates of the search that their scores kept from training, or
        the want of scores."""
        scored = self.screened()
        stopped, failed = self.has_state(TrialState.STOPPED), self.has_state(TrialState.FAILED)
        once = np.bincount(self.rows.owner, minlength=len(scored)) == 1  # else it was started
        beyond = self.has_state(TrialState.INFEASIBLE) & scored & once
        unscored = failed & ~scored & np.isin(self.trials.arm, self.trials.arm[scored])
        mine = self.searching(arm) & (self.trials.step == 0)
        return np.asarray(mine & (stopped | beyond | unscored), dtype=np.bool_)

    def points(self) -> Floats:
        """(trials, objectives), signed so that higher is better; NaN where not measured."""
        columns = [o.sign * self.trials.values[o.metric] for o in self.objectives]
        return np.stack(columns, axis=1)

    def complete(self, arm: str | None = None) -> Ints:
        """Indices of the search's COMPLETE trials whose objectives are all finite."""
        finite = np.isfinite(self.points()).all(axis=1)
        return np.flatnonzero(self.searching(arm) & self.has_state(TrialState.COMPLETE) & finite)


def load(table: pa.Table, description: Mapping[str, Any]) -> Run:
    """The store's table as arrays. Rows may come in any order; an empty table is fine."""
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
    rows = Rows(owner, step, seconds, time, session, scoring, values)
    trials = _trials(table, order, rows, number, starts, objectives[0])
    return Run(objectives, description, _units(table), _arms(trials), trials, rows)


def _trials(
    table: pa.Table, order: Ints, rows: Rows, number: Ints, starts: Ints, first: Objective
) -> Trials:
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
    return Trials(
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


def _arms(trials: Trials) -> tuple[str, ...]:
    return tuple(dict.fromkeys(trials.arm[trials.stage == SEARCH]))


def running_hypervolume(points: Floats, everything: Floats) -> Floats:
    """Share of the box spanned by ``everything`` that the first trials dominate, trial by trial.

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
class Rank:
    """Kendall's tau-b over ``n`` pairs with its 95 % interval (NaN below ``PAIRS_FROM``)."""

    tau: float
    low: float
    high: float
    n: int


def kendall(x: Floats, y: Floats, *, independent: bool = True) -> Rank | None:
    """Rank correlation of two (n,) arrays; None where it is not defined (n < 3, a constant).

    Without an interval where the pairs are not ``independent``.
    """
    if len(x) < 3 or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    tau = rank_correlations(x, y)[1]
    shown = tau.estimate() if independent else Estimate(tau.value)
    return Rank(shown.value, shown.low, shown.high, len(x))


def distinct(run: Run, chosen: Ints) -> Ints:
    """``chosen`` with one trial per architecture, the first of each."""
    _, first = np.unique(run.trials.arch_id[chosen].astype(str), return_index=True)
    return chosen[np.sort(first)]


@dataclass(frozen=True)
class SizeRanking:
    """Does size alone do as well? ``rank``: of parameters with the first objective over ``n``
    distinct COMPLETE architectures, see :func:`sample`; ``largest``: index of the trial with most
    parameters of all."""

    rank: Rank | None
    largest: int
    n: int


def size_ranking(run: Run) -> SizeRanking | None:
    """The params-only baseline over all arms; None without a COMPLETE trial of known size."""
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
    """One rung: its step and the trials that reached it, that the scheduler stopped there (or
    later, before the next rung), and that went on: measured beyond it and not stopped there.
    ``rank``: does the order at this rung foretell the last one? (COMPLETE trials only, so the
    worst are missing.)"""

    arm: str
    step: int
    reached: int
    went_on: int
    stopped: int
    rank: Rank | None = field(default=None, compare=False)


def last_step(run: Run) -> int:
    """The step at which trials are complete, as far as the table knows; 0 when empty."""
    steps = run.trials.step[run.complete()]
    return int(steps.max() if len(steps) else max(run.trials.step, default=0))


def rung_steps(run: Run) -> list[int]:
    """The rungs below the last step: from the scheduler's settings, else where trials stopped."""
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


def rungs(run: Run, arm: str, *, ranks: bool = False) -> list[RungCount]:
    """The rungs of one arm, low to high. A rung counts at a trial's first step at or above it."""
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


def _rung_rank(run: Run, arm: str, step: int) -> Rank | None:
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


def front(run: Run, arm: str | None, metrics: Sequence[tuple[str, float]]) -> Ints:
    """Indices of the COMPLETE trials on the front of ``metrics``: pairs of name and sign (+1
    higher is better), the best of the first metric first; one trial per architecture."""
    done = ranked(run, arm)
    points = np.stack([sign * run.trials.values[m][done] for m, sign in metrics], axis=1)
    known = np.isfinite(points).all(axis=1)
    return done[known][pareto_front(points[known])]


@dataclass(frozen=True)
class Final:
    """One architecture retrained from scratch over seeds and measured on the test images."""

    arch_id: str
    arm: str
    seeds: tuple[int, ...]
    values: Floats
    failed: int

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation; NaN with one seed."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else math.nan


def test_metric(run: Run) -> str | None:
    """The test set's counterpart of the first objective, if the table has such a column.

    A proxy's score has none: finalists that were chosen by one show their accuracy.
    """
    first = run.objectives[0].metric
    name = TEST_ACCURACY.name if run.is_score(first) else "test_" + first.removeprefix("val_")
    return name if name in run.trials.values else None


def finals(run: Run, stage: str = FINAL) -> dict[str, Final]:
    """arch_id -> what the final stage, or the one of fine-tuning, found; empty before it began."""
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
        result[arch_id] = Final(
            arch_id, run.trials.arm[index[0]], tuple(int(s) for s in run.trials.seed[done]),
            run.trials.values[metric][done], failed,
        )  # fmt: skip
    return result


def best(run: Run, arm: str | None = None) -> int | None:
    """Index of the best COMPLETE search trial by the first objective (never by test data).

    Before the first is COMPLETE: the best among those measured furthest. None before that.
    """
    quality = run.points()[:, 0] if len(run.trials) else np.empty(0)
    done = run.complete(arm)
    if not len(done):
        done = np.flatnonzero(run.searching(arm) & np.isfinite(quality) & (run.trials.step > 0))
        if not len(done):
            return None
        done = done[run.trials.step[done] == run.trials.step[done].max()]
    return int(done[np.argmax(quality[done])])


def ranked(run: Run, arm: str | None = None) -> Ints:
    """COMPLETE search trials, one per architecture, best first: by the first objective."""
    done = run.complete(arm)
    order = np.argsort(-run.points()[done, 0], kind="stable")
    return distinct(run, done[order])


def sample(run: Run, usable: Bools) -> tuple[Ints, bool]:
    """Choose the architectures by which scores, or size, are judged.

    A search that learns from results has relatives among its architectures: they agree in size
    and in quality whatever those have to do with each other, and no interval holds.

    Args:
        run: The run.
        usable: (trials,) which may be taken.

    Returns:
        COMPLETE search trials, one per architecture, best first: those of the arms ``DRAWN``
        where they are enough for an interval, and True; else all of them, and False.
    """
    every = ranked(run)
    done = run.complete()
    done = done[np.isin(run.trials.arm[done], DRAWN)]
    drawn = distinct(run, done[np.argsort(-run.points()[done, 0], kind="stable")])
    drawn = drawn[usable[drawn]]
    return (drawn, True) if len(drawn) >= PAIRS_FROM else (every[usable[every]], False)


def wall_seconds(run: Run) -> float:
    """Time from the first to the last row, pauses between sessions left out."""
    total = 0.0
    for session in np.unique(run.rows.session):
        index = np.flatnonzero(run.rows.session == session)
        first = index[np.argmin(run.rows.time[index])]
        total += run.rows.time[index].max() - run.rows.time[first] + run.rows.seconds[first]
    return float(total)
