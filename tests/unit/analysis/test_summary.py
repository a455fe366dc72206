"""The summary for the terminal and the words for numbers."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as some

from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.core import TrialState
from raynas.reports import RunSummary, summary


def test_summary_counts_every_state_per_method(make_run, description):
    table = make_run(trials=40)
    found = summary(table, description)
    assert isinstance(found, RunSummary)
    assert [(a.method, a.main, a.trials) for a in found.methods] == [
        ("tpe", True, 40),
        ("random", False, 40),
    ]
    for method in found.methods:
        assert set(method.states) == {s.value for s in TrialState}
        assert sum(method.states.values()) == method.trials
        assert method.best is not None
        assert method.best.method == method.method
    assert found.best == found.methods[0].best
    assert (found.finals, found.finals_complete) == (9, 9)
    assert found.worker_seconds == pytest.approx(sum(table["seconds"].to_pylist()))
    assert (found.rows, found.sessions, found.budget, found.name) == (len(table), 1, 40, "cells")
    assert found.front == ()


def test_summary_of_nothing(rows, description):
    found = summary(rows.table(), description)
    assert (found.rows, found.methods, found.best, found.last_time) == (0, (), None, None)
    assert summary(rows.table(), {}).objectives[0].metric == "val_accuracy"


def test_summary_says_when_a_value_is_not_final(rows, description):
    rows.add(0, 1, "RUNNING", val_accuracy=40.0)
    best = summary(rows.table(), description).best
    assert best is not None
    assert (best.complete, best.step, best.values) == (False, 1, {"val_accuracy": 40.0})


def test_summary_shows_values_with_the_units_of_the_store(make_run, description):
    found = summary(make_run(trials=10), description)
    assert found.show("val_accuracy", 91.234) == "91.23 %"
    assert found.show("params", 1_234_567) == "1.23 M"
    assert found.show("val_loss", 0.34567) == "0.3457 nats"


def test_top_holds_the_best_once_and_every_finalist(rows, description):
    for k in range(12):
        rows.add(k, 1, "COMPLETE", val_accuracy=float(k), arch_id=f"a{k % 6}")
    rows.add(20, 1, "COMPLETE", stage="final", arch_id="a0", test_accuracy=50.0)
    found = tables.top(st.load(rows.table(), description), n=3)
    assert [f.arch_id for f in found] == ["a5", "a4", "a3", "a0"]
    assert [f.test_n for f in found] == [0, 0, 0, 1]


def test_reasons_are_grouped_by_message_the_frequent_first(rows, description):
    for k, message in enumerate(("nan", "oom", "oom", None)):
        rows.add(k, 1, "FAILED", message=message)
    found = tables.reasons(st.load(rows.table(), description), TrialState.FAILED)
    assert [(r.message, r.count) for r in found] == [
        ("oom", 2), ("nan", 1), ("no message was kept", 1),
    ]  # fmt: skip
    assert found[0].examples == (1, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23 k"), (99_990, "100 k"), (999_900, "1.00 M"),
     (1.5e9, "1.50 G"), (0.25, "0.25"), (math.nan, words.DASH)],
)  # fmt: skip
def test_si(value, text):
    assert words.si(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (3.21, "3.2 s"), (59.6, "1 min"), (61, "1 min 1 s"), (4000, "1 h 6 min"),
     (90_000, "1 d 1 h"), (math.inf, words.DASH)],
)  # fmt: skip
def test_duration(seconds, text):
    assert words.duration(seconds) == text


@given(some.floats(1e-3, 1e14))
def test_si_keeps_three_digits(value):
    number, _, letter = words.si(value).partition(" ")
    back = float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[letter]
    assert back == pytest.approx(value, rel=0.006, abs=0.006)


def test_differences_of_percentages_are_points():
    assert words.difference("val_accuracy", -1.5, "%") == "1.50 points"
    assert words.spread("test_accuracy", 90.0, math.nan, "%") == "90.00 %"
    assert words.axis("val_accuracy", "%") == "validation accuracy (%)"
    assert words.axis("params", "weights") == "parameters"


def test_terminal_and_package_import_nothing_heavy():
    code = (
        "import sys, raynas.reports, raynas.analysis.summary;"
        "print([m for m in ('matplotlib', 'jinja2', 'scipy', 'torch', 'ray', 'optuna')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
