"""This module has the handwritten digits that come with scikit-learn; no download is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np

from raynas.data.base import Images
from raynas.data.imageset import ImageSet, Part, check_share, hold_out
from raynas.data.source import DatasetSource, FileLayout


@dataclass(frozen=True)
class Digits(ImageSet):
    """UCI optical digits (Alpaydin and Kaynak 1998): 1,797 grey images 8 x 8, 10 classes.

    Grey levels 0..16 are scaled to 0..255. There is no published test split in this form: test
    images are split off by class, the same in every run.

    Attributes:
        valid_share: Share of the training images that is held out for validation, between 0 and 1.
        test_share: Share of all images that are the test images, between 0 and 1.
    """

    name = "digits"
    source: ClassVar[DatasetSource] = DatasetSource(
        name,
        "digits",
        "1,797 grey images 8 x 8, 10 classes",
        (FileLayout("in the package scikit-learn", ("datasets/data/digits.csv.gz",)),),
        "pip install scikit-learn",
        package="sklearn",
        in_folders=False,
    )

    valid_share: float = field(default=0.2, kw_only=True)
    test_share: float = field(default=0.2, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("test_share", self.test_share)

    def load(self, part: Part) -> Images:
        """Return the images of one part of the fixed split.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, 8, 8, 1) uint8 and labels (n,) int64.
        """
        return hold_out(_digits(), self.test_share, self.name, part)


@lru_cache(maxsize=1)
def _digits() -> Images:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return Images(pixels, labels.astype(np.int64))
