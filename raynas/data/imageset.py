"""This module has the base class of data sets that fit into memory.

It reads images, checks them, splits them and makes the views. A new data set is one class with
``load``::

    @dataclass(frozen=True)
    class Leaves(ImageSet):
        name = "leaves" folder: str = "leaves"

        def load(self, part: Part) -> Images:
            with np.load(f"{self.folder}/{part}.npz") as arrays:
                return Images(arrays["pixels"], arrays["labels"])
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError, rng_for
from raynas.core.fields import check_fields
from raynas.data.base import Dataset, DataView
from raynas.data.images import Images, frozen
from raynas.data.splits import Indices, partition, stratified

Part = Literal["train", "test"]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
DEFAULT_TEST_SHARE = 0.2


@runtime_checkable
class KnowsClasses(Protocol):
    """A set whose number of classes is not the number of different training labels."""

    def count_classes(self, train: Images) -> int:
        """Return the number of classes.

        Args:
            train: All training images, before a subset is taken.

        Raises:
            UserError: The labels are not 0, 1, 2, ... without gaps.
        """


@dataclass(frozen=True, kw_only=True)
class ImageSet(Dataset):
    """A data set that fits into memory; subclasses give ``name`` and ``load``.

    The number of classes is the number of different training labels, unless a subclass is one that
    :class:`KnowsClasses`.

    The test split never depends on the run's seed.

    Attributes:
        valid_share: Share of the training images that is held out for validation, between 0 and 1.
            The split is drawn by class from the run's seed.
        subset: The largest number of training images, 2 or more, counted before the validation
            images are split off; drawn by class, the same in every run. None takes all.
        test_subset: The largest number of test images, 2 or more; drawn by class, the same in every
            run. None takes all.

    Raises:
        UserError: A field has a value of the wrong type or out of range.
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
                raise UserError(
                    f"{name}={count!r} is not a number of images", expected="None or >= 2"
                )

    @abstractmethod
    def load(self, part: Part) -> Images:
        """Return all images of one part, as the publisher split them or by a fixed split.

        A search asks for ``"train"`` only. The files of both parts should be looked for even then,
        so that a missing file is reported before any search time is spent.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, height, width) or (n, height, width, channels) uint8, and labels (n,)
            integers from 0.

        Raises:
            UserError: A file is missing or damaged. The error names the file and what to do.
        """

    def search_view(self, seed: int) -> DataView:
        """Return training and validation images as copies; the test images are not read.

        Args:
            seed: The run's seed, which draws the validation split.

        Returns:
            A view with ``held_out_name == "val"``.

        Raises:
            UserError: A file is missing or damaged. The error names the file and what to do.
            UserError: A split would be empty, or labels do not fit the classes.
        """
        train, classes = self._train()
        rng = rng_for(seed, self.name, "split")
        kept, valid = partition(train.labels, self.valid_share, rng, "training images")
        return self._view(take(train, kept), take(train, valid), "val", classes)

    def final_view(self, seed: int) -> DataView:
        """Return train + validation images, and the test images held out; for finalists only.

        Args:
            seed: The run's seed. The view does not depend on it.

        Returns:
            A view with ``held_out_name == "test"``.

        Raises:
            UserError: A file is missing or damaged. The error names the file and what to do.
            UserError: The test images do not fit the training images.
        """
        train, classes = self._train()
        test = self._part("test", self.test_subset)
        self._expect_to_fit(test, train, classes)
        return self._view(train, test, "test", classes)

    def check_test_images(self, view: DataView, seed: int) -> None:
        """Check that the test images fit the search's view; they are read, but not returned.

        Args:
            view: The search's view.
            seed: The run's seed. The check does not depend on it.

        Raises:
            UserError: The test images have another shape than the training images of ``view``.
            UserError: A label is not a class of ``view``.
        """
        self._expect_to_fit(self._part("test", None), view.train, view.num_classes)

    def _expect_to_fit(self, test: Images, train: Images, classes: int) -> None:
        if test.pixels.shape[1:] != train.pixels.shape[1:]:
            raise UserError(
                f"{self.name}: test images are {test.pixels.shape[1:]}, training images "
                f"{train.pixels.shape[1:]} (height, width, channels); give both the same shape"
            )
        self._check_labels(test, "test", classes)

    def _train(self) -> tuple[Images, int]:
        train = self._part("train", None)
        if isinstance(self, KnowsClasses):
            classes = self.count_classes(train)
        else:
            classes = classes_of(train.labels, self.name)
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
                expected="labels 0 to classes - 1, at least 2 classes",
            )

    def _view(
        self, train: Images, held_out: Images, name: Literal["val", "test"], classes: int
    ) -> DataView:
        mean, std = self.statistics or channel_statistics(train.pixels)
        return DataView(train, held_out, name, classes, mean, std)


def classes_of(labels: NDArray[np.int64], name: str, more: str = "") -> int:
    """Return the number of classes in the labels of all images.

    Args:
        labels: (n,) of the whole set, with those of images that are split off as test images: a
            rare class may occur only among them.
        name: The name of the data set, for the error message.
        more: Another advice than to renumber the classes, for the error message.

    Returns:
        The number of classes.

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
        expected="0, 1, 2, ..., one for each class",
        hint="number the classes: labels = np.unique(labels, return_inverse=True)[1]"
        + (f"; {more}" if more else ""),
    )


def hold_out(images: Images, share: float | None, name: str, part: Part) -> Images:
    """Return one part of a set whose publisher gives no test split.

    The split is drawn by class and depends only on ``name`` and the labels.

    Args:
        images: All images of the set.
        share: Share of the images that are the test images, between 0 and 1. None means 0.2.
        name: The name of the data set.
        part: ``"train"`` or ``"test"``.

    Returns:
        The images of that part, as copies.

    Raises:
        UserError: A part would be empty.
    """
    share = DEFAULT_TEST_SHARE if share is None else share
    rng = rng_for(name, "test split")
    kept, test = partition(images.labels, share, rng, f"images of {name}")
    return take(images, kept if part == "train" else test)


def take(images: Images, indices: Indices) -> Images:
    """Return chosen images as read-only copies, so that no other image can be reached through them.

    Args:
        images: The images to choose from.
        indices: (k,) indices into ``images``.

    Returns:
        The k chosen images.
    """
    return frozen(Images(images.pixels[indices], images.labels[indices]))


def smaller(images: Images, count: int | None, name: str) -> Images:
    """Return at most ``count`` images, drawn by class, always the same ones.

    Args:
        images: The images to choose from.
        count: The largest number of images; None returns all.
        name: The name of the data set, from which the draw is seeded.

    Returns:
        The chosen images, or ``images`` itself if there are no more than ``count``.
    """
    if count is None or count >= len(images):
        return images
    return take(images, stratified(images.labels, count, rng_for(name, "subset")))


def channel_statistics(pixels: NDArray[np.uint8]) -> Statistics:
    """Return the mean and the standard deviation of each channel.

    Grey levels are counted in blocks of images. That is exact, and needs no float copy of the set.

    Args:
        pixels: (n, height, width, channels) uint8.

    Returns:
        Means and standard deviations, one per channel, in grey levels from 0 to 255. The deviation
        of a constant channel is given as 1, so that dividing by it is safe.

    Example:
        >>> import numpy as np
        >>> channel_statistics(np.array([0, 100], dtype=np.uint8).reshape(2, 1, 1, 1))
        ((50.0,), (50.0,))
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
    """Check that a share is a number between 0 and 1, both excluded.

    Args:
        name: The name of the setting, for the error message.
        share: The value to check.

    Raises:
        UserError: ``share`` is not a number, or not between 0 and 1.
    """
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise UserError(f"{name}={share!r} is not a fraction", expected="numbers between 0 and 1")


def check_test_share(share: float | None, has_test: bool) -> None:
    """Check that a test share is valid, and that there are no test images besides.

    Args:
        share: Share of the images to split off as test images; None is always valid.
        has_test: The set has test images of its own.

    Raises:
        UserError: ``share`` is not between 0 and 1.
        UserError: ``share`` is given although the set has test images.
    """
    if share is None:
        return
    check_share("test_share", share)
    if has_test:
        raise UserError(
            "test_share is given for a data set that has test images; give only one of the two"
        )


def checked(pixels: NDArray[np.uint8], labels: NDArray[np.int64], what: str) -> Images:
    """Check arrays that a user or a file gave, and return them as read-only images.

    Args:
        pixels: (n, height, width) or (n, height, width, channels) uint8.
        labels: (n,) integers from 0.
        what: The name of the images, which opens the error message.

    Returns:
        Pixels (n, height, width, channels) uint8 and labels (n,) int64.

    Raises:
        UserError: A value is not an array.
        UserError: The pixels have the wrong type or shape.
        UserError: The labels are negative, not integers, or not one for each image.
    """
    try:
        pixels, labels = np.asarray(pixels), np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length, say
        raise UserError(f"{what} is not an array: {error}", hint="give numpy arrays") from error
    _check_pixels(pixels, what)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{what}: labels have shape {labels.shape} and type {labels.dtype}",
            expected="one integer for each image",
        )
    if len(labels) != len(pixels):
        raise UserError(f"{what}: {len(pixels)} images but {len(labels)} labels; give one for each")
    if labels.min() < 0:
        raise UserError(f"{what}: label {labels.min()} is negative", expected="0 to classes - 1")
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    return frozen(Images(np.ascontiguousarray(pixels), labels.astype(np.int64, copy=False)))


def _check_pixels(pixels: NDArray[np.uint8], what: str) -> None:
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{what}: images have type {pixels.dtype}",
            expected="uint8, 0 to 255",
            hint="convert them: (255 * x).round().astype('uint8') for x in 0 to 1",
        )
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise UserError(
            f"{what}: images have shape {pixels.shape}",
            expected="(n, height, width) or (n, height, width, channels), none of them 0",
        )
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[3] > 4:
        raise UserError(
            f"{what}: images of shape {pixels.shape} have their channels first",
            expected="(n, height, width, channels)",
            hint="use images.transpose(0, 2, 3, 1)",
        )
