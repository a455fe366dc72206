"""This module makes a table with one row per trial from the result table of a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from raynas.store.reader import StoredTrial, trials
from raynas.store.schema import COLUMNS

_LEFT_OUT = ("run", "experiment", "time", "host", "device", "git", "versions")


def trial_table(table: pa.Table) -> pa.Table:
    """Return one row per trial: its state, and its values after the last step.

    Args:
        table: The result table of a run, from :func:`raynas.store.read`.

    Returns:
        A table with the columns of the result table that belong to a trial: ``step`` is the last
        measured step (null where nothing was measured), ``seconds`` the time of all its steps, a
        metric the value of the last step.
    """
    fixed = {column.name for column in COLUMNS}
    metrics = [name for name in table.column_names if name not in fixed]
    names = [c.name for c in COLUMNS if c.name not in _LEFT_OUT]
    order = ["trial", *(name for name in names if name != "trial"), *metrics]
    rows = [_row(trial, metrics) for trial in trials(table)]
    schema = pa.schema([table.schema.field(name).with_nullable(True) for name in order])
    return pa.Table.from_pylist(rows, schema=schema)


def _row(trial: StoredTrial, metrics: list[str]) -> dict[str, Any]:
    last = trial.last
    return {
        "trial": trial.number,
        "stage": trial.stage,
        "arm": trial.arm,
        "session": trial.session,
        "attempt": trial.attempt,
        "arch_id": trial.arch_id,
        "arch": trial.arch,
        "proposal": trial.proposal,
        "seed": trial.seed,
        "step": last.step if last else None,
        "state": trial.state.value,
        "message": trial.message or None,
        "params": trial.params,
        "macs": trial.macs,
        "layers": trial.layers,
        "seconds": trial.seconds,
        "weights": trial.weights,
        **({name: last.values.get(name) for name in metrics} if last else {}),
    }
