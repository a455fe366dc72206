"""This module lists what a data set may do beyond its two views, and asks for it.

Each optional ability is a protocol of one member. A data set has it when it defines the member;
:class:`~raynas.data.base.Dataset` defines none of them. The function below a protocol asks for the
ability, and gives the default where it is absent.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from raynas.core import UserError
from raynas.data.base import Dataset, DataView, DeclaredImages, expect_like


@runtime_checkable
class DeclaresImages(Protocol):
    """A data set that describes its images without reading a file."""

    @property
    def declared(self) -> DeclaredImages | None:
        """The description of the images, or None where it depends on files."""


def declared_images(data: Dataset) -> DeclaredImages | None:
    """Return the description of a data set's images that needs no file.

    Args:
        data: The data set.

    Returns:
        The declaration, or None for a data set that declares nothing (the default).
    """
    return data.declared if isinstance(data, DeclaresImages) else None


@runtime_checkable
class HasDataRemarks(Protocol):
    """A data set that tells a user something before its images are used."""

    def remarks(self) -> tuple[str, ...]:
        """Return one sentence for each remark."""


def data_remarks(data: Dataset) -> tuple[str, ...]:
    """Return what a user should know about the images before they are used.

    Args:
        data: The data set.

    Returns:
        One sentence for each remark; empty by default.
    """
    return data.remarks() if isinstance(data, HasDataRemarks) else ()


@runtime_checkable
class ChecksTestImages(Protocol):
    """A data set that can check its test images without making the final view."""

    def check_test_images(self, view: DataView, seed: int) -> None:
        """Check that the test images fit the search's view; they are read, but not returned.

        Args:
            view: The search's view.
            seed: The run's seed.

        Raises:
            UserError: They do not fit.
        """


def check_test_images(data: Dataset, view: DataView, seed: int) -> None:
    """Check that the test images fit the search's view, before any search time is spent.

    The driver calls it once, if the run will have finalists. It passes nothing about the test
    images on to the search, except the error message if they do not fit. The default reads the
    whole final view.

    Args:
        data: The data set.
        view: The search's view.
        seed: The run's seed.

    Raises:
        UserError: The images have another shape than those of ``view``.
        UserError: A label is not a class of ``view``, or the number of classes differs.
    """
    if isinstance(data, ChecksTestImages):
        data.check_test_images(view, seed)
        return
    final = data.final_view(seed)
    for what, images in (("training", final.train), ("test", final.held_out)):
        expect_like(view, images, f"{data.name}: {what} images for finalists")
    if final.num_classes != view.num_classes:
        raise UserError(
            f"{data.name}: finalists have {final.num_classes} classes, the search "
            f"{view.num_classes}",
            hint="let both views of the data set have the same classes",
        )
