"""What chance gives a search: exact statements about ranks, for any distribution of results.

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
class Lead:
    """The ``above`` best results are all of one search, and above all results of the other one.

    ``chance``: the probability of at least so many, if both drew from one distribution.
    ``possible``: the least that it could have been with these numbers of results.
    """

    above: int
    chance: float
    possible: float

    @property
    def beyond_chance(self) -> bool:
        return self.chance <= LEVEL

    @property
    def can_be_judged(self) -> bool:
        """Whether any outcome could have been beyond chance."""
        return self.possible <= LEVEL


def lead(ours: Floats, theirs: Floats) -> Lead:
    """How far the best of ``ours`` are ahead of all of ``theirs``.

    ``ours``, ``theirs``: one value per evaluated trial, higher is better; NaN where the trial was
    stopped or failed. Under schedulers it is not known which trials a search would have completed,
    so both are asked: what is probable for the trials that ended with a result, and for all that
    were started. The larger probability counts. Ties are no lead, which only makes it smaller.
    """
    ends = [one[np.isfinite(one)] for one in (ours, theirs)]
    best = ends[1].max() if len(ends[1]) else math.inf
    above = int((ends[0] > best).sum())
    counts = ((len(ends[0]), len(ends[1])), (len(ours), len(theirs)))
    return Lead(
        above,
        max(chance(above, m, n) for m, n in counts),
        max(chance(len(ends[0]), m, n) for m, n in counts),
    )


def chance(above: int, ours: int, theirs: int) -> float:
    """The probability that the ``above`` best of all values are among ``ours`` of them.

    Of ``ours + theirs`` exchangeable values without ties: C(ours, above) / C(ours + theirs, above).
    """
    if theirs <= 0:
        return 1.0
    if above > ours:
        return 0.0
    return math.prod((ours - k) / (ours + theirs - k) for k in range(above))


def sign_test(ahead: int, behind: int) -> float:
    """The two-sided probability of so uneven a count, or a more uneven one, by chance alone.

    Of pairs of runs (the same seeds under two methods, say) ``ahead`` and ``behind`` are those in
    which one method was better, and worse; ties are left out. Exact, for any distribution.
    """
    pairs = ahead + behind
    tail = sum(math.comb(pairs, k) for k in range(min(ahead, behind) + 1)) / 2**pairs
    return float(min(1.0, 2 * tail))


@dataclass(frozen=True)
class Band:
    """Between ``low`` and ``high`` at each ``cost`` (all (k,)); NaN where nothing is known."""

    cost: Floats
    low: Floats
    high: Floats


def reordered_band(
    quality: Floats, until: float, *, level: float = 0.95, points: int = 80
) -> Band | None:
    """Where the best-so-far of a random search lies in ``level`` of all orders of its trials.

    ``quality``: (n,) of its trials, higher is better, NaN without a result. A part of ``until``
    holds as large a part of the trials, drawn without replacement: the best of ``k`` of ``n`` is
    at most the ``i``-th lowest with probability C(i, k) / C(n, k). At the end all are in, and the
    band is a single point: it shows how the order scatters, not what another search would find.
    None with fewer than five results.
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
    return Band(until * taken[usable] / n, low[usable], high[usable])


def _log_at_most(n: int, taken: NDArray[np.int64]) -> Floats:
    """(k, n) log of C(i, k) / C(n, k) for i = 1..n; -inf where i < k."""
    logs = np.r_[0.0, np.cumsum(np.log(np.arange(1, n + 1)))]  # of factorials
    i = np.arange(1, n + 1)[None, :]
    k = taken[:, None]
    rest = np.maximum(i - k, 0)
    found = logs[i] - logs[rest] - (logs[n] - logs[n - k])
    return np.where(i >= k, found, -np.inf)
