"""A run's table as arrays.

It uses numpy only, without loops over rows, so that 100,000 rows take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.analysis.descriptions import objectives_of
from raynas.analysis.formatting import UNITS
from raynas.core import Objective, TrialState
from raynas.core.metrics import SCORE_UNIT
from raynas.core.trial import LARGEST_VALUE, LONGEST
from raynas.store.schema import COLUMNS, SEARCH

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
        method: (n,) names of the methods that proposed them.
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
    method: Strings
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
        methods: Methods of the search, the main one first.
        trials: One entry per trial.
        rows: One entry per row.
    """

    objectives: tuple[Objective, ...]
    description: Mapping[str, Any]
    units: Mapping[str, str]
    methods: tuple[str, ...]
    trials: TrialColumns
    rows: RowColumns

    @property
    def main(self) -> str | None:
        """The method of the smallest trial number, with which the others are compared.

        Returns:
            Its name; None without trials of a search.
        """
        return self.methods[0] if self.methods else None

    @property
    def random(self) -> str | None:
        """The compared method that searches at random.

        Returns:
            Its name; None where there is none beside the main method.
        """
        return next((a for a in self.methods[1:] if a.lower().startswith(RANDOM)), None)

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

    def searching(self, method: str | None = None) -> Bools:
        """Select the trials of the search.

        Args:
            method: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the trials of the search.
        """
        mask: Bools = self.trials.stage == SEARCH
        return mask if method is None else mask & (self.trials.method == method)

    def has_state(self, state: TrialState) -> Bools:
        """Select the trials in one state.

        Args:
            state: The state.

        Returns:
            (trials,) True for the trials in it.
        """
        return np.asarray(self.trials.state == state.value, dtype=np.bool_)

    def screened(self, method: str | None = None) -> Bools:
        """Select the candidates of the search that were scored to be kept or screened out.

        Args:
            method: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the candidates.
        """
        mask = np.zeros(len(self.trials), dtype=bool)
        mask[self.rows.owner[self.rows.scoring]] = True
        return mask & self.searching(method)

    def screened_out(self, method: str | None = None) -> Bools:
        """Select the candidates of the search that were not trained because of their scores.

        Candidates for which there are no scores count, too.

        Args:
            method: Only those of this method; None for all methods.

        Returns:
            (trials,) True for the candidates that were screened out.
        """
        scored = self.screened()
        stopped, failed = self.has_state(TrialState.STOPPED), self.has_state(TrialState.FAILED)
        once = np.bincount(self.rows.owner, minlength=len(scored)) == 1  # else it was started
        beyond = self.has_state(TrialState.INFEASIBLE) & scored & once
        unscored = failed & ~scored & np.isin(self.trials.method, self.trials.method[scored])
        mine = self.searching(method) & (self.trials.step == 0)
        return np.asarray(mine & (stopped | beyond | unscored), dtype=np.bool_)

    def points(self) -> Floats:
        """Return the objectives of all trials, signed so that higher is better.

        Returns:
            (trials, objectives) values; NaN where not measured.
        """
        columns = [o.sign * self.trials.values[o.metric] for o in self.objectives]
        return np.stack(columns, axis=1)

    def complete(self, method: str | None = None) -> Ints:
        """Return the indices of the search's COMPLETE trials whose objectives are all finite.

        Args:
            method: Only those of this method; None for all methods.

        Returns:
            (m,) indices into the run's trials.
        """
        finite = np.isfinite(self.points()).all(axis=1)
        return np.flatnonzero(self.searching(method) & self.has_state(TrialState.COMPLETE) & finite)


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
    return RunStatistics(objectives, description, _units(table), _methods(trials), trials, rows)


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


def _methods(trials: TrialColumns) -> tuple[str, ...]:
    return tuple(dict.fromkeys(trials.method[trials.stage == SEARCH]))
