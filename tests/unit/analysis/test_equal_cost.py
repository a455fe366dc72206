"""Arms at equal cost, against values worked out by hand and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from report_data import Rows, describe_run

from raynas.analysis import chance, equal_cost
from raynas.analysis import statistics as st
from raynas.core.pareto import hypervolume
from raynas.reports.sentences import compare_sentence

TWO = [
    {"class": "Objective", "metric": "val_accuracy", "direction": "max"},
    {"class": "Objective", "metric": "macs", "direction": "min"},
]


def test_best_so_far_charges_stopped_and_failed_trials(rows, description):
    rows.add(0, 1, "RUNNING", val_accuracy=50.0).add(0, 2, "COMPLETE", val_accuracy=60.0)
    rows.add(1, 1, "STOPPED", val_accuracy=99.0, seconds=5.0)
    rows.add(2, 1, "FAILED", seconds=2.0, message="boom")
    rows.add(3, 1, "RUNNING", val_accuracy=10.0).add(3, 2, "COMPLETE", val_accuracy=70.0)
    trace = equal_cost.trace(st.load(rows.table(), description), "tpe")
    assert trace.spent.tolist() == [2.0, 7.0, 9.0, 11.0]
    assert trace.cost.tolist() == [2.0, 11.0]
    assert trace.value.tolist() == [60.0, 70.0]
    assert trace.total == 11.0


def test_a_trial_belongs_to_a_cost_that_covers_half_of_its_own(rows, description):
    for k, seconds in enumerate((2.0, 5.0, 4.0)):
        rows.add(k, 1, "COMPLETE", val_accuracy=60.0 + k, seconds=seconds)
    trace = equal_cost.trace(st.load(rows.table(), description), "tpe")
    assert math.isnan(trace.at(0.9))
    assert [trace.at(c) for c in (1.0, 4.4, 4.5, 8.9, 9.0, 1e9)] == [60, 60, 61, 61, 62, 62]
    assert [trace.within(c).tolist() for c in (0.9, 1.0, 4.5, 9.0)] == [[], [0], [0, 1], [0, 1, 2]]


def test_what_ran_beside_a_trial_does_not_change_the_order(rows, description):
    """Two workers: the first trial takes longer, and ends after the second."""
    rows.add(1, 1, "COMPLETE", val_accuracy=60.0, seconds=3.0)
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0, seconds=4.0)
    trace = equal_cost.trace(st.load(rows.table(), description), "tpe")
    assert (trace.cost.tolist(), trace.value.tolist()) == ([4.0, 7.0], [50.0, 60.0])


def test_minimised_objectives_fall(rows, describing):
    for k, loss in enumerate((3.0, 1.0, 2.0)):
        rows.add(k, 1, "COMPLETE", val_loss=loss)
    run = st.load(rows.table(), describing(objectives=[{"metric": "val_loss", "direction": "min"}]))
    assert equal_cost.trace(run, "tpe").value.tolist() == [3.0, 1.0]


@given(some.integers(1, 40), some.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_trace_equals_a_plain_loop(n, seed):
    rng = np.random.default_rng(seed)
    rows = Rows()
    for k in rng.permutation(n):  # trials end in any order
        state = rng.choice(["COMPLETE", "STOPPED", "FAILED"])
        value, seconds = (float(rng.integers(1, 9)) for _ in range(2))
        rows.add(int(k), 1, str(state), val_accuracy=value, seconds=seconds)
    trace = equal_cost.trace(st.load(rows.table(), describe_run()), "tpe")
    spent, best, expected = 0.0, -math.inf, []
    for row in sorted(rows.rows, key=lambda r: r["trial"]):
        spent += row["seconds"]
        if row["state"] == "COMPLETE" and row["val_accuracy"] > best:
            best = row["val_accuracy"]
            expected.append((spent, spent - row["seconds"] / 2, best))
    columns = (trace.cost.tolist(), trace.since.tolist(), trace.value.tolist())
    assert list(zip(*columns, strict=True)) == expected
    assert trace.total == spent


def test_several_objectives_count_by_their_volume(rows, describing):
    points = [(50.0, 100), (60.0, 200), (55.0, 300), (70.0, 400)]
    for k, (accuracy, macs) in enumerate(points):
        rows.add(k, 1, "COMPLETE", val_accuracy=accuracy, macs=macs)
    run = st.load(rows.table(), describing(objectives=TWO))
    box = np.array([[(a - 50) / 20, (400 - m) / 300] for a, m in points])
    expected = [hypervolume(box[: k + 1], np.full(2, -1e-9)) for k in range(4)]
    shares = equal_cost.trace(run, "tpe").value
    assert shares == pytest.approx([expected[0], expected[1], expected[3]])


def _arms(rows: Rows, main: list[float], random: list[float], **values: float) -> None:
    for arm, first, found in (("tpe", 0, main), ("random", 1000, random)):
        for k, accuracy in enumerate(found):
            rows.add(first + k, 1, "COMPLETE", arm=arm, val_accuracy=accuracy, **values)


def test_comparison_is_cut_at_the_cost_both_have_spent(rows, description):
    _arms(rows, [60.0, 61.0, 62.0, 63.0], [50.0 + 2 * k for k in range(10)])
    run = st.load(rows.table(), description)
    assert (run.main, run.random) == ("tpe", "random")
    found = equal_cost.compare(run)
    assert found is not None
    assert (found.cost, found.main, found.random) == (4.0, 63.0, 56.0)
    assert found.better


def test_a_lead_that_half_of_all_random_searches_have_is_no_claim(rows, description):
    """The best of two samples of one distribution is in the first of them in half of all cases."""
    _arms(rows, [70.0 + k for k in range(30)], [69.5 + k for k in range(30)])
    run = st.load(rows.table(), description)
    found = equal_cost.compare(run)
    assert found is not None
    assert found.lead is not None
    assert (found.better, found.lead.above, found.beyond_chance) == (True, 1, False)
    assert found.lead.chance == 0.5
    verdict, text = compare_sentence(run)
    assert verdict == "close"
    assert (
        "which random search also reaches by chance: the best network of both is from tpe" in text
    )
    assert "as by chance alone in 50 % of cases" in text


def test_five_of_thirty_above_all_of_random_are_more_than_luck(rows, description):
    _arms(rows, [70.0 + k for k in range(30)], [65.5 + k for k in range(30)])
    run = st.load(rows.table(), description)
    found = equal_cost.compare(run)
    assert found is not None
    assert found.lead is not None
    assert found.lead.above == 5
    assert found.lead.chance == chance.chance(5, 30, 30) == pytest.approx(0.026, abs=5e-4)
    verdict, text = compare_sentence(run)
    assert verdict == "better"
    assert (
        "more than random search reaches by chance: the 5 best networks of both are all from tpe"
        in text
    )


def test_too_few_trials_are_told_so(rows, description):
    _arms(rows, [90.0, 91.0], [50.0, 51.0])
    verdict, text = compare_sentence(st.load(rows.table(), description))
    assert verdict == "close"
    assert "One run of each cannot tell that from chance: compare several seeds." in text


def test_several_objectives_make_no_claim_of_luck(rows, describing):
    _arms(rows, [90.0 + k for k in range(8)], [50.0 + k for k in range(8)])
    run = st.load(rows.table(), describing(objectives=TWO))
    found = equal_cost.compare(run)
    assert found is not None
    assert (found.lead, found.beyond_chance) == (None, False)
    assert "cannot tell that from chance" in compare_sentence(run)[1]


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [
        ("RUNNING", None, "some of their trials are not finished"),
        ("STOPPED", equal_cost.CUT_OFF, "an earlier version stopped trials of random search"),
    ],
)
def test_nothing_is_said_of_luck_while_an_arm_is_not_whole(rows, description, state, message, said):
    _arms(rows, [70.0 + k for k in range(20)], [50.0 + k for k in range(20)])
    rows.add(1020, 1, state, arm="random", val_accuracy=50.0, message=message)
    verdict, text = compare_sentence(st.load(rows.table(), description))
    assert verdict == "close"
    assert said in text


def test_without_worker_time_steps_are_the_cost(rows, description):
    for step, state in ((3, "RUNNING"), (9, "COMPLETE")):
        rows.add(0, step, state, val_accuracy=float(step), seconds=0.0)
    rows.add(1, 3, "STOPPED", val_accuracy=1.0, seconds=0.0)
    rows.add(5, 9, "COMPLETE", arm="random", val_accuracy=1.0, seconds=0.0)
    run = st.load(rows.table(), description)
    assert equal_cost.counts_steps(run)
    trace = equal_cost.trace(run, "tpe")
    assert (trace.cost.tolist(), trace.total) == ([9.0], 12.0)
    assert "at the same cost (9 steps trained, no time was recorded)" in compare_sentence(run)[1]


def test_nothing_at_all(rows, description):
    run = st.load(rows.table(), description)
    assert equal_cost.compare(run) is None
    assert equal_cost.traces(run) == ()
    assert equal_cost.common_cost(()) == 0.0


def test_the_band_is_in_the_sign_of_the_objective(rows, describing):
    for k in range(20):
        rows.add(k, 1, "COMPLETE", arm="random", val_loss=float(k))
    run = st.load(rows.table(), describing(objectives=[{"metric": "val_loss", "direction": "min"}]))
    band = equal_cost.reordered(run, equal_cost.trace(run, "random"))
    assert band is not None
    assert np.all(band.low <= band.high)
    assert (band.low[-1], band.high[-1], band.cost[-1]) == (0.0, 0.0, 20.0)
