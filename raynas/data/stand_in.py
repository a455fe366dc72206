"""Random images in the place of a data set whose files are not there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from raynas.core import UserError, rng_for
from raynas.data.base import Dataset, Declaration, Images
from raynas.data.files import DataNotFound
from raynas.data.imageset import ImageSet, Part


@dataclass(frozen=True)
class StandIn(ImageSet):
    """Random images of the shape, classes and counts that another data set declares.

    Sizes, costs and times are those of ``of``; accuracies, and scores that depend on images, mean
    nothing. :func:`stand_in` makes one with the subset and the validation share of ``of``.
    """

    name = "stand-in"

    of: Dataset = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _declaration(self.of)

    def load(self, part: Part) -> Images:
        declared = _declaration(self.of)
        count = declared.train if part == "train" else declared.test
        return _random(self.of.name, part, (count, *declared.shape), declared.num_classes)

    def count_classes(self, train: Images) -> int:
        return _declaration(self.of).num_classes

    def remarks(self) -> tuple[str, ...]:
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
    """Return random images that stand for ``data``, with its subset and its validation share.

    Raises:
        UserError: ``data`` does not declare what its images are.
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
    """Return ``data``, or what stands in for it where its files are in none of the usual places.

    Args:
        data: A data set. One that declares nothing, or for which a folder is named, is returned as
            it is: whoever reads it says what is missing.

    Raises:
        UserError: Its files are there, and damaged.
    """
    if data.declared is None:
        return data
    try:
        data.search_view(0)
    except DataNotFound:
        return stand_in(data)
    return data


def _declaration(data: Dataset) -> Declaration:
    if data.declared is None:
        raise UserError(
            f"data set {data.name!r} does not declare its images, so that nothing can stand in",
            cure="give the data set itself",
        )
    return data.declared


@lru_cache(maxsize=2)
def _random(name: str, part: Part, shape: tuple[int, int, int, int], classes: int) -> Images:
    """Images of ``shape`` (n, h, w, c), as many of each class as of any other."""
    rng = rng_for("stand-in", name, part)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    return Images(pixels, np.arange(shape[0], dtype=np.int64) % classes)
