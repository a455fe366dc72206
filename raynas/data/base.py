"""This module has the base class of data sets, and the views of a set that evaluators get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from raynas.core import UserError
from raynas.core.renamed import renamed_names
from raynas.data.images import Images as Images

if TYPE_CHECKING:
    from raynas.data.source import DatasetSource


@dataclass(frozen=True)
class DataView:
    """A pair of image sets for an evaluator: images to train on, and held-out images to measure on.

    In a search the held-out images are the validation split, and no test image can be reached from
    the view. The training of finalists gets train + validation images, and the test split as
    held-out images.

    Attributes:
        train: Images to train on.
        held_out: Images to measure on.
        held_out_name: ``"val"`` for validation images, ``"test"`` for test images.
        num_classes: The number of classes.
        mean: Mean per channel, in grey levels from 0 to 255.
        std: Standard deviation per channel, in grey levels from 0 to 255.
    """

    train: Images
    held_out: Images
    held_out_name: Literal["val", "test"]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one image as networks take it.

        Returns:
            (channels, height, width).
        """
        _, height, width, channels = self.train.pixels.shape
        return channels, height, width


@dataclass(frozen=True)
class DeclaredImages:
    """A description of a data set's images that needs no file.

    Attributes:
        title: The name of the data set in words.
        shape: (height, width, channels) of an image.
        num_classes: The number of classes.
        train: The number of training images, before a subset is taken or validation images are
            split off.
        test: The number of test images.
    """

    title: str
    shape: tuple[int, int, int]
    num_classes: int
    train: int
    test: int

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return (
            f"{size}, {self.num_classes} classes, {self.train:,} training and {self.test:,} test "
            "images"
        )


class Dataset(ABC):
    """A data set that gives one view to searches and one to the training of finalists.

    Subclasses are frozen dataclasses (``Digits()``, ``CIFAR10(folder=...)``). The rest of raynas
    gets images through ``search_view(seed)`` and ``final_view(seed)``. A subclass may also define
    ``declared``, ``remarks`` and ``check_test_images``; see :mod:`raynas.data.abilities`.

    Attributes:
        name: The name of the data set, as in ``DATASETS`` and in ``raynas data``.
    """

    name: ClassVar[str]
    source: ClassVar[DatasetSource | None] = None
    """The folders in which its files may lie, and their publisher; None if raynas knows neither."""

    @abstractmethod
    def search_view(self, seed: int) -> DataView:
        """Return the training images and the validation images.

        Args:
            seed: The run's seed, which draws the validation split.

        Returns:
            A view with ``held_out_name == "val"``.

        Raises:
            UserError: A file is missing or damaged. The error names the file and what to do.
        """

    @abstractmethod
    def final_view(self, seed: int) -> DataView:
        """Return train + validation images, and the test images held out; for finalists only.

        Args:
            seed: The run's seed.

        Returns:
            A view with ``held_out_name == "test"``.

        Raises:
            UserError: A file is missing or damaged. The error names the file and what to do.
        """


def expect_like(view: DataView, images: Images, what: str) -> None:
    """Check that images have the shape and the classes of a view.

    Args:
        view: The view with the expected image shape and number of classes.
        images: The images to check.
        what: The name of the images, which opens the error message.

    Raises:
        UserError: The images have another shape.
        UserError: A label is not a class of ``view``.
    """
    found, expected = images.pixels.shape[1:], view.train.pixels.shape[1:]
    if found != expected:
        raise UserError(
            f"{what} are {found}, training images {expected} (height, width, channels)",
            hint="give both the same shape",
        )
    top = int(images.labels.max()) if len(images.labels) else -1
    if top >= view.num_classes:
        raise UserError(
            f"{what} have labels up to {top}, and the search knows {view.num_classes} classes",
            expected=f"labels from 0 to {view.num_classes - 1}",
            hint="leave such images out, or give training images of every class",
        )


__getattr__ = renamed_names(__name__, View="DataView", Declaration="DeclaredImages")
