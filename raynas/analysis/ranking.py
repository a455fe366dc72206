"""Quality of rankings by scores: the statistics of zero-shot proxies, on plain arrays.

Results do not depend on the order of tied scores: what would depend on it is the mean over all
orders, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.analysis.intervals import (
    TAIL,
    CorrelationGap,
    IntervalEstimate,
    RankCorrelation,
    constant_correlation,
    correlation_gap,
    holm,
    rank_correlations,
)

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BASELINES = ("params", "macs")
DRAWS = (1, 10, 100)
FEWEST = 4  # architectures below which a correlation says nothing


@dataclass(frozen=True)
class RankAgreement:
    """The rank correlations of a score with the truth over ``n`` architectures.

    Attributes:
        n: Number of architectures.
        spearman: Spearman's rho with its 95 % interval.
        kendall: Kendall's tau-b with its 95 % interval.
    """

    n: int
    spearman: IntervalEstimate
    kendall: IntervalEstimate


@dataclass(frozen=True)
class RankQuality:
    """The quality with which one score ranks the architectures whose truth is known.

    The sign of a score is kept.

    Attributes:
        name: Name of the score.
        whole: Agreement over all architectures with a score.
        top: Agreement inside the true best tenth; None with fewer than 4 there.
        invalid: Number of architectures without a score, left out of all but ``precision``, where
            they are never among the chosen.
        distinct: Number of different scores.
        tied: Number of architectures that share their score with another.
        precision: Share of the best 5 % by score (at least one) that are of the true best 5 %, from
            0 to 1.
        best: k -> best truth among the k best scored, the mean over all orders of ties.
        beyond: Baseline -> difference between Spearman's rho and the baseline's, over the
            architectures that both rank; a constant baseline ranks by 0.
        unranked: Baselines that are constant there.
        chance_ahead: Probability that chance alone puts some score so far above every baseline,
            corrected for the number of scores (Holm); NaN where it cannot be computed.
        chance_behind: The same for so far below every baseline.
    """

    name: str
    whole: RankAgreement
    top: RankAgreement | None
    invalid: int
    distinct: int
    tied: int
    precision: float
    best: Mapping[int, float]
    beyond: Mapping[str, IntervalEstimate]
    unranked: tuple[str, ...] = ()
    chance_ahead: float = math.nan
    chance_behind: float = math.nan

    @property
    def beats_all(self) -> bool:
        """True when every baseline is beaten beyond chance.

        Returns:
            False where there is no baseline to compare with.
        """
        return self.ahead and self.chance_ahead < TAIL

    @property
    def worse_than_all(self) -> bool:
        """True when every baseline is better beyond chance."""
        behind = bool(self.beyond) and all(gap.high < 0 for gap in self.beyond.values())
        return behind and self.chance_behind < TAIL

    @property
    def ahead(self) -> bool:
        """True when every baseline is beaten, without the correction for the number of scores."""
        return bool(self.beyond) and all(gap.low > 0 for gap in self.beyond.values())

    @property
    def no_better_than(self) -> tuple[str, ...]:
        """The baselines that this score is not shown to beat.

        The interval of the difference reaches 0 there.
        """
        known = {name: gap for name, gap in self.beyond.items() if math.isfinite(gap.value)}
        return tuple(name for name, gap in known.items() if not gap.low > 0)

    @property
    def undecided(self) -> bool:
        """True when a comparison with a baseline needs more architectures, or more that differ."""
        return any(
            math.isfinite(g.value) and not math.isfinite(g.low) for g in self.beyond.values()
        )


def rank_qualities(
    scores: Mapping[str, Any],
    truth: Any,
    *,
    sign: float = 1.0,
    baselines: Sequence[str] = BASELINES,
    independent: bool = True,
) -> list[RankQuality]:
    """Judge every score by ``truth``, the highest Spearman first.

    Args:
        scores: Name -> (n,), higher is better, NaN where invalid.
        truth: (n,); architectures of unknown truth (NaN) are left out.
        sign: -1 when a lower truth is better.
        baselines: Names in ``scores`` that the others are compared with. All scores that are no
            baseline are one family: their leads are corrected for their number.
        independent: Whether the architectures are independent draws, or all there are. Those that
            a search chose by results are not: they get no interval, and no claim is made.

    Returns:
        One entry for each score.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> found = rank_qualities({"naswot": [1, 2, 3, 4]}, [91.0, 92.0, 93.0, 94.0])
        >>> found[0].name, found[0].whole.spearman.value
        ('naswot', 1.0)
    """
    goal = sign * np.asarray(truth, dtype=np.float64)
    known = np.isfinite(goal)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if wrong := [name for name, values in columns.items() if values.shape != goal.shape]:
        raise ValueError(f"{wrong[0]} has shape {columns[wrong[0]].shape}, not {goal.shape}")
    judge = _Judge(
        {name: values[known] for name, values in columns.items()}, goal[known], sign, independent
    )
    found = [judge.quality(name, baselines) for name in columns]
    ahead, behind = holm([q.chance_ahead for q in found]), holm([q.chance_behind for q in found])
    found = [
        replace(q, chance_ahead=up, chance_behind=down)
        for q, up, down in zip(found, ahead, behind, strict=True)
    ]
    return sorted(found, key=lambda q: -np.nan_to_num(q.whole.spearman.value, nan=-2.0))


class _Judge:
    """A judge of all scores by one truth."""

    def __init__(
        self, scores: Mapping[str, Floats], goal: Floats, sign: float, independent: bool
    ) -> None:
        self.scores, self.goal, self.sign, self.independent = scores, goal, sign, independent
        n = len(goal)
        self.top = goal >= np.sort(goal)[-math.ceil(n / 10)] if n else np.zeros(0, dtype=bool)
        self._known: dict[tuple[str, bytes], tuple[RankCorrelation, RankCorrelation]] = {}

    def quality(self, name: str, baselines: Sequence[str]) -> RankQuality:
        values, goal = self.scores[name], self.goal
        valid = np.isfinite(values)
        counts = np.unique(values[valid], return_counts=True)[1]
        inside = valid & self.top
        gaps, unranked = self._gaps(name, baselines)
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
            beyond={baseline: gap.estimate for baseline, gap in gaps.items()},
            unranked=unranked,
            # to beat all is to beat the one that is hardest to beat
            chance_ahead=_highest([gap.ahead for gap in gaps.values()]),
            chance_behind=_highest([gap.behind for gap in gaps.values()]),
        )

    def _gaps(
        self, name: str, baselines: Sequence[str]
    ) -> tuple[dict[str, CorrelationGap], tuple[str, ...]]:
        """Baseline -> lead, and the constant ones; baselines that are not known are left out."""
        gaps, unranked = {}, []
        for baseline in baselines if name not in baselines else ():
            known = np.isfinite(self.scores.get(baseline, np.empty(0)))
            both = known & np.isfinite(self.scores[name]) if len(known) else known
            if not both.any():
                continue
            other = self._correlations(baseline, both)[0]
            if len(np.unique(self.scores[baseline][both])) < 2:
                other = constant_correlation(int(both.sum()))
                unranked.append(baseline)
            mine = self._correlations(name, both)[0]
            gap = IntervalEstimate(mine.value - other.value)
            gaps[baseline] = (
                correlation_gap(mine, other)
                if self.independent
                else CorrelationGap(gap, math.nan, math.nan)
            )
        return gaps, tuple(unranked)

    def _agreement(self, name: str, chosen: Bools) -> RankAgreement:
        rho, tau = (
            c.estimate() if self.independent else IntervalEstimate(c.value)
            for c in self._correlations(name, chosen)
        )
        return RankAgreement(int(chosen.sum()), rho, tau)

    def _correlations(self, name: str, chosen: Bools) -> tuple[RankCorrelation, RankCorrelation]:
        key = name, chosen.tobytes()
        if key not in self._known:
            self._known[key] = rank_correlations(self.scores[name][chosen], self.goal[chosen])
        return self._known[key]


def _highest(chances: Sequence[float]) -> float:
    """Return the highest; NaN where one of them is NaN or there are none."""
    return float(np.max(chances)) if chances else math.nan


def _group(values: Floats) -> Ints:
    """(n,) number of each value's group of ties, from the lowest."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def _group_sums(weights: Floats, group: Ints) -> Floats:
    """(draws, groups) weight of each group of ties."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _centred_ranks(weights: Floats, group: Ints) -> Floats:
    """(draws, n) mid-ranks with each row of weights, minus their mean."""
    sums = _group_sums(weights, group)
    total = sums.sum(axis=1, keepdims=True)
    return np.asarray((np.cumsum(sums, axis=1) - (sums + total) / 2)[:, group])


def spearman_draws(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Compute Spearman's rho with each row of weights.

    A weight of k is k copies of an architecture. Ties have mid-ranks.

    Args:
        weights: (draws, n) weights, such as the counts of a bootstrap.
        x: (n,) values.
        y: (n,) values.

    Returns:
        (draws,) correlations; NaN where one of the two is constant.
    """
    if not len(x):
        return np.full(len(weights), math.nan)
    p, q = _centred_ranks(weights, _group(x)), _centred_ranks(weights, _group(y))
    both = (weights * p * q).sum(axis=1)
    return _ratio(both, (weights * p * p).sum(axis=1), (weights * q * q).sum(axis=1))


def _ratio(both: Floats, one: Floats, other: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(both / np.sqrt(one * other), -1.0, 1.0))


def chances(values: Floats, k: int) -> Floats:
    """Compute the chance of each value to be among the ``k`` highest, ties in random order.

    Args:
        values: (n,) values; NaN is never among the highest.
        k: Number of values that are chosen.

    Returns:
        (n,) probabilities from 0 to 1; with at most ``k`` numbers all of them have 1.

    Example:
        >>> import numpy as np
        >>> chances(np.array([3.0, 2.0, 2.0]), 2).tolist()
        [1.0, 0.5, 0.5]
    """
    valid = np.isfinite(values)
    if valid.sum() <= k:
        return valid.astype(np.float64)
    edge = np.partition(values[valid], -k)[-k]
    above, tied = values > edge, values == edge
    return np.asarray(above + tied * (k - above.sum()) / tied.sum(), dtype=np.float64)


def precision(values: Floats, goal: Floats, share: float = 0.05) -> float:
    """Compute which part of the best ``share`` by ``values`` is of the best ``share`` by ``goal``.

    Args:
        values: (n,) scores; NaN is never among the best.
        goal: (n,) truth, higher is better.
        share: Share from 0 to 1; at least one architecture is chosen.

    Returns:
        A share from 0 to 1; NaN without architectures.
    """
    if not len(goal):
        return math.nan
    k = max(1, round(share * len(goal)))
    return float((chances(values, k) * chances(goal, k)).sum() / k)


def best_of(values: Floats, goal: Floats, k: int) -> float:
    """Return the highest ``goal`` among the ``k`` highest ``values``.

    It is the mean over all orders of ties.

    Of a tied group of g, m are taken: P(best of them <= j-th lowest) = C(j, m) / C(g, m).

    Args:
        values: (n,) scores without NaN.
        goal: (n,) truth, higher is better.
        k: Number of architectures chosen, at most n.

    Returns:
        The expected highest truth.
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
    """Make a table of rank qualities for a terminal of 110 columns, with a line each.

    "top" is inside the true best tenth; brackets are 95 % intervals; "values": different scores.

    Args:
        qualities: One line each, in this order.
        title: Title of the table; empty for none.
        digits: Decimals of the best truths.

    Returns:
        The table, to be printed by a console of rich.
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


def _shown(e: IntervalEstimate) -> str:
    interval = f" [{_bare(e.low)} {_bare(e.high)}]" if math.isfinite(e.low) else ""
    return _bare(e.value) + interval


def _bare(value: float) -> str:
    """Two decimals without the zero before the point: ``.75``, ``-.26``."""
    return f"{value:.2f}".replace("0.", ".", 1) if math.isfinite(value) else "-"
