"""Images as uint8 arrays, splits, and the views that searches and final trainings get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from raynas.core import UserError
from raynas.data.images import Images as Images

if TYPE_CHECKING:
    from raynas.data.source import Source


@dataclass(frozen=True)
class View:
    """What an evaluator sees: images to train on and images held out to measure on.

    In a search the held-out images are the validation split (``held_out_name == "val"``) and no
    test image is reachable from here. The finalists' training gets train + valid, and the test
    split as held-out images (``"test"``). ``mean`` and ``std`` per channel, in units of 0..255.
    """

    train: Images
    held_out: Images
    held_out_name: Literal["val", "test"]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as networks are built for it."""
        _, height, width, channels = self.train.pixels.shape
        return channels, height, width


@dataclass(frozen=True)
class Declaration:
    """What a data set says of its images without reading a file.

    Attributes:
        title: Its name in words.
        shape: (height, width, channels) of an image.
        num_classes: How many classes there are.
        train: Training images, before a subset is taken or validation images are split off.
        test: Test images.
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
    """A data set; subclasses are frozen dataclasses (``Digits()``, ``CIFAR10(folder=...)``).

    ``search_view(seed)`` and ``final_view(seed)`` are what the rest of raynas uses.
    """

    name: ClassVar[str]
    source: ClassVar[Source | None] = None
    """Where its files lie and who publishes them; None for what raynas knows no place of."""

    @property
    def declared(self) -> Declaration | None:
        """What is known of its images without its files; None where nothing is."""
        return None

    def remarks(self) -> tuple[str, ...]:
        """What a user should know of its images before they are used, a sentence each."""
        return ()

    @abstractmethod
    def search_view(self, seed: int) -> View:
        """Train and validation images. Raises: UserError naming the file and the cure."""

    @abstractmethod
    def final_view(self, seed: int) -> View:
        """Train + validation images, and the test images held out. For finalists only."""

    def check_test_images(self, view: View, seed: int) -> None:
        """Check that the test images fit what the search will see, before anything is spent.

        It is called once, in the driver, where there will be finalists. Nothing of the test images
        goes to a search, nor out of this method but the reason for which they do not fit. The
        default makes the whole final view for that.

        Args:
            view: The search's view.
            seed: The run's seed.

        Raises:
            UserError: The images have another shape, or labels beyond the classes of ``view``.
        """
        final = self.final_view(seed)
        for what, images in (("training", final.train), ("test", final.held_out)):
            expect_like(view, images, f"{self.name}: {what} images for finalists")
        if final.num_classes != view.num_classes:
            raise UserError(
                f"{self.name}: finalists have {final.num_classes} classes, the search "
                f"{view.num_classes}",
                cure="let both views of the data set have the same classes",
            )


def expect_like(view: View, images: Images, what: str) -> None:
    """Check that images could stand among those of a view.

    Args:
        view: With the shape and the classes that are expected.
        images: To be checked.
        what: They are, for the message.

    Raises:
        UserError: They have another shape, or a label that is no class of ``view``.
    """
    found, expected = images.pixels.shape[1:], view.train.pixels.shape[1:]
    if found != expected:
        raise UserError(
            f"{what} are {found}, training images {expected} (height, width, channels)",
            cure="give them one shape",
        )
    top = int(images.labels.max()) if len(images.labels) else -1
    if top >= view.num_classes:
        raise UserError(
            f"{what} have labels up to {top}, and the search knows {view.num_classes} classes",
            allowed=f"labels from 0 to {view.num_classes - 1}",
            cure="leave such images out, or give training images of every class",
        )
