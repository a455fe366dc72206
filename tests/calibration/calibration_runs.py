"""Stored tables of runs whose truth is known, made in whole columns: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raynas.analysis import statistics as st
from raynas.core import Metric
from raynas.core import metrics as known
from raynas.store import schema_for

Floats = NDArray[np.float64]

_METRICS = (known.VAL_ACCURACY, known.TEST_ACCURACY)
_DEFAULTS: Mapping[str, Any] = {
    "run": "r", "experiment": "f", "session": 1, "stage": "search", "arm": "random", "attempt": 0,
    "seed": 0, "step": 9, "state": "COMPLETE", "seconds": 1.0, "host": "h", "device": "cpu",
    "git": "a", "versions": "v",
}  # fmt: skip
DESCRIPTION: Mapping[str, Any] = {
    "objectives": [{"metric": "val_accuracy", "direction": "max"}],
    "scheduler": {"class": "ASHA", "min_step": 1, "factor": 3, "max_step": 9},
}


def sizes(values: Floats) -> NDArray[np.int64]:
    """Any numbers as whole parameter counts in the same order."""
    return np.rint(1e9 + 1e7 * values).astype(np.int64)


def stored_run(parts: Sequence[Mapping[str, Any]], scores: Sequence[str] = ()) -> st.RunStatistics:
    """A run of some parts, each with columns of one length; what they lack gets a plain value."""
    metrics = (*_METRICS, *(Metric(s, known.SCORE_UNIT, "max", "a score") for s in scores))
    schema = schema_for(metrics)
    tables = [_table(part, schema) for part in parts]
    return st.load(pa.concat_tables(tables), DESCRIPTION)


def _table(part: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    n = len(part["trial"])
    names = np.char.add("a", np.asarray(part.get("architecture", part["trial"])).astype(str))
    time = np.arange(n) * 1_000_000
    given = {"arch_id": names, "arch": names, "proposal": names, "time": time, **part}
    columns = []
    for field in schema:
        if field.name in given:
            columns.append(pa.array(given[field.name]).cast(field.type))
        elif field.name in _DEFAULTS:
            columns.append(pa.repeat(pa.scalar(_DEFAULTS[field.name], field.type), n))
        else:
            columns.append(pa.nulls(n, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def searched(
    accuracy: Floats, params: Floats, macs: Floats, scores: Mapping[str, Floats] | None = None
) -> st.RunStatistics:
    """A search whose n trials were all trained to the end, and scored before."""
    part = {
        "trial": np.arange(len(accuracy)), "val_accuracy": accuracy, "params": sizes(params),
        "macs": sizes(macs), **(scores or {}),
    }  # fmt: skip
    return stored_run([part], tuple(scores or ()))


def beside_random(bred: Mapping[str, Floats], drawn: Mapping[str, Floats]) -> st.RunStatistics:
    """A search by evolution, then a random arm; both with accuracy, params, macs and scores."""
    scores = [name for name in bred if name.startswith("score")]
    parts, first = [], 0
    for arm, columns in (("evolution", bred), ("random", drawn)):
        n = len(columns["accuracy"])
        given = {name: columns[name] for name in scores}
        part = {
            "trial": first + np.arange(n), "arm": [arm] * n, "val_accuracy": columns["accuracy"],
            "params": sizes(columns["params"]), "macs": sizes(columns["macs"]), **given,
        }  # fmt: skip
        parts.append(part)
        first += n
    return stored_run(parts, scores)


def with_truth(value: Floats, truth: Floats, params: Floats, macs: Floats) -> st.RunStatistics:
    """A search by inherited weights, and each of its networks trained from scratch."""
    n = len(value)
    cost = {"params": sizes(params), "macs": sizes(macs), "architecture": np.arange(n)}
    return stored_run(
        [
            {"trial": np.arange(n), "val_accuracy": value, **cost},
            {"trial": n + np.arange(n), "val_accuracy": truth, "stage": ["truth"] * n, **cost},
        ]
    )


def with_rungs(early: Floats, late: Floats) -> st.RunStatistics:
    """n trials of one arm, measured at the first rung and at the end."""
    n = len(early)
    trial, one = np.repeat(np.arange(n), 2), np.tile([1, 0], n)
    values = np.where(one == 1, np.repeat(early, 2), np.repeat(late, 2))
    part = {
        "trial": trial, "step": np.where(one == 1, 1, 9), "val_accuracy": values,
        "state": np.where(one == 1, "RUNNING", "COMPLETE"),
        "params": sizes(trial * 1.0), "macs": sizes(trial * 1.0),
    }  # fmt: skip
    return stored_run([part])


def with_finals(scratch: Floats, tuned: Floats) -> st.RunStatistics:
    """Finalists (k, seeds) that were trained from scratch and from what they inherited."""
    k, seeds = scratch.shape
    owner, seed = np.repeat(np.arange(k), seeds), np.tile(np.arange(seeds), k)
    parts: list[Mapping[str, Any]] = [
        {"trial": np.arange(k), "val_accuracy": 50.0 - np.arange(k), "architecture": np.arange(k)}
    ]
    for first, stage, values in ((100, "final", scratch), (1000, "tuned", tuned)):
        parts.append(
            {
                "trial": first + np.arange(k * seeds),
                "architecture": owner,
                "seed": seed,
                "stage": [stage] * (k * seeds),
                "test_accuracy": values.ravel(),
            }
        )
    return stored_run(parts)
