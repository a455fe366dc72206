"""Score N cells, keep the best: how good is what a proxy finds on NAS-Bench-201 without training?

`raynas run experiments/zero_shot_nb201.py` is one such search for a user: 1,000 random cells, the
best by NASWOT is trained by the benchmark's recipe. The published protocol repeats the draw 500
times and looks the accuracy up, so

    python experiments/zero_shot_nb201.py runs/proxy_correlation_nb201

does it with the stored scores of all cells (see proxy_correlation_nb201.py) for every proxy and
the ensemble, N = 10, 100, 1000, three data sets, the published rows beside ours.
`--choose` shows how the ensemble was chosen: by Spearman's rho with CIFAR-10 validation accuracy
alone, over all sets of up to five scores.
Expected: see LOG.md. Time and hardware: the tables take a minute; the search with its training
about an hour on one GPU. Data: as for cifar10.py, and the benchmark's nb201.parquet.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raynas.core import Ensemble, Objective
from raynas.core.ranks import log_rank_sum
from raynas.data import CIFAR10
from raynas.evaluators import Retrain, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import NASWOT, proxies
from raynas.samplers import Random
from raynas.spaces import NASBench201
from raynas.training import NASBENCH201

ENSEMBLE = Ensemble(("jacob_cov", "zen", "aznas_expressivity", "aznas_trainability", "meco"))
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
        against=(),
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
    class has no score are not drawn.
    """

    def __init__(
        self, columns: dict[str, NDArray[np.float64]], scored: list[str],
        truth: dict[str, dict[str, float]], names: tuple[str, ...],
    ) -> None:  # fmt: skip
        from nb201.table import cells_of

        cells, self._rows = cells_of(scored)
        self._truth = np.array([[truth[cell][name] for name in names] for cell in cells])
        self._columns = columns
        self.cells = len(cells)

    def found(
        self, parts: tuple[str, ...], n: int, repeats: int, seed: int = 0
    ) -> NDArray[np.float64]:
        """(repeats, data sets): percent of what the log-ranks of ``parts`` find among n cells."""
        results = []
        for repeat in range(repeats):
            rng = np.random.default_rng((seed, n, repeat))
            chosen = rng.choice(self.cells, n, replace=False)
            some = [self._columns[part][self._rows[chosen]] for part in parts]
            total = log_rank_sum(some) if len(some) > 1 else np.nan_to_num(some[0], nan=-np.inf)
            best = np.flatnonzero(total == total.max())
            results.append(self._truth[chosen[rng.choice(best)]])
        return np.array(results)


def choose(columns: dict[str, NDArray[np.float64]], valid: NDArray[np.float64]) -> None:
    """Print the sets of up to five scores that agree best with CIFAR-10 validation accuracy."""
    from scipy.stats import spearmanr

    names = [name for name in columns if name not in ("macs", "aznas_complexity")]
    logs = {name: log_rank_sum([columns[name]]) for name in names}
    found = []
    for size in range(1, 6):
        for parts in combinations(names, size):
            total = np.sum([logs[part] for part in parts], axis=0)
            found.append((float(spearmanr(total, valid).statistic), parts))
    for rho, parts in sorted(found, reverse=True)[:20]:
        print(f"{rho:.4f}  {' '.join(parts)}")


def main() -> None:
    from nb201.table import ACCURACIES, accuracies, scores, usable
    from rich.console import Console
    from rich.table import Table
    from scipy.stats import spearmanr

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path, help="folder of the run, or a Parquet file of scores")
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    options.add_argument("--repeats", type=int, default=500)
    options.add_argument("--choose", action="store_true", help="how the ensemble was chosen")
    given = options.parse_args()

    stored, truth = scores(given.run), accuracies(given.table)
    cells = list(stored["arch"])
    columns = {name: stored[name] for name in stored if name != "arch"}
    if given.choose:
        choose(columns, np.array([truth[cell]["cifar10_valid"] for cell in cells]))
        return
    rankings = {name: (name,) for name in usable(stored, [cls() for cls in proxies().values()])}
    columns |= usable(stored, [cls() for cls in proxies().values()])
    rankings["ensemble"] = ENSEMBLE.parts
    draws = Draws(columns, cells, truth, ACCURACIES)
    goal = np.array([[truth[cell][name] for name in ACCURACIES] for cell in cells])
    out, console = ENSEMBLE(columns), Console(width=110)
    rhos = [spearmanr(out, goal[:, i]).statistic for i in range(len(ACCURACIES))]
    console.print(f"{len(cells)} classes scored, {draws.cells} cells to draw from")
    shown = ", ".join(f"{rho:.4f}" for rho in rhos)
    console.print(f"ensemble {' x '.join(ENSEMBLE.parts)}: Spearman {shown}", soft_wrap=True)
    table = Table(title=f"test accuracy, mean and std of {given.repeats} repeats", box=None)
    for name in ("ranked by", "N", *ACCURACIES, "published"):
        table.add_column(name, justify="right" if name != "ranked by" else "left")
    for name, parts in rankings.items():
        for n in (n for n in DRAWS if n <= draws.cells):
            found = draws.found(parts, n, given.repeats)
            shown = (f"{m:.2f} {s:.2f}" for m, s in zip(found.mean(0), found.std(0), strict=True))
            table.add_row(name, str(n), *shown, " | ".join(PUBLISHED.get((name, n), ())))
    table.add_row("TE-NAS", "", "", "", "", " | ".join(PUBLISHED["TE-NAS", 0]))
    console.print(table)


if __name__ == "__main__":
    main()
