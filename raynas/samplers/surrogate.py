"""This module has a Gaussian process over a fixed list of candidates.

C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning", MIT Press 2006:
equations 2.25 and 2.26 (prediction), 2.30 (evidence), 4.17 (the Matern kernel with nu = 5/2).
Pending evaluations as in T. Desautels, A. Krause, J. Burdick, "Parallelizing
Exploration-Exploitation Tradeoffs in Gaussian Process Bandit Optimization", JMLR 2014: a pending
evaluation reduces the deviation and leaves the mean.

It uses scipy's Cholesky factor, which pending evaluations extend by a row each. Its settings come
from a fixed grid, so that equal data give an equal model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

Floats = NDArray[np.float64]

LENGTHS = (1.0, 2.0, 4.0, 8.0)
"""Length scales to choose from, in units of the distances."""
NOISES = (0.01, 0.03, 0.1, 0.3)
"""Variances of a measurement to choose from, relative to that of the function."""
CHOSEN_BY = 256
"""Largest number of data whose evidence chooses the settings."""


class SurrogateModel:
    """The posterior of a Gaussian process at m candidates, after n >= 1 values.

    Args:
        distances: (n, m) distances from the measured candidates to all.
        places: (n,) indices of the measured candidates.
        y: (n,) their values.
        doubt: (n,) factors of the noise of each value, 1 for a plain measurement.

    Attributes:
        mean: (m,) posterior mean, which does not change.
    """

    def __init__(self, distances: Floats, places: Sequence[int], y: Floats, doubt: Floats) -> None:
        among = distances[:, list(places)]
        centre, spread = float(y.mean()), float(y.std()) or 1.0
        scaled = (y - centre) / spread
        self._length, self._noise = _settings(among, scaled, doubt)
        factor = _factor(_matern(among / self._length), self._noise * doubt)
        weights = cho_solve((factor, True), scaled)
        self._scale = spread * np.sqrt(max(float(scaled @ weights) / len(y), 1e-6))
        towards = _matern(distances / self._length)
        self.mean: Floats = centre + spread * (weights @ towards)
        self._left: Floats = np.ones(distances.shape[1])
        self._room: Floats = np.empty((0, distances.shape[1]))
        self._count = 0
        self._append(solve_triangular(factor, towards, lower=True, check_finite=False))

    @property
    def deviation(self) -> Floats:
        """The standard deviation of the function, without the noise of a measurement.

        Returns:
            (m,) float64; it shrinks with each :meth:`expect`.
        """
        return np.asarray(self._scale * np.sqrt(self._left.clip(1e-12)), dtype=np.float64)

    def expect(self, candidates: Sequence[int], distances: Floats) -> None:
        """Reduce the deviation as if the values of some candidates were known.

        Args:
            candidates: Indices of p pending candidates.
            distances: (p, m) distances from them to all candidates.
        """
        before = self._room[: self._count]
        own = before[:, list(candidates)]
        towards = _matern(distances / self._length)
        rest = towards[:, list(candidates)] - own.T @ own
        factor = _factor(rest, np.full(len(candidates), self._noise))
        self._append(
            solve_triangular(factor, towards - own.T @ before, lower=True, check_finite=False)
        )

    def _append(self, rows: Floats) -> None:
        """Append rows (k, m) of the factor's inverse times the covariance with the candidates."""
        count = self._count + len(rows)
        if count > len(self._room):  # spare rows, because pending evaluations come one by one
            room = np.empty((count + count // 8 + 16, rows.shape[1]))
            room[: self._count] = self._room[: self._count]
            self._room = room
        self._room[self._count : count] = rows
        self._count = count
        self._left = self._left - np.einsum("ij,ij->j", rows, rows)


def _settings(distances: Floats, y: Floats, doubt: Floats) -> tuple[float, float]:
    """Return the length scale and the noise of the highest evidence.

    The function's variance is profiled out.
    """
    some = np.linspace(0, len(y) - 1, min(len(y), CHOSEN_BY)).astype(int)
    distances, y, doubt = distances[np.ix_(some, some)], y[some], doubt[some]
    best, chosen = -np.inf, (LENGTHS[-1], NOISES[-1])
    for length in LENGTHS:
        covariance = _matern(distances / length)
        for noise in NOISES:
            factor = _factor(covariance, noise * doubt)
            fit = max(float(y @ cho_solve((factor, True), y)) / len(y), 1e-12)
            evidence = -0.5 * len(y) * np.log(fit) - float(np.log(np.diag(factor)).sum())
            if evidence > best:
                best, chosen = evidence, (length, noise)
    return chosen


def _factor(covariance: Floats, noise: Floats) -> Floats:
    """Return the lower Cholesky factor of the data's covariance."""
    noisy = covariance + np.diag(noise)
    return np.asarray(cholesky(noisy, lower=True, check_finite=False), dtype=np.float64)


def _matern(distances: Floats) -> Floats:
    d = np.sqrt(5.0) * distances
    return np.asarray((1.0 + d + d * d / 3.0) * np.exp(-d), dtype=np.float64)
