"""How well scores rank architectures: the statistics of zero-shot proxies, on plain arrays.

Correlations are computed with whole-number weights, so that a bootstrap resample of the
architectures is one row of weights and many resamples are a few array operations: the weights of
k copies of an architecture and of k equal architectures give the same Spearman and tau-b.
Where scores are tied, nothing is left to a lucky order: what depends on it is the mean over all
orders, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BASELINES = ("params", "macs")
DRAWS = (1, 10, 100)
FEWEST = 4  # architectures below which a correlation says nothing
LEVEL = 0.95
_BLOCK = 512  # rows of the matrix of pairs that are in memory at a time


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval (bootstrap percentiles); NaN where not defined."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho and Kendall's tau-b of a score with the truth over ``n`` architectures."""

    n: int
    spearman: Estimate
    kendall: Estimate


@dataclass(frozen=True)
class RankQuality:
    """How one score ranks the architectures whose truth is known. Signs are kept.

    ``invalid``: architectures without a score, left out of all but ``precision``, where they are
    never among the chosen. ``distinct``: different scores; ``tied``: architectures that share
    theirs. ``top``: inside the true best tenth; None with fewer than 4 there.
    ``precision``: share of the best 5 % by score (at least one) that are of the true best 5 %.
    ``best``: k -> best truth among the k best scored, the mean over all orders of ties.
    ``beyond``: baseline -> by how much Spearman is higher than the baseline's, over the
    architectures that both rank, resampled in pairs.
    """

    name: str
    whole: Agreement
    top: Agreement | None
    invalid: int
    distinct: int
    tied: int
    precision: float
    best: Mapping[int, float]
    beyond: Mapping[str, Estimate]

    @property
    def beats_all(self) -> bool:
        """Every baseline is beaten beyond chance; False where there is none to compare with."""
        return bool(self.beyond) and all(gap.low > 0 for gap in self.beyond.values())

    @property
    def no_better_than(self) -> tuple[str, ...]:
        """The baselines that this score is not shown to beat: the interval reaches 0."""
        known = {name: gap for name, gap in self.beyond.items() if math.isfinite(gap.value)}
        return tuple(name for name, gap in known.items() if not gap.low > 0)


def rank_qualities(
    scores: Mapping[str, Any],
    truth: Any,
    *,
    sign: float = 1.0,
    baselines: Sequence[str] = BASELINES,
    resamples: int | None = None,
    seed: int = 0,
) -> list[RankQuality]:
    """Every score against ``truth`` (n,), the highest Spearman first.

    ``scores``: name -> (n,), higher is better, NaN where invalid. ``sign``: -1 when a lower truth
    is better. Architectures of unknown truth are left out. ``baselines``: names in ``scores``
    that the others are compared with. ``resamples``: of the bootstrap; by default 1000 for up to
    1000 architectures, down to 200 for more than 3000.
    Raises: ValueError when lengths differ.
    """
    goal = sign * np.asarray(truth, dtype=np.float64)
    known = np.isfinite(goal)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if wrong := [name for name, values in columns.items() if values.shape != goal.shape]:
        raise ValueError(f"{wrong[0]} has shape {columns[wrong[0]].shape}, not {goal.shape}")
    judge = _Judge(
        {name: values[known] for name, values in columns.items()},
        goal[known], sign, resamples, seed,
    )  # fmt: skip
    found = [judge.quality(name, baselines) for name in columns]
    return sorted(found, key=lambda q: -np.nan_to_num(q.whole.spearman.value, nan=-2.0))


class _Judge:
    """One truth and one set of resamples, shared by all scores so that they can be paired."""

    def __init__(
        self, scores: Mapping[str, Floats], goal: Floats, sign: float, resamples: int | None,
        seed: int,
    ) -> None:  # fmt: skip
        self.scores, self.goal, self.sign = scores, goal, sign
        n = len(goal)
        draws = resamples or (1000 if n <= 1000 else 500 if n <= 3000 else 200)
        self.weights = resample(n, draws, seed)
        self.top = goal >= np.sort(goal)[-math.ceil(n / 10)] if n else np.zeros(0, dtype=bool)
        self._rhos: dict[tuple[str, bytes], Floats] = {}

    def quality(self, name: str, baselines: Sequence[str]) -> RankQuality:
        values, goal = self.scores[name], self.goal
        valid = np.isfinite(values)
        counts = np.unique(values[valid], return_counts=True)[1]
        others = [b for b in baselines if b in self.scores and name not in baselines]
        inside = valid & self.top
        return RankQuality(
            name,
            self._agreement(name, valid),
            self._agreement(name, inside) if inside.sum() >= FEWEST else None,
            invalid=int((~valid).sum()),
            distinct=len(counts),
            tied=int(counts[counts > 1].sum()),
            precision=precision(values, goal),
            best={
                k: self.sign * best_of(values[valid], goal[valid], k)
                for k in DRAWS
                if k <= valid.sum()
            },
            beyond={b: self._beyond(name, b) for b in others},
        )

    def _agreement(self, name: str, chosen: Bools) -> Agreement:
        weights = self.weights[:, chosen]
        tau = kendall_draws(weights, self.scores[name][chosen], self.goal[chosen])
        n = int(chosen.sum())
        return Agreement(n, _estimate(self._rho(name, chosen), n), _estimate(tau, n))

    def _rho(self, name: str, chosen: Bools) -> Floats:
        key = name, chosen.tobytes()
        if key not in self._rhos:
            self._rhos[key] = spearman_draws(
                self.weights[:, chosen], self.scores[name][chosen], self.goal[chosen]
            )
        return self._rhos[key]

    def _beyond(self, name: str, baseline: str) -> Estimate:
        both = np.isfinite(self.scores[name]) & np.isfinite(self.scores[baseline])
        return _estimate(self._rho(name, both) - self._rho(baseline, both), int(both.sum()))


def resample(n: int, draws: int, seed: int) -> Floats:
    """(1 + draws, n) how often each of n architectures is in a resample; row 0 has each once."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(max(n, 1), size=(draws, n)) + n * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
    return np.vstack([np.ones((1, n)), counts])


def _estimate(draws: Floats, n: int) -> Estimate:
    """Row 0 is the value; an interval takes ``FEWEST`` architectures and two different draws."""
    spread = draws[1:][np.isfinite(draws[1:])]
    if n < FEWEST or not len(spread) or not np.isfinite(draws[0]):
        return Estimate(float(draws[0]))
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(draws[0]), float(low), float(high))


def _group(values: Floats) -> Ints:
    """(n,) number of each value's group of ties, from the lowest."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def _group_sums(weights: Floats, group: Ints) -> Floats:
    """(draws, groups) weight of each group of ties."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _centred_ranks(weights: Floats, group: Ints) -> Floats:
    """(draws, n) mid-ranks in each resample, minus their mean."""
    sums = _group_sums(weights, group)
    total = sums.sum(axis=1, keepdims=True)
    return np.asarray((np.cumsum(sums, axis=1) - (sums + total) / 2)[:, group])


def spearman_draws(weights: Floats, x: Floats, y: Floats) -> Floats:
    """(draws,) Spearman's rho of x and y (n,) in each resample of ``weights`` (draws, n).

    Ties have mid-ranks; NaN where one of the two is constant.
    """
    if not len(x):
        return np.full(len(weights), math.nan)
    p, q = _centred_ranks(weights, _group(x)), _centred_ranks(weights, _group(y))
    both = (weights * p * q).sum(axis=1)
    return _ratio(both, (weights * p * p).sum(axis=1), (weights * q * q).sum(axis=1))


def kendall_draws(weights: Floats, x: Floats, y: Floats) -> Floats:
    """(draws,) Kendall's tau-b of x and y (n,) in each resample of ``weights`` (draws, n).

    Concordant minus discordant pairs are a quadratic form of the weights, summed block by block;
    single precision is exact here, as all numbers are small halves.
    """
    if not len(x):
        return np.full(len(weights), math.nan)
    a, b = _group(x).astype(np.int32), _group(y).astype(np.int32)
    light = weights.astype(np.float32)
    pairs = np.zeros(len(weights))
    for start in range(0, len(a), _BLOCK):
        here = slice(start, start + _BLOCK)
        agree = np.sign(a[here, None] - a[start:]) * np.sign(b[here, None] - b[start:])
        agree = agree.astype(np.float32)
        agree[:, : len(agree)] /= 2  # pairs within the block are met twice
        pairs += np.einsum("di,di->d", weights[:, here], light[:, start:] @ agree.T)
    total = weights.sum(axis=1)
    free = [total**2 - (_group_sums(weights, g) ** 2).sum(axis=1) for g in (_group(x), _group(y))]
    return _ratio(2 * pairs, *free)


def _ratio(both: Floats, one: Floats, other: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(both / np.sqrt(one * other), -1.0, 1.0))


def chances(values: Floats, k: int) -> Floats:
    """(n,) chance of each to be among the ``k`` highest when ties are ordered at random.

    NaN is never among them; with fewer than ``k`` numbers all are.
    """
    valid = np.isfinite(values)
    if valid.sum() <= k:
        return valid.astype(np.float64)
    edge = np.partition(values[valid], -k)[-k]
    above, tied = values > edge, values == edge
    return np.asarray(above + tied * (k - above.sum()) / tied.sum(), dtype=np.float64)


def precision(values: Floats, goal: Floats, share: float = 0.05) -> float:
    """Which part of the best ``share`` by ``values`` is of the best ``share`` by ``goal``; at
    least one architecture is chosen. NaN without architectures."""
    if not len(goal):
        return math.nan
    k = max(1, round(share * len(goal)))
    return float((chances(values, k) * chances(goal, k)).sum() / k)


def best_of(values: Floats, goal: Floats, k: int) -> float:
    """Highest ``goal`` among the ``k`` <= n highest ``values``, the mean over all orders of ties.

    Of a tied group of g, m are taken: P(best of them <= j-th lowest) = C(j, m) / C(g, m).
    """
    from scipy.special import gammaln

    edge = np.partition(values, -k)[-k]
    above = values > edge
    group = np.sort(goal[values == edge])
    taken, floor = k - int(above.sum()), goal[above].max(initial=-math.inf)
    j = np.arange(taken, len(group) + 1)
    log = gammaln(j + 1) - gammaln(j - taken + 1)
    chance = np.diff(np.exp(log - log[-1]), prepend=0.0)
    return float((chance * np.maximum(group[taken - 1 :], floor)).sum())


def rank_table(qualities: Sequence[RankQuality], title: str = "", digits: int = 2) -> Table:
    """The qualities for a terminal of 110 columns, a line each; ``digits`` of the best truths.

    "top" is inside the true best tenth; brackets are 95 % intervals; "values": different scores.
    """
    from rich.table import Table

    table = Table(title=title or None, box=None, padding=(0, 1, 0, 0))
    draws = [k for k in DRAWS if any(k in q.best for q in qualities)]
    table.add_column("proxy", style="bold")
    for name in ("n", "invalid", "Spearman", "Kendall", "top n", "top Kendall", "prec. 5 %",
                 *(f"best of {k}" for k in draws), "values"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=name in ("Spearman", "top Kendall"))
    for q in qualities:
        table.add_row(
            q.name,
            str(q.whole.n),
            str(q.invalid),
            _shown(q.whole.spearman),
            _bare(q.whole.kendall.value),
            str(q.top.n) if q.top else "-",
            _shown(q.top.kendall) if q.top else "-",
            _bare(q.precision),
            *(f"{q.best[k]:.{digits}f}" if k in q.best else "-" for k in draws),
            str(q.distinct),
        )
    return table


def _shown(e: Estimate) -> str:
    interval = f" [{_bare(e.low)} {_bare(e.high)}]" if math.isfinite(e.low) else ""
    return _bare(e.value) + interval


def _bare(value: float) -> str:
    """Two decimals without the zero before the point: ``.75``, ``-.26``."""
    return f"{value:.2f}".replace("0.", ".", 1) if math.isfinite(value) else "-"
