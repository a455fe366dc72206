"""The user's own images, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.data.base import Images
from raynas.data.imageset import ImageSet, Part, check_test_share, checked, classes_of, hold_out


@dataclass(frozen=True, eq=False)
class Arrays(ImageSet):
    """``Arrays(train_images, train_labels)``, with test images if there are any.

    Images: uint8 (n, height, width) or (n, height, width, channels); labels: (n,) integers from
    0. Without test images ``test_share`` (default 0.2) of the images is split off by class, the
    same in every run. ``num_classes``: None for the number of different labels, which must be 0, 1,
    2, ... then; a number, where classes may have no image.
    Raises: UserError when types, shapes or labels do not fit.
    """

    name = "arrays"

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8] | None = None
    test_labels: NDArray[np.int64] | None = None
    test_share: float | None = field(default=None, kw_only=True)
    num_classes: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self.train_images, self.train_labels, "train_images")
        if (self.test_images is None) != (self.test_labels is None):
            raise UserError("test_images and test_labels go together; give both or neither")
        if self.test_images is not None and self.test_labels is not None:
            checked(self.test_images, self.test_labels, "test_images")
        check_test_share(self.test_share, self.test_images is not None)
        if self.num_classes is not None and self.num_classes < 2:
            raise UserError(f"num_classes={self.num_classes}", allowed="2 or more, or None")

    def load(self, part: Part) -> Images:
        if part == "test" and self.test_images is not None and self.test_labels is not None:
            return checked(self.test_images, self.test_labels, "test_images")
        train = checked(self.train_images, self.train_labels, "train_images")
        if self.test_images is not None:
            return train
        return hold_out(train, self.test_share, self.name, part)

    def count_classes(self, train: Images) -> int:
        if self.num_classes is not None:
            return self.num_classes
        labels = np.asarray(self.train_labels)  # before any were split off as test images
        more = f"num_classes={int(labels.max()) + 1} says that there are classes without images"
        return classes_of(labels, self.name, more)
