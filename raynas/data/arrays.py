"""This module has the data set of the user's own images, given as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.data.base import Images
from raynas.data.imageset import ImageSet, Part, check_test_share, checked, classes_of, hold_out


@dataclass(frozen=True, eq=False)
class Arrays(ImageSet):
    """A data set of the user's own images, given as numpy arrays.

    Without test images, ``test_share`` of the images is split off by class. That split is the same
    in every run.

    Attributes:
        train_images: (n, height, width) or (n, height, width, channels) uint8.
        train_labels: (n,) integers from 0.
        test_images: Test images in the form of ``train_images``, or None.
        test_labels: (m,) integers from 0, or None. Given exactly when ``test_images`` is given.
        test_share: Share of the images to split off as test images, between 0 and 1. None means
            0.2. Only for sets without test images.
        num_classes: The number of classes, 2 or more; classes may then have no image. None takes
            the number of different labels, which must then be 0, 1, 2, ... without gaps.

    Raises:
        UserError: An array has the wrong type or shape.
        UserError: Labels do not fit: negative, not integers, or not one for each image.
        UserError: Only one of ``test_images`` and ``test_labels`` is given.
        UserError: ``test_share`` or ``num_classes`` is out of range.

    Example:
        >>> import numpy as np
        >>> images = np.zeros((20, 8, 8), dtype=np.uint8)
        >>> data = Arrays(images, np.arange(20) % 2, valid_share=0.25)
        >>> data.search_view(seed=0).input_shape
        (1, 8, 8)
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
            raise UserError(f"num_classes={self.num_classes}", expected="2 or more, or None")

    def load(self, part: Part) -> Images:
        """Return the given images of one part; see :meth:`ImageSet.load`.

        Args:
            part: ``"train"`` or ``"test"``. Without given test images both are drawn from the
                training images.

        Returns:
            Pixels (n, height, width, channels) uint8 and labels (n,) int64.
        """
        if part == "test" and self.test_images is not None and self.test_labels is not None:
            return checked(self.test_images, self.test_labels, "test_images")
        train = checked(self.train_images, self.train_labels, "train_images")
        if self.test_images is not None:
            return train
        return hold_out(train, self.test_share, self.name, part)

    def count_classes(self, train: Images) -> int:
        """Return ``num_classes`` if it is set, else the number of different labels.

        Args:
            train: The training images. They are not used: the labels are counted before any image
                is split off as a test image.

        Returns:
            The number of classes.

        Raises:
            UserError: The labels are not 0, 1, 2, ... without gaps, and ``num_classes`` is None.
        """
        if self.num_classes is not None:
            return self.num_classes
        labels = np.asarray(self.train_labels)  # before any were split off as test images
        more = f"num_classes={int(labels.max()) + 1} says that there are classes without images"
        return classes_of(labels, self.name, more)
