"""This module has what the table of NAS-Bench-201 says of all cells, such as optima."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from raynas.benchmarks import NASBench201Table
from raynas.core.metrics import TEST_ACCURACY, VAL_ACCURACY
from raynas.core.pareto import hypervolume
from raynas.spaces import NASBench201

LATENCY = "edgegpu_latency_ms"
TEST, VALIDATION = "test", "val"
"""The accuracies by which results are judged."""
_JUDGED = {TEST: TEST_ACCURACY.name, VALIDATION: VAL_ACCURACY.name}


@cache
def table(path: str | None, epochs: tuple[int, ...] = (200,)) -> NASBench201Table:
    """Read the table once per process.

    Args:
        path: The file; None for the usual places.
        epochs: Lengths of training that are read.

    Returns:
        The table.

    Raises:
        UserError: There is no table.
    """
    found = NASBench201Table(path=path, epochs=epochs)
    found.setup(NASBench201())
    return found


@cache
def cells(path: str | None, dataset: str) -> Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return accuracies and latency of all cells of the table.

    Args:
        path: The file of the table; None for the usual places.
        dataset: Name of a data set.

    Returns:
        Name -> (cells,): ``val`` and ``test`` accuracy after 200 epochs in percent, ``latency`` in
        milliseconds, NaN where the table has none; ``judged`` is the accuracy by which results are
        judged.
    """
    known, space = table(path), NASBench201()
    every = list(space.enumerate())
    ends = [known.query(arch, dataset, 200, 0).values for arch in every]
    latency = [known.cost(arch, dataset, LATENCY) for arch in every]
    val = np.array([end[VAL_ACCURACY.name] for end in ends])
    test = np.array([end.get(TEST_ACCURACY.name, math.nan) for end in ends])
    return {
        "val": val,
        "test": test,
        "judged": test if judged_by(path, dataset) == TEST else val,
        "latency": np.array([math.nan if one is None else one for one in latency]),
    }


def judged_by(path: str | None, dataset: str) -> str:
    """Return the accuracy that judges results: ``TEST``, or ``VALIDATION`` where there is none.

    Args:
        path: The file of the table; None for the usual places.
        dataset: Name of a data set.
    """
    return TEST if table(path).has_test(dataset) else VALIDATION


def accuracies(arch: str, dataset: str, path: str | None) -> tuple[float, float]:
    """Return the accuracies of a cell after 200 epochs.

    Args:
        arch: The text of the cell.
        dataset: Name of a data set.
        path: The file of the table; None for the usual places.

    Returns:
        The validation accuracy, and the accuracy that judges results, in percent.
    """
    known = table(path)
    values = known.query(NASBench201().architecture(arch), dataset, 200, 0).values
    return values[VAL_ACCURACY.name], values[_JUDGED[judged_by(path, dataset)]]


def reference(path: str | None, dataset: str) -> tuple[float, float]:
    """Return the reference point of the hypervolume.

    Args:
        path: The file of the table; None for the usual places.
        dataset: Name of a data set.

    Returns:
        Median validation accuracy in percent, and minus the highest latency in milliseconds.
    """
    known = cells(path, dataset)
    return float(np.median(known["val"])), -float(np.nanmax(known["latency"]))


@cache
def whole_volume(path: str | None, dataset: str) -> float:
    """Return the hypervolume of all cells of the table.

    Args:
        path: The file of the table; None for the usual places.
        dataset: Name of a data set.

    Returns:
        The hypervolume above :func:`reference`.
    """
    known = cells(path, dataset)
    there = ~np.isnan(known["latency"])
    points = np.stack([known["val"][there], -known["latency"][there]], axis=1)
    return hypervolume(points, np.array(reference(path, dataset)))
