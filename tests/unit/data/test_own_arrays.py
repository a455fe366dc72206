from __future__ import annotations

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.core.describe import describe
from raynas.data import Arrays

TRAIN, TEST = fake.images(60), fake.images(20, seed=5)


def test_with_test_images() -> None:
    view = Arrays(*TRAIN, *TEST).final_view(0)
    assert np.array_equal(view.train.pixels, TRAIN[0])
    assert np.array_equal(view.held_out.labels, TEST[1])


def test_without_test_images_a_fixed_share_is_the_test() -> None:
    one, two = (Arrays(*TRAIN, test_share=0.25).final_view(seed) for seed in (0, 7))
    assert len(one.held_out) == 15
    assert np.array_equal(one.held_out.pixels, two.held_out.pixels)


def test_grey_images_without_a_channel_axis() -> None:
    assert Arrays(TRAIN[0][..., 0], TRAIN[1]).search_view(0).input_shape == (1, 8, 8)


def test_classes_may_be_more_than_seen() -> None:
    assert Arrays(*TRAIN, num_classes=12).search_view(0).num_classes == 12


def test_fewer_classes_than_labels() -> None:
    with pytest.raises(UserError, match="largest train label is 9 with 5 classes"):
        Arrays(*TRAIN, num_classes=5).search_view(0)


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(UserError, match="at least 2 classes"):
        Arrays(TRAIN[0], np.zeros(60, dtype=np.int64)).search_view(0)


@pytest.mark.parametrize("missing", ["test_images", "test_labels"])
def test_half_a_test_set(missing: str) -> None:
    given = {"test_images": TEST[0], "test_labels": TEST[1], missing: None}
    with pytest.raises(UserError, match="go together"):
        Arrays(*TRAIN, **given)  # type: ignore[arg-type]


def test_share_beside_test_images() -> None:
    with pytest.raises(UserError, match="give only one of the two"):
        Arrays(*TRAIN, *TEST, test_share=0.2)


def test_wrong_arrays_are_told_at_once() -> None:
    with pytest.raises(UserError, match="test_images: images have type float32"):
        Arrays(*TRAIN, TEST[0].astype(np.float32), TEST[1])  # type: ignore[arg-type]


def test_fingerprint_sees_the_content() -> None:
    other = TRAIN[0].copy()
    other[0, 0, 0] ^= 1
    assert describe(Arrays(*TRAIN)) == describe(Arrays(TRAIN[0].copy(), TRAIN[1]))
    assert describe(Arrays(*TRAIN)) != describe(Arrays(other, TRAIN[1]))
