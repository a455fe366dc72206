"""This module has random images that replace a data set whose files are missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from raynas.core import UserError, rng_for
from raynas.data.abilities import declared_images
from raynas.data.base import Dataset, DeclaredImages, Images
from raynas.data.files import DataNotFound
from raynas.data.imageset import ImageSet, Part


@dataclass(frozen=True)
class StandIn(ImageSet):
    """Random images of the shape, classes and counts that another data set declares.

    Sizes, costs and times are those of ``of``. Accuracies, and scores that depend on images, mean
    nothing. :func:`stand_in` makes one with the subset and the validation share of ``of``.

    Attributes:
        of: The data set that is replaced. It must declare its images.

    Raises:
        UserError: ``of`` does not declare its images.
    """

    name = "stand-in"

    of: Dataset = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _declaration(self.of)

    def load(self, part: Part) -> Images:
        """Return random images of one part, the same in every call.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, height, width, channels) uint8 of the declared shape, and labels (n,) int64
            with the same number of images of each class, to within one.
        """
        declared = _declaration(self.of)
        count = declared.train if part == "train" else declared.test
        return _random(self.of.name, part, (count, *declared.shape), declared.num_classes)

    def count_classes(self, train: Images) -> int:
        """Return the declared number of classes, whatever the labels."""
        return _declaration(self.of).num_classes

    def remarks(self) -> tuple[str, ...]:
        """Return one remark: the images are random, and how to get the real ones."""
        declared = _declaration(self.of)
        try:
            self.of.search_view(0)
            end = "Its files are here now: what begins anew uses them"
        except UserError as error:
            end = str(error)
        return (
            f"{declared.title}: random images stand in ({declared}, as it declares): sizes, costs "
            f"and times hold, accuracies and scores of images mean nothing. {end}",
        )


def stand_in(data: Dataset) -> StandIn:
    """Return random images that replace a data set, with its subset and its validation share.

    Args:
        data: The data set to replace. It must declare its images.

    Returns:
        A data set of random images.

    Raises:
        UserError: ``data`` does not declare its images.
    """
    if not isinstance(data, ImageSet):
        return StandIn(of=data)
    return StandIn(
        of=data,
        valid_share=data.valid_share,
        subset=data.subset,
        test_subset=data.test_subset,
    )


def available(data: Dataset) -> Dataset:
    """Return the data set, or random images in its place if its files are not found.

    Args:
        data: A data set. One that declares nothing, or for which a folder is named, is returned as
            it is: reading it later raises the error about missing files.

    Returns:
        ``data``, or a :class:`StandIn` for it.

    Raises:
        UserError: Its files are there, and damaged.
    """
    if declared_images(data) is None:
        return data
    try:
        data.search_view(0)
    except DataNotFound:
        return stand_in(data)
    return data


def _declaration(data: Dataset) -> DeclaredImages:
    declared = declared_images(data)
    if declared is None:
        raise UserError(
            f"data set {data.name!r} does not declare its images, so random images cannot "
            "replace them",
            hint="give the data set itself",
        )
    return declared


@lru_cache(maxsize=2)
def _random(name: str, part: Part, shape: tuple[int, int, int, int], classes: int) -> Images:
    """Images of ``shape`` (n, h, w, c), as many of each class as of any other."""
    rng = rng_for("stand-in", name, part)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    return Images(pixels, np.arange(shape[0], dtype=np.int64) % classes)
