"""Ranks against scipy's, and what ensembles of scores must keep."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from raynas.core import Cascade, Ensemble, UserError
from raynas.core.ranks import log_rank_sum, rank_sum, ranks, share_of

# few different values, so that ties are common
VALUES = st.one_of(st.integers(-3, 3).map(float), st.just(-math.inf), st.floats(-1e9, 1e9))
GAPS = st.one_of(VALUES, st.just(math.nan))


def columns(count: int = 1) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(GAPS, min_size=n, max_size=n), min_size=count, max_size=count)
    )


@given(st.lists(VALUES.filter(lambda v: v > -math.inf), min_size=1, max_size=20))
def test_ranks_are_the_usual_ones_and_ties_share_the_mean(values: list[float]) -> None:
    np.testing.assert_array_equal(ranks(values), rankdata(values))


@given(columns())
def test_ranks_follow_the_order_and_what_is_missing_ranks_lowest(table: list[list[float]]) -> None:
    (values,) = table
    found = ranks(values)
    known = [-math.inf if math.isnan(v) else v for v in values]
    for i, a in enumerate(known):
        for j, b in enumerate(known):
            assert (a < b) == (found[i] < found[j])
    assert found.sum() == len(values) * (len(values) + 1) / 2


def test_missing_values_share_the_lowest_rank() -> None:
    np.testing.assert_array_equal(ranks([math.nan, 3, math.nan, 3, -9]), [1.5, 4.5, 1.5, 4.5, 3])
    assert ranks([]).shape == (0,)


@given(columns(3), st.randoms(use_true_random=False))
def test_ensembles_do_not_depend_on_the_order_of_architectures(
    table: list[list[float]], random: object
) -> None:
    order = list(range(len(table[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    ensemble = Ensemble(("a", "b", "c"), weights=(1.0, -2.0, 0.5))
    found = ensemble(dict(zip("abc", table, strict=True)))
    moved = ensemble({k: np.array(c)[order] for k, c in zip("abc", table, strict=True)})
    np.testing.assert_allclose(moved, found[order])


@given(columns(2))
def test_only_the_order_of_a_score_counts(table: list[list[float]]) -> None:
    first, second = table
    ensemble = Ensemble(("a", "b"))
    bent = [4 * v if v > 0 else 2 * v for v in first]
    found = ensemble({"a": first, "b": second})
    np.testing.assert_allclose(ensemble({"a": bent, "b": second}), found)
    np.testing.assert_allclose(rank_sum(table), ranks(first) + ranks(second))


def test_log_ranks_are_weighed_and_summed() -> None:
    a, b = [1.0, 2.0, 4.0, 3.0], [1.0, 9.0, 1.0, 1.0]
    expected = [
        math.log(1 / 4) + 2 * math.log(2 / 4),
        math.log(2 / 4) + 2 * math.log(4 / 4),
        math.log(4 / 4) + 2 * math.log(2 / 4),
        math.log(3 / 4) + 2 * math.log(2 / 4),
    ]
    np.testing.assert_allclose(log_rank_sum([a, b], [1, 2]), expected)
    np.testing.assert_allclose(Ensemble(("a", "b"), (1, 2))({"a": a, "b": b}), expected)
    np.testing.assert_allclose(log_rank_sum([a]), np.log(np.array(a) / 4))


def test_a_negative_weight_turns_a_score_round_but_not_a_gap() -> None:
    found = Ensemble(("cost",), (-1,))({"cost": [5, 1, math.nan, 3]})
    np.testing.assert_allclose(found, np.log([2 / 4, 4 / 4, 1 / 4, 3 / 4]))


@given(columns(2))
def test_the_best_in_everything_is_the_best_together(table: list[list[float]]) -> None:
    found = Ensemble(("a", "b"))({k: [*c, 1e10] for k, c in zip("ab", table, strict=True)})
    assert found[-1] == 0 == found.max()


@pytest.mark.parametrize(
    ("parts", "weights"), [((), ()), (("a",), (1.0, 2.0)), (("a", "b"), (1.0,))]
)
def test_ensembles_that_make_no_sense_are_refused(
    parts: tuple[str, ...], weights: tuple[float, ...]
) -> None:
    with pytest.raises(UserError, match="one score or more, and no weights or one for each"):
        Ensemble(parts, weights)


def test_a_missing_score_is_named() -> None:
    with pytest.raises(UserError, match=r"'naswott'.*did you mean 'naswot'"):
        Ensemble(("naswott",))({"naswot": [1.0]})


def test_a_cascade_orders_the_best_of_the_first_by_the_second() -> None:
    table = {"a": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "b": [9, 8, 7, 6, 5, 4, 3, 1, 2, 1]}
    found = Cascade(Ensemble(("a",)), Ensemble(("b",)), share=0.4)(table)
    assert list(np.argsort(-found)) == [6, 8, 9, 7, 5, 4, 3, 2, 1, 0]  # 9 and 7: equal by b
    whole = Cascade(Ensemble(("a",)), Ensemble(("b",)), share=1)(table)
    assert list(np.argsort(-whole)) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 7]
    one = Cascade(Ensemble(("a",)), Ensemble(("b",)), share=0.001)(table)
    assert list(np.argsort(-one)) == list(range(9, -1, -1))


@given(columns(2), st.floats(0.01, 1))
def test_a_cascade_keeps_equals_equal_and_the_best_on_top(
    table: list[list[float]], share: float
) -> None:
    doubled = {name: [*column, *column] for name, column in zip("ab", table, strict=True)}
    first, n = Ensemble(("a",)), len(table[0])
    found = Cascade(first, Ensemble(("b",)), share)(doubled)
    assert list(found[:n]) == list(found[n:])
    order, count = first(doubled), math.ceil(round(share * 2 * n, 9))
    best = order >= np.sort(order)[-count]
    assert found[best].min() > found[~best].max(initial=-1)
    assert list(np.argsort(found[~best], kind="stable")) == list(
        np.argsort(order[~best], kind="stable")
    )


@pytest.mark.parametrize("share", [0, -0.5, 1.5, math.nan])
def test_a_cascade_with_no_share_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"above 0, up to 1|share=nan; expected: number"):
        Cascade(Ensemble(("a",)), Ensemble(("b",)), share)


def test_a_cascade_names_its_scores_once_and_the_one_that_is_missing() -> None:
    cascade = Cascade(Ensemble(("a", "b")), Ensemble(("b", "c")))
    assert cascade.parts == ("a", "b", "c")
    assert len(cascade({"a": [], "b": [], "c": []})) == 0
    with pytest.raises(UserError, match="'c'"):
        cascade({"a": [1.0], "b": [1.0]})


@given(st.integers(0, 100_000), st.integers(0, 1000))
def test_a_share_is_that_of_exact_arithmetic(count: int, thousandths: int) -> None:
    exact = Fraction(thousandths, 1000) * count
    assert share_of(count, thousandths / 1000) == math.floor(exact)
    assert share_of(count, thousandths / 1000, up=True) == math.ceil(exact)


def test_shares_that_floats_get_wrong() -> None:
    assert (share_of(100, 0.29), share_of(100, 0.07, up=True)) == (29, 7)
    assert share_of(10, 0.1 + 0.2, up=True) == 3
