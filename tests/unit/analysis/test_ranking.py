"""Rank statistics against scipy, closed forms, and plain loops over all orders of ties."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rich.console import Console
from scipy.stats import spearmanr

from raynas.analysis.ranking import (
    best_of,
    chances,
    precision,
    rank_qualities,
    rank_table,
    spearman_draws,
)

NAN = math.nan


def _tied(n, seed, values=6):
    rng = np.random.default_rng(seed)
    return rng.integers(values, size=n).astype(float), rng.integers(values, size=n).astype(float)


@given(some.integers(2, 60), some.integers(0, 10_000), some.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_weighted_rho_equals_scipy_on_the_repeated_arrays(n, seed, values):
    x, y = _tied(n, seed, values)
    weights = np.random.default_rng(seed).integers(0, 3, size=(3, n)).astype(float)
    rho = spearman_draws(weights, x, y)
    for k, row in enumerate(weights.astype(int)):
        p, q = np.repeat(x, row), np.repeat(y, row)
        if len(np.unique(p)) < 2 or len(np.unique(q)) < 2:
            assert math.isnan(rho[k])
        else:
            assert rho[k] == pytest.approx(spearmanr(p, q).statistic, abs=1e-9)


@given(some.integers(12, 60), some.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_order_of_the_architectures_does_not_matter(n, seed):
    x, y = _tied(n, seed)
    x[0] = NAN
    order = np.random.default_rng(seed).permutation(n)
    one, two = (rank_qualities({"p": a, "params": b}, b) for a, b in ((x, y), (x[order], y[order])))
    for p, q in zip(one, two, strict=True):
        assert (p.name, p.invalid, p.distinct, p.tied) == (q.name, q.invalid, q.distinct, q.tied)
        assert p.whole.spearman.value == pytest.approx(q.whole.spearman.value, nan_ok=True)
        assert p.whole.kendall.value == pytest.approx(q.whole.kendall.value, nan_ok=True)
        assert p.precision == pytest.approx(q.precision)
        assert p.best == pytest.approx(q.best)


@given(some.integers(1, 6), some.integers(0, 10_000), some.data())
@settings(max_examples=60, deadline=None)
def test_ties_are_the_mean_over_all_their_orders(n, seed, data):
    x, y = _tied(n, seed, 3)
    k = data.draw(some.integers(1, n))
    best, member = [], np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        chosen = sorted(order, key=lambda i: -x[i])[:k]  # stable: ties stay in the drawn order
        best.append(y[chosen].max())
        member[chosen] += 1
    assert best_of(x, y, k) == pytest.approx(np.mean(best))
    assert chances(x, k) == pytest.approx(member / len(orders))


def test_many_ties_stay_exact():
    y = np.arange(5000.0)
    mean = sum(j * math.comb(j, 99) for j in range(99, 5000)) / math.comb(5000, 100)
    assert best_of(np.zeros(5000), y, 100) == pytest.approx(float(mean), rel=1e-9)


def test_precision_counts_the_shared_part_and_takes_at_least_one():
    goal = np.arange(100.0)
    values = goal.copy()
    values[[99, 98]] = -1.0, -2.0  # two of the best five are missed
    assert precision(values, goal) == pytest.approx(3 / 5)
    assert precision(np.zeros(100), goal) == pytest.approx(0.05)
    assert precision(goal[:7], goal[:7]) == 1.0
    invalid = np.where(goal >= 97, NAN, goal)
    assert precision(invalid, goal) == pytest.approx(2 / 5)


def test_the_sign_is_kept_and_a_lower_truth_may_be_better():
    loss = np.linspace(3, 1, 30)
    found = {q.name: q for q in rank_qualities(
        {"good": -loss, "bad": loss}, loss, sign=-1)}  # fmt: skip
    assert found["good"].whole.spearman.value == pytest.approx(1)
    assert found["bad"].whole.spearman.value == pytest.approx(-1)
    assert found["good"].best == {1: pytest.approx(1.0), 10: pytest.approx(1.0)}
    assert found["bad"].best[1] == pytest.approx(3.0)
    assert found["good"].top is None  # three of thirty


def test_invalid_scores_and_ties_are_counted():
    truth = np.arange(50.0)
    score = np.floor(truth / 2)
    score[:3] = NAN, math.inf, NAN
    found = rank_qualities({"p": score}, np.r_[truth[:49], NAN])[0]
    assert (found.whole.n, found.invalid) == (46, 3)
    assert (found.distinct, found.tied) == (24, 44)
    assert found.top is not None
    assert found.top.n == 5
    assert set(found.best) == {1, 10}


def test_few_or_constant_values_have_no_interval():
    few = rank_qualities({"p": np.arange(3.0)}, np.arange(3.0))[0]
    assert few.whole.spearman.value == pytest.approx(1)
    assert math.isnan(few.whole.spearman.low)
    flat = rank_qualities({"p": np.ones(20)}, np.arange(20.0))[0]
    assert math.isnan(flat.whole.kendall.value)
    none = rank_qualities({"p": np.full(20, NAN)}, np.arange(20.0))[0]
    assert (none.whole.n, none.invalid, none.best) == (0, 20, {})
    assert rank_qualities({"p": np.empty(0)}, np.empty(0))[0].whole.n == 0


def test_a_proxy_is_held_against_size_in_pairs():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=400)
    scores = {
        "sharp": truth + 0.2 * rng.normal(size=400),
        "dull": truth + 2 * rng.normal(size=400),
        "params": truth + rng.normal(size=400),
    }
    sharp, params, dull = rank_qualities(scores, truth)
    assert [sharp.name, params.name, dull.name] == ["sharp", "params", "dull"]
    assert (sharp.no_better_than, dull.no_better_than) == ((), ("params",))
    assert (sharp.beats_all, dull.beats_all, params.beats_all) == (True, False, False)
    assert params.beyond == {}
    gap = sharp.whole.spearman.value - params.whole.spearman.value
    assert sharp.beyond["params"].value == pytest.approx(gap)
    copy = rank_qualities({"p": scores["params"], "params": scores["params"]}, truth)
    assert {q.name: q.no_better_than for q in copy}["p"] == ("params",)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"p has shape \(3,\), not \(4,\)"):
        rank_qualities({"p": np.ones(3)}, np.ones(4))


def test_terminal_table_has_a_line_per_score():
    truth = np.arange(60.0)
    scores = {"naswot": truth, "params": -truth, "flat": np.ones(60)}
    found = rank_qualities(scores, truth)
    out = Console(width=110, file=io.StringIO(), record=True)
    out.print(rank_table(found, "all cells"))
    text = out.export_text()
    assert text.index("naswot") < text.index("params")
    assert "1.00 [1.00 1.00]" in text
    assert "-1.00 [-1.00 -1.00]" in text
    (flat,) = [line.split() for line in text.splitlines() if line.startswith("flat")]
    assert flat == ["flat", "60", "0", "-", "-", "6", "-", ".05", "29.50", "54.45", "1"]
