"""Every claim that a report can make, in runs where it is false, and every interval with its truth.

A claim is looked for in the text that a user reads. Runs come from one random generator each, so
that a case is the same at every call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from calibration_runs import Floats, beside_random, searched, with_finals, with_rungs, with_truth

from raynas.analysis import proxies as px
from raynas.analysis import rung_counts
from raynas.analysis import statistics as st
from raynas.analysis import supernets as sn
from raynas.apps.compare.sections import PageSection, sections
from raynas.apps.compare.tasks import ComparisonTask
from raynas.reports.ranking_sentences import proxy_sentences
from raynas.reports.sentences import size_sentence
from raynas.reports.supernet_sentences import truth_verdict, tuned_sentence

Generator = np.random.Generator
MANY = 14  # proxies in one run


@dataclass(frozen=True)
class Claim:
    """A sentence that claims something.

    Attributes:
        sentence: How it is printed.
        pattern: What finds it in the text.
        where: In which runs it is false.
        sizes: Sizes of a run, the smallest at which the sentence can be printed first.
        text: Makes one such run from a seed and a size and returns what the report says.
    """

    sentence: str
    pattern: str
    where: str
    sizes: tuple[int, ...]
    text: Callable[[int, int], str]

    def claimed(self, seed: int, size: int) -> bool:
        return re.search(self.pattern, self.text(seed, size)) is not None


@dataclass(frozen=True)
class Interval:
    """A 95 % interval that is shown.

    Attributes:
        shown: Where it stands.
        truth: What the runs are drawn from.
        sizes: Sizes of a run, the smallest at which the interval is shown first.
        ends: Makes one such run of a size: low, true value, high; low is NaN where none is shown.
    """

    shown: str
    truth: str
    sizes: tuple[int, ...]
    ends: Callable[[Generator, int], tuple[float, float, float]]

    def covers(self, seed: int, size: int) -> bool | None:
        """Whether the interval holds the truth; None where the run shows none."""
        low, true, high = self.ends(_generator(seed, size), size)
        return None if math.isnan(low) else low <= true <= high


def _generator(seed: int, size: int) -> Generator:
    return np.random.default_rng((seed, size))


def _said(text: Callable[[Generator, int], str]) -> Callable[[int, int], str]:
    """What a run says, by seed and size; two claims that are looked for in it share the run."""

    @cache
    def said(seed: int, size: int) -> str:
        return text(_generator(seed, size), size)

    return said


# -- architectures: a truth, and what agrees with it ---------------------------------------------


def _like(rng: Generator, truth: Floats, rho: float, shared: Floats | None = None) -> Floats:
    """Values that agree with the normal ``truth`` by ``rho``; ``shared``: noise of others."""
    noise = rng.normal(size=len(truth)) if shared is None else shared
    return np.asarray(rho * truth + math.sqrt(1 - rho**2) * noise)


def _named(values: list[Floats]) -> dict[str, Floats]:
    return {f"score{k}": v for k, v in enumerate(values)}


def _worthless(rng: Generator, n: int, count: int = MANY) -> st.RunStatistics:
    """Neither scores nor sizes say anything."""
    accuracy, params, macs = rng.normal(size=(3, n))
    return searched(accuracy, params, macs, _named(list(rng.normal(size=(count, n)))))


def _no_sizes(rng: Generator, n: int) -> st.RunStatistics:
    """All networks are equally large, and the scores say nothing."""
    flat = np.zeros(n)
    return searched(rng.normal(size=n), flat, flat, _named(list(rng.normal(size=(MANY, n)))))


def _as_good(rng: Generator, n: int, *, tied: bool = False, count: int = MANY) -> st.RunStatistics:
    """Scores agree with accuracy as well as parameters do; MACs say nothing."""
    truth = rng.normal(size=n)
    columns = [_like(rng, truth, 0.6) for _ in range(count + 1)]
    if tied:
        columns = [np.round(1.2 * c) for c in columns]
    return searched(truth, columns[0], rng.normal(size=n), _named(columns[1:]))


def _nearly_size(rng: Generator, n: int) -> st.RunStatistics:
    """Scores are the parameters with a little noise, which makes them neither better nor worse."""
    truth, noise = rng.normal(size=(2, n))
    near = [0.9 * noise + math.sqrt(1 - 0.81) * rng.normal(size=n) for _ in range(MANY)]
    columns = [_like(rng, truth, 0.6, shared) for shared in near]
    return searched(truth, _like(rng, truth, 0.6, noise), rng.normal(size=n), _named(columns))


def _uneven(rng: Generator, n: int) -> st.RunStatistics:
    """Scores and parameters tell poor networks apart, and good ones not."""
    truth = rng.random(n)
    columns = [truth + truth * rng.normal(size=n) for _ in range(MANY + 1)]
    return searched(truth, columns[0], rng.normal(size=n), _named(columns[1:]))


def _evolved(rng: Generator, n: int, weights: Floats, population: int = 20) -> Floats:
    """(n, columns) what n architectures of a regularized evolution have, by accuracy (column 0).

    Each column depends on three choices of its own, so that columns have nothing to do with each
    other: over the whole space they are independent.
    """
    columns, choices, options = weights.shape
    found, values = np.empty((n, columns, choices), dtype=np.int64), np.empty((n, columns))
    for k in range(n):
        if k < population:
            found[k] = rng.integers(options, size=(columns, choices))
        else:
            few = rng.choice(np.arange(k - population, k), size=5, replace=False)
            found[k] = found[few[np.argmax(values[few, 0])]]
            found[k, rng.integers(columns), rng.integers(choices)] = rng.integers(options)
        own = np.take_along_axis(weights, found[k][..., None], axis=2)[..., 0].sum(axis=1)
        values[k] = own + 0.1 * rng.normal(size=columns)
    return values


def _bred(rng: Generator, n: int, scores: int = MANY) -> st.RunStatistics:
    """An evolution of 2 n trials and n drawn at random; nothing tells of accuracy."""
    weights = rng.normal(size=(3 + scores, 3, 4))
    names = ["accuracy", "params", "macs", *(f"score{k}" for k in range(scores))]
    arms = [_evolved(rng, 2 * n, weights), _evolved(rng, n, weights, population=n)]
    return beside_random(*(dict(zip(names, arm.T, strict=True)) for arm in arms))


def _one_good(rng: Generator, n: int) -> st.RunStatistics:
    """One of the scores is far better than size, the last one far worse."""
    truth = rng.normal(size=n)
    columns = [_like(rng, truth, 0.97), *rng.normal(size=(MANY - 2, n)), _like(rng, truth, -0.5)]
    size = _like(rng, truth, 0.5)
    return searched(truth, size, size + 0.05 * rng.normal(size=n), _named(columns))


def _proxy_text(make: Callable[..., st.RunStatistics]) -> Callable[[int, int], str]:
    @_said
    def text(rng: Generator, n: int) -> str:
        found = px.proxies(make(rng, n))
        assert found is not None
        return " ".join(proxy_sentences(found))

    return text


def _verdict_text(rho_search: float, rho_size: float) -> Callable[[int, int], str]:
    """The search's values beside size; MACs are worse than both."""

    @_said
    def text(rng: Generator, n: int) -> str:
        truth = rng.normal(size=n)
        search, params = _like(rng, truth, rho_search), _like(rng, truth, rho_size)
        judged = sn.judged(with_truth(search, truth, params, _like(rng, truth, rho_size / 2)))
        assert judged is not None
        return truth_verdict(judged, "Inherited weights")

    return text


def _verdict_behind(rho_search: float, rho_size: float) -> Callable[[int, int], str]:
    """The same, and MACs are better than both."""

    @_said
    def text(rng: Generator, n: int) -> str:
        truth = rng.normal(size=n)
        search, params = _like(rng, truth, rho_search), _like(rng, truth, rho_size)
        judged = sn.judged(with_truth(search, truth, params, _like(rng, truth, 0.95)))
        assert judged is not None
        return truth_verdict(judged, "Inherited weights")

    return text


def _size_text(rho: float) -> Callable[[int, int], str]:
    @_said
    def text(rng: Generator, n: int) -> str:
        accuracy = rng.normal(size=n)
        params = _like(rng, accuracy, rho)
        return size_sentence(searched(accuracy, params, params))

    return text


def _gain_text(gain: float, noise: float = 0.3) -> Callable[[int, int], str]:
    """Finalists that differ by themselves; ``n``: finalists and seeds, as 10 k + seeds."""

    @_said
    def text(rng: Generator, n: int) -> str:
        run = with_finals(*_trained_twice(rng, n, gain, noise))
        return tuned_sentence(run, sn.twice(run))

    return text


def _trained_twice(rng: Generator, n: int, gain: float, noise: float) -> tuple[Floats, Floats]:
    """(k, seeds) test accuracies from scratch, where seeds scatter by 1, and from inherited
    weights, where they scatter by ``noise``."""
    k, seeds = divmod(n, 10)
    level = 90 + 3 * rng.normal(size=(k, 1))
    scratch = level + rng.normal(size=(k, seeds))
    return scratch, level + gain + noise * rng.normal(size=(k, seeds))


BETTER = r"(?<!shown to )ranks? better than the number of parameters"
WORSE = r"ranks? worse than the number of parameters"
SIZE_HELPS = r"tend to be better|size explains (most|a part|little)"
_BETTER_SAID = "… ranks better than the number of parameters and the multiply-adds, beyond chance"
_WORSE_SAID = "… ranks worse than the number of parameters … and the multiply-adds …, beyond chance"
_VERDICT_BETTER = "Inherited weights rank better than the number of parameters …, beyond chance"
_VERDICT_WORSE = "Inherited weights rank worse than the number of parameters …, beyond chance"
_GAIN = "a start from inherited weights ends … better than one from scratch"
_LOSS = "a start from inherited weights ends … worse than one from scratch"
_ALIKE = (
    ("both end alike; 1 finalist, 3 seeds", (13,), _gain_text(0.0)),
    ("both end alike; 2 finalists, 2 seeds", (22,), _gain_text(0.0)),
    ("both end alike; 2 finalists, 2 seeds, equal scatter", (22,), _gain_text(0.0, 1.0)),
    ("both end alike; 3 finalists, 3 seeds", (33,), _gain_text(0.0)),
)

_BRED = "unrelated; 2 n networks bred by evolution, n drawn at random"


@_said
def _bred_text(rng: Generator, n: int) -> str:
    return size_sentence(_bred(rng, n, scores=0))


_FALSE = tuple(
    (where, sizes, _proxy_text(make))
    for where, sizes, make in (
        ("14 scores and both sizes are worthless", (12, 40), _worthless),
        ("14 worthless scores, all networks equally large", (12, 40), _no_sizes),
        ("14 scores as good as parameters (rho .58), MACs worthless", (12, 40), _as_good),
        ("the same, rounded to few values", (12, 40), lambda r, n: _as_good(r, n, tied=True)),
        ("one such score", (12, 40), lambda r, n: _as_good(r, n, count=1)),
        ("14 scores that are parameters with some noise", (12, 40), _nearly_size),
        ("14 scores and parameters that tell poor networks apart only", (12, 40), _uneven),
        ("14 worthless scores, 2 n networks bred by evolution, n drawn at random", (12, 40), _bred),
    )
)

CLAIMS: tuple[Claim, ...] = (
    *(Claim(_BETTER_SAID, BETTER, *false) for false in _FALSE),
    *(Claim(_WORSE_SAID, WORSE, *false) for false in _FALSE),
    Claim(_VERDICT_BETTER, BETTER, "inherited weights and parameters agree with the truth alike "
          "(rho .79), MACs less", (12, 40), _verdict_text(0.8, 0.8)),
    Claim(_VERDICT_BETTER, BETTER, "nothing agrees with the truth", (12, 40), _verdict_text(0, 0)),
    Claim(_VERDICT_WORSE, WORSE, "inherited weights and parameters agree with the truth alike "
          "(rho .79), MACs more", (12, 40), _verdict_behind(0.8, 0.8)),
    Claim("larger networks tend to be better", SIZE_HELPS,
          "size and accuracy are unrelated", (12, 40), _size_text(0.0)),
    Claim("larger networks tend to be worse", r"tend(ed)? to be worse",
          "size and accuracy are unrelated", (12, 40), _size_text(0.0)),
    Claim("larger networks tend to be better", SIZE_HELPS, _BRED, (12, 40), _bred_text),
    Claim("larger networks tend to be worse", r"tend(ed)? to be worse", _BRED, (12, 40),
          _bred_text),
    Claim("size explains most of the order", r"explains most", "size explains half of it (tau .5)",
          (12, 40), _size_text(math.sin(math.pi / 4))),
    *(Claim(said, pattern, where, sizes, text)
      for said, pattern in ((_GAIN, r"better than"), (_LOSS, r"worse than"))
      for where, sizes, text in _ALIKE),
)  # fmt: skip
"""In runs where the claim is false."""

POWER: tuple[Claim, ...] = (
    Claim(_BETTER_SAID, r"\bscore0 ranks better than the number of parameters",
          "one of 14 scores has rho .97, parameters .48", (40,), _proxy_text(_one_good)),
    Claim(_WORSE_SAID, rf"\bscore{MANY - 1} ranks worse than the number of parameters",
          "one of 14 scores has rho -.48, parameters .48", (40,), _proxy_text(_one_good)),
    Claim(_VERDICT_BETTER, BETTER, "rho .94, of parameters .48", (40,), _verdict_text(0.95, 0.5)),
    Claim(_VERDICT_WORSE, WORSE, "rho .19, of parameters .89", (40,), _verdict_behind(0.2, 0.9)),
    Claim("larger networks tend to be better", SIZE_HELPS, "tau .5", (40,),
          _size_text(math.sin(math.pi / 4))),
    Claim("larger networks tend to be worse", r"tend(ed)? to be worse", "tau -.5", (40,),
          _size_text(-math.sin(math.pi / 4))),
    Claim("size explains most of the order", r"explains most", "tau .8", (40,), _size_text(0.95)),
    Claim(_GAIN, r"better than", "3 points, seeds scatter by 1; 3 finalists, 3 seeds",
          (33,), _gain_text(3.0)),
    Claim(_LOSS, r"worse than", "3 points, seeds scatter by 1; 3 finalists, 3 seeds",
          (33,), _gain_text(-3.0)),
)  # fmt: skip
"""In runs where it is clearly true: a claim that is never made would be calibrated, too."""


# -- intervals ------------------------------------------------------------------------------------


def rho_of(r: float) -> float:
    """Spearman's rho of a normal distribution."""
    return 6 / math.pi * math.asin(r / 2)


def tau_of(r: float) -> float:
    """Kendall's tau of a normal distribution."""
    return 2 / math.pi * math.asin(r)


Drawn = Callable[[Generator, int], tuple[Floats, Floats]]


def _normal(r: float) -> Drawn:
    def draw(rng: Generator, n: int) -> tuple[Floats, Floats]:
        truth = rng.normal(size=n)
        return truth, _like(rng, truth, r)

    return draw


def _rounded(rng: Generator, n: int) -> tuple[Floats, Floats]:
    truth = rng.normal(size=n)
    return truth, np.round(1.2 * _like(rng, truth, 0.6))


def _two_values(rng: Generator, n: int) -> tuple[Floats, Floats]:
    truth = rng.normal(size=n)
    return truth, (_like(rng, truth, 0.6) > 0).astype(np.float64)


def _poor_only(rng: Generator, n: int) -> tuple[Floats, Floats]:
    truth = rng.random(n)
    return truth, truth + 0.5 * truth * rng.normal(size=n)


@cache
def _population(draw: Drawn, which: int, top: bool = False) -> float:
    """rho (0) or tau (1), also in the best tenth, of what ``draw`` draws, from many draws."""
    from scipy.stats import kendalltau, spearmanr

    truth, score = draw(np.random.default_rng(0), 1_000_000 if top else 100_000)
    if top:
        best = truth >= np.quantile(truth, 0.9)
        truth, score = truth[best], score[best]
    return float((spearmanr, kendalltau)[which](truth, score).statistic)


def _pairs_ends(draw: Drawn, which: int, top: bool = False) -> Callable[..., tuple[float, ...]]:
    """The report's interval of one score; ``which``: 0 for rho, 1 for tau."""

    def ends(rng: Generator, n: int) -> tuple[float, float, float]:
        truth, score = draw(rng, n)
        found = px.proxies(searched(truth, truth, truth, {"score0": score}))
        assert found is not None
        (quality,) = [q for q in found.qualities if q.name == "score0"]
        agreement = quality.top if top else quality.whole
        assert agreement is not None
        shown = agreement.kendall if which else agreement.spearman
        return shown.low, _population(draw, which, top), shown.high

    return ends


def _gap_ends(score: float, size: float, common: float) -> Callable[..., tuple[float, ...]]:
    """Of rho's difference between a score and parameters with partly the same noise."""

    def ends(rng: Generator, n: int) -> tuple[float, float, float]:
        truth, noise = rng.normal(size=(2, n))

        def one(rho: float) -> Floats:
            own = rng.normal(size=n)
            return _like(rng, truth, rho, math.sqrt(common) * noise + math.sqrt(1 - common) * own)

        found = px.proxies(searched(truth, one(size), truth, {"score0": one(score)}))
        assert found is not None
        (quality,) = [q for q in found.qualities if q.name == "score0"]
        gap = quality.beyond["params"]
        return gap.low, rho_of(score) - rho_of(size), gap.high

    return ends


def _size_ends(rng: Generator, n: int) -> tuple[float, float, float]:
    accuracy = rng.normal(size=n)
    params = _like(rng, accuracy, 0.6)
    found = re.search(
        r"95 % interval (-?[\d.]+) to (-?[\d.]+)", size_sentence(searched(accuracy, params, params))
    )
    if found is None:
        return math.nan, tau_of(0.6), math.nan
    return float(found[1]) - 0.005, tau_of(0.6), float(found[2]) + 0.005  # two digits are printed


def _rung_ends(rng: Generator, n: int) -> tuple[float, float, float]:
    late = rng.normal(size=n)
    run = with_rungs(_like(rng, late, 0.6), late)
    rank = rung_counts.rungs(run, "random", ranks=True)[0].rank
    assert rank is not None
    return rank.low, tau_of(0.6), rank.high


def _gain_ends(noise: float) -> Callable[..., tuple[float, ...]]:
    def ends(rng: Generator, n: int) -> tuple[float, float, float]:
        run = with_finals(*_trained_twice(rng, n, 1.0, noise))
        text = tuned_sentence(run, sn.twice(run))
        found = re.search(r"95 % interval ([+-][\d.]+) to ([+-][\d.]+)", text)
        if found is None:
            return math.nan, 1.0, math.nan
        return float(found[1]), 1.0, float(found[2])

    return ends


def _runs(results: list[Mapping[str, object]], protocol: str) -> PageSection:
    (section,) = sections(
        {ComparisonTask(protocol, "cifar10", "random", "x", k): r for k, r in enumerate(results)}
    )
    return section


def _cell_ends(cell: str, truth: float) -> tuple[float, float, float]:
    found = re.fullmatch(r"(-?[\d.e+]+)(?: \([\d.]+\))?(?: ±([\d.e+-]+))?", cell)
    assert found is not None, cell
    mean, half = float(found[1]), float(found[2] or "nan")
    return mean - half, truth, mean + half


Values = Callable[[Generator, int], Floats]


def _bench_ends(values: Values, truth: float) -> Callable[..., tuple[float, ...]]:
    """The cell of `raynas bench`; values scatter by about 1 and are printed with two digits."""

    def ends(rng: Generator, n: int) -> tuple[float, float, float]:
        results = [
            {"best": [(1, 0.0, 1000 + 100 * v)], "top": 2000.0, "seconds": 0.0, "took": 0.0}
            for v in values(rng, n)
        ]
        return _cell_ends(_runs(results, "trainings").rows[0][1], 1000 + 100 * truth)

    return ends


def _band_ends(values: Values, truth: float) -> Callable[..., tuple[float, ...]]:
    """The same in the figure, where regret is drawn."""

    def ends(rng: Generator, n: int) -> tuple[float, float, float]:
        results = [
            {"best": [(200, 0.0, 1000 + 100 * v)], "top": 2000.0, "seconds": 0.0, "took": 0.0}
            for v in values(rng, n)
        ]
        figure = _runs(results, "trainings").figure
        assert figure is not None
        (curve,) = figure.curves
        return float(curve.low[-1]), 1000 - 100 * truth, float(curve.high[-1])

    return ends


def _volume_ends(rng: Generator, n: int) -> tuple[float, float, float]:
    results = [
        {"volume": [100 * v] * 4, "seconds": 0.0, "took": 0.0} for v in rng.beta(8, 2, size=n)
    ]
    return _cell_ends(_runs(results, "pareto").rows[0][1], 80.0)


def _hours_ends(rng: Generator, n: int) -> tuple[float, float, float]:
    results = [{"hours": h, "took": 0.0} for h in rng.exponential(100.0, size=n)]
    figure = _runs(results, "cluster").figure
    assert figure is not None
    (curve,) = figure.curves  # the cell has the same in two or three digits
    return float(curve.low[0]), 100.0, float(curve.high[0])


def _gauss(rng: Generator, n: int) -> Floats:
    return rng.normal(size=n)


def _best_of(rng: Generator, n: int) -> Floats:
    return np.asarray(rng.normal(size=(n, 25)).max(axis=1))


def _half_perfect(rng: Generator, n: int) -> Floats:
    return np.asarray(-np.where(rng.random(n) < 0.5, 0.0, rng.exponential(size=n)))


BEST_OF_25 = 1.965315  # mean of the highest of 25 normal values, by quadrature

_GAP = "difference in rho to parameters"
_RHO, _TAU = "Spearman's rho of a score", "Kendall's tau of a score"
_AGREEMENTS: tuple[tuple[str, Drawn, tuple[int, ...]], ...] = (
    ("normal, rho 0", _normal(0.0), (12, 40)),
    ("normal, rho .58", _normal(0.6), (12, 40)),
    ("normal, rho .89", _normal(0.9), (12, 40)),
    ("normal, rho .99", _normal(0.99), (12, 40)),
    ("score rounded to few values", _rounded, (12, 40)),
    ("score of two values", _two_values, (12, 40)),
    ("score tells poor networks apart only", _poor_only, (12, 40)),
)
_BENCH: tuple[tuple[str, Values, float], ...] = (
    ("normal", _gauss, 0.0),
    ("best of 25 normal values", _best_of, BEST_OF_25),
    ("half at the optimum, others exponential", _half_perfect, -0.5),
)

INTERVALS: tuple[Interval, ...] = (
    *(Interval(_RHO, t, sizes, _pairs_ends(draw, 0)) for t, draw, sizes in _AGREEMENTS),
    *(Interval(_TAU, t, sizes, _pairs_ends(draw, 1)) for t, draw, sizes in _AGREEMENTS),
    Interval("rho in the true best tenth (n: of all)", "normal, rho .58 of all", (120, 400),
             _pairs_ends(_normal(0.6), 0, top=True)),
    Interval("tau there", "normal, rho .58 of all", (120, 400),
             _pairs_ends(_normal(0.6), 1, top=True)),
    Interval(_GAP, "rho .58 and .58", (12, 40), _gap_ends(0.6, 0.6, 0)),
    Interval(_GAP, "rho .79 and .48, half the noise in common", (12, 40), _gap_ends(0.8, 0.5, 0.5)),
    Interval(_GAP, "rho .58 and 0", (12, 40), _gap_ends(0.6, 0.0, 0)),
    Interval("tau of parameters with accuracy", "normal, tau .41", (12, 40), _size_ends),
    Interval("tau of a rung with the end", "normal, tau .41", (12, 40), _rung_ends),
    Interval("gain of a start from inherited weights (n: finalists, seeds)",
             "seeds scatter by 1 and .3", (13, 22, 33), _gain_ends(0.3)),
    Interval("gain of a start from inherited weights (n: finalists, seeds)",
             "seeds scatter by 1 and 1", (13, 22, 33), _gain_ends(1.0)),
    *(Interval("`raynas bench`: test accuracy ±", t, (5, 20, 100), _bench_ends(v, mean))
      for t, v, mean in _BENCH),
    Interval("`raynas bench`: band of the regret", "best of 25 normal values", (5, 20),
             _band_ends(_best_of, BEST_OF_25)),
    Interval("`raynas bench`: hypervolume ±", "beta (8, 2)", (5, 20, 100), _volume_ends),
    Interval("`raynas bench`: hours to the goal ±", "exponential", (5, 20, 100), _hours_ends),
)  # fmt: skip
