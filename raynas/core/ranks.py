"""This module has ranks of scores, and scores that are made of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raynas.core.errors import UserError, unknown_option
from raynas.core.fields import check_fields

Table = Mapping[str, ArrayLike]
"""Name of a score -> its value for each of n architectures; NaN where it is missing."""


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the ranks of values; equal values share the mean of their ranks.

    Args:
        values: (n,) values; missing ones (NaN) rank below all others.

    Returns:
        (n,) ranks from 1 (lowest) to n (highest).

    Example:
        >>> ranks([0.5, 2.0, 0.5]).tolist()
        [1.5, 3.0, 1.5]
    """
    given = np.asarray(values, dtype=np.float64)
    known = np.where(np.isnan(given), -np.inf, given)
    _, place, counts = np.unique(known, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)


def rank_sum(columns: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the sums of ranks over several scores.

    Args:
        columns: One (n,) column per score; NaN where a score is missing.

    Returns:
        (n,) sums.
    """
    return np.asarray(np.sum([ranks(column) for column in columns], axis=0), dtype=np.float64)


def log_rank_sum(
    columns: Sequence[ArrayLike], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return the weighted sums of log(rank / n) over several scores; one low rank weighs heavily.

    J. Lee, B. Ham, "AZ-NAS", CVPR 2024, equation 9 with ``weights`` of 1.

    Args:
        columns: One (n,) column per score; NaN where a score is missing.
        weights: One factor per score, 1 each if None.

    Returns:
        (n,) sums, at most 0 for factors of 0 or more.
    """
    n = len(np.asarray(columns[0]))
    factors = [1.0] * len(columns) if weights is None else weights
    parts = [w * np.log(ranks(c) / n) for c, w in zip(columns, factors, strict=True)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def share_of(count: int, share: float, *, up: bool = False) -> int:
    """Return a share of ``count`` as a whole number, as in exact arithmetic.

    In floats 0.29 * 100 is below 29 and 0.07 * 100 is above 7.

    Args:
        count: The number of all items.
        share: A share from 0 to 1.
        up: True to round a fraction up; else it is rounded down.

    Returns:
        The number of items in the share.

    Example:
        >>> share_of(100, 0.29), share_of(10, 0.25, up=True)
        (29, 3)
    """
    exact = round(share * count, 9)
    return math.ceil(exact) if up else math.floor(exact)


def _check(parts: Sequence[str], table: Table) -> None:
    for part in parts:
        if part not in table:
            raise unknown_option("score in an ensemble:", part, table)


@dataclass(frozen=True)
class Ensemble:
    """A score that combines the ranks of several scores in a population of architectures.

    Attributes:
        parts: The names of the scores.
        weights: The factors of their log-ranks, 1 each if empty; a negative one reverses a score.

    Raises:
        UserError: There are no parts, or the number of weights differs from that of the parts.

    Example:
        >>> both = Ensemble(("params", "naswot"))
        >>> int(both({"params": [1, 2], "naswot": [5, 9]}).argmax())
        1
    """

    parts: tuple[str, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.parts or len(self.weights) not in (0, len(self.parts)):
            raise UserError(
                f"Ensemble of {len(self.parts)} scores with {len(self.weights)} weights",
                expected="one score or more, and no weights or one for each",
            )

    def __call__(self, table: Table) -> NDArray[np.float64]:
        """Return the combined scores, which compare architectures of this table only.

        Args:
            table: Name of a score -> (n,) values, NaN where a score is missing.

        Returns:
            (n,) scores, higher is better.

        Raises:
            UserError: The table lacks a score.
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
    """A sequence of two ensembles: ``then`` sorts the best architectures of ``first`` again.

    Scores that agree with accuracy over a whole space may distinguish its best architectures no
    better than chance, and the reverse.

    Attributes:
        first: The ensemble that ranks the whole population.
        then: The ensemble that ranks the best of it.
        share: The share of the population that ``then`` ranks, above 0 and up to 1: at least one
            architecture, and all that are equal to the last of them.

    Raises:
        UserError: The share is outside its range.
    """

    first: Ensemble
    then: Ensemble
    share: float = 0.05

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.share <= 1:
            raise UserError(f"Cascade with share={self.share}", expected="above 0, up to 1")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all scores of both ensembles, each once.

        Returns:
            Names in the order of their first use.
        """
        return tuple(dict.fromkeys(self.first.parts + self.then.parts))

    def __call__(self, table: Table) -> NDArray[np.float64]:
        """Return the ranks, which compare architectures of this table only.

        Args:
            table: Name of a score -> (n,) values, NaN where a score is missing.

        Returns:
            (n,) ranks, at most 2 n, higher is better.

        Raises:
            UserError: The table lacks a score.
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
        among = np.lexsort((order[best], again))  # ties of ``then`` keep the order of ``first``
        pairs = np.stack([again[among], order[best][among]])
        fresh = np.r_[True, (np.diff(pairs) != 0).any(axis=0)]
        order[best[among]] = n + np.cumsum(fresh)
        return order


Ranking = Ensemble | Cascade
