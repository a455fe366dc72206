"""This module has Pareto fronts. All arrays are (n, d) with higher better in every column."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pareto_front(points: Floats) -> NDArray[np.intp]:
    """Return the indices of the points that no other point dominates.

    Equal points are all kept. The time is O(n log n) for d <= 2, else O(n * front).

    Args:
        points: (n, d), higher is better in every column; infinite values are allowed.

    Returns:
        (front,) indices, the point with the best first column first.

    Raises:
        ValueError: ``points`` is not two-dimensional or holds NaN, which has no order.

    Example:
        >>> pareto_front(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
        [1, 0]
    """
    points = _checked(points)
    if len(points) == 0:
        return np.empty(0, dtype=np.intp)
    order = _best_first(points)
    front: list[int] = []
    if points.shape[1] <= 2:
        best = -np.inf
        previous: Floats | None = None
        for i in order:
            p = points[i]
            if previous is None or p[-1] > best or np.array_equal(p, previous):
                front.append(int(i))
                best, previous = max(best, float(p[-1])), p
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
    """Return the rank of each point: 0 on the Pareto front, 1 on the front of the rest, and so on.

    K. Deb et al. 2002. The time is O(n log n) for d <= 2, else that of one :func:`pareto_front` per
    rank.

    Args:
        points: (n, d), higher is better in every column; infinite values are allowed.

    Returns:
        (n,) ranks.

    Raises:
        ValueError: ``points`` is not two-dimensional or holds NaN.
    """
    points = _checked(points)
    if points.shape[1] <= 2:
        return _ranks_in_the_plane(points)
    ranks = np.full(len(points), -1, dtype=np.intp)
    left = np.arange(len(points))
    rank = 0
    while len(left):
        front = left[pareto_front(points[left])]
        ranks[front] = rank
        left = np.setdiff1d(left, front, assume_unique=True)
        rank += 1
    return ranks


def _checked(points: Floats) -> Floats:
    points = np.asarray(points, dtype=np.float64)
    if points.shape == (0,):  # an empty list
        points = points.reshape(0, 1)
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"points must be (n, d), not {points.shape}")
    if np.isnan(points).any():
        raise ValueError("points contain NaN; remove those rows")
    return points


def _best_first(points: Floats) -> NDArray[np.intp]:
    """Return the order by the first column, then the second, and so on, best first."""
    return np.lexsort(tuple(-points[:, j] for j in reversed(range(points.shape[1]))))


def _ranks_in_the_plane(points: Floats) -> NDArray[np.intp]:
    """Return the ranks of points with at most two columns.

    In the order from best to worst, a front dominates a point when one of its points is as good in
    the last column. So each front is represented by its best last value, these values fall with the
    rank, and the rank of the next point is found by bisection.
    """
    ranks = np.zeros(len(points), dtype=np.intp)
    lows: list[float] = []  # per front, minus its best last value: ascending
    previous, rank = None, 0
    for i in _best_first(points):
        key = tuple(points[i])
        if key != previous:
            rank = bisect_right(lows, -key[-1])
            lows[rank : rank + 1] = [-key[-1]]
            previous = key
        ranks[i] = rank
    return ranks


def crowding(points: Floats) -> Floats:
    """Return the crowding distance of each point of one front (Deb et al. 2002, III-B).

    A larger distance means fewer points nearby. In a column a point between two others gets the
    distance between them, in units of the column's span. Points that have the lowest or highest
    value of a column have an infinite distance. Two cases that the paper leaves open:

    * Equal values: c points that share a value share its distance, each gets 1/c of it. This is the
      mean of the published distance over all orders of the equal points.
    * Infinite values: the span is that of the finite ones, and the distance between a finite and an
      infinite value is one span.

    So the result is a number or infinite, never NaN, and does not depend on the order of the rows.

    Args:
        points: (n, d), higher is better in every column; infinite values are allowed.

    Returns:
        (n,) distances, 0 or more.

    Raises:
        ValueError: ``points`` is not two-dimensional or holds NaN.
    """
    points = _checked(points)
    distance = np.zeros(len(points))
    if len(points):
        for column in points.T:
            distance += _gaps(column)
    return distance


def _gaps(column: Floats) -> Floats:
    """Return for one column (n,) the distances between the neighbors of each value.

    Each distance is from 0 to 2, or infinite.
    """
    values, place, count = np.unique(column, return_inverse=True, return_counts=True)
    finite = values[np.isfinite(values)]
    if len(finite):
        values = values / (np.abs(finite).max() or 1.0)  # so that no difference overflows
    span = values[np.isfinite(values)]
    steps = np.diff(values) / (float(np.ptp(span)) if len(span) > 1 else 1.0)
    steps = np.where(np.isfinite(steps), steps, 1.0)
    gaps = np.full(len(values), np.inf)
    gaps[1:-1] = (steps[:-1] + steps[1:]) / count[1:-1]
    return np.asarray(gaps[place], dtype=np.float64)


def pareto_order(points: Floats) -> NDArray[np.intp]:
    """Return the indices of the points from best to worst.

    Points are sorted by rank, then by crowding distance, largest first, then by index. Of equal
    points all but the first come after the others of their rank, since a copy adds nothing to a
    front (F.-A. Fortin, M. Parizeau, "Revisiting the NSGA-II Crowding-Distance Computation", GECCO
    2013).

    Args:
        points: (n, d), higher is better in every column; infinite values are allowed.

    Returns:
        (n,) indices.

    Raises:
        ValueError: ``points`` is not two-dimensional or holds NaN.
    """
    points = _checked(points)
    ranks = non_dominated_ranks(points)
    lonely = np.zeros(len(points))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        lonely[members] = crowding(points[members])
    return np.lexsort((np.arange(len(points)), -lonely, _copies(points), ranks))


def _copies(points: Floats) -> NDArray[np.intp]:
    """Return for each point the number of equal points that come earlier, (n,)."""
    seen: Counter[tuple[float, ...]] = Counter()
    copies = np.zeros(len(points), dtype=np.intp)
    for i, point in enumerate(map(tuple, points + 0.0)):  # -0.0 is 0.0
        copies[i] = seen[point]
        seen[point] += 1
    return copies


def hypervolume(points: Floats, reference: Floats) -> float:
    """Return the exact volume that ``points`` dominate above ``reference``, computed by slicing.

    It is meant for fronts of up to some hundred points in up to four dimensions.

    Args:
        points: (n, d), higher is better in every column; points not above the reference add
            nothing.
        reference: (d,), the lower corner of the volume.

    Returns:
        The volume, 0 or more.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([0.0, 0.0]))
        3.0
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


def hypervolume_gain(front: Floats, point: Floats, reference: Floats) -> float:
    """Return the growth of :func:`hypervolume` when ``point`` joins ``front``.

    This is the exclusive hypervolume: the box of the point, less the part that the front covers (L.
    While, L. Bradstreet, L. Barone, "A Fast Way of Calculating Exact Hypervolumes", IEEE
    Transactions on Evolutionary Computation 16, 2012). It takes much less time than the volume of
    the whole front.

    Args:
        front: (n, d), higher is better in every column.
        point: (d,), the additional point.
        reference: (d,), as in :func:`hypervolume`.

    Returns:
        The growth, 0 or more.
    """
    point = np.asarray(point, dtype=np.float64)
    if not np.all(point > reference):
        return 0.0
    covered = hypervolume(np.minimum(front, point), reference)
    own = float(np.prod(point - reference))
    return max(own - covered, 0.0) if math.isfinite(covered) else 0.0
