"""Statistics against values worked out by hand, and against plain loops on random runs."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from raynas.analysis import rank_correlation, rung_counts, selection
from raynas.analysis import statistics as st
from raynas.core import TrialState
from raynas.core.pareto import hypervolume

TWO = [
    {"class": "Objective", "metric": "val_accuracy", "direction": "max"},
    {"class": "Objective", "metric": "macs", "direction": "min"},
]


def test_the_state_is_that_of_the_row_without_a_step(rows, description):
    rows.add(0, None, "COMPLETE").add(0, 2, "RUNNING", val_accuracy=8.0)
    rows.add(0, 1, "RUNNING", val_accuracy=7.0)
    run = st.load(rows.table(), description)
    assert run.trials.state.tolist() == ["COMPLETE"]
    assert run.trials.values["val_accuracy"].tolist() == [8.0]
    assert run.trials.step.tolist() == [2]


def test_minimised_objectives_fall(rows, describing):
    for k, loss in enumerate((3.0, 1.0, 2.0)):
        rows.add(k, 1, "COMPLETE", val_loss=loss)
    objectives = [{"metric": "val_loss", "direction": "min"}]
    run = st.load(rows.table(), describing(objectives=objectives))
    assert selection.best(run) == 1
    assert selection.ranked(run).tolist() == [1, 2, 0]


def test_rungs_count_reached_stopped_and_went_on(rows, description):
    for k in range(9):
        last = 1 if k < 5 else 3 if k < 8 else 9
        state = "COMPLETE" if last == 9 else "STOPPED"
        for step in range(1, last + 1):
            rows.add(k, step, state if step == last else "RUNNING", val_accuracy=float(k))
    rows.add(9, 1, "RUNNING", val_accuracy=1.0)
    run = st.load(rows.table(), description)
    counts = [(r.step, r.reached, r.stopped, r.promoted) for r in rung_counts.rungs(run, "tpe")]
    assert counts == [(1, 10, 5, 4), (3, 4, 3, 1)]


def test_who_is_overtaken_after_a_rung_did_not_go_on_from_it(rows, description):
    rows.add(0, 1, "RUNNING", val_accuracy=1.0).add(0, 2, "STOPPED", val_accuracy=2.0)
    for step in range(1, 10):
        rows.add(1, step, "COMPLETE" if step == 9 else "RUNNING", val_accuracy=9.0)
    run = st.load(rows.table(), description)
    counts = [(r.step, r.reached, r.stopped, r.promoted) for r in rung_counts.rungs(run, "tpe")]
    assert counts == [(1, 2, 1, 1), (3, 1, 0, 1)]


def test_a_rung_counts_at_the_first_step_above_it(rows, description):
    for k in range(3):
        rows.add(k, 2, "RUNNING", val_accuracy=1.0)
        rows.add(k, 4, "STOPPED" if k else "RUNNING", val_accuracy=1.0)
    rows.add(0, 6, "RUNNING", val_accuracy=1.0).add(0, 9, "COMPLETE", val_accuracy=1.0)
    run = st.load(rows.table(), description)
    counts = [(r.step, r.reached, r.stopped, r.promoted) for r in rung_counts.rungs(run, "tpe")]
    assert counts == [(1, 3, 0, 3), (3, 3, 2, 1)]


def test_rungs_without_settings_are_where_trials_stopped(rows, describing):
    rows.add(0, 4, "STOPPED", val_accuracy=1.0).add(1, 10, "COMPLETE", val_accuracy=1.0)
    run = st.load(rows.table(), describing(scheduler={"class": "Median"}))
    assert rung_counts.rung_steps(run) == [4]
    assert rung_counts.rung_steps(st.load(rows.table().slice(1), describing(scheduler=None))) == []


def test_rung_rank_is_one_where_early_order_is_the_last_order(rows, description):
    for k in range(6):
        for step in (1, 3, 9):
            rows.add(k, step, "COMPLETE" if step == 9 else "RUNNING", val_accuracy=k + 10.0 * step)
    run = st.load(rows.table(), description)
    ranks = [r.rank for r in rung_counts.rungs(run, "tpe", ranks=True)]
    assert [r.tau for r in ranks if r] == [pytest.approx(1.0)] * 2
    assert [r.n for r in ranks if r] == [6, 6]


def test_kendall_needs_variety_and_for_an_interval_twelve():
    assert rank_correlation.kendall(np.ones(9), np.arange(9.0)) is None
    assert rank_correlation.kendall(np.arange(2.0), np.arange(2.0)) is None
    y = np.r_[1.0, 0.0, np.arange(2.0, 12.0)]
    few, enough = (
        rank_correlation.kendall(np.arange(11.0), y[:11]),
        rank_correlation.kendall(np.arange(12.0), y),
    )
    assert few is not None
    assert few.tau == pytest.approx(1 - 4 / 110)
    assert math.isnan(few.low)
    assert enough is not None
    assert -1 < enough.low < enough.tau < enough.high < 1


def test_size_ranking_counts_each_architecture_once(rows, description):
    for k in range(6):
        rows.add(k, 1, "COMPLETE", val_accuracy=float(k), params=100 * (6 - k), arch_id=f"a{k}")
    rows.add(6, 1, "COMPLETE", val_accuracy=-1.0, params=600, arch_id="a0")
    found = rank_correlation.size_ranking(st.load(rows.table(), description))
    assert found is not None
    assert found.n == 6
    assert found.rank is not None
    assert found.rank.tau == pytest.approx(-1.0)
    assert found.largest == 0


def test_finals_are_means_over_seeds_of_completed_trainings(rows, description):
    rows.add(0, 1, "COMPLETE", val_accuracy=80.0)
    for k, test in enumerate((70.0, 74.0)):
        rows.add(5 + k, 1, "COMPLETE", stage="final", arch_id="id0", seed=k, test_accuracy=test)
    rows.add(7, 1, "FAILED", stage="final", arch_id="id0", seed=2)
    run = st.load(rows.table(), description)
    final = selection.finals(run)["id0"]
    assert (final.mean, final.std) == (72.0, pytest.approx(math.sqrt(8)))
    assert (final.seeds, final.failed) == ((0, 1), 1)
    assert selection.finals(st.load(rows.table().slice(0, 1), description)) == {}


def test_test_data_never_choose_the_best(rows, description):
    rows.add(0, 1, "COMPLETE", val_accuracy=80.0).add(1, 1, "COMPLETE", val_accuracy=79.0)
    rows.add(2, 1, "COMPLETE", stage="final", arch_id="id0", test_accuracy=60.0)
    rows.add(3, 1, "COMPLETE", stage="final", arch_id="id1", test_accuracy=90.0)
    run = st.load(rows.table(), description)
    assert selection.best(run) == 0
    assert selection.ranked(run).tolist() == [0, 1]


def test_before_the_first_is_complete_the_furthest_count(rows, description):
    rows.add(0, 1, "STOPPED", val_accuracy=99.0)
    rows.add(1, 1, "RUNNING", val_accuracy=20.0).add(1, 2, "RUNNING", val_accuracy=30.0)
    assert selection.best(st.load(rows.table(), description)) == 1


def test_fronts_of_several_objectives(rows, describing):
    points = [(50.0, 100), (60.0, 200), (55.0, 300), (70.0, 400)]
    for k, (accuracy, macs) in enumerate(points):
        rows.add(k, 1, "COMPLETE", val_accuracy=accuracy, macs=macs)
    run = st.load(rows.table(), describing(objectives=TWO))
    assert selection.front(run, "tpe", [("val_accuracy", 1.0), ("macs", -1.0)]).tolist() == [
        3,
        1,
        0,
    ]


@given(some.integers(1, 40), some.integers(1, 4), some.integers(0, 999), some.booleans())
@settings(max_examples=25, deadline=None)
def test_running_hypervolume_is_that_of_the_front_so_far(n, dims, seed, ties):
    points = np.random.default_rng(seed).random((n, dims))
    points = np.round(points, 1) if ties else points
    shares = selection.running_hypervolume(points, points)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    expected = [hypervolume(scaled[: k + 1], np.full(dims, -1e-9)) for k in range(n)]
    assert shares == pytest.approx(expected, abs=1e-9)
    assert np.all(np.diff(shares) >= 0)


def test_running_hypervolume_of_many_trials_does_not_lag():
    points = np.random.default_rng(0).random((1200, 2))
    points[[0, 1]] = [[0.0, 1.0], [1.0, 0.0]]  # the box is the unit square
    shares = selection.running_hypervolume(points, points)
    looks = [1, 2, 3, 5, 77, 500, 1199]
    expected = [hypervolume(points[: k + 1], np.full(2, -1e-9)) for k in looks]
    assert shares[looks] == pytest.approx(expected, abs=1e-9)


def test_wall_time_leaves_out_the_pause_between_sessions(rows, description):
    start = 1_790_000_000_000_000
    rows.add(0, 1, "COMPLETE", val_accuracy=1.0, time=start, seconds=2.0)
    rows.add(1, 1, "COMPLETE", val_accuracy=1.0, time=start + 8_000_000)
    rows.add(2, 1, "COMPLETE", val_accuracy=1.0, time=start + 10**12, session=2, seconds=3.0)
    assert selection.wall_seconds(st.load(rows.table(), description)) == pytest.approx(13.0)


def test_order_of_rows_does_not_matter(make_run, description):
    table = make_run(trials=30)
    shuffled = table.take(pa.array(np.random.default_rng(3).permutation(len(table))))
    one, two = st.load(table, description), st.load(shuffled, description)
    for name in ("number", "step", "seconds", "measured"):
        assert getattr(one.trials, name) == pytest.approx(getattr(two.trials, name))
    assert one.trials.state.tolist() == two.trials.state.tolist()
    assert set(one.methods) == set(two.methods)


def test_nothing_at_all(rows, description):
    run = st.load(rows.table(), description)
    assert (len(run.trials), run.main, selection.best(run)) == (0, None, None)
    assert rank_correlation.size_ranking(run) is None
    assert selection.finals(run) == {}
    assert selection.wall_seconds(run) == 0.0
    assert not run.has_state(TrialState.COMPLETE).any()
