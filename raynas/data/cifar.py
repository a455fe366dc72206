"""This module has CIFAR-10 and CIFAR-100 (Krizhevsky 2009).

Two layouts are read: the publisher's pickled batches, and Parquet files with encoded pictures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.core.printable import brief, printable
from raynas.data.base import DeclaredImages, Images
from raynas.data.files import check_md5, on_disk, once
from raynas.data.imageset import ImageSet, Part, checked
from raynas.data.pickles import load_pickle
from raynas.data.source import DatasetDownload, DatasetSource, FileLayout, PublishedFile

SIDE = 32
BATCHES, PARQUET = "batches", "Parquet files"


def _layouts(md5: Mapping[str, str]) -> tuple[FileLayout, ...]:
    """The publisher's batches with their sums, or files whose names many sets have."""
    patterns = ("train-*.parquet", "test-*.parquet")
    return FileLayout(BATCHES, tuple(md5), md5), FileLayout(PARQUET, patterns, own=False)


_PUBLISHER = "the University of Toronto"
_OTHERWISE = "give the folder of its batches or Parquet files: folder=... or $RAYNAS_DATA"


def read_batches(paths: Sequence[Path], label_key: str, side: int = SIDE) -> Images:
    """Read the images of pickled batches.

    A batch is a dict with ``data`` (n, 3 * side * side) uint8, channels first, and a list of
    labels.

    Args:
        paths: Files of the batches, in the order of the images.
        label_key: The key of the labels in each batch.
        side: Height and width of an image in pixels.

    Returns:
        Pixels (n, side, side, 3) uint8 and labels (n,) int64.

    Raises:
        UserError: A file is damaged, lacks a key, or has data of another shape. The error names it.
    """
    pixels, labels = [], []
    for path in paths:
        batch = load_pickle(path)
        for key in ("data", label_key):
            if key not in batch:
                raise UserError(f"{path} has no {key!r}", expected="has " + brief(", ".join(batch)))
        rows = np.asarray(batch["data"])
        if rows.ndim != 2 or rows.shape[1] != 3 * side * side:
            raise UserError(
                f"{path}: data has shape {rows.shape}", expected=f"(n, {3 * side * side})"
            )
        images = rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
        read = checked(images, np.asarray(batch[label_key]), str(path))
        pixels.append(read.pixels)
        labels.append(read.labels)
    return Images(np.concatenate(pixels), np.concatenate(labels))


def read_parquet(paths: Sequence[Path], label_column: str, side: int = SIDE) -> Images:
    """Read the images of Parquet files with encoded pictures.

    The pictures are in a column ``img`` or ``image`` (a struct with ``bytes``). They are decoded in
    threads.

    Args:
        paths: Parquet files, in the order of the images.
        label_column: The name of the column with integer labels.
        side: Expected height and width of a picture in pixels.

    Returns:
        Pixels (n, side, side, 3) uint8 and labels (n,) int64.

    Raises:
        UserError: A file is damaged, lacks a column, or has a column of another type.
        UserError: A picture cannot be decoded or has another size. The error names file and row.
        UserError: Memory is exhausted.
    """
    parts = [_read_one_parquet(path, label_column, side) for path in paths]
    return Images(
        np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts])
    )


def _read_one_parquet(path: Path, label_column: str, side: int) -> Images:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            image_column = "image" if "image" in names else "img"
            for column in (image_column, label_column):
                if column not in names:
                    raise UserError(
                        f"{path} has no column {column!r}", expected=f"has {brief(names)}"
                    )
            rows = file.metadata.num_rows
            _expect_plausible(path, file.schema_arrow, rows, image_column)
            pixels = np.empty((rows, side, side, 3), dtype=np.uint8)
            labels = file.read([label_column])[label_column]
            if not pa.types.is_integer(labels.type) or labels.null_count:
                found = f"{labels.type}, {labels.null_count} of them null"
                raise UserError(
                    f"{path}: labels in column {label_column!r} are {found}",
                    expected="whole numbers, one for each picture",
                )
            labels = labels.cast(pa.int64()).to_numpy()
            batches = file.iter_batches(2000, columns=[image_column])
            _decode(path, batches, pixels)
    except UserError:
        raise
    except MemoryError:
        raise UserError(
            f"memory is exhausted while {path} is read", hint="free memory, then try again"
        ) from None
    except Exception as error:  # what is damaged may fail anywhere in the reader
        text = printable(str(error).partition("\n")[0])[:200]
        raise UserError(
            f"{path} is damaged or not a Parquet file ({text})", hint="download it again"
        ) from None
    return checked(pixels, labels, str(path))


def _expect_plausible(path: Path, schema: Any, rows: int, column: str) -> None:
    """Check the column's type and the number of pictures. Raises: UserError if they are wrong."""
    import pyarrow as pa

    kind = schema.field(column).type
    bytes_in = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not bytes_in or not pa.types.is_binary(kind.field("bytes").type):
        raise UserError(
            f"{path}: column {column!r} is of type {str(kind)[:80]}",
            expected="a struct with bytes, a PNG or JPEG picture each",
        )
    if not 0 < rows <= path.stat().st_size:
        raise UserError(
            f"{path} claims to hold {rows} pictures in {path.stat().st_size} bytes",
            hint="download it again",
        )


def _decode(path: Path, batches: Any, pixels: NDArray[np.uint8]) -> None:
    """Each thread fills its own rows of ``pixels``."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        start, waiting = 0, []
        for batch in batches:
            pictures = batch.column(0).field("bytes")
            waiting.append(pool.submit(_decode_block, path, pictures, pixels, start))
            start += len(pictures)
        for done in waiting:
            done.result()


#: other decoders of the image library start programs, as Ghostscript for EPS
_PICTURES = ("PNG", "JPEG")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(str(error))[:200]}"


def _decode_block(path: Path, pictures: Any, pixels: NDArray[np.uint8], start: int) -> None:
    from PIL import Image

    height, width = pixels.shape[1:3]
    for row, encoded in enumerate(pictures, start):
        try:
            found = io.BytesIO(encoded.as_py() or b"")
            with Image.open(found, formats=_PICTURES) as picture:
                if picture.size != (width, height):
                    raise ValueError(f"{picture.size} is not {width} x {height}")
                pixels[row] = np.asarray(picture.convert("RGB"))
        except MemoryError:
            raise
        except Exception as error:  # decoders fail in many ways on damaged pictures
            raise UserError(
                f"{path}: picture in row {row} cannot be decoded ({_line(error)})",
                expected=" and ".join(_PICTURES),
                hint="download it again",
            ) from None


@dataclass(frozen=True)
class CIFAR(ImageSet):
    """A base class for CIFAR-10 and CIFAR-100, which finds, checks and reads either layout.

    Attributes:
        title: The name of the data set in words.
        classes: The number of classes.
        batches: File names of the batches, by part.
        md5: MD5 sums of the batches as the publisher gives them, by file name.
        batch_labels: The key of the labels in a batch.
        parquet_labels: The name of the label column in Parquet files.
        folder: The data folder to look into; None looks in the usual folders.
        verify: Check the MD5 sums of the batches, and the number of images.
    """

    source: ClassVar[DatasetSource]
    title: ClassVar[str]
    classes: ClassVar[int]
    batches: ClassVar[Mapping[Part, tuple[str, ...]]]
    md5: ClassVar[Mapping[str, str]]
    batch_labels: ClassVar[str]
    parquet_labels: ClassVar[str]

    folder: str | Path | None = field(default=None, metadata={"fingerprint": False})
    verify: bool = field(default=True, kw_only=True)

    @property
    def declared(self) -> DeclaredImages:
        """The declared images: 50,000 for training and 10,000 for tests, 32 x 32, in colour."""
        return DeclaredImages(self.title, (SIDE, SIDE, 3), self.classes, 50_000, 10_000)

    def load(self, part: Part) -> Images:
        """Read the images of one part from whichever layout is found.

        Args:
            part: ``"train"`` or ``"test"``.

        Returns:
            Pixels (n, 32, 32, 3) uint8 and labels (n,) int64.

        Raises:
            UserError: The files are missing or damaged, or the number of images is not the
                publisher's.
        """
        found = self.source.require(self.folder)
        place, read = found.place, {BATCHES: self._from_batches, PARQUET: self._from_parquet}
        images = read[found.layout.name](place, part)
        expected = {"train": self.declared.train, "test": self.declared.test}[part]
        if self.verify and len(images) != expected:
            raise UserError(
                f"{place} has {len(images)} {part} images, {self.title} has {expected}",
                hint="download it again, or set verify=False if it is meant to differ",
            )
        return images

    def count_classes(self, train: Images) -> int:
        """Return the number of classes of the data set, 10 or 100, whatever the labels."""
        return self.classes

    def _from_batches(self, place: Path, part: Part) -> Images:
        paths = [place / name for name in self.batches[part]]

        def read() -> Images:
            if self.verify:  # of all files: a bad test file is told before a search begins
                check_md5(place, self.md5)
            return read_batches(paths, self.batch_labels)

        return once(f"{self.name} batches verify={self.verify}", paths, read)

    def _from_parquet(self, place: Path, part: Part) -> Images:
        paths = sorted(place.glob(f"{part}-*.parquet"))

        def read() -> Images:
            return read_parquet(paths, self.parquet_labels)

        name = f"{self.name}-{part}"
        return once(f"{name} parquet", paths, lambda: on_disk(name, paths, read))


@dataclass(frozen=True)
class CIFAR10(CIFAR):
    """CIFAR-10: 50,000 + 10,000 colour images 32 x 32, 10 classes.

    ``valid_share=0.5`` is the split that NAS-Bench-201 calls cifar10-valid: 25,000 images to train
    on, 25,000 to validate on.

    Attributes:
        folder: A folder that holds ``cifar-10-batches-py`` or is it, or that holds
            ``train-*.parquet`` and ``test-*.parquet``. None looks in $RAYNAS_DATA, then where
            ``raynas data get cifar10`` puts the set.
        verify: Check the batches' MD5 sums as their publisher gives them, and the number of images.
    """

    name = "cifar10"
    statistics = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
    title = "CIFAR-10"
    classes = 10
    batches: ClassVar[Mapping[Part, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test": ("test_batch",),
    }
    md5: ClassVar[Mapping[str, str]] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }
    source = DatasetSource(
        name,
        title,
        "50,000 + 10,000 colour images 32 x 32, 10 classes",
        _layouts(md5),
        _OTHERWISE,
        below=(
            "cifar-10-batches-py", "cifar10", "plain_text", "cifar10/plain_text",
            "cifar10/cifar-10-batches-py",
        ),
        download=DatasetDownload(
            _PUBLISHER,
            (
                PublishedFile(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "c58f30108f718f92721af3b95e74349a",
                    170_498_071,
                ),
            ),
            "cifar-10-batches-py",
            unpacked=200_000_000,
        ),
    )  # fmt: skip
    batch_labels = "labels"
    parquet_labels = "label"


@dataclass(frozen=True)
class CIFAR100(CIFAR):
    """CIFAR-100: 50,000 + 10,000 colour images 32 x 32, 100 (fine) classes.

    Attributes:
        folder: A folder that holds ``cifar-100-python`` or is it, or that holds ``train-*.parquet``
            and ``test-*.parquet``. None looks in $RAYNAS_DATA, then where ``raynas data get
            cifar100`` puts the set.
        verify: Check the batches' MD5 sums as their publisher gives them, and the number of images.
    """

    name = "cifar100"
    statistics = ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4))
    title = "CIFAR-100"
    classes = 100
    batches: ClassVar[Mapping[Part, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    md5: ClassVar[Mapping[str, str]] = {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    }
    source = DatasetSource(
        name,
        title,
        "50,000 + 10,000 colour images 32 x 32, 100 classes",
        _layouts(md5),
        _OTHERWISE,
        below=("cifar-100-python", "cifar100", "cifar100/cifar-100-python"),
        download=DatasetDownload(
            _PUBLISHER,
            (
                PublishedFile(
                    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                    "eb9058c3a382ffc7106e4002c42a8d85",
                    169_001_437,
                ),
            ),
            "cifar-100-python",
            unpacked=200_000_000,
        ),
    )
    batch_labels = "fine_labels"
    parquet_labels = "fine_label"
