"""Exact probabilities that a search is ahead by chance, for any distribution of results.

S. Rosenbaum, "Tables for a Nonparametric Test of Location", The Annals of Mathematical Statistics
25(1), 1954: of two samples of one distribution, the number of values in one of them that are above
all of the other has a distribution that depends on the sample sizes only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: a lead is called beyond chance when chance gives one like it in at most so many cases
LEVEL = 0.05


@dataclass(frozen=True)
class ResultLead:
    """The lead of one search: its ``above`` best results exceed all results of another search.

    Attributes:
        above: Number of results above all of the other search's.
        chance: Probability of at least so many if both searches drew from one distribution.
        possible: Smallest such probability that these numbers of results allow.
    """

    above: int
    chance: float
    possible: float

    @property
    def beyond_chance(self) -> bool:
        """True when chance gives such a lead in at most ``LEVEL`` of all cases."""
        return self.chance <= LEVEL

    @property
    def can_be_judged(self) -> bool:
        """True when some outcome with these numbers of results would have been beyond chance."""
        return self.possible <= LEVEL


def lead(ours: Floats, theirs: Floats) -> ResultLead:
    """Compute how far the best of ``ours`` are ahead of all of ``theirs``.

    Under schedulers it is not known which trials a search would have completed. So the probability
    is computed twice: for the trials that ended with a result, and for all that were started. The
    larger one counts. Ties are no lead, which only makes it smaller.

    Args:
        ours: (n,) one value per evaluated trial, higher is better; NaN where the trial was stopped
            or failed.
        theirs: (m,) the same for the search that it is compared with.

    Returns:
        The number of results ahead and its probability by chance.

    Example:
        >>> import numpy as np
        >>> lead(np.array([0.9, 0.8, 0.7]), np.array([0.6, 0.5, 0.4])).above
        3
    """
    ends = [one[np.isfinite(one)] for one in (ours, theirs)]
    best = ends[1].max() if len(ends[1]) else math.inf
    above = int((ends[0] > best).sum())
    counts = ((len(ends[0]), len(ends[1])), (len(ours), len(theirs)))
    return ResultLead(
        above,
        max(chance(above, m, n) for m, n in counts),
        max(chance(len(ends[0]), m, n) for m, n in counts),
    )


def chance(above: int, ours: int, theirs: int) -> float:
    """Return the probability that the ``above`` best of all values are among ``ours`` of them.

    The values are exchangeable and without ties: C(ours, above) / C(ours + theirs, above).

    Args:
        above: Number of best values.
        ours: Number of values of one sample.
        theirs: Number of values of the other sample.

    Returns:
        A probability from 0 to 1; 1 where the other sample is empty.

    Example:
        >>> round(chance(3, 3, 3), 3)
        0.05
    """
    if theirs <= 0:
        return 1.0
    if above > ours:
        return 0.0
    return math.prod((ours - k) / (ours + theirs - k) for k in range(above))


def sign_test(ahead: int, behind: int) -> float:
    """Return the two-sided probability of so uneven a count, or a more uneven one, by chance alone.

    It is exact for any distribution. Ties are to be left out of both counts.

    Args:
        ahead: Number of pairs of runs, such as the same seeds under two methods, in which one
            method was better.
        behind: Number of pairs in which it was worse.

    Returns:
        A probability from 0 to 1.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    pairs = ahead + behind
    tail = sum(math.comb(pairs, k) for k in range(min(ahead, behind) + 1)) / 2**pairs
    return float(min(1.0, 2 * tail))


@dataclass(frozen=True)
class ChanceBand:
    """A band between ``low`` and ``high`` at each ``cost``.

    Attributes:
        cost: (k,) costs, in the unit of the search's cost.
        low: (k,) lower ends; NaN where unknown.
        high: (k,) upper ends; NaN where unknown.
    """

    cost: Floats
    low: Floats
    high: Floats


def reordered_band(
    quality: Floats, until: float, *, level: float = 0.95, points: int = 80
) -> ChanceBand | None:
    """Compute a band for the best-so-far of a random search over all orders of its trials.

    The best-so-far lies inside it in ``level`` of all orders.

    A part of ``until`` holds as large a part of the trials, drawn without replacement: the best of
    ``k`` of ``n`` is at most the ``i``-th lowest with probability C(i, k) / C(n, k). At the end all
    trials are included, and the band is a single point: it shows how the order scatters, not what
    another search would find.

    Args:
        quality: (n,) values of its trials, higher is better; NaN without a result.
        until: Cost of all trials together.
        level: Share of the orders inside the band, from 0 to 1.
        points: Number of costs at which the band is computed.

    Returns:
        The band, or None with fewer than five results or no cost.
    """
    n = len(quality)
    if np.isfinite(quality).sum() < 5 or until <= 0:
        return None
    values = np.sort(np.where(np.isfinite(quality), quality, -np.inf))
    taken = np.unique(np.ceil(np.linspace(0, n, points + 1)[1:] - 1e-9).astype(np.int64))
    at_most = np.exp(_log_at_most(n, taken))  # (k, n)
    tail = (1 - level) / 2
    low = values[[int(np.searchsorted(row, tail * (1 - 1e-9))) for row in at_most]]
    high = values[[int(np.searchsorted(row, 1 - tail)) for row in at_most]]
    usable = np.isfinite(low)
    return ChanceBand(until * taken[usable] / n, low[usable], high[usable])


def _log_at_most(n: int, taken: NDArray[np.int64]) -> Floats:
    """(k, n) log of C(i, k) / C(n, k) for i = 1..n; -inf where i < k."""
    logs = np.r_[0.0, np.cumsum(np.log(np.arange(1, n + 1)))]  # of factorials
    i = np.arange(1, n + 1)[None, :]
    k = taken[:, None]
    rest = np.maximum(i - k, 0)
    found = logs[i] - logs[rest] - (logs[n] - logs[n - k])
    return np.where(i >= k, found, -np.inf)
