"""Reports of numbers at the edge: what is beyond them is left out, and all else is there."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from report_data import START, Rows, describe_run

from raynas.analysis import statistics
from raynas.analysis.summary import summary
from raynas.reports import figures, render


def filled(rows: Rows, value: float, **more: object) -> Rows:
    """Ten complete trials, the third one with ``value``."""
    for k in range(10):
        given = value if k == 3 else 50.0 + k
        rows.add(k, 1, "COMPLETE", val_accuracy=given, **more)
    return rows


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 1e150, -1e150, 1e-320, math.inf, math.nan])
def test_a_huge_value_leaves_the_report_and_its_figures(value, rows, info):
    html, pictures = render(filled(rows, value).table(), info())
    assert {"best_so_far", "trade_off_params", "trade_off_macs"} <= pictures.keys()
    assert "could not be drawn" not in html
    if abs(value) > 1e150 or math.isnan(value):  # it counts as none
        assert "59.00 %" in html


@pytest.mark.parametrize("value", [1.7e308, 1e150])
def test_of_several_objectives_too(value, rows, info):
    for k in range(8):
        rows.add(k, 1, "COMPLETE", val_accuracy=50.0 + k if k else value,
                 val_loss=value if k == 1 else -value if k == 2 else 1.0 + k)  # fmt: skip
    objectives = [{"metric": "val_accuracy"}, {"metric": "val_loss", "direction": "min"}]
    html, pictures = render(rows.table(), info(description=describe_run(objectives=objectives)))
    assert {"best_so_far", "objectives"} <= pictures.keys()
    assert "could not be drawn" not in html


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -5.0, 1e300])
def test_what_is_no_time_counts_nothing(seconds, rows, info):
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0, seconds=seconds)
    rows.add(1, 1, "COMPLETE", val_accuracy=60.0, seconds=2.0)
    found = summary(rows.table(), {})
    assert found.worker_seconds == 2.0
    _, pictures = render(rows.table(), info())
    assert "best_so_far" in pictures


@pytest.mark.parametrize("time", [-(2**62), 2**62, 0])
def test_a_clock_that_is_far_off(time, rows, info):
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0)
    rows.add(1, 1, "COMPLETE", val_accuracy=60.0)
    table = rows.table()
    times = pa.array([START, time]).cast(table.schema.field("time").type)
    table = table.set_column(
        table.schema.get_field_index("time"), table.schema.field("time"), times
    )
    html, _ = render(table, info())
    assert "60.00 %" in html
    assert pc.max(table["time"].cast(pa.int64())).as_py() == max(START, time)  # as it was stored


def test_trial_numbers_that_are_far_apart(rows, info):
    for k in range(6):
        rows.add(k * 10**9, 1, "COMPLETE", val_accuracy=50.0 + k)
    html, pictures = render(rows.table(), info())
    assert "55.00 %" in html
    assert "best_so_far" in pictures
    assert len(statistics.load(rows.table(), {}).trials) == 6


def test_a_figure_that_cannot_be_drawn_is_left_out_with_a_line(rows, info, monkeypatch):
    def broken(*_args):
        def painter(_axes):
            raise OverflowError("no axis shows <this>")

        return painter

    monkeypatch.setattr(figures, "trade_off", broken)
    html, pictures = render(filled(rows, 50.0).table(), info())
    assert pictures.keys() == {"best_so_far"}
    line = "A figure is left out, since it could not be drawn: trade off macs (OverflowError: no"
    assert line in html
    assert "no axis shows &lt;this&gt;" in html


def test_an_architecture_that_cannot_be_drawn_is_written(rows, info):
    from failing_spaces import FailingSpace

    rows.add(0, 1, "COMPLETE", val_accuracy=50.0, arch="x=1,y=2,op=a")
    html, _ = render(rows.table(), info(), FailingSpace(where="graph"))
    assert "x=1,y=2,op=a" in html


def test_all_trials_failed(rows, info):
    for k in range(6):
        rows.add(k, None, "FAILED", message="RuntimeError: this" if k < 4 else "ValueError: that")
    said = "all 6 trials failed, 4 of them with: RuntimeError: this"
    assert summary(rows.table(), {}).failure == said
    html, _ = render(rows.table(), info())
    assert f"There is no result: {said}." in html


@pytest.mark.parametrize(
    ("state", "step", "message", "failure"),
    [
        ("COMPLETE", 1, None, ""),
        ("RUNNING", None, None, ""),
        ("STOPPED", 1, "asha at step 1", ""),
        ("INFEASIBLE", None, "breaks params <= 5", "the only trial failed: RuntimeError: this"),
        ("INFEASIBLE", None, "out of memory: x", "all 2 trials failed, 1 of them with: "),
        ("INFEASIBLE", None, "infeasible: x", "all 2 trials failed, 1 of them with: "),
    ],
)
def test_what_says_that_not_all_failed(state, step, message, failure, rows):
    rows.add(0, None, "FAILED", message="RuntimeError: this")
    rows.add(1, step, state, message=message)
    assert summary(rows.table(), {}).failure.startswith(failure)
    assert bool(summary(rows.table(), {}).failure) == bool(failure)
