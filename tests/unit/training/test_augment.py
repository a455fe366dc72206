from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from raynas.core import UserError
from raynas.data.base import DataView, Images
from raynas.training import Recipe, augment, train
from raynas.training.augment import (
    AugmentationDraws,
    augmented,
    check_augmentation,
    check_pixels,
    draw_epoch,
    on_device,
)

CPU = torch.device("cpu")
PLAIN = Recipe(flip=False, crop_pad=0)


def draws(n: int, recipe: Recipe, seed: int = 0) -> AugmentationDraws:
    return draw_epoch(n, 8, 8, recipe, torch.Generator().manual_seed(seed))


def expected(view: DataView, d: AugmentationDraws, i: int, recipe: Recipe) -> np.ndarray:
    """One image by plain numpy: mirror a padded crop, normalise, erase. (c, h, w)"""
    image = view.train.pixels[int(d.order[i])].astype(np.float32)
    size = image.shape[0]
    if recipe.crop_pad:
        top, left = (int(v) for v in d.corner[i])
        image = np.pad(image, [(recipe.crop_pad,) * 2] * 2 + [(0, 0)])
        image = image[top : top + size, left : left + size]
    if recipe.flip and d.mirrored[i]:
        image = image[:, ::-1]
    image = (image - np.float32(view.mean)) / np.float32(view.std)
    if recipe.cutout:
        row, column = (int(v) - recipe.cutout // 2 for v in d.centre[i])
        image[max(row, 0) : max(row + recipe.cutout, 0)][
            :, max(column, 0) : max(column + recipe.cutout, 0)
        ] = 0
    return image.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        replace(PLAIN, flip=True),
        replace(PLAIN, crop_pad=2),
        replace(PLAIN, cutout=3),
        replace(PLAIN, cutout=4, flip=True, crop_pad=4),
    ],
)
def test_batches_equal_the_plain_way(
    view_of: Callable[..., DataView], recipe: Recipe, channels: int
) -> None:
    view = view_of(channels=channels)
    d = draws(len(view.train), recipe)
    images, labels = augmented(on_device(view, CPU), d, slice(10, 40), recipe)
    assert images.shape == (30, channels, 8, 8)
    for row, i in enumerate(range(10, 40)):
        assert labels[row] == view.train.labels[int(d.order[i])]
        np.testing.assert_allclose(images[row].numpy(), expected(view, d, i, recipe), atol=1e-5)


def test_every_image_is_shown_once_and_every_crop_occurs() -> None:
    d = draws(2000, replace(PLAIN, crop_pad=1))
    assert sorted(d.order.tolist()) == list(range(2000))
    assert {tuple(c) for c in d.corner.tolist()} == {(a, b) for a in range(3) for b in range(3)}
    assert 0.4 < d.mirrored.float().mean() < 0.6
    assert {int(c) for c in d.centre.flatten()} == set(range(8))


def test_switching_one_augmentation_off_leaves_the_order() -> None:
    assert torch.equal(draws(50, PLAIN).order, draws(50, replace(PLAIN, crop_pad=2)).order)


@pytest.mark.parametrize("last", [True, False])
def test_memory_format_is_as_the_recipe_says(view_of: Callable[..., DataView], last: bool) -> None:
    view = view_of(channels=3)
    recipe = Recipe(channels_last=last)
    images, _ = augmented(on_device(view, CPU), draws(len(view.train), recipe), slice(0, 8), recipe)
    assert images.is_contiguous(memory_format=torch.channels_last) == last
    assert images.is_contiguous() != last


def test_a_view_is_copied_once_and_let_go_with_the_view(view_of: Callable[..., DataView]) -> None:
    view = view_of()
    loaded = on_device(view, CPU)
    assert on_device(view, CPU) is loaded
    key = (id(view), "cpu")
    assert key in augment._loaded
    del view
    gc.collect()
    assert key not in augment._loaded


def test_device_copies_do_not_alias_the_view(view_of: Callable[..., DataView]) -> None:
    view = view_of()
    before = view.train.pixels.copy()
    on_device(view, CPU).train.pixels.zero_()
    assert np.array_equal(view.train.pixels, before)


# -- what does not fit the images --------------------------------------------------------------


def signals(height: int, width: int, dtype: type = np.uint8) -> DataView:
    pixels = np.full((6, height, width, 1), 200, dtype=dtype)
    images = Images(pixels, np.arange(6) % 2)
    return DataView(images, images, "val", 2, (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((1, 128), {"crop_pad": 4}, r"crop_pad=4 .*1 x 128 pixels.*expected: 0 to 0.*crop_pad=0"),
        ((128, 1), {"crop_pad": 1}, r"crop_pad=1 .*128 x 1 pixels"),
        ((4, 32), {"crop_pad": 4}, r"expected: 0 to 3"),
        ((8, 8), {"crop_pad": 0, "cutout": 8}, r"cutout=8 .*erase all of.*0 to 7.*cutout=4"),
        ((1, 16), {"crop_pad": 0, "cutout": 40}, r"cutout=40 .*0 to 15"),
    ],
)
def test_augmentation_that_can_destroy_whole_images_is_refused(
    shape: tuple[int, int], settings: dict[str, int], words: str
) -> None:
    recipe, view = replace(Recipe(epochs=1), **settings), signals(*shape)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        check_augmentation(recipe, view)
    with pytest.raises(UserError, match=words):
        next(train(torch.nn.Linear(1, 2), view, recipe, seed=0))


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((1, 128), {"crop_pad": 0}), ((8, 8), {}), ((2, 8), {"crop_pad": 1, "cutout": 7})],
)
def test_what_is_allowed_leaves_something_of_every_image(
    shape: tuple[int, int], settings: dict[str, int]
) -> None:
    recipe, view = replace(Recipe(epochs=1), **settings), signals(*shape)  # type: ignore[arg-type]
    check_augmentation(recipe, view)
    for seed in range(20):
        drawn = draw_epoch(6, *shape, recipe, torch.Generator().manual_seed(seed))
        images, _ = augmented(on_device(view, CPU), drawn, slice(6), recipe)
        assert bool(images.flatten(1).any(dim=1).all()) or recipe.cutout


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_pixels_that_are_no_bytes_are_refused_not_cut(dtype: type) -> None:
    view = signals(8, 8, dtype)
    view.train.pixels[0] = -1.51
    for refused in (
        lambda: on_device(view, CPU),
        lambda: check_augmentation(PLAIN, view),
        lambda: next(train(torch.nn.Linear(1, 2), view, PLAIN, seed=0)),
    ):
        with pytest.raises(UserError, match=r"training images have type .*from -1.* to 200.*uint8"):
            refused()
    held_out = replace(signals(8, 8), held_out=view.held_out)
    with pytest.raises(UserError, match="held-out images have type"):
        check_pixels(held_out)
