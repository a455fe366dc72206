"""This module has the columns of the result table, with units: one row per measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raynas.core import Metric, UserError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
VERSION_KEY = b"raynas.schema_version"


@dataclass(frozen=True)
class StoredColumn:
    """A column that every run has, independent of its metrics.

    Attributes:
        name: The name of the column.
        type: Arrow's name of the type.
        doc: The meaning, in words.
        unit: The unit; empty if there is none.
        nullable: The column may be null.
    """

    name: str
    type: str
    doc: str
    unit: str = ""
    nullable: bool = False


TIME_TYPE = "timestamp[us, UTC]"

COLUMNS: tuple[StoredColumn, ...] = (
    StoredColumn("run", "string", "id of the run, unique"),
    StoredColumn("experiment", "string", "fingerprint of the experiment's settings"),
    StoredColumn("session", "int32", "1 for the first start of the run, one more for each resume"),
    StoredColumn(
        "stage",
        "string",
        "search; supernet: the training of what it inherits from; final, tuned: a finalist trained "
        "for the report from scratch, from inherited weights; truth: one more trained from scratch",
    ),
    StoredColumn(
        "arm", "string", "name of the sampler that proposed the trial; of a supernet's trainer"
    ),
    StoredColumn(
        "trial", "int64", "number of the trial, unique in the run over all arms and stages"
    ),
    StoredColumn(
        "attempt", "int32", "0 for the first try of the trial, one more after each restart"
    ),
    StoredColumn("arch_id", "string", "id of the canonical architecture"),
    StoredColumn("arch", "string", "canonical architecture, which was evaluated, as text"),
    StoredColumn("proposal", "string", "architecture that the sampler asked for, as text"),
    StoredColumn("seed", "int64", "seed of weights and batches"),
    StoredColumn(
        "step",
        "int32",
        "step measured, from 1; null: how trial or attempt ended",
        "step",
        True,
    ),
    StoredColumn("state", "string", "state of the trial after this row"),
    StoredColumn("message", "string", "why the trial ended, or a remark", nullable=True),
    StoredColumn("params", "int64", "trainable weights of the network", "weights", True),
    StoredColumn("macs", "int64", "of one forward pass of one image", "multiply-adds", True),
    StoredColumn("layers", "int32", "depth, where the search space counts it", "layers", True),
    StoredColumn(
        "seconds",
        "float64",
        "what the worker spent on this step; of training on a CPU, processor time",
        "s",
    ),
    StoredColumn("time", TIME_TYPE, "when the row was stored", "UTC"),
    StoredColumn("host", "string", "machine that measured"),
    StoredColumn("device", "string", "device that measured"),
    StoredColumn("git", "string", "revision of the experiment's source; empty when unknown"),
    StoredColumn("versions", "string", "versions of Python and of the packages that matter"),
    StoredColumn("weights", "string", "version of the inherited weights, if any", nullable=True),
)

SUPERNET, SEARCH, TRUTH, FINAL, TUNED = STAGES = "supernet", "search", "truth", "final", "tuned"


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Check that each metric has a column name of its own.

    Upper and lower case count as equal, as they do for SQL engines.

    Args:
        metrics: The metrics of a run.

    Raises:
        UserError: A metric has no name, or one that another column has.
    """
    taken = {column.name for column in COLUMNS}
    for metric in metrics:
        name = metric.name.casefold()
        if not name or name in taken:
            raise UserError(
                f"metric {metric.name!r} has the name of another column of the result table",
                expected=f"any name but {', '.join(sorted(taken))}",
                hint="rename the metric",
            )
        taken.add(name)


def schema_for(metrics: Sequence[Metric]) -> pa.Schema:
    """Return the schema of the result table: the fixed columns, then one float64 column per metric.

    Every field carries the metadata ``unit`` and ``doc``; the schema carries its version.

    Args:
        metrics: The metrics of the run. Their columns are nullable.

    Returns:
        The Arrow schema.

    Raises:
        UserError: A metric has no name, or one that another column has.

    Example:
        >>> schema_for([]).names[:3]
        ['run', 'experiment', 'session']
    """
    import pyarrow as pa

    check_metrics(metrics)
    fields = [
        pa.field(
            c.name,
            pa.timestamp("us", tz="UTC") if c.type == TIME_TYPE else pa.type_for_alias(c.type),
            nullable=c.nullable,
            metadata={"unit": c.unit, "doc": c.doc},
        )
        for c in COLUMNS
    ]
    fields += [
        pa.field(m.name, pa.float64(), metadata={"unit": m.unit, "doc": m.doc}) for m in metrics
    ]
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def columns_markdown(metrics: Sequence[Metric] = ()) -> str:
    """Return the documentation of the columns as a Markdown table.

    Args:
        metrics: Metrics whose columns follow the fixed ones.

    Returns:
        The table, one line per column, with a final line break.
    """
    rows = [(c.name, c.type, c.nullable, c.unit, c.doc) for c in COLUMNS]
    rows += [(m.name, "float64", True, m.unit, m.doc) for m in metrics]
    lines = ["| column | type | null | unit | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {type_} | {'yes' if nullable else 'no'} | {unit} | {doc} |"
        for name, type_, nullable, unit, doc in rows
    ]
    return "\n".join(lines) + "\n"


def refuse_newer(file: Path, version: int) -> None:
    """Check that this raynas knows a schema version.

    Args:
        file: The file with that version, for the error message.
        version: The version of its schema.

    Raises:
        UserError: The version is newer than this raynas knows.
    """
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema version {version}",
            expected=f"up to {SCHEMA_VERSION}",
            hint="it was written by a newer raynas: upgrade raynas",
        )
