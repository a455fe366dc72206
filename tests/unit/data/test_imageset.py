from __future__ import annotations

from dataclasses import dataclass

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.data import Digits, Images, ImageSet, Part
from raynas.data.images import frozen
from raynas.data.imageset import channel_statistics, checked


@dataclass(frozen=True)
class Stripes(ImageSet):
    """A user's own set: what the documentation promises must be enough."""

    name = "stripes"
    test_side: int = 8
    test_classes: int = 4

    def load(self, part: Part) -> Images:
        if part == "train":
            return Images(*fake.images(100, classes=4))
        return Images(*fake.images(20, self.test_side, classes=self.test_classes, seed=9))


def test_own_set_in_one_class() -> None:
    view = Stripes().search_view(0)
    assert (len(view.train), len(view.held_out), view.num_classes) == (90, 10, 4)
    assert view.input_shape == (1, 8, 8)
    assert len(Stripes().final_view(0).held_out) == 20


def test_statistics_are_those_of_the_training_split() -> None:
    view = Stripes(valid_share=0.5).search_view(0)
    assert view.mean[0] == pytest.approx(view.train.pixels.mean(), rel=1e-12)
    assert view.std[0] == pytest.approx(view.train.pixels.std(), rel=1e-12)


def test_statistics_per_channel_over_several_blocks() -> None:
    pixels, _ = fake.images(5000, 4, 3)
    pixels[..., 1] //= 2
    pixels[..., 2] = 7
    mean, std = channel_statistics(pixels)
    assert np.allclose(mean, pixels.mean(axis=(0, 1, 2)))
    assert np.allclose(std[:2], pixels.std(axis=(0, 1, 2))[:2])
    assert std[2] == 1.0


def test_subset_does_not_depend_on_the_seed() -> None:
    one, two = (Stripes(subset=40).final_view(seed) for seed in (0, 1))
    assert np.array_equal(one.train.pixels, two.train.pixels)
    assert np.bincount(one.train.labels).tolist() == [10] * 4


def test_subset_larger_than_the_set_is_the_set() -> None:
    assert len(Stripes(subset=1000, test_subset=1000).final_view(0).train) == 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"valid_share": 0.0}, "valid_share=0.0 is not a fraction"),
        ({"valid_share": 1.5}, "between 0 and 1"),
        ({"valid_share": "half"}, "valid_share='half'"),
        ({"subset": 1}, "subset=1"),
        ({"test_subset": 0.5}, "test_subset=0.5"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as info:
        Stripes(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(info.value)


def test_bad_share_of_digits() -> None:
    with pytest.raises(UserError, match="test_share=2"):
        Digits(test_share=2)


def test_test_images_of_another_shape() -> None:
    with pytest.raises(UserError, match=r"test images are \(6, 6, 1\)"):
        Stripes(test_side=6).final_view(0)


def test_test_labels_beyond_the_classes() -> None:
    with pytest.raises(UserError, match="largest test label is 6 with 4 classes"):
        Stripes(test_classes=7).final_view(0)


def test_frozen_leaves_the_given_array_writable() -> None:
    pixels, labels = fake.images(4)
    with pytest.raises(ValueError, match="read-only"):
        frozen(Images(pixels, labels)).pixels[0] = 0
    pixels[0] = 0


PIXELS, LABELS = fake.images(6)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (PIXELS / 255, LABELS, "type float64"),
        (PIXELS[0, 0], LABELS, "shape"),
        (PIXELS[:0], LABELS[:0], "shape"),
        (np.zeros((6, 3, 9, 9), np.uint8), LABELS, "channels first"),
        (PIXELS, LABELS[:5], "6 images but 5 labels"),
        (PIXELS, LABELS * 1.0, "type float64"),
        (PIXELS, LABELS[:, None], "shape"),
        (PIXELS, LABELS - 1, "negative"),
    ],
)
def test_checked_names_what_is_wrong(
    pixels: fake.Pixels, labels: fake.Labels, message: str
) -> None:
    with pytest.raises(UserError, match=message) as info:
        checked(pixels, labels, "leaves")
    assert str(info.value).startswith("leaves: ")
    assert "\n" not in str(info.value)


def test_checked_adds_the_channel_axis() -> None:
    images = checked(PIXELS[..., 0], LABELS.astype(np.uint8), "leaves")
    assert images.pixels.shape == (6, 8, 8, 1)
    assert images.labels.dtype == np.int64
