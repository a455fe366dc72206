"""Jackknife, gaps and Holm's correction against scipy and plain loops; how often intervals cover
is in tests/calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import kendalltau, spearmanr
from scipy.stats import t as student

from raynas.analysis.intervals import (
    MEANS_FROM,
    PAIRS_FROM,
    constant_correlation,
    correlation_gap,
    holm,
    mean_half_width,
    rank_correlations,
)


@given(some.integers(4, 30), some.integers(0, 10_000), some.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_values_with_and_without_each_item_equal_scipy(n, seed, values):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(values, size=n) * 1.0, rng.integers(values, size=n) * 0.5
    rho, tau = rank_correlations(x, y)
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        assert math.isnan(rho.value)
        assert math.isnan(tau.estimate().low)
        return
    assert rho.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)
    assert tau.value == pytest.approx(kendalltau(x, y).statistic, abs=1e-9)
    for i in range(n):
        p, q = np.delete(x, i), np.delete(y, i)
        if len(np.unique(p)) > 1 and len(np.unique(q)) > 1:
            assert rho.without[i] == pytest.approx(spearmanr(p, q).statistic, abs=1e-9)
            assert tau.without[i] == pytest.approx(kendalltau(p, q).statistic, abs=1e-9)


def test_pairs_in_blocks_are_all_counted_once():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1300)
    y = x + rng.normal(size=1300)
    rho, tau = rank_correlations(x, y)
    assert rho.value == pytest.approx(spearmanr(x, y).statistic)
    assert tau.value == pytest.approx(kendalltau(x, y).statistic)


def test_closed_forms():
    x = np.arange(10.0)
    swapped = np.r_[x[:8], 9.0, 8.0]
    assert [c.value for c in rank_correlations(x, -x)] == [-1, -1]
    assert [c.value for c in rank_correlations(x, x**3)] == [1, 1]
    rho, tau = rank_correlations(x, swapped)
    assert rho.value == pytest.approx(1 - 6 * 2 / (10 * 99))
    assert tau.value == pytest.approx(1 - 2 * 2 / 90)


def test_an_interval_takes_twelve_that_differ():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, PAIRS_FROM))
    for found in rank_correlations(x, y):
        assert -1 < found.estimate().low < found.value < found.estimate().high < 1
    for found in rank_correlations(x[1:], y[1:]):
        assert math.isfinite(found.value)
        assert math.isnan(found.estimate().low)
    one_differs = np.r_[1.0, np.zeros(PAIRS_FROM - 1)]  # without it there is no correlation
    assert math.isnan(rank_correlations(one_differs, y)[0].estimate().low)


def test_a_perfect_order_is_not_certain():
    x = np.arange(20.0)
    for found in rank_correlations(x, x):
        low = found.estimate().low
        assert 0.9 < low < 1 == found.estimate().high
    for found in rank_correlations(x, -x):
        assert -1 == found.estimate().low < found.estimate().high < -0.9


def test_intervals_narrow_as_the_root_of_the_number():
    rng = np.random.default_rng(2)
    widths = []
    for n in (100, 1600):
        x = rng.normal(size=n)
        found = rank_correlations(x, x + rng.normal(size=n))[1].estimate()
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)


def test_a_gap_knows_what_both_share():
    rng = np.random.default_rng(3)
    truth, noise = rng.normal(size=(2, 60))
    one = rank_correlations(truth + noise, truth)[0]
    near = rank_correlations(truth + noise + 0.1 * rng.normal(size=60), truth)[0]
    far = rank_correlations(truth + rng.normal(size=60), truth)[0]
    narrow, wide = (correlation_gap(one, c).estimate for c in (near, far))
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)
    same = correlation_gap(one, one)
    assert (same.estimate.value, same.ahead, same.behind) == (0.0, 1.0, 1.0)


def test_a_gap_to_a_constant_is_the_correlation_itself():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 40))
    rho = rank_correlations(x + y, y)[0]
    gap = correlation_gap(rho, constant_correlation(40))
    whole = rho.estimate()
    assert gap.estimate.low == pytest.approx(whole.low)
    assert gap.estimate.high == pytest.approx(whole.high)
    assert gap.ahead < 0.001 < 0.999 < gap.behind


def test_few_items_show_no_lead():
    x = np.arange(11.0)
    gap = correlation_gap(rank_correlations(x, x)[0], rank_correlations(-x, x)[0])
    assert gap.estimate.value == 2
    assert math.isnan(gap.estimate.low)
    assert math.isnan(gap.ahead)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, math.nan, 0.6]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm([]) == []


def test_the_half_width_of_a_mean():
    even = np.r_[-2.0, -1.0, 0.0, 1.0, 2.0]  # no skewness: Student's interval
    expected = student.ppf(0.975, 4) * even.std(ddof=1) / math.sqrt(5)
    assert mean_half_width(even) == pytest.approx(expected)
    values = np.random.default_rng(0).normal(5, 2, 400)
    assert mean_half_width(values) == pytest.approx(1.96 * 2 / 20, rel=0.1)
    skewed = np.r_[0.0, 0.0, 0.0, 0.0, 5.0]
    student_s = student.ppf(0.975, 4) * skewed.std(ddof=1) / math.sqrt(5)
    assert mean_half_width(skewed) == mean_half_width(-skewed) > student_s
    assert math.isnan(mean_half_width(even[: MEANS_FROM - 1]))
    assert math.isnan(mean_half_width(np.full(50, 93.5)))
    assert math.isnan(mean_half_width(np.r_[even, math.inf]))
