"""Where data sets come together: read images, check them, split them, hand out views.

A new data set is one class with ``load``::

    @dataclass(frozen=True)
    class Leaves(ImageSet):
        name = "leaves"
        folder: str = "leaves"

        def load(self, part: Part) -> Images:
            with np.load(f"{self.folder}/{part}.npz") as arrays:
                return Images(arrays["pixels"], arrays["labels"])
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError, rng_for
from raynas.core.fields import check_fields
from raynas.data.base import Dataset, View
from raynas.data.images import Images, frozen
from raynas.data.splits import Indices, partition, stratified

Part = Literal["train", "test"]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
DEFAULT_TEST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class ImageSet(Dataset):
    """A data set that fits into memory. Subclasses give ``name`` and ``load``.

    ``valid_share``: this share of the training images is held out for validation, drawn by
    class from the run's seed. ``subset``: use at most so many training images (before valid is
    split off), ``test_subset``: at most so many test images; both drawn by class, the same in
    every run. The test split never depends on the run's seed.
    """

    statistics: ClassVar[Statistics | None] = None
    """Published mean and standard deviation per channel (0..255); None computes them."""

    valid_share: float = 0.1
    subset: int | None = None
    test_subset: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("valid_share", self.valid_share)
        for name, count in (("subset", self.subset), ("test_subset", self.test_subset)):
            if count is not None and count < 2:
                raise UserError(f"{name}={count!r} is no count of images", allowed="None or >= 2")

    @abstractmethod
    def load(self, part: Part) -> Images:
        """All images of the publisher's (or a fixed) ``part``: pixels (n, h, w) or (n, h, w, c)
        uint8, labels (n,) integers from 0.

        A search asks for ``"train"`` only; files of both parts should be looked for already
        then, so that a missing one is told before anything is spent.
        Raises: UserError naming the file and the cure.
        """

    def count_classes(self, train: Images) -> int:
        """How many classes there are; the default is the number of different training labels.

        Raises: UserError when the labels are not 0, 1, 2, ... without gaps.
        """
        return classes_of(train.labels, self.name)

    def search_view(self, seed: int) -> View:
        """Train and validation images, in arrays of their own. The test images are not read.

        Raises: UserError naming the file and the cure.
        """
        train, classes = self._train()
        rng = rng_for(seed, self.name, "split")
        kept, valid = partition(train.labels, self.valid_share, rng, "training images")
        return self._view(take(train, kept), take(train, valid), "val", classes)

    def final_view(self, seed: int) -> View:
        """Train + validation images to train on, the test images held out. For finalists only.

        Raises: UserError naming the file and the cure.
        """
        train, classes = self._train()
        test = self._part("test", self.test_subset)
        self._expect_to_fit(test, train, classes)
        return self._view(train, test, "test", classes)

    def check_test_images(self, view: View, seed: int) -> None:
        """Reads the test images as well, and keeps nothing of them.

        Raises: UserError when they have another shape, or labels beyond the classes of ``view``.
        """
        self._expect_to_fit(self._part("test", None), view.train, view.num_classes)

    def _expect_to_fit(self, test: Images, train: Images, classes: int) -> None:
        if test.pixels.shape[1:] != train.pixels.shape[1:]:
            raise UserError(
                f"{self.name}: test images are {test.pixels.shape[1:]}, training images "
                f"{train.pixels.shape[1:]} (height, width, channels); give them one shape"
            )
        self._check_labels(test, "test", classes)

    def _train(self) -> tuple[Images, int]:
        train = self._part("train", None)
        classes = self.count_classes(train)
        self._check_labels(train, "train", classes)
        return smaller(train, self.subset, self.name), classes

    def _part(self, part: Part, count: int | None) -> Images:
        loaded = self.load(part)
        images = checked(loaded.pixels, loaded.labels, f"{self.name} {part}")
        return smaller(images, count, self.name)

    def _check_labels(self, images: Images, part: Part, classes: int) -> None:
        top = int(images.labels.max())
        if top >= classes or classes < 2:
            raise UserError(
                f"{self.name}: largest {part} label is {top} with {classes} classes",
                allowed="labels 0 to classes - 1, at least 2 classes",
            )

    def _view(
        self, train: Images, held_out: Images, name: Literal["val", "test"], classes: int
    ) -> View:
        mean, std = self.statistics or channel_statistics(train.pixels)
        return View(train, held_out, name, classes, mean, std)


def classes_of(labels: NDArray[np.int64], name: str, more: str = "") -> int:
    """Return how many classes there are, from the labels of all images.

    Args:
        labels: (n,) of the whole set, those of images that are split off for the test too: a rare
            class may be among them alone.
        name: Of the data set, for the message.
        more: Another cure than to number the classes.

    Raises:
        UserError: The labels are not 0, 1, 2, ... without gaps.
    """
    found = np.unique(labels)
    top = int(found[-1]) if len(found) else -1
    if len(found) == top + 1:
        return top + 1
    shown = ", ".join(map(str, found[:8].tolist())) + (", ..." if len(found) > 8 else "")
    raise UserError(
        f"{name}: the {len(found)} different labels {shown} leave gaps between 0 and {top}, which "
        f"would be classes of a network that no image has",
        allowed="0, 1, 2, ..., one for each class",
        cure="number the classes: labels = np.unique(labels, return_inverse=True)[1]"
        + (f"; {more}" if more else ""),
    )


def hold_out(images: Images, share: float | None, name: str, part: Part) -> Images:
    """``part`` of a set whose publisher gives no test split: fixed, drawn by class.

    ``share`` of the images (None: 0.2) are the test images.
    Raises: UserError when a part would be empty.
    """
    share = DEFAULT_TEST_SHARE if share is None else share
    rng = rng_for(name, "test split")
    kept, test = partition(images.labels, share, rng, f"images of {name}")
    return take(images, kept if part == "train" else test)


def take(images: Images, indices: Indices) -> Images:
    """Those images as copies: nothing else is reachable through the result."""
    return frozen(Images(images.pixels[indices], images.labels[indices]))


def smaller(images: Images, count: int | None, name: str) -> Images:
    """At most ``count`` images by class, always the same ones; all when ``count`` is None."""
    if count is None or count >= len(images):
        return images
    return take(images, stratified(images.labels, count, rng_for(name, "subset")))


def channel_statistics(pixels: NDArray[np.uint8]) -> Statistics:
    """Mean and standard deviation per channel of (n, h, w, c), in units of 0..255.

    Counted by grey level in blocks of images: exact, and without a float copy of the set. A
    channel that never changes gets a deviation of 1, so that nobody divides by 0.
    """
    channels = pixels.shape[-1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(pixels), 4096):
        block = pixels[start : start + 4096]
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ levels
    std = np.sqrt(np.sum(weights * (levels - mean[:, None]) ** 2, axis=1))
    std[std == 0] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())


def check_share(name: str, share: float) -> None:
    """Raises: UserError unless 0 < share < 1."""
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise UserError(f"{name}={share!r} is no share", allowed="numbers between 0 and 1")


def check_test_share(share: float | None, has_test: bool) -> None:
    """Raises: UserError for a share that is none, or that has nothing to split."""
    if share is None:
        return
    check_share("test_share", share)
    if has_test:
        raise UserError("test_share is for sets without test images; leave it out, or these")


def checked(pixels: NDArray[np.uint8], labels: NDArray[np.int64], what: str) -> Images:
    """Read-only images (n, h, w, c) with int64 labels from what somebody gave.

    Raises: UserError when dtype, shape or labels are wrong; ``what`` opens its message.
    """
    try:
        pixels, labels = np.asarray(pixels), np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length, say
        raise UserError(f"{what} is no array: {error}", cure="give numpy arrays") from error
    _check_pixels(pixels, what)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{what}: labels have shape {labels.shape} and type {labels.dtype}",
            allowed="one integer for each image",
        )
    if len(labels) != len(pixels):
        raise UserError(f"{what}: {len(pixels)} images but {len(labels)} labels; give one for each")
    if labels.min() < 0:
        raise UserError(f"{what}: label {labels.min()} is negative", allowed="0 to classes - 1")
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    return frozen(Images(np.ascontiguousarray(pixels), labels.astype(np.int64, copy=False)))


def _check_pixels(pixels: NDArray[np.uint8], what: str) -> None:
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{what}: images have type {pixels.dtype}",
            allowed="uint8, 0 to 255",
            cure="convert them: (255 * x).round().astype('uint8') for x in 0 to 1",
        )
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise UserError(
            f"{what}: images have shape {pixels.shape}",
            allowed="(n, height, width) or (n, height, width, channels), none of them 0",
        )
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[3] > 4:
        raise UserError(
            f"{what}: images of shape {pixels.shape} have their channels first",
            allowed="(n, height, width, channels)",
            cure="use images.transpose(0, 2, 3, 1)",
        )
