"""Confidence intervals and tests that hold for few architectures and few runs.

How often each covers the truth is measured in docs/calibration.md; below the sizes at which they
were found to hold, no interval is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
"""Chance of a wrong claim on the side that a claim is about."""
PAIRS_FROM = 12
"""Architectures below which a rank correlation has no interval."""
MEANS_FROM = 5
"""Values below which their mean has no interval."""
_BLOCK = 512  # rows of the matrix of pairs that are in memory at a time


@dataclass(frozen=True)
class IntervalEstimate:
    """A value with its 95 % interval.

    Attributes:
        value: The value; NaN where not defined.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end of the interval; NaN where there is none.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation of n items, with its value without each of them.

    Attributes:
        value: The correlation, NaN where one side is constant.
        without: (n,) the correlation without each item.
        variance: Of ``value`` over samples of n items.
        edge: The value half a swap of neighbours away from 1.
        flawless_low: Lower end of the interval of a perfect order.
    """

    value: float
    without: Floats
    variance: float
    edge: float
    flawless_low: float

    @property
    def z(self) -> float:
        """Fisher's transform of the value, finite for a perfect order, too."""
        return math.atanh(self._inside)

    @property
    def slope(self) -> float:
        """The derivative of ``z`` by the value."""
        return 1 / (1 - self._inside**2)

    @property
    def _inside(self) -> float:
        return min(max(self.value, -self.edge), self.edge)

    def estimate(self) -> IntervalEstimate:
        """Return the value with its 95 % interval, where there are enough items for one.

        The interval is Fisher's z with a jackknife variance and the quantile of Student's t with
        n - 2 degrees of freedom. A perfect order has no variance; its interval ends where such an
        order has a chance of 2.5 %.

        Returns:
            The estimate; its interval is NaN with fewer than ``PAIRS_FROM`` items.
        """
        n = len(self.without)
        if n < PAIRS_FROM or not (math.isfinite(self.value) and math.isfinite(self.variance)):
            return IntervalEstimate(self.value)
        if abs(self.value) >= 1:
            ends = sorted((self.value, math.copysign(self.flawless_low, self.value)))
            return IntervalEstimate(self.value, ends[0], ends[1])
        half = t_quantile(n - 2) * math.sqrt(self.variance) * self.slope
        return IntervalEstimate(self.value, math.tanh(self.z - half), math.tanh(self.z + half))


def constant_correlation(n: int) -> RankCorrelation:
    """Return the correlation of a constant with n items: 0, its mean over all orders of ties.

    Args:
        n: Number of items.
    """
    return RankCorrelation(0.0, np.zeros(n), 0.0, 1.0, math.nan)


def rank_correlations(x: Floats, y: Floats) -> tuple[RankCorrelation, RankCorrelation]:
    """Compute Spearman's rho and Kendall's tau-b with their jackknife variances.

    Ties have mid-ranks. Time grows as n^2, memory as n. The variance of tau is the mean of the
    jackknife's, which is too large for few items (B. Efron, C. Stein, "The jackknife estimate of
    variance", 1981), and of the unbiased one from pairs that share no item, which scatters too
    much to be used alone; with ties, where its denominator varies, too, it is the jackknife's.

    Args:
        x: (n,) values without NaN.
        y: (n,) values without NaN.

    Returns:
        rho and tau-b, NaN where one side is constant.

    Example:
        >>> import numpy as np
        >>> rho, tau = rank_correlations(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        >>> round(rho.value, 2), round(tau.value, 2)
        (0.5, 0.33)
    """
    n = len(x)
    a, b = _Ranks(x), _Ranks(y)
    if n < 2 or a.constant or b.constant:
        return _undefined(n), _undefined(n)
    agreement = _agreements(a.group, b.group)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _spearman(a, b, agreement), _kendall(a, b, agreement)


def _undefined(n: int) -> RankCorrelation:
    return RankCorrelation(math.nan, np.full(n, math.nan), math.nan, 1.0, math.nan)


class _Ranks:
    """(n,) values as groups of ties from the lowest, and half the sum of signs of differences."""

    def __init__(self, values: Floats) -> None:
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        self.group = np.asarray(group, dtype=np.int64).reshape(-1)
        self.constant = len(counts) < 2
        self.distinct = len(counts) == len(values)
        self.untied = (len(values) - counts)[self.group].astype(np.float64)
        below = np.cumsum(counts) - counts
        above = len(values) - below - counts
        self.centred = ((below - above) / 2)[self.group]

    def signed_sums(self, values: Floats) -> Floats:
        """(n,) sums over j of the sign of (own value i - own value j) times ``values[j]``."""
        sums = np.bincount(self.group, weights=values)
        below = np.cumsum(sums) - sums
        return np.asarray((2 * below + sums - sums.sum())[self.group], dtype=np.float64)


def _agreements(a: Ints, b: Ints) -> Floats:
    """(n,) concordant minus discordant pairs of each item."""
    a, b = a.astype(np.int32), b.astype(np.int32)
    parts = []
    for start in range(0, len(a), _BLOCK):
        here = slice(start, start + _BLOCK)
        one = np.sign(a[here, None] - a).astype(np.int8)
        other = np.sign(b[here, None] - b).astype(np.int8)
        parts.append((one * other).sum(axis=1, dtype=np.int64))
    return np.concatenate(parts).astype(np.float64)


def _jackknife_variance(without: Floats) -> float:
    n = len(without)
    return float((n - 1) / n * ((without - without.mean()) ** 2).sum())


def _spearman(a: _Ranks, b: _Ranks, agreement: Floats) -> RankCorrelation:
    """Without item i the centred rank of j changes by half the sign of i's difference to j."""

    def products(one: _Ranks, other: _Ranks, pairs: Floats) -> tuple[float, Floats]:
        p, q = one.centred, other.centred
        change = (one.signed_sums(q) + other.signed_sums(p)) / 2 + pairs / 4
        return float((p * q).sum()), (p * q).sum() - p * q + change

    both, both_without = products(a, b, agreement)
    first, first_without = products(a, a, a.untied)
    second, second_without = products(b, b, b.untied)
    n = len(agreement)
    without = both_without / np.sqrt(first_without * second_without)
    return RankCorrelation(
        value=_bounded(both / math.sqrt(first * second)),
        without=without,
        variance=_jackknife_variance(without),
        edge=1 - 6 / max(n * (n * n - 1), 7),
        flawless_low=1 - 1.36 * (1 - _flawless_tau(n)) ** 2,
    )


def _kendall(a: _Ranks, b: _Ranks, agreement: Floats) -> RankCorrelation:
    n, total = len(agreement), float(agreement.sum())
    free = float(a.untied.sum()) * float(b.untied.sum())
    left = (a.untied.sum() - 2 * a.untied) * (b.untied.sum() - 2 * b.untied)
    without = (total - 2 * agreement) / np.sqrt(left)
    variance = _jackknife_variance(without)
    if n > 3 and a.distinct and b.distinct:
        disjoint = total**2 - 4 * float((agreement**2).sum()) + 2 * n * (n - 1)
        unbiased = (total**2 - disjoint * n * (n - 1) / ((n - 2) * (n - 3))) / free
        variance = (variance + max(unbiased, 0.0)) / 2
    return RankCorrelation(
        value=_bounded(total / math.sqrt(free)),
        without=without,
        variance=variance,
        edge=1 - 2 / max(n * (n - 1), 3),
        flawless_low=_flawless_tau(n),
    )


def _bounded(value: float) -> float:
    """Return a correlation of exactly 1 or -1 where rounding made it slightly smaller."""
    return math.copysign(1.0, value) if abs(value) > 1 - 1e-12 else value


def _flawless_tau(n: int) -> float:
    """The tau at which an order without a discordant pair has a chance of 2.5 %.

    Discordant pairs of a nearly perfect order are rare events: Poisson with n (n - 1) / 2 times
    (1 - tau) / 2 on average. Spearman's rho there is 1 - 1.36 (1 - tau)^2, from
    tau = 2 / pi asin(r) and rho = 6 / pi asin(r / 2) of a normal distribution near r = 1.
    """
    return max(1 + 4 * math.log(TAIL) / max(n * (n - 1), 1), -1.0)


@dataclass(frozen=True)
class CorrelationGap:
    """The difference between one correlation and another.

    Attributes:
        estimate: The difference with its 95 % interval.
        ahead: Chance of such a lead, or a longer one, where both are equal.
        behind: Chance of such a lag, or a longer one, where both are equal.
    """

    estimate: IntervalEstimate
    ahead: float
    behind: float


def correlation_gap(one: RankCorrelation, other: RankCorrelation) -> CorrelationGap:
    """Compare two correlations over the same n items with the same truth.

    The interval is that of G. Zou, "Toward using confidence intervals to compare correlations",
    Psychological Methods 2007, equation 15, with the correlation of the jackknife's values. The
    chances are one-sided, Student's t of the difference in Fisher's z.

    Args:
        one: The correlation that may be higher.
        other: What it is compared with.

    Returns:
        The difference; interval and chances are NaN with fewer than ``PAIRS_FROM`` items.
    """
    gap, n = one.value - other.value, len(one.without)
    first, second = _ends(one), _ends(other)
    known = math.isfinite(gap) and math.isfinite(first.low) and math.isfinite(second.low)
    if n < PAIRS_FROM or not known:
        return CorrelationGap(IntervalEstimate(gap), math.nan, math.nan)
    down, up = one.value - first.low, first.high - one.value
    below, above = other.value - second.low, second.high - other.value
    shared = _shared(one.without, other.without)
    low = gap - math.sqrt(max(down**2 + above**2 - 2 * shared * down * above, 0.0))
    high = gap + math.sqrt(max(up**2 + below**2 - 2 * shared * up * below, 0.0))
    return CorrelationGap(
        IntervalEstimate(gap, max(low, -2.0), min(high, 2.0)), *_chances(one, other)
    )


def _ends(correlation: RankCorrelation) -> IntervalEstimate:
    """Return the interval; that of a constant's 0 has no width."""
    if correlation.value == 0 and not correlation.without.any():
        return IntervalEstimate(0.0, 0.0, 0.0)
    return correlation.estimate()


def _shared(one: Floats, other: Floats) -> float:
    p, q = one - one.mean(), other - other.mean()
    size = math.sqrt(float((p * p).sum() * (q * q).sum()))
    return float((p * q).sum()) / size if size > 0 else 0.0


def _chances(one: RankCorrelation, other: RankCorrelation) -> tuple[float, float]:
    from scipy.special import stdtr

    n, lead = len(one.without), one.z - other.z
    spread = math.sqrt(_jackknife_variance(one.without * one.slope - other.without * other.slope))
    if spread <= 1e-12:  # equal for each item, or no item gives information on the scatter
        return (1.0, 1.0) if abs(lead) <= 1e-12 else (math.nan, math.nan)
    return float(stdtr(n - 2, -lead / spread)), float(stdtr(n - 2, lead / spread))


def holm(chances: Sequence[float]) -> list[float]:
    """Adjust probabilities for their number with the method of Holm.

    After it, one of them is below a level by chance only as often as that level says. S. Holm, "A
    simple sequentially rejective multiple test procedure", 1979.

    Args:
        chances: (k,) probabilities from 0 to 1; NaN counts as no test.

    Returns:
        (k,) adjusted probabilities; NaN stays NaN.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    given = np.asarray(chances, dtype=np.float64)
    order = np.argsort(given)[: int(np.isfinite(given).sum())]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(given), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def t_quantile(freedom: float) -> float:
    """Return by how many standard errors a 95 % interval reaches to either side (Student's t).

    Args:
        freedom: Degrees of freedom.

    Returns:
        The quantile at 97.5 %.
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - TAIL))


def mean_half_widths(values: Floats) -> Floats:
    """Compute half of the 95 % interval of each column's mean, taken to both sides.

    P. Hall, "On the removal of skewness by transformation", JRSS B 1992, with Student's t for the
    normal quantile; the longer of its two sides. Holds where single values are skewed, such as
    times until something is found.

    Args:
        values: (n, columns) independent rows.

    Returns:
        (columns,) half the widths, in the unit of ``values``; NaN with fewer than ``MEANS_FROM``
        rows, where all are equal (then nothing is known of their scatter), or one is not finite.
    """
    n = len(values)
    usable = np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0)
    if n < MEANS_FROM or not usable.any():
        return np.full(values.shape[1:], math.nan)
    kept = values[:, usable]
    spread = kept.std(axis=0, ddof=1)
    skew = (((kept - kept.mean(axis=0)) / spread) ** 3).mean(axis=0)
    even = np.abs(skew) < 1e-6
    lean = np.where(even, 1.0, skew)

    def end(sign: float) -> Floats:
        step = sign * t_quantile(n - 1) / math.sqrt(n)
        turned = 3 / lean * (np.cbrt(1 + lean * (step - lean / (6 * n))) - 1)
        return np.asarray(np.where(even, step, turned), dtype=np.float64)

    widths = np.full(values.shape[1], math.nan)
    widths[usable] = spread * np.maximum(end(1.0), -end(-1.0))
    return widths


def mean_half_width(values: Floats) -> float:
    """Compute :func:`mean_half_widths` of one column.

    Args:
        values: (n,) independent values.

    Returns:
        Half the width of the mean's 95 % interval; NaN where it has none.
    """
    return float(mean_half_widths(values[:, None])[0])
