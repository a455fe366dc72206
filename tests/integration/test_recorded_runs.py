"""Ten small runs give the tables that were recorded, value by value; see tests/recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded import record
from recorded.record import RUNS, carry_out, differences, from_json, machine, to_json

pytestmark = pytest.mark.usefixtures("undrawn")


def _marked(name: str) -> Any:
    marks = [pytest.mark.ray] if RUNS[name].where == "ray" else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [_marked(name) for name in RUNS])
def test_a_recorded_run_gives_the_recorded_table(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if RUNS[name].where == "ray":
        request.getfixturevalue("ray_session")
    lines = differences(RUNS[name], carry_out(RUNS[name], tmp_path))
    assert lines == [], "\n".join(lines[:10])


def recorded(name: str) -> list[dict[str, Any]]:
    return from_json(RUNS[name].expected.read_text(encoding="utf-8"))[0]


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_table_is_small_and_equals_itself(name: str) -> None:
    assert RUNS[name].expected.stat().st_size <= 60_000
    assert differences(RUNS[name], recorded(name)) == []


def test_the_last_digit_of_a_value_is_a_difference() -> None:
    rows = recorded("tpe_promotion")
    rows[1]["val_accuracy"] += 1e-13
    (line,) = differences(RUNS["tpe_promotion"], rows)
    assert line.startswith("row 1 (trial 0, step 2): val_accuracy is ")
    del rows[-1]
    assert f"{len(rows)} rows, expected {len(rows) + 1}" in differences(RUNS["tpe_promotion"], rows)


def test_another_machine_may_differ_in_what_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    run, rows = RUNS["screened_digits"], recorded("screened_digits")
    monkeypatch.setattr(record, "machine", lambda: {**machine(), "cpu": "another"})
    trained = next(row for row in rows if row["step"] == 3)
    trained["val_accuracy"] += 1.0
    rows[0]["naswot"] *= 1.0001
    assert differences(run, rows) == []
    rows[0]["naswot"] *= 1.01
    rows[0]["proposal"] = "another"
    assert [line.split()[6] for line in differences(run, rows)] == ["naswot", "proposal"]


def test_floats_keep_all_digits_in_the_file() -> None:
    rows = [{"a": 0.1 + 0.2, "b": None}, {"a": float("nan"), "b": "x"}]
    assert repr(from_json(to_json(rows))[0]) == repr(rows)
