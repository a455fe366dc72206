"""This module has data sets of IDX files (the format of MNIST), and Fashion-MNIST.

Files may be gzipped or plain.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.data.base import DeclaredImages, Images
from raynas.data.files import once, require, wrong_md5
from raynas.data.imageset import ImageSet, Part, check_test_share, checked, classes_of, hold_out
from raynas.data.source import (
    DatasetDownload,
    DatasetSource,
    FileLayout,
    PublishedFile,
    one_of_both,
)

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


_MOST_DIMENSIONS = 8


def read_idx(path: Path, md5: str | None = None) -> NDArray[np.uint8]:
    """Read the array of unsigned bytes in an IDX file; its header gives the shape.

    The format is: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each
    dimension as four bytes (big endian), then the bytes themselves.

    Args:
        path: The file, plain or gzipped.
        md5: The MD5 sum of the unpacked file, so that it holds however the file was compressed.
            None checks no sum.

    Returns:
        An array of uint8 with 1 to 8 dimensions.

    Raises:
        UserError: The file cannot be read, is cut short, or is not an IDX file of unsigned bytes.
        UserError: Its sum is not ``md5``.
        UserError: Memory is exhausted.
    """
    content = _unpacked(path)
    _check_header(path, content)
    shape = _shape(content)
    start = 4 + 4 * len(shape)
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} holds {len(content) - start} bytes of data, its header says "
            f"{' x '.join(map(str, shape))} = {math.prod(shape)}",
            hint="download it again",
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise wrong_md5(path, md5, found)
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                return file.read()
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                head = unpacked.read(4)
                head += unpacked.read(4 * head[3] if len(head) == 4 else 0)
                _check_header(path, head)
                # one byte more than the header says, to notice surplus data
                return head + unpacked.read(math.prod(_shape(head)) + 1)
    except MemoryError:
        raise UserError(
            f"memory is exhausted while {path} is read", hint="free memory, then try again"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile, OverflowError) as error:
        raise UserError(
            f"{path} is cut short or damaged ({error})", hint="download it again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _shape(content: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f">{content[3]}I", content, 4)


def _check_header(path: Path, content: bytes) -> None:
    if len(content) < 4 or content[:2] != b"\0\0" or len(content) < 4 + 4 * content[3]:
        raise UserError(
            f"{path} is not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}",
            expected="00 00, type, number of dimensions",
            hint="download it again",
        )
    if not 1 <= content[3] <= _MOST_DIMENSIONS:
        raise UserError(
            f"{path} has {content[3]} dimensions", expected=f"1 to {_MOST_DIMENSIONS}",
            hint="download it again",
        )  # fmt: skip
    if content[2] != 8:
        raise UserError(f"{path} holds IDX type {content[2]:#04x}", expected="0x08, unsigned bytes")


def read_pair(images: Path, labels: Path, md5: Mapping[str, str] | None = None) -> Images:
    """Read images and their labels from two IDX files.

    Args:
        images: The file of the images, (n, height, width) or (n, height, width, channels).
        labels: The file of the labels, (n,).
        md5: MD5 sums of the unpacked files by file name without .gz. None checks no sum.

    Returns:
        Pixels (n, height, width, channels) uint8 and labels (n,) int64.

    Raises:
        UserError: A file is refused by :func:`read_idx`.
        UserError: The two files do not belong together, for example with different counts.
    """
    sums = md5 or {}
    pixels, classes = (read_idx(p, sums.get(p.name.removesuffix(".gz"))) for p in (images, labels))
    return checked(pixels, classes.astype(np.int64), f"{images} with {labels.name}")


@dataclass(frozen=True)
class IDX(ImageSet):
    """A data set of IDX files (the format of MNIST), given by folder and file names.

    Without test files, ``test_share`` of the images is split off by class.

    Attributes:
        folder: The folder of the files; their names are relative to it.
        train_images: The file of the training images; ``.gz`` may be left out, as for all files.
        train_labels: The file of the training labels.
        test_images: The file of the test images, or None.
        test_labels: The file of the test labels, or None. Given exactly when ``test_images`` is
            given.
        test_share: Share of the images to split off as test images, between 0 and 1. None means
            0.2. Only for sets without test files.

    Raises:
        UserError: Only one of ``test_images`` and ``test_labels`` is given.
        UserError: ``test_share`` is not between 0 and 1, or is given together with test files.
    """

    name = "idx"

    folder: str | Path = "."
    train_images: str | Path = FILES[0]
    train_labels: str | Path = FILES[1]
    test_images: str | Path | None = FILES[2]
    test_labels: str | Path | None = FILES[3]
    test_share: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.test_images is None) != (self.test_labels is None):
            raise UserError("test_images and test_labels go together; give both or neither")
        check_test_share(self.test_share, self.test_images is not None)

    def load(self, part: Part) -> Images:
        """Read the images of one part, or split them off if there are no test files.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, height, width, channels) uint8 and labels (n,) int64.

        Raises:
            UserError: A file is missing, damaged, or does not belong to the other.
        """
        paths = self._paths()
        if len(paths) == 4:
            return _remembered(paths[:2] if part == "train" else paths[2:])
        return hold_out(_remembered(paths), self.test_share, self.name, part)

    def count_classes(self, train: Images) -> int:
        """Return the number of classes in the file of training labels.

        Args:
            train: The training images. They are not used: all labels in the file are counted,
                before any image is split off as a test image.

        Returns:
            The number of classes.

        Raises:
            UserError: The labels are not 0, 1, 2, ... without gaps.
        """
        more = "or read the files and give Arrays(..., num_classes=N)"
        return classes_of(_remembered(self._paths()[:2]).labels, self.name, more)

    def _paths(self) -> list[Path]:
        """Two or four files. Raises: UserError when one is missing."""
        given = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        folder = Path(self.folder).expanduser()
        paths = [one_of_both(folder / Path(p).expanduser()) for p in given if p is not None]
        require(paths, "IDX set")
        return paths


def _remembered(pair: list[Path], md5: Mapping[str, str] | None = None) -> Images:
    return once(f"idx checked={md5 is not None}", pair, lambda: read_pair(pair[0], pair[1], md5))


def _gzipped(name: str, md5: str, size: int) -> PublishedFile:
    place = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    return PublishedFile(f"{place}/{name}.gz", md5, size)


@dataclass(frozen=True)
class FashionMNIST(ImageSet):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images 28 x 28, 10 classes.

    Attributes:
        folder: The folder to look into. None looks in $RAYNAS_DATA (itself or its
            ``fashion-mnist``), and where ``raynas data get`` and Debian's package
            ``dataset-fashion-mnist`` put the set.
        verify: Compare the MD5 sum of each unpacked file with the publisher's.
    """

    name = "fashion-mnist"
    md5: ClassVar[Mapping[str, str]] = {
        FILES[0]: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        FILES[1]: "9018921c3c673c538a1fc5bad174d6f9",
        FILES[2]: "8181f5470baa50b63fa0f6fddb340f0a",
        FILES[3]: "15d484375f8d13e6eb1aabb0c3f46965",
    }
    source: ClassVar[DatasetSource] = DatasetSource(
        name,
        "Fashion-MNIST",
        "60,000 + 10,000 grey images 28 x 28, 10 classes",
        (FileLayout("IDX files", FILES, md5),),
        "apt-get install dataset-fashion-mnist, or give the folder of its four IDX files: "
        "folder=... or $RAYNAS_DATA",
        below=("fashion-mnist",),
        usual=("/usr/share/datasets",),
        download=DatasetDownload(
            "Zalando Research",
            (
                _gzipped(FILES[0], "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
                _gzipped(FILES[1], "25c81989df183df01b3e8a0aad5dffbe", 29_515),
                _gzipped(FILES[2], "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
                _gzipped(FILES[3], "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
            ),
            "fashion-mnist",
        ),
    )

    folder: str | Path | None = field(default=None, metadata={"fingerprint": False})
    verify: bool = field(default=True, kw_only=True)

    @property
    def declared(self) -> DeclaredImages:
        """The declared images: 60,000 for training and 10,000 for tests, 28 x 28, grey."""
        return DeclaredImages("Fashion-MNIST", (28, 28, 1), 10, 60_000, 10_000)

    def load(self, part: Part) -> Images:
        """Read the images of one part.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, 28, 28, 1) uint8 and labels (n,) int64.

        Raises:
            UserError: A file is missing or damaged, or its MD5 sum is not the publisher's.
        """
        place = self.source.require(self.folder).place
        paths = [one_of_both(place / name) for name in FILES]
        md5 = self.md5 if self.verify else None
        return _remembered(paths[:2] if part == "train" else paths[2:], md5)

    def count_classes(self, train: Images) -> int:
        """Return 10, whatever the labels."""
        return 10
