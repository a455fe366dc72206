"""Small files in the layouts of the real sets; every image is unique."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def images(
    n: int, side: int = 8, channels: int = 1, classes: int = 10, seed: int = 0
) -> tuple[Pixels, Labels]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
    return pixels, rng.permutation(np.arange(n) % classes)


def idx_bytes(array: NDArray[Any]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, zipped: bool = True, train: int = 200, test: int = 50) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n, seed in (("train", train, 1), ("t10k", test, 2)):
        pixels, labels = images(n, seed=seed)
        for kind, array in (("images-idx3", pixels[..., 0]), ("labels-idx1", labels)):
            content = idx_bytes(array)
            name = f"{prefix}-{kind}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder


def write_batch(path: Path, pixels: Pixels, labels: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    content = {"data": rows, "batch_label": "fake", **labels}
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_cifar10(folder: Path) -> Path:
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        pixels, labels = images(40, 32, 3, seed=seed)
        write_batch(folder / "cifar-10-batches-py" / name, pixels, {"labels": labels.tolist()})
    return folder


def write_cifar100(folder: Path) -> Path:
    for seed, (name, n) in enumerate((("train", 400), ("test", 100))):
        pixels, labels = images(n, 32, 3, 100, seed)
        fine = {"fine_labels": labels.tolist(), "coarse_labels": (labels // 5).tolist()}
        write_batch(folder / "cifar-100-python" / name, pixels, fine)
    return folder


def write_imagenet16(folder: Path, classes: int = 20) -> Path:
    """Labels 1 to ``classes``, as an array in some files and as a list in others."""
    names = [f"train_data_batch_{i}" for i in range(1, 11)] + ["val_data"]
    for seed, name in enumerate(names):
        pixels, labels = images(40, 16, 3, classes, seed)
        given = (labels + 1).tolist() if seed % 2 else labels + 1
        write_batch(folder / "ImageNet16" / name, pixels, {"labels": given})
    return folder


def png(pixels: Pixels) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_parquet(folder: Path, label: str = "label", classes: int = 10) -> Path:
    """Two training files and one test file."""
    for seed, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-0")):
        pixels, labels = images(100, 32, 3, classes, seed)
        write_parquet_file(folder / f"{name}.parquet", [png(p) for p in pixels], labels, label)
    return folder


def write_parquet_file(path: Path, pictures: list[bytes], labels: Labels, label: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": p, "path": None} for p in pictures]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(column, kind), label: labels}), path)
