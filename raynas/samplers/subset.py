"""This module chooses the trials that a model is made of when there are too many for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def by_turns(orders: Iterable[Iterable[int]], most: int) -> Ints:
    """Choose ``most`` different indices, in turn the next one of each order.

    Args:
        orders: Each has indices from the most to the least wanted one. One that has no new index
            left is passed over.
        most: Number of indices to choose, fewer where the orders have no more.

    Returns:
        (k,) indices in ascending order, k <= most.

    Example:
        >>> by_turns([[5, 1, 2], [5, 4, 3]], most=3).tolist()
        [1, 4, 5]
    """
    chosen: set[int] = set()
    left = [iter(order) for order in orders]
    while left and len(chosen) < most:
        for order in tuple(left):
            index = next((i for i in order if i not in chosen), None)
            if index is None:
                left.remove(order)
            elif len(chosen) < most:
                chosen.add(int(index))
    return np.array(sorted(chosen), dtype=np.intp)


def objective_orders(y: Floats, best: Sequence[int]) -> list[Iterable[int]]:
    """Order trials for a model of an objective: the best, the latest, and some of every value.

    Args:
        y: (n,) in the order of the trials' numbers, higher is better; NaN where there is none.
        best: Indices of the trials that keep all bounds, best first.

    Returns:
        Four orders of indices, for :func:`by_turns`.
    """
    there = np.flatnonzero(~np.isnan(y))
    top = there[np.argsort(-y[there], kind="stable")]
    known = set(there.tolist())
    return [[i for i in best if i in known], top.tolist(), there[::-1].tolist(), _spread(top)]


def bound_orders(excess: Floats, best: Sequence[int]) -> list[Iterable[int]]:
    """Order trials for a model of a bound.

    The orders are: next to the bound from both sides, the best, the latest, and some of every
    value. Trials far beyond the bound tell little of where it is.

    Args:
        excess: (n,) in the order of the trials' numbers, how far each is beyond the bound,
            negative within it; NaN where that is not known.
        best: Indices of the trials that keep all bounds, best first.

    Returns:
        Five orders of indices, for :func:`by_turns`.
    """
    there = np.flatnonzero(~np.isnan(excess))
    near = there[np.argsort(np.abs(excess[there]), kind="stable")]
    beyond = excess[near] > 0
    known = set(there.tolist())
    return [
        near[~beyond].tolist(),
        near[beyond].tolist(),
        [i for i in best if i in known],
        there[::-1].tolist(),
        _spread(there[np.argsort(excess[there], kind="stable")]),
    ]


def _spread(ordered: Ints) -> list[int]:
    """Return a new order, of which every beginning is spread evenly over ``ordered``.

    The positions are those of J. van der Corput's sequence: 0, 1/2, 1/4, 3/4, 1/8, ...
    """
    bits = max(len(ordered) - 1, 0).bit_length()
    places = range(len(ordered))
    return [int(ordered[p]) for p in sorted(places, key=lambda p: _reversed(p, bits))]


def _reversed(number: int, bits: int) -> int:
    """Return the number with the order of its lowest ``bits`` binary digits reversed."""
    return int(f"{number:0{bits}b}"[::-1], 2) if bits else 0
