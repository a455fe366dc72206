"""Scores of cells from a run or a file, and the accuracies of the benchmark's table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.core.ranks import Table
from raynas.proxies import Proxy
from raynas.spaces import NASBench201
from raynas.store import RunFolder, read

ACCURACIES = ("cifar10_test", "cifar100_test", "imagenet16_test")
SCORES = Path(__file__).with_name("scores.parquet")
"""Nine proxies, all 6,466 classes; its metadata say how they were made."""
SAMPLE = SCORES.with_name("scores_sample.parquet")
"""The dearer proxies, classes at random."""
LARGE = SCORES.with_name("scores_large.parquet")
"""Some of them for the classes of ten cells or more that ``SAMPLE`` lacks."""
Columns = dict[str, NDArray[np.object_] | NDArray[np.float64]]
Ranking = Callable[[Table], NDArray[np.float64]]


def accuracies(
    path: Path | None = None, names: Sequence[str] = ("cifar10_valid", *ACCURACIES)
) -> dict[str, dict[str, float]]:
    """Cell as text -> column -> percent (200 epochs, mean over seeds), for all 15,625 cells.

    Raises: UserError when the table is not there.
    """
    folder = Path(os.environ.get("RAYNAS_DATA", "."))
    path = path or folder / "nb201.parquet"
    if not path.is_file():
        raise UserError(f"no table {str(path)!r}", hint="--table FILE, or $RAYNAS_DATA")
    table = pq.read_table(path, columns=["arch", *names]).to_pydict()
    return {cell: {name: table[name][i] for name in names} for i, cell in enumerate(table["arch"])}


def scores(path: Path) -> Columns:
    """Column -> values, a row per cell: of a run's folder, or of a Parquet file of scores."""
    if path.is_file():
        table = pq.read_table(path)
    else:
        folder = RunFolder.open(path)
        table = read(folder).select(
            ["arch", "params", "macs", *(m.name for m in folder.info.metrics)]
        )
    found: Columns = {"arch": np.array(table["arch"].to_pylist(), dtype=object)}
    for name in [n for n in table.column_names if n not in ("arch", "message")]:
        values = [np.nan if v is None else float(v) for v in table[name].to_pylist()]
        found[name] = np.array(values)
    return found


def cells_of(classes: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """All cells that are isomorphic to one of ``classes``, and the row of each one's class."""
    row = {text: i for i, text in enumerate(classes)}
    found = [(cell, row.get(own, -1)) for cell, own in _class_of().items()]
    kept = [(text, place) for text, place in found if place >= 0]
    return [text for text, _ in kept], np.array([place for _, place in kept])


@cache
def _class_of() -> dict[str, str]:
    """Cell -> its class, for all cells in the benchmark's order."""
    space = NASBench201()
    cells = [space.from_index(i) for i in range(space.size)]
    return {cell.text: space.canonical(cell).text for cell in cells}


def stands_for(sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) how many classes each scored one stands for, by ``sizes``, its numbers of cells.

    Ten cells or more, and fewer, are counted apart: 174 classes hold 43 % of all cells, so that
    one of them too many or too few in a sample moves a correlation over cells.
    """
    every = np.unique(list(_class_of().values()), return_counts=True)[1]
    found = np.ones(len(sizes))
    for large in (False, True):
        scored = (sizes >= 10) == large
        found[scored] = ((every >= 10) == large).sum() / max(scored.sum(), 1)
    return found


def rankings(
    found: Columns, proxies: Sequence[Proxy]
) -> dict[str, tuple[tuple[str, ...], Ranking]]:
    """Name -> (scores it takes, what ranks by them): costs, and proxies whose scores are there."""
    known: dict[str, tuple[tuple[str, ...], Ranking]] = {
        cost: ((cost,), itemgetter(cost)) for cost in ("params", "macs")
    }
    for proxy in proxies:
        if all(part in found for part in proxy.parts):
            known[proxy.name] = (proxy.parts, proxy.combine)
    return known


def usable(found: Columns, proxies: Sequence[Proxy]) -> Mapping[str, NDArray[np.float64]]:
    """What each of ``rankings`` gives all rows; NaN where one of its scores is missing."""
    columns = {}
    for name, (parts, ranking) in rankings(found, proxies).items():
        known = ~np.any([np.isnan(found[part]) for part in parts], axis=0)
        columns[name] = np.full(len(known), np.nan)
        columns[name][known] = ranking({part: found[part][known] for part in parts})
    return columns
