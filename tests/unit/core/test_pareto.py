"""Fronts, ranks and hypervolume against brute force and closed forms."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from raynas.core.pareto import (
    Floats,
    crowding,
    hypervolume,
    hypervolume_gain,
    non_dominated_ranks,
    pareto_front,
    pareto_order,
)

# few different values, so that ties and equal points are common
small = st.integers(-3, 3).map(float)


def clouds(low: int = 0, dims: int = 3) -> st.SearchStrategy[Floats]:
    shapes = array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=dims)
    return st.tuples(st.integers(low, 12), shapes).flatmap(
        lambda s: arrays(np.float64, (s[0], *s[1]), elements=small)
    )


def dominates(p: Floats, q: Floats) -> bool:
    return bool(np.all(p >= q) and np.any(p > q))


def brute_front(points: Floats) -> set[int]:
    return {i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)}


@given(clouds())
def test_the_front_is_what_nothing_dominates(points: Floats) -> None:
    front = pareto_front(points)
    assert len(set(front)) == len(front)
    assert set(front) == brute_front(points)
    assert np.all(np.diff(points[front, 0]) <= 0)  # best first column first


@given(clouds())
def test_ranks_peel_front_after_front(points: Floats) -> None:
    ranks = non_dominated_ranks(points)
    left = np.arange(len(points))
    rank = 0
    while len(left):
        front = left[sorted(brute_front(points[left]))]
        assert np.all(ranks[front] == rank)
        left = np.setdiff1d(left, front)
        rank += 1
    assert ranks.max(initial=-1) == rank - 1


@given(clouds(low=1), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(points: Floats, random: object) -> None:
    shuffled = np.arange(len(points))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(shuffled[pareto_front(points[shuffled])]) == set(pareto_front(points))
    assert np.array_equal(
        non_dominated_ranks(points[shuffled]), non_dominated_ranks(points)[shuffled]
    )


def test_infinite_values_have_a_place_and_nan_has_none() -> None:
    points = np.array([[1.0, -np.inf], [0.0, -np.inf], [np.inf, -np.inf]])
    assert list(pareto_front(points)) == [2]
    assert list(non_dominated_ranks(points)) == [1, 2, 0]
    assert list(pareto_front(np.array([[-np.inf]]))) == [0]
    for function in (pareto_front, non_dominated_ranks, pareto_order):
        with pytest.raises(ValueError, match="NaN"):
            function(np.array([[1.0, np.nan], [2.0, 1.0]]))


@pytest.mark.parametrize("function", [pareto_front, non_dominated_ranks, pareto_order, crowding])
@pytest.mark.parametrize("shape", [(0, 1), (0, 2), (0, 3), (0,)])
def test_nothing_in_nothing_out(function: object, shape: tuple[int, ...]) -> None:
    assert len(function(np.empty(shape))) == 0  # type: ignore[operator]


def test_points_must_be_a_table() -> None:
    with pytest.raises(ValueError, match=r"points must be \(n, d\), not \(3,\)"):
        pareto_front(np.zeros(3))
    with pytest.raises(ValueError, match="must be"):
        non_dominated_ranks(np.zeros((3, 0)))


def test_crowding_of_a_line_by_hand() -> None:
    points = np.array([[0.0, 10.0], [1.0, 8.0], [4.0, 2.0], [5.0, 0.0]])
    # Deb 2002: the sum over columns of (next - previous) / span
    assert list(crowding(points)) == [
        np.inf, pytest.approx(4 / 5 + 8 / 10), pytest.approx(4 / 5 + 8 / 10), np.inf,
    ]  # fmt: skip
    assert np.all(np.isinf(crowding(points[:1])))
    assert np.all(np.isinf(crowding(points[:2])))


@given(clouds(low=1))
def test_crowding_is_at_least_zero_and_infinite_at_the_ends(points: Floats) -> None:
    lonely = crowding(points)
    assert np.all(lonely >= 0)
    for column in points.T:
        if np.sum(column == column.max()) == 1:
            assert np.isinf(lonely[column.argmax()])


def test_points_that_are_lowest_and_highest_at_once_are_all_ends() -> None:
    assert list(crowding(np.ones((4, 2)))) == [np.inf] * 4


wide = st.sampled_from([-np.inf, -1e308, -2.0, -1.0, 0.0, 1.0, 2.0, 5e-324, 1e308, np.inf])


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 3)).flatmap(
        lambda s: arrays(np.float64, s, elements=wide)
    ),
    st.randoms(use_true_random=False),
)
def test_crowding_is_a_number_or_infinite_in_any_order_of_the_rows(
    points: Floats, random: object
) -> None:
    lonely = crowding(points)
    assert not np.isnan(lonely).any()
    assert (lonely >= 0).all()
    shuffled = np.arange(len(points))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert np.array_equal(crowding(points[shuffled]), lonely[shuffled])
    ends = (points == points.min(axis=0)) | (points == points.max(axis=0))
    assert np.array_equal(np.isinf(lonely), ends.any(axis=1))


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 3)).flatmap(
        lambda s: arrays(np.float64, s, elements=wide)
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_puts_ends_first_copies_last_and_ignores_the_order_of_the_rows(
    points: Floats, random: object
) -> None:
    order = pareto_order(points)
    ranks = non_dominated_ranks(points)
    for rank in set(ranks):
        front = points[[i for i in order if ranks[i] == rank]]
        rows = [tuple(row) for row in front]
        distinct = len(set(rows))
        assert len(set(rows[:distinct])) == distinct
        ends = ((front == front.min(axis=0)) | (front == front.max(axis=0))).any(axis=1)[:distinct]
        assert not np.any(np.diff(ends.astype(int)) > 0)
    shuffled = np.arange(len(points))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = shuffled[pareto_order(points[shuffled])]
    lonely = np.empty(len(points))
    for rank in set(ranks):
        lonely[ranks == rank] = crowding(points[ranks == rank])
    assert np.array_equal(ranks[again], ranks[order])
    assert np.array_equal(lonely[again], lonely[order])


def test_crowding_with_infinite_values_by_hand() -> None:
    # a gap to an infinite value counts as the whole span of the finite ones
    points = np.array([[-np.inf, np.inf], [0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [np.inf, -np.inf]])
    assert list(crowding(points)) == [
        np.inf, 1 + 1 / 4 + 1 + 2 / 4, 4 / 4 + 4 / 4, 3 / 4 + 1 + 2 / 4 + 1, np.inf,
    ]  # fmt: skip


def test_points_that_share_a_value_share_its_distance() -> None:
    points = np.array([[0.0], [1.0], [1.0], [4.0]])
    # in one order of the equal points they get 1/4 and 3/4, in the other 3/4 and 1/4
    assert list(crowding(points)) == [np.inf, 0.5, 0.5, np.inf]


def test_a_copy_of_an_end_comes_after_all_other_points_of_the_front() -> None:
    points = np.array([[0.0, 5.0], [0.0, 5.0], [2.0, 2.0], [5.0, 0.0]])
    assert list(pareto_order(points)) == [0, 3, 2, 1]


def test_crowding_refuses_what_has_no_order() -> None:
    with pytest.raises(ValueError, match="NaN"):
        crowding(np.array([[np.nan, 1.0]]))


@given(clouds(low=1))
def test_the_order_goes_by_rank_then_copies_then_loneliness_then_age(points: Floats) -> None:
    order = pareto_order(points)
    assert sorted(order) == list(range(len(points)))
    ranks = non_dominated_ranks(points)
    lonely = np.empty(len(points))
    for rank in set(ranks):
        lonely[ranks == rank] = crowding(points[ranks == rank])
    rows = [tuple(point) for point in points]
    keys = [(ranks[i], rows[:i].count(rows[i]), -lonely[i], i) for i in order]
    assert keys == sorted(keys)


def test_one_objective_is_plain_sorting() -> None:
    assert list(pareto_order(np.array([[1.0], [3.0], [2.0]]))) == [1, 2, 0]
    assert list(pareto_front(np.array([[3.0], [1.0], [3.0]]))) == [0, 2]


def brute_volume(points: Floats, reference: Floats) -> float:
    """Counts unit cubes: exact for whole numbers."""
    best = int(max(points.max(), reference.max())) if len(points) else 0
    axes = [np.arange(int(r), best) for r in reference]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(reference))
    if len(points) == 0 or len(corners) == 0:
        return 0.0
    return float(np.any(np.all(points[:, None] >= corners + 1, axis=2), axis=0).sum())


@settings(deadline=None)
@given(clouds(dims=4))
def test_hypervolume_counts_unit_cubes(points: Floats) -> None:
    reference = np.full(points.shape[1], -2.0)
    assert hypervolume(points, reference) == pytest.approx(brute_volume(points, reference))


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [
        ([[3.0]], [1.0], 2.0),
        ([[2.0, 3.0]], [0.0, 0.0], 6.0),
        ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], [0.0, 0.0], 6.0),
        ([[1.0, 3.0], [1.0, 3.0]], [0.0, 0.0], 3.0),
        ([[5.0, -1.0]], [0.0, 0.0], 0.0),
        ([[0.0, 5.0]], [0.0, 0.0], 0.0),
        ([[1.0, 1.0, 2.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0]], [0.0, 0.0, 0.0], 4.0),
        ([[-90.0, -1.0]], [-100.0, -2.0], 10.0),
    ],
)
def test_hypervolume_by_hand(
    points: list[list[float]], reference: list[float], volume: float
) -> None:
    assert hypervolume(np.array(points), np.array(reference)) == pytest.approx(volume)


def test_hypervolume_of_nothing_is_zero() -> None:
    assert hypervolume(np.empty((0, 2)), np.zeros(2)) == 0.0
    assert hypervolume(np.empty(0), np.zeros(2)) == 0.0


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_hypervolume_agrees_with_sampling(dims: int) -> None:
    rng = np.random.default_rng(dims)
    points = rng.random((12, dims))
    samples = rng.random((40_000, dims))
    share = np.any(np.all(points[:, None] >= samples, axis=2), axis=0).mean()
    assert hypervolume(points, np.zeros(dims)) == pytest.approx(share, abs=0.012)


@given(clouds(low=1), clouds(low=1))
def test_more_points_never_dominate_less(points: Floats, others: Floats) -> None:
    dims = min(points.shape[1], others.shape[1])
    points, others = points[:, :dims], others[:, :dims]
    reference = np.full(dims, -3.0)
    both = hypervolume(np.vstack([points, others]), reference)
    alone = hypervolume(points, reference)
    assert both >= alone - 1e-9
    assert both <= alone + hypervolume(others, reference) + 1e-9


@settings(deadline=None)
@given(clouds(low=1, dims=4))
def test_the_gain_is_what_one_point_more_adds(points: Floats) -> None:
    reference = np.full(points.shape[1], -2.0)
    gain = hypervolume_gain(points[1:], points[0], reference)
    more = hypervolume(points, reference) - hypervolume(points[1:], reference)
    assert gain == pytest.approx(more, abs=1e-9)


def test_the_gain_of_infinite_points_is_a_number_or_infinite() -> None:
    zero, far = np.zeros(2), np.array([np.inf, 1.0])
    assert hypervolume_gain(np.empty((0, 2)), far, zero) == np.inf
    assert hypervolume_gain(far[None], far, zero) == 0.0
    assert hypervolume_gain(np.empty((0, 2)), np.array([-np.inf, 1.0]), zero) == 0.0


def test_a_hundred_thousand_points_take_no_time() -> None:
    points = np.random.default_rng(0).random((100_000, 2))
    begin = time.process_time()
    pareto_front(points)
    non_dominated_ranks(points)
    non_dominated_ranks(points[:, :1])
    # a quadratic method needs minutes; the limit is wide, for busy machines
    assert time.process_time() - begin < 15
