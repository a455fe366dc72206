"""This module reads the results of a run, also while it is being written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raynas.core import Measurement, MeasurementSeries, TrialState, UserError
from raynas.store.files import reason
from raynas.store.fragments import join, list_fragments, read_fragment
from raynas.store.manifest import attempts, unsettled
from raynas.store.run import RunFolder
from raynas.store.schema import COLUMNS, schema_for

_NO_STEP = 2**31  # sorts a row without a step behind all steps of its trial
Ints = NDArray[np.int64]


def read(folder: RunFolder) -> pa.Table:
    """Read the result table: one row per (trial, step), sorted by trial and step.

    A worker that continues from its last checkpoint measures some steps again. Of rows with the
    same trial and step the last one counts: latest session, then highest attempt, then last stored.
    Rows without a step (how a trial ended) count as one step behind all others. Where the trial was
    to be tried again (memory was short), they count until the later attempt has rows.

    It is safe while a writer is at work, and never returns half an append.

    Args:
        folder: The run.

    Returns:
        The rows, with the columns of :func:`raynas.store.schema_for` first.

    Raises:
        UserError: A fragment is torn, or has a newer schema.
        UserError: The results cannot be read, or memory is exhausted.
    """
    return _one_per_step(_all_rows(folder))


def next_session(table: pa.Table) -> int:
    """Return the number of the session that a resume of the run begins.

    Args:
        table: The result table, from :func:`read`.

    Returns:
        One more than the latest session in the table; 1 for an empty table.
    """
    return int(pc.max(table["session"]).as_py() or 0) + 1


def _all_rows(folder: RunFolder) -> pa.Table:
    schema = schema_for(folder.info.metrics)
    try:
        return join(_tables(folder), schema)
    except OSError as error:
        raise UserError(
            f"{folder.results} cannot be read: {reason(error)}", hint="make it readable"
        ) from error


def _tables(folder: RunFolder) -> list[pa.Table]:
    missing = ""
    for _ in attempts():
        fragments, _others = list_fragments(folder.results)
        tables: list[pa.Table] = []
        try:
            for fragment in fragments:
                missing = fragment.path.name
                tables.append(read_fragment(fragment.path))
        except FileNotFoundError:  # merged meanwhile; what counts now already exists
            continue
        return tables
    raise unsettled(f"fragment {missing} in {folder.results} is missing")


def _numbers(column: pa.ChunkedArray, null: int = -1) -> Ints:
    """(n,) int64; ``null`` where the column is null."""
    filled = pc.fill_null(column.cast(pa.int64()), null)
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def _one_per_step(table: pa.Table) -> pa.Table:
    trial, step = _numbers(table["trial"]), _numbers(table["step"], _NO_STEP)
    session, attempt = _numbers(table["session"]), _numbers(table["attempt"])
    order = np.lexsort((attempt, session, step, trial))  # stable: then as stored
    kept = order[_ends(trial[order], step[order])]
    if len(kept):
        kept = kept[~_superseded(table.take(pa.array(kept)))]
    return table.take(pa.array(kept)).combine_chunks()


def _superseded(table: pa.Table) -> NDArray[np.bool_]:
    """(n,) True for rows that told of an attempt's end, where a later attempt is there, too."""
    number, attempt = _numbers(table["trial"]), _numbers(table["attempt"])
    when = (_numbers(table["session"]) << 32) + attempt
    starts = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
    latest = np.repeat(np.maximum.reduceat(when, starts), np.diff(np.r_[starts, len(number)]))
    told = pc.and_(pc.is_null(table["step"]), pc.equal(table["state"], TrialState.RUNNING.value))
    return np.asarray(told.to_numpy(), dtype=bool) & (when < latest)


def _ends(*keys: Ints) -> NDArray[np.bool_]:
    """(n,) True where a group of rows with equal keys ends."""
    ends = np.ones(len(keys[0]), dtype=bool)
    ends[:-1] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return ends


@dataclass(frozen=True)
class StoredTrial(MeasurementSeries):
    """A trial as it is stored.

    Attributes:
        number: The trial's number, unique in the run.
        stage: One of ``raynas.store.schema.STAGES``.
        arm: The name of the sampler that proposed it; of a supernet's trainer.
        arch_id: The id of the canonical architecture.
        arch: The canonical architecture as a text of its search space.
        proposal: The architecture that the sampler asked for, as a text of its search space.
        seed: The seed of weights and batches.
        state: The state after the trial's last row.
        message: The reason why it ended, or a remark; may be empty.
        session: The session of its last row, from 1.
        attempt: The attempt of its last row, from 0.
        params: The number of trainable weights, or None.
        macs: Multiply-adds of one forward pass of one image, or None.
        layers: The depth in layers, or None where the search space does not count it.
        weights: The version of the inherited weights, or None.
        measurements: One for each step, in the order of the steps; each has only the metrics that
            were stored.
    """

    number: int
    stage: str
    arm: str
    arch_id: str
    arch: str
    proposal: str
    seed: int
    state: TrialState
    message: str
    session: int
    attempt: int
    params: int | None
    macs: int | None
    layers: int | None
    weights: str | None
    measurements: tuple[Measurement, ...]

    @property
    def costs(self) -> Mapping[str, float]:
        """The known costs of the trial.

        Returns:
            A mapping with those of ``params`` (weights), ``macs`` (multiply-adds) and ``layers``
            that are known.
        """
        known = {name: getattr(self, name) for name in _COSTS}
        return {name: value for name, value in known.items() if value is not None}


_COSTS = ("params", "macs", "layers")
_AS_STORED = (
    "stage", "arm", "arch_id", "arch", "proposal", "seed", "session", "attempt", "weights",
)  # fmt: skip


def trials(table: pa.Table) -> list[StoredTrial]:
    """Return the trials in a result table, by number.

    State, message and attempt are those of the trial's last row: latest session, then highest
    attempt, then the row without a step, then the highest step.

    Args:
        table: The table from :func:`read`, or a selection of its rows.

    Returns:
        The trials, sorted by number.

    Raises:
        ValueError: The rows are not sorted by trial and step.
    """
    if table.num_rows == 0:
        return []
    number, step = _numbers(table["trial"]), _numbers(table["step"], _NO_STEP)
    order = np.lexsort((step, number))
    if np.any(np.diff(order) < 0):
        raise ValueError("the rows must be sorted by trial and step, as read() returns them")
    ends = np.flatnonzero(_ends(number)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    measurements = _measurements(table, step)
    heads = _heads(table, number, step)
    costs = _costs(table, starts)
    return [
        StoredTrial(
            number=head.pop("trial"),
            state=TrialState(head.pop("state")),
            message=head.pop("message") or "",
            measurements=tuple(m for m in measurements[start:end] if m is not None),
            **head,
            **cost,
        )
        for start, end, cost, head in zip(starts.tolist(), ends.tolist(), costs, heads, strict=True)
    ]


def _costs(table: pa.Table, starts: Ints) -> list[dict[str, Any]]:
    """Per trial its costs; None where no row has them."""
    columns = [np.maximum.reduceat(_numbers(table[name]), starts).tolist() for name in _COSTS]
    return [
        {name: None if cost < 0 else cost for name, cost in zip(_COSTS, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def _heads(table: pa.Table, number: Ints, step: Ints) -> list[dict[str, Any]]:
    """The last row of each trial, without its metrics."""
    session, attempt = _numbers(table["session"]), _numbers(table["attempt"])
    order = np.lexsort((step, attempt, session, number))
    rows = pa.array(order[_ends(number[order])])
    columns = ["trial", "state", "message", *_AS_STORED]
    heads: list[dict[str, Any]] = table.select(columns).take(rows).to_pylist()
    return heads


def _measurements(table: pa.Table, step: Ints) -> list[Measurement | None]:
    """Per row its measurement; None for a row without a step."""
    fixed = {column.name for column in COLUMNS}
    names = [name for name in table.column_names if name not in fixed]
    known = [table[name].is_valid().to_pylist() for name in names]
    values = [pc.fill_null(table[name], 0.0).to_pylist() for name in names]
    rows = zip(zip(*known, strict=True), zip(*values, strict=True), strict=True)
    seconds = table["seconds"].to_pylist()
    kept = [
        {name: v for name, k, v in zip(names, ks, vs, strict=True) if k} for ks, vs in rows
    ] or [{} for _ in seconds]
    return [
        None if s == _NO_STEP else Measurement(s, values_, t)
        for s, values_, t in zip(step.tolist(), kept, seconds, strict=True)
    ]
