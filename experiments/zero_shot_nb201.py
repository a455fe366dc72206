"""Score N cells, keep the best: how good is what a proxy finds on NAS-Bench-201 without training?

`raynas run experiments/zero_shot_nb201.py` is one such search for a user: 1,000 random cells, the
best by NASWOT is trained by the benchmark's recipe. The published protocol repeats the draw 500
times and looks the accuracy up, so

    python experiments/zero_shot_nb201.py [runs/proxy_correlation_nb201]

does it with stored scores of all cells (without a run: those in experiments/nb201/) for every
proxy and the ensemble, N = 10, 100, 1000, three data sets, the published rows beside ours.
`--choose` shows how the ensemble was chosen: by CIFAR-10 validation accuracy alone.
Expected: the ensemble finds 94.0, 72.3 and 45.7 % among 1,000 cells, every proxy alone less; see
LOG.md. Time and hardware: the tables take two minutes; the search with its training
about an hour on one GPU. Data: as for cifar10.py, and the benchmark's nb201.parquet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from itertools import combinations, product, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raynas.cli.main import run_script
from raynas.core import Cascade, Ensemble, Objective
from raynas.core.ranks import log_rank_sum, ranks
from raynas.data import CIFAR10
from raynas.evaluators import Retrain, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import NASWOT, proxies
from raynas.samplers import Random
from raynas.spaces import NASBench201
from raynas.training import NASBENCH201

if TYPE_CHECKING:
    from nb201.table import Ranking

Floats = NDArray[np.float64]

ENSEMBLE = Cascade(
    Ensemble(
        ("epe_nas", "zen", "meco", "aznas_expressivity", "aznas_trainability"), (1, 1, 2, 1, 2)
    ),
    Ensemble(("zen",)),
    share=0.05,
)
AGREES = 0.915
"""The least rho with validation accuracy of an ensemble that `--choose` looks at further."""
DRAWS = (10, 100, 1000)
PUBLISHED = {
    ("naswot", 10): ("92.44 1.13", "68.62 2.04", "41.31 4.11"),
    ("naswot", 100): ("92.81 0.99", "69.48 1.70", "43.10 3.16"),
    ("naswot", 1000): ("92.96 0.81", "69.98 1.22", "44.44 2.10"),
    ("epe_nas", 10): ("92.63 0.32", "70.10", "41.92"),
    ("epe_nas", 1000): ("91.31 1.69", "69.58", "41.84"),
    ("TE-NAS", 0): ("93.90 0.47", "71.24 0.56", "42.38 0.46"),
}
"""Test accuracy, mean and standard deviation; (method, N)."""


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=CIFAR10(valid_share=0.5),
        evaluator=ZeroShot((NASWOT(),), batch=128),
        sampler=Random(),
        objectives=(Objective("naswot"),),
        budget=Budget(trials=1000),
        finalists=Finalists(top=1, seeds=1, evaluator=Retrain(NASBENCH201)),
        baselines=(),
        smoke={
            "space.channels": 4,
            "space.cells": 1,
            "budget.trials": 4,
            "evaluator.batch": 16,
            "finalists.evaluator.recipe.epochs": 1,
            "data.subset": 256,
        },
    )


class Draws:
    """The protocol: N different cells of the 15,625, the best by a score, its test accuracy.

    Isomorphic cells share a score, not an accuracy: each was trained in its own right. Cells whose
    class is not among ``scored`` are not drawn; what lacks a score ranks lowest.
    """

    def __init__(
        self, columns: Mapping[str, NDArray[np.float64]], scored: list[str],
        truth: dict[str, dict[str, float]], names: tuple[str, ...],
    ) -> None:  # fmt: skip
        from nb201.table import cells_of

        cells, self._rows = cells_of(scored)
        self._truth = np.array([[truth[cell][name] for name in names] for cell in cells])
        self._columns = columns
        self.cells = len(cells)

    def found(
        self, parts: tuple[str, ...], ranking: Ranking, n: int, repeats: int, seed: int = 0
    ) -> NDArray[np.float64]:
        """(repeats, data sets): percent of the best by ``ranking``, among the n cells drawn."""
        results = []
        for repeat in range(repeats):
            rng = np.random.default_rng((seed, n, repeat))
            chosen = rng.choice(self.cells, n, replace=False)
            total = ranking({part: self._columns[part][self._rows[chosen]] for part in parts})
            total = np.nan_to_num(total, nan=-np.inf)
            best = np.flatnonzero(total == total.max())
            results.append(self._truth[chosen[rng.choice(best)]])
        return np.array(results)

    def of_cells(self, parts: Iterable[str]) -> dict[str, Floats]:
        """Scores of all cells that may be drawn: each has its class's."""
        return {part: self._columns[part][self._rows] for part in parts}

    def mean_found(self, values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        """(data sets,): the mean over all draws of n cells, given a value for each cell.

        Of N cells in order the k-th is the best of the draw with probability
        C(N - k, n - 1) / C(N, n); the cells of a tie have the mean of their accuracies.
        """
        order = np.argsort(-values, kind="stable")
        k = np.arange(self.cells - n + 1)
        first = n / (self.cells - k)  # drawn, if none before it is
        share = first * np.cumprod(np.r_[1.0, 1 - first[:-1]])
        _, tie, counts = np.unique(-values[order], return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), self._truth.shape[1]))
        np.add.at(sums, tie, self._truth[order])
        means = (sums / counts[:, None])[tie][: len(share)]
        return np.asarray(share @ means, dtype=np.float64)


def choose(draws: Draws, columns: Mapping[str, Floats], valid: Floats) -> None:
    """Print the ensembles and cascades that CIFAR-10 validation accuracy alone speaks for.

    Ensembles of three to five scores of weight 1 or 2, by Spearman's rho over classes; then, of
    those above ``AGREES``, cascades in which one score reorders the best share, by what they find
    among 1,000 cells.
    """
    from rich.progress import track

    names = [name for name in columns if name not in ("macs", "aznas_complexity")]
    known = ~np.any([np.isnan(columns[name]) for name in names], axis=0)
    logs = {name: log_rank_sum([columns[name][known]]) for name in names}
    truth = ranks(valid[known])
    rhos = {}
    sets = [parts for size in (3, 4, 5) for parts in combinations(names, size)]
    for parts in track(sets, "ensembles", transient=True):
        for weights in product((1.0, 2.0), repeat=len(parts)):
            if 1.0 in weights:  # all 2: the same as all 1
                total = sum(w * logs[part] for part, w in zip(parts, weights, strict=True))
                rhos[parts, weights] = float(np.corrcoef(ranks(total), truth)[0, 1])
    print("by Spearman's rho with CIFAR-10 validation accuracy:")
    best = sorted(rhos, key=lambda made: -rhos[made])
    for made in best[:10]:
        print(f"{rhos[made]:.4f}  {words(Ensemble(*made))}")
    n = min(DRAWS[-1], draws.cells)
    of_cells = draws.of_cells(names)
    found = []
    for made in track([m for m in best if rhos[m] >= AGREES], "cascades", transient=True):
        for name, share in product(names, (0.02, 0.05, 0.1)):
            cascade = Cascade(Ensemble(*made), Ensemble((name,)), share)
            found.append((draws.mean_found(cascade(of_cells), n)[0], rhos[made], cascade))
    print(f"by the CIFAR-10 validation accuracy found among {n} cells, rho >= {AGREES}:")
    for value, rho, cascade in sorted(found, key=lambda f: -f[0])[:10]:
        print(f"{value:.3f}  {rho:.4f}  {words(cascade)}")


def words(ranking: Ensemble | Cascade) -> str:
    """``a x b^2, best 5 % by c``."""
    if isinstance(ranking, Cascade):
        return f"{words(ranking.first)}, best {ranking.share:.0%} by {words(ranking.then)}"
    powers = ("" if weight == 1 else f"^{weight:g}" for weight in ranking.weights)
    named = zip_longest(ranking.parts, powers, fillvalue="")
    return " x ".join(part + power for part, power in named)


def main() -> None:
    from nb201.table import ACCURACIES, SCORES, accuracies, cells_of, rankings, scores
    from rich.console import Console
    from rich.table import Table
    from scipy.stats import spearmanr

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path, nargs="?", default=SCORES,
                         help="folder of the run, or a Parquet file of scores")  # fmt: skip
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    options.add_argument("--repeats", type=int, default=500)
    options.add_argument("--choose", action="store_true", help="how the ensemble was chosen")
    given = options.parse_args()

    stored, truth = scores(given.run), accuracies(given.table)
    cells = list(stored["arch"])
    columns = {name: stored[name] for name in stored if name != "arch"}
    if given.choose:
        valid = np.array([truth[cell]["cifar10_valid"] for cell in cells])
        choose(Draws(columns, cells, truth, ("cifar10_valid",)), columns, valid)
        return
    ranked = rankings(stored, [cls() for cls in proxies().values()])
    draws = Draws(columns, cells, truth, ACCURACIES)
    console = Console(width=110)
    console.print(f"{len(cells)} classes scored, {draws.cells} cells to draw from")
    if all(part in columns for part in ENSEMBLE.parts):
        ranked["ensemble"] = (ENSEMBLE.parts, ENSEMBLE)
        goal = np.array([[truth[cell][name] for name in ACCURACIES] for cell in cells])
        known = ~np.any([np.isnan(columns[part]) for part in ENSEMBLE.parts], axis=0)
        total = ENSEMBLE({part: columns[part][known] for part in ENSEMBLE.parts})
        each, rows = cells_of(cells)
        placed, kept = (np.cumsum(known) - 1)[rows], known[rows]
        every = np.array([[truth[cell][name] for name in ACCURACIES] for cell in each])
        console.print(f"ensemble: {words(ENSEMBLE)}", soft_wrap=True)
        for what, a, b in (
            ("classes", total, goal[known]), ("cells", total[placed[kept]], every[kept])
        ):  # fmt: skip
            rhos = ", ".join(f"{spearmanr(a, of).statistic:.4f}" for of in b.T)
            console.print(f"its Spearman's rho over {len(a)} {what}: {rhos}")
    table = Table(title=f"test accuracy, mean and std of {given.repeats} repeats", box=None)
    for name in ("ranked by", "N", *ACCURACIES, "published"):
        table.add_column(name, justify="right" if name != "ranked by" else "left")
    for name, (parts, ranking) in ranked.items():
        for n in (n for n in DRAWS if n <= draws.cells):
            found = draws.found(parts, ranking, n, given.repeats)
            shown = (f"{m:.2f} {s:.2f}" for m, s in zip(found.mean(0), found.std(0), strict=True))
            table.add_row(name, str(n), *shown, " | ".join(PUBLISHED.get((name, n), ())))
    table.add_row("TE-NAS", "", "", "", "", " | ".join(PUBLISHED["TE-NAS", 0]))
    console.print(table)


if __name__ == "__main__":
    run_script(main)
