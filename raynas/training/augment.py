"""Images on the device as uint8, turned into normalised and augmented batches there.

Every tensor here is a private copy: the arrays of a view may be memory that all workers of a node
share, and an in-place operation on an alias would change them for all of these workers.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.core import UserError
from raynas.data.base import DataView, Images
from raynas.training.recipe import Recipe


@dataclass(frozen=True)
class DeviceImages:
    """Images and labels on one device.

    Attributes:
        pixels: (n, height, width, channels) uint8.
        labels: (n,) int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DeviceView:
    """A view of a data set whose arrays are on one device.

    Attributes:
        train: The training images.
        held_out: The validation or test images.
        mean: (channels,) float32, in units of 0..255.
        std: (channels,) float32, in units of 0..255.
    """

    train: DeviceImages
    held_out: DeviceImages
    mean: Tensor
    std: Tensor

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return images with mean 0 and standard deviation 1.

        Args:
            pixels: (n, height, width, channels) uint8.

        Returns:
            (n, height, width, channels) float32.
        """
        return pixels.float().sub_(self.mean).div_(self.std)


_loaded: dict[tuple[int, str], DeviceView] = {}


def on_device(view: DataView, device: torch.device) -> DeviceView:
    """Return ``view`` on ``device``.

    It is copied once per process and kept as long as the view exists.

    Args:
        view: A view with uint8 images.
        device: The device to copy it to.

    Returns:
        The copy; the same object for every call with the same view and device.

    Raises:
        UserError: When the images of the view are not uint8.
    """
    key = id(view), str(device)
    if key not in _loaded:
        check_pixels(view)
        _loaded[key] = DeviceView(
            _copy(view.train, device),
            _copy(view.held_out, device),
            torch.tensor(view.mean, dtype=torch.float32, device=device),
            torch.tensor(view.std, dtype=torch.float32, device=device),
        )
        # an id may be used again once the view is deleted, so the entry is deleted with it
        weakref.finalize(view, _loaded.pop, key, None).atexit = False
    return _loaded[key]


def _copy(images: Images, device: torch.device) -> DeviceImages:
    return DeviceImages(
        torch.tensor(images.pixels, dtype=torch.uint8, device=device),
        torch.tensor(images.labels, dtype=torch.int64, device=device),
    )


def check_pixels(view: DataView) -> None:
    """Check that the images of ``view`` are uint8.

    Args:
        view: The view to check. Pixels of other types would be cut to 0..255.

    Raises:
        UserError: When training or held-out images are not uint8.
    """
    for name, images in (("training", view.train), ("held-out", view.held_out)):
        if images.pixels.dtype != np.uint8:
            low, high = (float(end(images.pixels)) for end in (np.min, np.max))
            raise UserError(
                f"{name} images have type {images.pixels.dtype}, from {low:g} to {high:g}",
                expected="uint8, 0 to 255",
                hint="scale them in the data set: "
                "((x - low) / (high - low) * 255).round().astype('uint8')",
            )


def check_augmentation(recipe: Recipe, view: DataView) -> None:
    """Check that the augmentation of ``recipe`` leaves a visible part of every image of ``view``.

    Args:
        recipe: The recipe whose ``crop_pad`` and ``cutout`` are compared with the image size.
        view: The view to train on.

    Raises:
        UserError: When crops may lie outside the image.
        UserError: When erased squares may cover the whole image.
        UserError: When images are not uint8.
    """
    check_pixels(view)
    _, height, width = view.input_shape
    least, most = min(height, width), max(height, width)
    if recipe.crop_pad >= least:
        raise UserError(
            f"recipe has crop_pad={recipe.crop_pad} for images of {height} x {width} pixels: crops "
            "may show none of the image",
            expected=f"0 to {least - 1}",
            hint=f"give the recipe crop_pad={least // 8}",
        )
    if recipe.cutout >= most:
        raise UserError(
            f"recipe has cutout={recipe.cutout} for images of {height} x {width} pixels: it may "
            "erase all of the image",
            expected=f"0 to {most - 1}",
            hint=f"give the recipe cutout={most // 2}",
        )


def some_images(view: DataView, count: int = 5) -> Tensor:
    """Return the first ``count`` training images of ``view`` in the form that networks get them.

    Args:
        view: Any view; one with fewer images gives all that it has.
        count: The number of images.

    Returns:
        (count, channels, height, width) float32, normalised, on the CPU.
    """
    pixels = torch.tensor(view.train.pixels[:count]).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (view.mean, view.std))
    return (pixels - mean) / std


@dataclass(frozen=True)
class AugmentationDraws:
    """The random decisions of one epoch over n images, in the order in which the images are shown.

    Attributes:
        order: (n,) image numbers.
        corner: (n, 2) top and left of the crop, in pixels of the padded image.
        mirrored: (n,) bool.
        centre: (n, 2) row and column of the centre of the erased square, in pixels.
    """

    order: Tensor
    corner: Tensor
    mirrored: Tensor
    centre: Tensor

    def to(self, device: torch.device) -> AugmentationDraws:
        """Return the same decisions on ``device``.

        Args:
            device: The device to copy them to.
        """
        parts = (self.order, self.corner, self.mirrored, self.centre)
        return AugmentationDraws(*(part.to(device) for part in parts))


def draw_epoch(
    n: int, height: int, width: int, recipe: Recipe, generator: torch.Generator
) -> AugmentationDraws:
    """Draw the random decisions of one epoch.

    They are drawn on the CPU, so that all kinds of devices show the same images in the same order.
    All decisions are drawn, also those that the recipe does not use: switching one off does not
    change the others.

    Args:
        n: Number of training images.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        recipe: Its ``crop_pad`` limits the corners of the crops.
        generator: A CPU generator; it is advanced.

    Returns:
        The decisions, on the CPU.
    """

    def whole(below: int) -> Tensor:
        return torch.randint(below, (n,), generator=generator)

    order = torch.randperm(n, generator=generator)
    mirrored = whole(2).bool()
    reach = 2 * recipe.crop_pad + 1
    corner = torch.stack((whole(reach), whole(reach)), dim=1)
    centre = torch.stack((whole(height), whole(width)), dim=1)
    return AugmentationDraws(order, corner, mirrored, centre)


def augmented(
    view: DeviceView, draws: AugmentationDraws, shown: slice, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Return one augmented batch of the training images.

    Crop and mirror are one gather on uint8. The erased square gets the value of the mean image.

    Args:
        view: The data.
        draws: The decisions of the epoch, on the device of ``view``.
        shown: The slice of the epoch's order that makes up the batch of b images.
        recipe: The augmentations to apply, and the memory format.

    Returns:
        Images (b, channels, height, width) float32 and labels (b,) int64.
    """
    index = draws.order[shown]
    pixels = view.train.pixels[index]
    if recipe.flip or recipe.crop_pad:
        pixels = _crop_and_mirror(pixels, draws.corner[shown], draws.mirrored[shown], recipe)
    images = view.normalise(pixels)
    if recipe.cutout:
        images *= _kept(images.shape[1], images.shape[2], draws.centre[shown], recipe.cutout)
    return as_input(images, recipe), view.train.labels[index]


def as_input(images: Tensor, recipe: Recipe) -> Tensor:
    """Move the channels of images to the second dimension, as networks take them.

    Args:
        images: (n, height, width, channels).
        recipe: Its ``channels_last`` sets the memory format.

    Returns:
        (n, channels, height, width).
    """
    turned = images.permute(0, 3, 1, 2)
    return turned if recipe.channels_last else turned.contiguous()


def _crop_and_mirror(pixels: Tensor, corner: Tensor, mirrored: Tensor, recipe: Recipe) -> Tensor:
    n, height, width, _ = pixels.shape
    rows = torch.arange(height, device=pixels.device).expand(n, -1)
    columns = torch.arange(width, device=pixels.device).expand(n, -1)
    if recipe.flip:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    if recipe.crop_pad:
        pad = recipe.crop_pad
        pixels = F.pad(pixels, (0, 0, pad, pad, pad, pad))
        rows, columns = rows + corner[:, :1], columns + corner[:, 1:]
    image = torch.arange(n, device=pixels.device)[:, None, None]
    return pixels[image, rows[:, :, None], columns[:, None, :]]


def _kept(height: int, width: int, centre: Tensor, side: int) -> Tensor:
    """(n, height, width, 1) bool, False in the square of ``side`` pixels around ``centre``."""

    def inside(size: int, middle: Tensor) -> Tensor:
        offset = torch.arange(size, device=centre.device) - middle[:, None] + side // 2
        return (offset >= 0) & (offset < side)

    erased = inside(height, centre[:, 0])[:, :, None] & inside(width, centre[:, 1])[:, None, :]
    return ~erased[..., None]
