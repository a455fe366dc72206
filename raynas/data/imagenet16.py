"""This module has ImageNet16-120, the downsampled ImageNet that NAS-Bench-201 uses.

The downsampling is that of Chrabaszcz et al. (2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from raynas.core import UserError
from raynas.data.base import DeclaredImages, Images
from raynas.data.cifar import read_batches
from raynas.data.files import check_md5, once
from raynas.data.imageset import ImageSet, Part
from raynas.data.source import DatasetSource, FileLayout

ALL_CLASSES = 1000
SIDE = 16
_TRAINING_IMAGES = {120: 151_700, ALL_CLASSES: 1_281_167}


@dataclass(frozen=True)
class ImageNet16(ImageSet):
    """The first ``classes`` of ImageNet's 1,000 classes at 16 x 16, in colour.

    With 120 classes there are 151,700 training images. ImageNet's 6,000 validation images of these
    classes are the test images here.

    Attributes:
        folder: A folder that holds ``train_data_batch_1`` to ``_10`` and ``val_data``, or a folder
            ``ImageNet16`` with them. None looks in the user's data folders, $RAYNAS_DATA first.
        classes: The number of classes, 2 to 1000.
        verify: Check the MD5 sums as the benchmark gives them.

    Raises:
        UserError: ``classes`` is out of range.
    """

    name = "imagenet16"
    statistics = ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09))
    md5: ClassVar[Mapping[str, str]] = {
        "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
        "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
        "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
        "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
        "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
        "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
        "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
        "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
        "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
        "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
        "val_data": "3410e3017fdaefba8d5073aaa65e4bd6",
    }
    source: ClassVar[DatasetSource] = DatasetSource(
        name,
        "ImageNet16",
        "151,700 + 6,000 colour images 16 x 16, 120 classes",
        (FileLayout("batches", tuple(md5), md5),),
        "its authors give it out by hand only: take ImageNet16.tar.gz from the Google Drive folder "
        "that the README of github.com/D-X-Y/NAS-Bench-201 links, unpack it, and give the folder "
        "of train_data_batch_1 to 10 and val_data: folder=... or $RAYNAS_DATA",
        below=("ImageNet16",),
    )

    folder: str | Path | None = field(default=None, metadata={"fingerprint": False})
    classes: int = 120
    verify: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.classes <= ALL_CLASSES:
            raise UserError(f"classes={self.classes}", expected=f"2 to {ALL_CLASSES}")

    @property
    def declared(self) -> DeclaredImages:
        """The declared images of the chosen classes.

        Returns:
            The declaration. The number of training images is exact for 120 and for 1,000 classes,
            and otherwise estimated from the mean number of images of a class.
        """
        train = _TRAINING_IMAGES.get(self.classes, round(1281.167 * self.classes))
        return DeclaredImages("ImageNet16", (SIDE, SIDE, 3), self.classes, train, 50 * self.classes)

    def load(self, part: Part) -> Images:
        """Read the images of one part, of the chosen classes only.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, 16, 16, 3) uint8 and labels (n,) int64.

        Raises:
            UserError: A file is missing or damaged, or its MD5 sum is not the benchmark's.
        """
        place = self.source.require(self.folder).place
        paths = [place / name for name in self.md5 if name.startswith("train") == (part == "train")]

        def read() -> Images:
            if self.verify:  # of all files: a bad test file is told before a search begins
                check_md5(place, self.md5)
            return first_classes(read_batches(paths, "labels", side=SIDE), self.classes)

        return once(f"imagenet16 {self.classes} verify={self.verify}", paths, read)

    def count_classes(self, train: Images) -> int:
        """Return ``classes``, whatever the labels."""
        return self.classes


def first_classes(images: Images, classes: int) -> Images:
    """Return the images of the first classes.

    Args:
        images: Images with labels from 1, as in the files.
        classes: The number of classes to keep.

    Returns:
        The images with labels 1 to ``classes``, renumbered from 0.

    Raises:
        UserError: No image has such a label.
    """
    kept = (images.labels >= 1) & (images.labels <= classes)
    if not kept.any():
        raise UserError(f"ImageNet16: no image has a label of 1 to {classes}")
    return Images(images.pixels[kept], images.labels[kept] - 1)
