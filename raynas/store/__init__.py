"""This package has the stored results of a run: Parquet fragments, appended by one writer.

The result table is the only authority on a run. A run is a folder: ``run.json`` (the run's
identity), ``experiment.py`` (its source as it was started), ``results/*.parquet`` (one row per
measurement), ``checkpoints/``, ``best/``, ``figures/``, ``report.html`` and ``writer.lock``.
Importing this package does not import pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.store.provenance import Provenance
    from raynas.store.reader import StoredTrial, next_session, read, trials
    from raynas.store.run import RunFolder, runs_in
    from raynas.store.run_info import RunInfo, new_run_id
    from raynas.store.schema import SCHEMA_VERSION, columns_markdown, schema_for
    from raynas.store.writer import Writer

_HOME = {
    "Provenance": "provenance",
    "RunFolder": "run",
    "RunInfo": "run_info",
    "SCHEMA_VERSION": "schema",
    "StoredTrial": "reader",
    "Writer": "writer",
    "columns_markdown": "schema",
    "new_run_id": "run_info",
    "next_session": "reader",
    "read": "reader",
    "runs_in": "run",
    "schema_for": "schema",
    "trials": "reader",
}

__all__ = [
    "Provenance", "RunFolder", "RunInfo", "SCHEMA_VERSION", "StoredTrial", "Writer",
    "columns_markdown", "new_run_id", "next_session", "read", "runs_in", "schema_for", "trials",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
