"""Ranks of scores, and scores made of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raynas.core.errors import UserError, one_of
from raynas.core.fields import check_fields

Table = Mapping[str, ArrayLike]
"""Name of a score -> its value for each of n architectures; NaN where there is none."""


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) -> ranks 1 (lowest) .. n (highest), equal values share the mean of theirs.

    Values that are not there (NaN) rank below all others.
    """
    given = np.asarray(values, dtype=np.float64)
    known = np.where(np.isnan(given), -np.inf, given)
    _, place, counts = np.unique(known, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)


def rank_sum(columns: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """(n,) sums of ranks over several scores."""
    return np.asarray(np.sum([ranks(column) for column in columns], axis=0), dtype=np.float64)


def log_rank_sum(
    columns: Sequence[ArrayLike], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """(n,) sums of log(rank / n) over several scores, at most 0: one bad rank weighs heavily.

    J. Lee, B. Ham, "AZ-NAS", CVPR 2024, equation 9 with ``weights`` of 1.
    """
    n = len(np.asarray(columns[0]))
    factors = [1.0] * len(columns) if weights is None else weights
    parts = [w * np.log(ranks(c) / n) for c, w in zip(columns, factors, strict=True)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def share_of(count: int, share: float, *, up: bool = False) -> int:
    """Return how many of ``count`` a share is, as in exact arithmetic.

    In floats 0.29 * 100 is below 29 and 0.07 * 100 is above 7.

    Args:
        count: How many there are.
        share: From 0 to 1.
        up: Whether a fraction is rounded up; else it is rounded down.
    """
    exact = round(share * count, 9)
    return math.ceil(exact) if up else math.floor(exact)


def _check(parts: Sequence[str], table: Table) -> None:
    for part in parts:
        if part not in table:
            raise one_of("score in an ensemble:", part, table)


@dataclass(frozen=True)
class Ensemble:
    """Several scores as one, by the ranks that they give a population of architectures.

    ``parts``: names of scores; ``weights``: of their log-ranks, 1 each if empty; a negative one
    turns a score round. Raises: UserError for no parts, or another number of weights.
    """

    parts: tuple[str, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.parts or len(self.weights) not in (0, len(self.parts)):
            raise UserError(
                f"Ensemble of {len(self.parts)} scores with {len(self.weights)} weights",
                allowed="one score or more, and no weights or one for each",
            )

    def __call__(self, table: Table) -> NDArray[np.float64]:
        """(n,) combined scores, which compare architectures of this table only.

        Raises: UserError when the table lacks a score.
        """
        _check(self.parts, table)
        weights = self.weights or (1.0,) * len(self.parts)
        columns = [
            np.asarray(table[part], dtype=np.float64) * (1 if weight >= 0 else -1)
            for part, weight in zip(self.parts, weights, strict=True)
        ]
        return log_rank_sum(columns, [abs(weight) for weight in weights])


@dataclass(frozen=True)
class Cascade:
    """Two ensembles one after the other: ``then`` puts the best by ``first`` in a new order.

    Scores that agree with accuracy over a whole space may tell its best architectures apart no
    better than chance, and the other way round. ``share``: of a population that ``then`` ranks,
    at least one, and all that are equal to the last of them. Raises: UserError for a share that
    is no share.
    """

    first: Ensemble
    then: Ensemble
    share: float = 0.05

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.share <= 1:
            raise UserError(f"Cascade with share={self.share}", allowed="above 0, up to 1")

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all scores that it takes, each once."""
        return tuple(dict.fromkeys(self.first.parts + self.then.parts))

    def __call__(self, table: Table) -> NDArray[np.float64]:
        """(n,) ranks, at most 2 n, which compare architectures of this table only.

        Raises: UserError when the table lacks a score.
        """
        _check(self.parts, table)
        order = ranks(self.first(table))
        n = len(order)
        if not n:
            return order
        count = max(share_of(n, self.share, up=True), 1)
        best = np.flatnonzero(order >= np.sort(order)[-count])
        some = {part: np.asarray(table[part])[best] for part in self.parts}
        again = self.then(some)
        among = np.lexsort((order[best], again))  # equal by ``then``: as ``first`` has them
        pairs = np.stack([again[among], order[best][among]])
        fresh = np.r_[True, (np.diff(pairs) != 0).any(axis=0)]
        order[best[among]] = n + np.cumsum(fresh)
        return order


Ranking = Ensemble | Cascade
