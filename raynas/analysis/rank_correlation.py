"""Rank correlations of a run's columns, and the ranking by size alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raynas.analysis.intervals import IntervalEstimate, rank_correlations
from raynas.analysis.selection import ranked, sample
from raynas.analysis.statistics import Floats, RunStatistics


@dataclass(frozen=True)
class TauEstimate:
    """A rank correlation, Kendall's tau-b, with its 95 % interval.

    Attributes:
        tau: The correlation, from -1 to 1.
        low: Lower end of the interval; NaN with fewer than ``PAIRS_FROM`` pairs.
        high: Upper end of the interval; NaN with fewer than ``PAIRS_FROM`` pairs.
        n: Number of pairs.
    """

    tau: float
    low: float
    high: float
    n: int


def kendall(x: Floats, y: Floats, *, independent: bool = True) -> TauEstimate | None:
    """Compute Kendall's tau-b of two arrays.

    Args:
        x: (n,) values without NaN.
        y: (n,) values without NaN.
        independent: Whether the pairs are independent; else there is no interval.

    Returns:
        The correlation; None where it is not defined (n < 3, or one side is constant).

    Example:
        >>> import numpy as np
        >>> kendall(np.arange(4.0), np.array([0.0, 1.0, 3.0, 2.0])).n
        4
    """
    if len(x) < 3 or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    tau = rank_correlations(x, y)[1]
    shown = tau.estimate() if independent else IntervalEstimate(tau.value)
    return TauEstimate(shown.value, shown.low, shown.high, len(x))


@dataclass(frozen=True)
class SizeRanking:
    """The baseline that ranks architectures by their number of parameters alone.

    Attributes:
        rank: Correlation of parameters with the first objective over ``n`` distinct COMPLETE
            architectures, see :func:`sample`; None where it is not defined.
        largest: Index of the trial with the most parameters of all.
        n: Number of architectures.
    """

    rank: TauEstimate | None
    largest: int
    n: int


def size_ranking(run: RunStatistics) -> SizeRanking | None:
    """Compute the params-only baseline over all methods.

    Args:
        run: The loaded run.

    Returns:
        The ranking; None without a COMPLETE trial of known size.
    """
    done = ranked(run)
    params = run.trials.values["params"][done]
    done, params = done[np.isfinite(params)], params[np.isfinite(params)]
    if not len(done):
        return None
    quality = run.points()[:, 0]
    ties = np.lexsort((quality[done], params))
    params = run.trials.values["params"]
    chosen, independent = sample(run, np.isfinite(params))
    rank = kendall(params[chosen], quality[chosen], independent=independent)
    return SizeRanking(rank, int(done[ties[-1]]), len(chosen))
