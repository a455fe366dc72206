"""Does screening by zero-shot scores help a search that trains equally many networks?

`raynas run experiments/screening_nb201.py` is one such search for a user: TPE proposes cells of
NAS-Bench-201, AZ-NAS ranks each batch of 16, and the best four are trained for 12 epochs. Whether
that pays is a question for many seeds, so

    python experiments/screening_nb201.py --seeds 100

asks the benchmark's table instead of training: TPE alone against TPE with screening, the same
search, the same seeds, the same number of trainings. A training gives the validation accuracy of
200 epochs; shown is the test accuracy of the best by validation, mean over seeds, and the mean
difference from TPE alone with its 95 % interval (bootstrap over seeds, in pairs). The scores are
those of experiments/nb201/ (CIFAR-10 images, whatever the data set of the search). The ensemble of
zero_shot_nb201.py was chosen by accuracies of CIFAR-10, so there its row shows nothing.
Expected: see LOG.md. Time and hardware: the table three quarters of an hour on one core (`--jobs`
for more); the search with its training a GPU day. Data: as for cifar10.py, and the benchmark's
nb201.parquet.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.cli.main import run_script
from raynas.core import Architecture, Ensemble, Metric, Objective, Ranking
from raynas.data import CIFAR10
from raynas.evaluators import FunctionEvaluator, Retrain, Screen, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.proxies import AZNAS
from raynas.samplers import TPE, Random, Sampler
from raynas.schedulers import NoStopping
from raynas.spaces import NASBench201
from raynas.training import NASBENCH201, NASBENCH201_12

if TYPE_CHECKING:
    from rich.table import Table

AT = (5, 10, 20, 50)
"""Numbers of trainings after which the search is judged."""
DATASETS = ("cifar10", "cifar100", "imagenet16")
Floats = NDArray[np.float64]


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=CIFAR10(valid_share=0.5),
        evaluator=Retrain(NASBENCH201_12),
        sampler=TPE(),
        screen=Screen(ZeroShot((AZNAS(),), batch=64), keep=0.25, batch=16),
        budget=Budget(trials=50),
        finalists=Finalists(top=1, seeds=3, evaluator=Retrain(NASBENCH201)),
        baselines=(),
        smoke={
            "space.channels": 4,
            "space.cells": 1,
            "budget.trials": 2,
            "screen.batch": 4,
            "screen.evaluator.batch": 16,
            "evaluator.recipe.epochs": 1,
            "finalists.seeds": 1,
            "finalists.evaluator.recipe.epochs": 1,
            "data.subset": 256,
        },
    )


def arms() -> dict[str, tuple[Sampler, Ranking | None]]:
    """Name -> what proposes, and what ranks the proposals."""
    from zero_shot_nb201 import ENSEMBLE

    aznas = Ensemble(("aznas_expressivity", "aznas_progressivity", "aznas_trainability", "macs"))
    return {
        "tpe": (TPE(), None),
        "tpe, params": (TPE(), Ensemble(("params",))),
        "tpe, naswot": (TPE(), Ensemble(("naswot",))),
        "tpe, synflow": (TPE(), Ensemble(("synflow",))),
        "tpe, aznas": (TPE(), aznas),
        "tpe, ensemble": (TPE(), ENSEMBLE),
        "random": (Random(), None),
        "random, aznas": (Random(), aznas),
    }


class Lookup:
    """An architecture's row in a table instead of its training or scoring."""

    def __init__(self, rows: dict[str, dict[str, float]]) -> None:
        self.rows = rows

    def __call__(self, arch: Architecture) -> dict[str, float]:
        return self.rows[arch.text]


Rows = dict[str, dict[str, float]]


@cache
def known(run: Path, table: Path | None) -> tuple[Rows, Rows]:
    """Scores and accuracies: architecture -> name -> value. Once per process."""
    from nb201.table import accuracies, scores

    stored = scores(run)
    names = [name for name in stored if name not in ("arch", "params", "macs")]
    scored = {
        arch: {name: float(stored[name][i]) for name in names}
        for i, arch in enumerate(stored["arch"])
    }
    columns = [f"{dataset}_{part}" for dataset in DATASETS for part in ("valid", "test")]
    return scored, accuracies(table, columns)


def trained(task: tuple[str, str, int], run: Path, table: Path | None, trainings: int) -> Floats:
    """(len(AT),) test accuracy after so many trainings of this arm, data set and seed."""
    from raynas.data import Digits
    from raynas.runners.local import LocalRunner
    from raynas.search.builder import SearchSetup, build_search
    from raynas.search.context import EvaluationContext, SearchLimits
    from raynas.search.screening import ProposalScreening

    name, dataset, seed = task
    scores, truth = known(run, table)
    sampler, ranking = arms()[name]
    space, view = NASBench201(), Digits(subset=64).search_view(0)
    value = {arch: {"val_accuracy": row[f"{dataset}_valid"]} for arch, row in truth.items()}
    screening = None
    if ranking is not None:
        metrics = tuple(Metric(part, "score", "max") for part in next(iter(scores.values())))
        scorer = FunctionEvaluator(Lookup(scores), metrics=metrics)
        screen = Screen(scorer, keep=0.25, batch=16, by=ranking)
        screening = ProposalScreening(
            screen, partial(LocalRunner().evaluate, EvaluationContext(space, scorer, view))
        )
    rows: list[Any] = []
    setup = SearchSetup(
        EvaluationContext(space, FunctionEvaluator(Lookup(value)), view),
        _Rows(rows),
        stage="search",
        arm=name,
        objectives=(Objective(),),
        seed=seed,
    )
    work = build_search(
        setup,
        sampler=sampler,
        fallback=Random(),
        scheduler=NoStopping(),
        limits=SearchLimits(trainings),
        run="screening",
        screening=screening,
    )
    LocalRunner().run(work)
    order = [row["arch"] for row in rows if row["step"] == 1]
    valid = [truth[arch][f"{dataset}_valid"] for arch in order]
    best = [order[int(np.argmax(valid[:n]))] for n in AT if n <= trainings]
    return np.array([truth[arch][f"{dataset}_test"] for arch in best])


class _Rows:
    def __init__(self, kept: list[Any]) -> None:
        self.kept = kept

    def append(self, rows: Sequence[Any]) -> None:
        self.kept.extend(rows)


def interval(gaps: Floats, resamples: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).integers(len(gaps), size=(resamples, len(gaps)))
    low, high = np.percentile(gaps[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def shown(dataset: str, found: dict[str, Floats]) -> Table:
    """``found``: arm -> (seeds, numbers of trainings)."""
    from rich.table import Table

    base = found["tpe"]
    at = AT[: base.shape[1]]
    table = Table(title=f"{dataset}: test accuracy, {len(base)} seeds; gain on TPE", box=None)
    table.add_column("trainings")
    for n in at:
        table.add_column(str(n), justify="right")
    for name, values in found.items():
        cells = []
        for i in range(len(at)):
            low, high = interval(values[:, i] - base[:, i])
            gain = (values[:, i] - base[:, i]).mean()
            more = "" if name == "tpe" else f"  {gain:+.2f} [{low:+.2f} {high:+.2f}]"
            cells.append(f"{values[:, i].mean():.2f}{more}")
        table.add_row(name, *cells)
    return table


def main() -> None:
    from nb201.table import SCORES
    from rich.console import Console
    from rich.progress import track

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("scores", type=Path, nargs="?", default=SCORES,
                         help="folder of a run, or a Parquet file of scores")  # fmt: skip
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    options.add_argument("--seeds", type=int, default=100)
    options.add_argument("--trainings", type=int, default=AT[-1])
    options.add_argument("--jobs", type=int, default=1)
    given = options.parse_args()

    known(given.scores, given.table)  # what is missing is said before anything runs
    one = partial(trained, run=given.scores, table=given.table, trainings=given.trainings)
    tasks = [(name, d, seed) for d in DATASETS for name in arms() for seed in range(given.seeds)]
    with ProcessPoolExecutor(given.jobs) as pool:
        results = list(track(pool.map(one, tasks, chunksize=4), "searches", len(tasks)))
    for dataset in DATASETS:
        found = {
            name: np.array([r for r, task in zip(results, tasks, strict=True)
                            if task[:2] == (name, dataset)])
            for name in arms()
        }  # fmt: skip
        Console(width=140).print(shown(dataset, found))


if __name__ == "__main__":
    run_script(main)
