"""Conversion of the authors' files of NAS-Bench-201 (NATS-tss-v1_0-3ffb9-simple) to our table.

The folder holds ``meta.pickle.pbz2`` and one bz2-packed pickle per cell, from
``000000.pickle.pbz2`` up. They are read with :mod:`raynas.data.pickles`, so that no code in them
can run.
"""

from __future__ import annotations

import bz2
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.benchmarks.nasbench201_file import CELLS
from raynas.core import UserError
from raynas.core.printable import brief
from raynas.data.pickles import RECORDS, load_pickle
from raynas.spaces.nasbench201.space import NASBench201
from raynas.store.files import write_whole

_LARGEST = 32 * 2**20
"""The most bytes of one unpacked file; the authors' files have a few million."""
_LARGEST_PACKED = 32 * 2**20
_SPLITS = {
    # column -> the authors' data set and split
    "cifar10_valid": ("cifar10-valid", "x-valid"),
    "cifar10_test": ("cifar10", "ori-test"),
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_test": ("ImageNet16-120", "x-test"),
}
_COSTS = {"cifar10": "cifar10-valid", "cifar100": "cifar100", "imagenet16": "ImageNet16-120"}
_LENGTHS = {"200": "", "12": "_12ep"}
_NUMBER, _NUMBERS = pa.float64(), pa.list_(pa.float64())

Row = dict[str, Any]
Progress = Callable[[int, int], None]


def convert(folder: Path, to: Path, *, jobs: int = 1, progress: Progress = lambda *_: None) -> Row:
    """Write the table of the authors' files.

    Args:
        folder: The unpacked folder of the authors.
        to: The Parquet file to write.
        jobs: Number of processes that read files.
        progress: Called with the number of files read and of all files.

    Returns:
        Column -> number of cells that lack a value, for columns that lack any.

    Raises:
        UserError: When ``to`` is not a .parquet file.
        UserError: When a file is missing, damaged, hostile, or of another space; no table is
            written then.
    """
    if to.suffix != ".parquet":
        raise UserError(f"table {to.name!r}", expected="a .parquet file")
    paths = _files(folder)
    _check_meta(folder / "meta.pickle.pbz2")
    rows = []
    for row in _read(paths, jobs):
        rows.append(row)
        progress(len(rows), len(paths))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    to.parent.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(to, memoryview(sink.getvalue()))
    return {name: table[name].null_count for name in table.column_names if table[name].null_count}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}", hint="unpack the authors' archive first")
    paths = [folder / f"{i:06d}.pickle.pbz2" for i in range(CELLS)]
    absent = [path.name for path in (folder / "meta.pickle.pbz2", *paths) if not path.is_file()]
    if absent:
        raise UserError(
            f"{folder} lacks {len(absent)} of {CELLS + 1} files, as {absent[0]}",
            hint="give the unpacked folder NATS-tss-v1_0-3ffb9-simple, whole",
        )
    return paths


def _read(paths: Sequence[Path], jobs: int) -> Iterator[Row]:
    if jobs == 1:
        yield from map(read_cell, paths, range(len(paths)))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(read_cell, paths, range(len(paths)), chunksize=32)


def _check_meta(path: Path) -> None:
    """Check that the file lists the cells of NAS-Bench-201 in their order.

    Raises:
        UserError: When it does not.
    """
    named = _load(path).get("meta_archs")
    space = NASBench201()
    if not isinstance(named, list) or len(named) != CELLS:
        found = f"{len(named)} architectures" if isinstance(named, list) else "no architectures"
        raise _other_space(path, f"it names {found}")
    for index in range(CELLS):
        if named[index] != space.from_index(index).text:
            raise _other_space(path, f"its architecture {index} is {brief(named[index])}")


def read_cell(path: Path, index: int) -> Row:
    """Read the row of one cell.

    Args:
        path: The file of the cell.
        index: The number of the cell.

    Returns:
        Column -> value; None for values that the file lacks.

    Raises:
        UserError: When the file is damaged, hostile, or of another cell; it names the file.
    """
    content, cell = _load(path), NASBench201().from_index(index)
    row: Row = {"index": index, "arch": cell.text, **dict(cell)}
    for length, suffix in _LENGTHS.items():
        part = _mapping(content.get(length), path, length)
        if part.get("arch_str") != cell.text or part.get("arch_index") != index:
            raise _other_space(
                path,
                f"architecture {brief(part.get('arch_index'))} is {brief(part.get('arch_str'))}",
            )
        results = _Results(_mapping(part.get("all_results"), path, "all_results"), path)
        row |= _accuracies(results, int(length), suffix)
        if length == "200":
            row |= _costs(results)
    return row


class _Results:
    """The trainings of one length: (the authors' data set, seed) -> recorded values."""

    def __init__(self, found: Mapping[Any, Any], path: Path) -> None:
        self._found, self.path = found, path

    def of(self, dataset: str) -> list[Mapping[Any, Any]]:
        """Return the trainings on one data set, sorted by seed.

        Args:
            dataset: The authors' name of the data set.
        """
        keys = [key for key in self._found if isinstance(key, tuple) and len(key) == 2]
        own = sorted(key for key in keys if key[0] == dataset and isinstance(key[1], int))
        return [_mapping(self._found[key], self.path, brief(key)) for key in own]

    def numbers(self, dataset: str, name: str) -> list[dict[Any, float]]:
        """Return the mapping ``name`` of each seed that has it.

        Args:
            dataset: The authors' name of the data set.
            name: Of the mapping.

        Returns:
            Per seed: an epoch, or split@epoch -> number.

        Raises:
            UserError: When a value is not a finite number.
        """
        found = [result.get(name) for result in self.of(dataset)]
        return [
            {key: self.number(value, name) for key, value in one.items()}
            for one in found
            if isinstance(one, Mapping)
        ]

    def values(self, dataset: str, name: str) -> list[float]:
        """Return the number ``name`` of each seed that has it; the mean for a list.

        Args:
            dataset: The authors' name of the data set.
            name: Of the number.

        Raises:
            UserError: When a value is not a finite number.
        """
        found = []
        for result in self.of(dataset):
            value = result.get(name)
            if isinstance(value, list):
                value = _mean([self.number(v, name) for v in value])
            if value is not None:
                found.append(self.number(value, name))
        return found

    def number(self, value: Any, name: str) -> float:
        """Return ``value`` as a float.

        Args:
            value: The value of a file.
            name: Its name, for the message.

        Raises:
            UserError: When it is not a finite number.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.path}: {name} holds {brief(value)}", expected="numbers")
        if isinstance(value, int) and abs(value) > 2**62:
            raise UserError(f"{self.path}: {name} holds {brief(value)}", expected="numbers")
        if not math.isfinite(value):
            raise UserError(f"{self.path}: {name} holds {value}", expected="finite numbers")
        return float(value)


def _accuracies(results: _Results, length: int, suffix: str) -> Row:
    """Return means, values per seed and curves of all splits, in percent."""
    row: Row = {}
    for column, (dataset, split) in _SPLITS.items():
        seeds = results.numbers(dataset, "eval_acc1es")
        ends = [one[last] for one in seeds if (last := f"{split}@{length - 1}") in one]
        for value in ends:
            if not 0 <= value <= 100:
                raise UserError(f"{results.path}: {column}={value}", expected="0..100 percent")
        row[f"{column}{suffix}"] = _mean(ends)
        row[f"{column}{suffix}_seeds"] = ends or None
        if column.endswith("_valid"):
            row[f"{column}{suffix}_nseeds"] = len(ends)
            row[f"{column}{suffix}_curve"] = _curve(seeds, split, length)
    return row


def _curve(seeds: Sequence[Mapping[Any, float]], split: str, length: int) -> list[float] | None:
    """Return the mean over seeds at every epoch; None when an epoch has no value."""
    means = [
        _mean([one[key] for one in seeds if (key := f"{split}@{e}") in one]) for e in range(length)
    ]
    known = [mean for mean in means if mean is not None]
    return known if len(known) == length else None


def _costs(results: _Results) -> Row:
    row: Row = {}
    for name, dataset in _COSTS.items():
        times = results.numbers(dataset, "train_times")
        row[f"{name}_train_time_200ep_s"] = _mean([sum(t.values()) for t in times if len(t) == 200])
        row[f"{name}_params_M"] = _mean(results.values(dataset, "params"))
        row[f"{name}_flops_M"] = _mean(results.values(dataset, "flop"))
        latencies = [v for v in results.values(dataset, "latency") if v > 0]  # -1: not measured
        row[f"{name}_latency_s"] = _mean(latencies)
    return row


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _load(path: Path) -> dict[str, Any]:
    return load_pickle(path, RECORDS, _unpacked)


def _unpacked(path: Path) -> BinaryIO:
    """Unpack one file in memory.

    Raises:
        UserError: When the file is cut off, damaged, or larger than any of the authors' files.
    """
    unpacker = bz2.BZ2Decompressor()
    try:
        with path.open("rb") as file:
            packed = file.read(_LARGEST_PACKED + 1)
        data = unpacker.decompress(packed, max_length=_LARGEST)
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(f"{path} is damaged or not a bz2 file", hint="download it again") from None
    if not unpacker.eof:
        if len(data) >= _LARGEST or len(packed) > _LARGEST_PACKED:
            raise UserError(
                f"{path} unpacks to more than {_LARGEST >> 20} MiB", hint="do not use it"
            )
        raise UserError(f"{path} is cut off", hint="download it again")
    return BytesIO(data)


def _mapping(value: Any, path: Path, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: {what} holds {type(value).__name__}", expected="a dict")
    return value


def _other_space(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is not a file of NAS-Bench-201: {problem}",
        hint="give the files of its topology space, NATS-tss-v1_0-3ffb9-simple",
    )


def _fields() -> Iterator[pa.Field]:
    yield pa.field("index", pa.int64(), nullable=False)
    yield pa.field("arch", pa.string(), nullable=False)
    for choice in NASBench201().choices:
        yield pa.field(choice.name, pa.string(), nullable=False)
    for suffix in _LENGTHS.values():
        for column in _SPLITS:
            yield pa.field(f"{column}{suffix}", _NUMBER)
            yield pa.field(f"{column}{suffix}_seeds", _NUMBERS)
            if column.endswith("_valid"):
                yield pa.field(f"{column}{suffix}_nseeds", pa.int64())
                yield pa.field(f"{column}{suffix}_curve", _NUMBERS)
    for name in _COSTS:
        for what in ("train_time_200ep_s", "params_M", "flops_M", "latency_s"):
            yield pa.field(f"{name}_{what}", _NUMBER)


SCHEMA = pa.schema(list(_fields()))
