"""Do zero-shot proxies rank the cells of NAS-Bench-201 as training does, and better than size?

`raynas run experiments/proxy_correlation_nb201.py` scores all 6,466 different cells (C = 16,
N = 5) with every proxy on one batch of CIFAR-10 training images and stores the scores. Then

    python experiments/proxy_correlation_nb201.py [runs/proxy_correlation_nb201]

(without a run: from the scores in experiments/nb201/) prints Spearman's rho with the benchmark's
three test accuracies, with 95 % intervals over classes, beside the published values and beside
the numbers of weights and multiply-adds. Published values are over the 15,625 cells, of which
simple ones are isomorphic to many others: hence the column "of all cells", in which every cell
has its class's score; of a sample, a class stands for others of about as many cells, and ours is
joined by all large classes. The script reads the benchmark's accuracies from `nb201.parquet` in
$RAYNAS_DATA (columns: arch, cifar10_test, ...).
Expected: MeCo near .9, NASWOT, ZiCo and the Jacobian covariance near .8, params and MACs .75 to
.79: few proxies beat counting.
Time and hardware: 4 to 6 s a cell and core for all proxies (GraSP and TE-NAS are half of it), so
five hours on 2 cores; `--set budget.trials=500` gives a random sample in 20 minutes, since cells
come in random order. Data: as for cifar10.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raynas.cli.main import run_script
from raynas.core import Objective
from raynas.data import CIFAR10
from raynas.evaluators import ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import (
    AZNAS,
    EPENAS,
    NASWOT,
    SNIP,
    TENAS,
    Fisher,
    GradNorm,
    GraSP,
    JacobCov,
    L2Norm,
    MeCo,
    Plain,
    SynFlow,
    ZenScore,
    ZiCo,
)
from raynas.samplers import Random
from raynas.spaces import NASBench201

if TYPE_CHECKING:
    from nb201.table import Columns

PROXIES = (
    NASWOT(), JacobCov(), EPENAS(), SynFlow(), SNIP(), GradNorm(), Fisher(), Plain(), L2Norm(),
    ZenScore(), ZiCo(), MeCo(), AZNAS(), GraSP(), TENAS(),
)  # fmt: skip

PUBLISHED = {
    "params": (0.75, 0.73, 0.69),
    "macs": (0.73, 0.71, 0.67),
    "synflow": (0.74, 0.76, 0.75),
    "jacob_cov": (0.73, 0.70, 0.70),
    "naswot": (0.77, 0.80, 0.78),
    "snip": (0.60, 0.64, 0.58),
    "grad_norm": (0.59, 0.64, 0.58),
    "grasp": (0.51, 0.55, 0.55),
    "fisher": (0.36, 0.39, 0.33),
    "l2_norm": (0.73, 0.75, 0.74),
    "plain": (-0.26, -0.27, -0.26),
    "epe_nas": (0.67, 0.42, 0.10),
    "zen": (0.39, 0.36, 0.40),
    "zico": (0.80, 0.81, 0.79),
    "meco": (0.89, 0.88, 0.85),
    "aznas": (0.913, 0.900, 0.886),
}
"""Spearman with CIFAR-10, CIFAR-100, ImageNet16-120 test accuracy; the lowest published value."""


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=CIFAR10(),
        evaluator=ZeroShot(PROXIES, batch=64),
        sampler=Random(),
        objectives=(Objective("params"),),  # every cell has one: none fails for want of a score
        budget=Budget(trials=6466),
        finalists=Finalists(top=0),
        baselines=(),
        smoke={
            "space.channels": 4,
            "space.cells": 1,
            "budget.trials": 4,
            "evaluator.batch": 16,
            "data.subset": 256,
        },
    )


def main() -> None:
    from nb201.table import LARGE, SAMPLE, SCORES, accuracies, scores

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("runs", type=Path, nargs="*", default=[SCORES, SAMPLE],
                         help="folders of runs, or Parquet files of scores")  # fmt: skip
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    given = options.parse_args()

    truth = accuracies(given.table)
    for run in given.runs:
        show(scores(run), truth, scores(LARGE) if run == SAMPLE else {})


def show(found: Columns, truth: dict[str, dict[str, float]], large: Columns) -> None:
    """Print the table for these scores; ``large``: more classes for the column of all cells."""
    from nb201.table import ACCURACIES, cells_of, usable
    from rich.console import Console
    from rich.table import Table

    from raynas.reports import rank_qualities

    classes = list(found["arch"])
    columns = usable(found, PROXIES)
    of_cells = over_cells([found, large] if large else [found], truth)
    count = len(cells_of(classes)[0])
    table = Table(title=f"{len(classes)} classes of isomorphic cells, {count} cells", box=None)
    for name in (
        "Spearman's rho", "n", *ACCURACIES, "of all cells", "published", "tau top 10 %", "P@5 %"
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "Spearman's rho" else "right")
    qualities = [
        {q.name: q for q in rank_qualities(
            columns, [truth[cell][name] for cell in classes]
        )}
        for name in ACCURACIES
    ]  # fmt: skip
    first = qualities[0]
    for name in sorted(first, key=lambda n: -first[n].whole.spearman.value):
        rhos = [q[name].whole.spearman for q in qualities]
        top = first[name].top
        table.add_row(
            name,
            str(first[name].whole.n),
            *(f"{r.value:.3f} [{r.low:.2f} {r.high:.2f}]" for r in rhos),
            " ".join(f"{rho:.2f}" for rho in of_cells[name]),
            " ".join(f"{rho:.2f}" for rho in PUBLISHED.get(name, ())),
            f"{top.kendall.value:.2f}" if top else "",
            f"{first[name].precision:.2f}",
        )
    Console(width=140).print(table)


def over_cells(
    parts: Sequence[Columns], truth: dict[str, dict[str, float]]
) -> dict[str, list[float]]:
    """Ranking -> Spearman's rho with each accuracy, an estimate for all 15,625 cells."""
    from nb201.table import ACCURACIES, cells_of, stands_for, usable

    from raynas.analysis.ranking import spearman_draws

    shared = set.intersection(*map(set, parts))
    columns = usable({name: np.concatenate([p[name] for p in parts]) for name in shared}, PROXIES)
    first = usable(parts[0], PROXIES)  # proxies of which the large classes have no scores, too
    found = {}
    for name in first:
        scored = columns.get(name, first[name])
        classes = np.concatenate([p["arch"] for p in parts])[: len(scored)]
        cells, rows = cells_of(list(classes))
        known = np.isfinite(scored[rows])
        weights = stands_for(np.bincount(rows))[rows][None, known]
        goals = [np.array([truth[cell][a] for cell in cells])[known] for a in ACCURACIES]
        found[name] = [
            float(spearman_draws(weights, scored[rows][known], goal)[0]) for goal in goals
        ]
    return found


if __name__ == "__main__":
    run_script(main)
