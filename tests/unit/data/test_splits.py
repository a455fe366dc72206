from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core import UserError, rng_for
from raynas.data.splits import partition, stratified


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.floats(0, 1), st.integers(0, 9))
def test_stratified_is_exact_and_fair(labels: list[int], share: float, seed: int) -> None:
    y = np.asarray(labels)
    count = round(share * len(y))
    chosen = stratified(y, count, rng_for(seed))
    assert len(np.unique(chosen)) == len(chosen) == count
    assert np.array_equal(chosen, np.sort(chosen))
    for label in np.unique(y):
        fair = count * np.mean(y == label)
        assert abs(np.sum(y[chosen] == label) - fair) < 1


@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.floats(0.2, 0.8), st.integers(0, 9))
def test_partition_is_disjoint_and_whole(labels: list[int], share: float, seed: int) -> None:
    y = np.asarray(labels)
    kept, held_out = partition(y, share, rng_for(seed))
    assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(y)))
    again = partition(y, share, rng_for(seed))
    assert np.array_equal(kept, again[0])
    assert np.array_equal(held_out, again[1])


def test_half_of_equal_classes_is_half_of_each() -> None:
    y = np.repeat(np.arange(10), 50)
    kept, held_out = partition(y, 0.5, rng_for(3))
    assert np.bincount(y[kept]).tolist() == np.bincount(y[held_out]).tolist() == [25] * 10


def test_another_seed_gives_another_split() -> None:
    y = np.repeat(np.arange(4), 20)
    assert not np.array_equal(stratified(y, 20, rng_for(0)), stratified(y, 20, rng_for(1)))


def test_within_a_class_every_image_may_be_chosen() -> None:
    y = np.repeat(np.arange(2), 5)
    chosen = {int(i) for seed in range(60) for i in stratified(y, 2, rng_for(seed))}
    assert chosen == set(range(10))


@pytest.mark.parametrize("count", [-1, 5])
def test_more_than_there_is(count: int) -> None:
    with pytest.raises(ValueError, match="of 4 images"):
        stratified(np.zeros(4, dtype=np.int64), count, rng_for(0))


def test_empty_split_is_told() -> None:
    with pytest.raises(UserError, match=r"share of 0\.1 of 3 leaves") as info:
        partition(np.zeros(3, dtype=np.int64), 0.1, rng_for(0), "")
    assert "\n" not in str(info.value)
