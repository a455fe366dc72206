from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from raynas.core import Metric, UserError
from raynas.store import SCHEMA_VERSION, columns_markdown, schema_for
from raynas.store.schema import COLUMNS, VERSION_KEY

ACCURACY = Metric("val_accuracy", "%", "max", "share right")


def test_fixed_columns_come_first_then_one_nullable_float_per_metric() -> None:
    schema = schema_for([ACCURACY])
    assert schema.names == [*(c.name for c in COLUMNS), "val_accuracy"]
    assert schema.field("val_accuracy").type == pa.float64()
    assert schema.field("val_accuracy").nullable
    assert schema.field("time").type == pa.timestamp("us", tz="UTC")


def test_every_field_says_unit_and_meaning() -> None:
    schema = schema_for([ACCURACY])
    assert all(set(field.metadata) == {b"unit", b"doc"} for field in schema)
    assert all(field.metadata[b"doc"] for field in schema)
    assert schema.field("val_accuracy").metadata[b"unit"] == b"%"
    assert schema.field("seconds").metadata[b"unit"] == b"s"
    assert schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()


def test_only_what_a_row_may_lack_is_nullable() -> None:
    nullable = {field.name for field in schema_for([]) if field.nullable}
    assert nullable == {"step", "message", "params", "macs", "layers", "weights"}


@pytest.mark.parametrize("name", ["trial", "Params", ""])
def test_a_metric_cannot_take_a_fixed_columns_name(name: str) -> None:
    with pytest.raises(UserError, match="rename the metric"):
        schema_for([Metric(name, "", "max")])


def test_two_metrics_cannot_share_a_name() -> None:
    with pytest.raises(UserError, match="rename"):
        schema_for([ACCURACY, Metric("Val_Accuracy", "%", "max")])


def test_markdown_has_a_line_per_column() -> None:
    lines = columns_markdown([ACCURACY]).splitlines()
    assert len(lines) == 2 + len(COLUMNS) + 1
    assert "| `val_accuracy` | float64 | yes | % | share right |" in lines


def test_importing_the_package_does_not_import_pyarrow() -> None:
    code = "import sys, raynas.store as s; s.RunFolder; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
