"""Exact statements about ranks, against counting all cases."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from raynas.analysis import chance


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (3, 2), (2, 4), (4, 4)])
def test_chance_is_the_share_of_all_orders(ours, theirs):
    n = ours + theirs
    cases = [set(mine) for mine in combinations(range(n), ours)]
    for above in range(ours + 1):
        top = set(range(n - above, n))
        assert chance.chance(above, ours, theirs) == pytest.approx(
            sum(top <= mine for mine in cases) / len(cases)
        )


def test_chance_at_its_ends():
    assert chance.chance(0, 5, 5) == 1.0
    assert chance.chance(6, 5, 5) == 0.0
    assert chance.chance(3, 5, 0) == 1.0  # nothing to be ahead of


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (5, 5), (8, 4), (4, 9), (40, 40)])
def test_one_distribution_is_called_beyond_chance_in_at_most_five_percent(ours, theirs):
    """Exact: the lead is at least ``k`` with probability ``chance(k)``."""
    claimed = [k for k in range(1, ours + 1) if chance.chance(k, ours, theirs) <= chance.LEVEL]
    assert claimed
    values = np.arange(float(ours + theirs))
    first = chance.lead(np.r_[values[theirs:]], values[:theirs])
    assert first.above == ours
    assert first.chance == first.possible == chance.chance(ours, ours, theirs)
    assert chance.chance(claimed[0], ours, theirs) <= chance.LEVEL


def test_two_of_two_can_never_be_beyond_chance():
    found = chance.lead(np.array([9.0, 8.0]), np.array([1.0, 2.0]))
    assert (found.above, found.chance) == (2, pytest.approx(1 / 6))
    assert not found.can_be_judged
    assert not found.beyond_chance


def test_ties_are_no_lead():
    found = chance.lead(np.full(30, 7.0), np.full(30, 7.0))
    assert (found.above, found.chance) == (0, 1.0)
    assert found.can_be_judged


def test_trials_that_were_stopped_count_as_started():
    """Six completed above one: among seven results chance gives it in one of seven cases."""
    ours = np.r_[np.arange(10.0, 16.0), np.full(20, np.nan)]
    theirs = np.r_[1.0, np.full(25, np.nan)]
    found = chance.lead(ours, theirs)
    assert (found.above, found.chance) == (6, pytest.approx(1 / 7))
    few = chance.lead(np.r_[3.0, 4.0, np.full(98, np.nan)], np.r_[1.0, np.full(99, np.nan)])
    assert few.chance == pytest.approx(1 / 3)


def test_nothing_to_be_ahead_of():
    assert chance.lead(np.array([1.0]), np.array([np.nan])).above == 0
    assert chance.lead(np.empty(0), np.empty(0)).chance == 1.0


@given(some.integers(0, 40), some.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_the_sign_test_is_the_exact_binomial_one(ahead, behind):
    from scipy.stats import binomtest

    expected = binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0
    assert chance.sign_test(ahead, behind) == pytest.approx(expected)


@pytest.mark.parametrize("n", [5, 6])
def test_the_band_is_that_of_all_orders(n):
    quality = np.random.default_rng(n).permutation(np.r_[np.arange(5.0), [np.nan] * (n - 5)])
    band = chance.reordered_band(quality, float(n), level=0.8, points=n)
    assert band is not None
    orders = np.array(list(permutations(np.where(np.isnan(quality), -np.inf, quality))))
    best = np.maximum.accumulate(orders, axis=1)
    for cost, low, high in zip(band.cost, band.low, band.high, strict=True):
        column = np.sort(best[:, int(cost) - 1])
        at = [column[math.ceil(share * len(column) - 1e-9) - 1] for share in (0.1, 0.9)]
        assert [low, high] == at


@given(some.integers(5, 400), some.floats(0.05, 1.0), some.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_band_never_falls_and_closes(n, share, seed):
    rng = np.random.default_rng(seed)
    quality = np.where(rng.random(n) < share, rng.normal(size=n).round(1), np.nan)
    band = chance.reordered_band(quality, 10.0)
    if np.isfinite(quality).sum() < 5:
        assert band is None
        return
    assert band is not None
    assert np.all(band.low <= band.high)
    assert np.all(np.diff(band.low) >= 0)
    assert np.all(np.diff(band.high) >= 0)
    assert band.cost[-1] == 10.0
    assert band.low[-1] == band.high[-1] == np.nanmax(quality)


def test_the_band_of_many_trials_is_finite():
    band = chance.reordered_band(np.arange(20_000.0), 1.0)
    assert band is not None
    assert len(band.cost) == 80
    assert np.isfinite(band.low).all()
