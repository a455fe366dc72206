"""Pareto fronts. All arrays are (n, d) with higher better in every column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pareto_front(points: Floats) -> NDArray[np.intp]:
    """Indices of the points that no other point dominates, best first column first.

    Equal points are all kept. O(n log n) for d <= 2, else O(n * front).
    Raises: ValueError when ``points`` is not two-dimensional.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2:
        raise ValueError(f"points must be (n, d), not {points.shape}")
    if len(points) == 0:
        return np.empty(0, dtype=np.intp)
    order = np.lexsort(tuple(-points[:, j] for j in reversed(range(points.shape[1]))))
    front: list[int] = []
    if points.shape[1] <= 2:
        best = -np.inf
        previous: Floats | None = None
        for i in order:
            p = points[i]
            second = p[-1] if points.shape[1] == 2 else p[0]
            if second > best or (previous is not None and np.array_equal(p, previous)):
                front.append(int(i))
                best, previous = max(best, float(second)), p
    else:
        kept = np.empty((0, points.shape[1]))
        for i in order:
            p = points[i]
            dominated = np.any(np.all(kept >= p, axis=1) & np.any(kept > p, axis=1))
            if not dominated:
                front.append(int(i))
                kept = np.vstack([kept, p])
    return np.asarray(front, dtype=np.intp)


def non_dominated_ranks(points: Floats) -> NDArray[np.intp]:
    """Rank of each point: 0 on the Pareto front, 1 on the front of the rest, ... (Deb 2002)."""
    points = np.asarray(points, dtype=np.float64)
    ranks = np.full(len(points), -1, dtype=np.intp)
    left = np.arange(len(points))
    rank = 0
    while len(left):
        front = left[pareto_front(points[left])]
        ranks[front] = rank
        left = np.setdiff1d(left, front, assume_unique=True)
        rank += 1
    return ranks


def crowding(points: Floats) -> Floats:
    """Crowding distance within one front: infinite at the ends, larger is lonelier (Deb 2002)."""
    points = np.asarray(points, dtype=np.float64)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def pareto_order(points: Floats) -> NDArray[np.intp]:
    """Indices from best to worst: by rank, then the lonelier first, then the earlier first."""
    points = np.asarray(points, dtype=np.float64)
    ranks = non_dominated_ranks(points)
    lonely = np.zeros(len(points))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        lonely[members] = crowding(points[members])
    return np.lexsort((np.arange(len(points)), -lonely, ranks))


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume dominated by ``points`` above ``reference`` (d,), by slicing; exact.

    Meant for fronts of up to some hundred points in up to four dimensions.
    """
    points = np.asarray(points, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    points = points[np.all(points > reference, axis=1)] if len(points) else points
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max() - reference[0])
    points = points[pareto_front(points)]
    order = np.argsort(-points[:, -1], kind="stable")
    levels = np.append(points[order, -1], reference[-1])
    volume = 0.0
    for k in range(len(order)):
        height = levels[k] - levels[k + 1]
        if height > 0:
            volume += height * hypervolume(points[order[: k + 1], :-1], reference[:-1])
    return float(volume)
