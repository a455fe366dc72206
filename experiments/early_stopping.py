"""Does prediction of learning curves save more epochs than ASHA, and what does it lose?

    python experiments/early_stopping.py make digits FILE     # 100 trainings of 12 epochs
    python experiments/early_stopping.py make fashion FILE    # 80 trainings of 15 epochs
    python experiments/early_stopping.py [FILE ...] [--orders 100] [--workers 1]
    raynas run experiments/early_stopping.py                  # a search under it, on the digits

The first two train random cells of NAS-Bench-201 to the end and write their curves
(curves_digits.jsonl beside this file holds 81 of the first). The last replays such curves, and
synthetic ones with a known optimum, in random orders through each scheduler: epochs spent, and how
far the best trial that was measured to the end is below the best of all. `--at 200 400` shows the
regret after so many epochs, too.
Expected: see LOG.md. Time and hardware: digits four minutes and fashion a quarter of an hour on a
core, a replay a minute. Data: Fashion-MNIST as for fashion_mnist.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raynas.benchmarks import Synthetic
from raynas.cli.main import run_script
from raynas.core import (
    Architecture,
    Decision,
    Job,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    seed_for,
)
from raynas.data import Dataset, Digits, FashionMNIST
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment
from raynas.samplers import TPE
from raynas.schedulers import ASHA, CurvePrediction, NoStopping, Scheduler
from raynas.spaces import NASBench201
from raynas.training import Recipe

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float64]
SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "none": NoStopping,
    "ASHA, factor 3": ASHA,
    "ASHA, factor 2": lambda: ASHA(factor=2),
    "ASHA, factor 3 from step 3": lambda: ASHA(min_step=3),
    "curves, best 3, 95 %": CurvePrediction,
    "curves, best 1, 95 %": lambda: CurvePrediction(best=1),
    "curves, best 1, 80 %": lambda: CurvePrediction(best=1, confidence=0.8),
    "curves, best 3, 80 %": lambda: CurvePrediction(confidence=0.8),
}
ARCH = Architecture("curve", (), "")


def trainings(name: str) -> tuple[NASBench201, Dataset, Recipe, int]:
    """Space, data, recipe and how many cells are trained."""
    if name == "digits":
        recipe = Recipe(epochs=12, batch_size=64, flip=False, crop_pad=1)
        return NASBench201(channels=8, cells=1), Digits(), recipe, 100
    recipe = Recipe(epochs=15, batch_size=64, crop_pad=2)
    data = FashionMNIST(subset=4000, valid_share=0.3)
    return NASBench201(channels=4, cells=1), data, recipe, 80


def experiment() -> Experiment:
    space, data, recipe, count = trainings("digits")
    return Experiment(
        space=space,
        data=data,
        evaluator=Retrain(recipe),
        sampler=TPE(),
        scheduler=CurvePrediction(),
        budget=Budget(trials=count),
        smoke={
            "budget.trials": 3,
            "evaluator.recipe.epochs": 2,
            "data.subset": 128,
            "finalists.top": 1,
            "finalists.seeds": 1,
        },
    )


def cells(space: NASBench201) -> Iterator[Architecture]:
    """Connected cells at random, each once up to isomorphism."""
    rng, known = np.random.default_rng(7), set[Architecture]()
    while True:
        arch = space.canonical(space.sample(rng))
        if space.connected(arch) and arch not in known:
            known.add(arch)
            yield arch


def make(name: str, file: Path, seconds: float) -> None:
    """Train what is not in ``file`` yet, for at most so long."""
    space, data, recipe, count = trainings(name)
    evaluator = Retrain(recipe)
    evaluator.setup(space, data.search_view(0))
    known = {line["arch"] for line in lines(file)} if file.exists() else set()
    for number, arch in zip(range(count), cells(space), strict=False):
        if arch.text in known or time.process_time() > seconds:
            continue
        job = Job(number, seed_for(number), recipe.epochs)
        found = [m.values["val_accuracy"] for m in evaluator.evaluate(arch, job)]
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"arch": arch.text, "val_accuracy": found}) + "\n")


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def curves(file: Path) -> Floats:
    """(n, steps) validation accuracy."""
    return np.array([line["val_accuracy"] for line in lines(file)])


def synthetic(noise: float, seed: int, count: int = 200) -> Floats:
    """Curves of random cells in the made-up landscape; they cross."""
    bench, space = Synthetic(noise=noise, seed=seed), NASBench201()
    bench.setup(space)
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(count)]
    return np.array(
        [
            [bench.query(a, "synthetic", s, seed).values["val_accuracy"]
             for s in bench.steps("synthetic")]
            for a in archs
        ]
    )  # fmt: skip


def replay(found: Floats, scheduler: Scheduler, order: NDArray[np.intp], workers: int) -> Floats:
    """(epochs, 2) after each epoch: spent so far, and the best result so far (NaN before one).

    The workers take turns; who is free takes the next curve of the order.
    """
    count, steps = found.shape
    scheduler.setup(SearchProblem((Objective(),), steps, 0, "replay"))
    waiting, running = list(order[::-1]), list[Trial]()
    spent, best, rows = 0, np.nan, []
    while waiting or running:
        while waiting and len(running) < workers:
            number = count - len(waiting)
            running.append(Trial(number, ARCH, ARCH, seed=int(waiting.pop())))
        for trial in list(running):
            step = trial.step + 1
            value = float(found[trial.seed, step - 1])
            trial.measurements.append(Measurement(step, {"val_accuracy": value}))
            spent += 1
            stop = scheduler.decide(trial) is Decision.STOP
            if step == steps:
                best = np.fmax(best, value)
            if stop or step == steps:
                running.remove(trial)
            rows.append((spent, best))
    return np.array(rows)


def interval(values: Floats) -> str:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.2f} ± {half:.2f}"


def shown(title: str, sets: list[Floats], orders: int, workers: int, at: list[int]) -> Table:
    """A row per scheduler: means over orders with their 95 % intervals."""
    from rich.table import Table

    total = sets[0].size
    table = Table(title=f"{title}: {total} epochs in all, {orders} orders, {workers} workers")
    for column in ("scheduler", "epochs, %", "regret", "best found, %", "ms a decision",
                   *(f"regret at {n}" for n in at)):  # fmt: skip
        table.add_column(column, justify="left" if column == "scheduler" else "right")
    for name, maker in SCHEDULERS.items():
        spent, lost, hit, then, began = [], [], [], [], time.process_time()
        for number in range(orders):
            found = sets[number % len(sets)]
            order = np.random.default_rng(number).permutation(len(found))
            rows, top = replay(found, maker(), order, workers), found[:, -1].max()
            spent.append(rows[-1, 0])
            lost.append(top - rows[-1, 1])
            hit.append(100.0 * (rows[-1, 1] == top))
            then.append([top - rows[min(n, len(rows)) - 1, 1] for n in at])
        cost = 1000 * (time.process_time() - began) / sum(spent)
        table.add_row(
            name,
            interval(100 * np.array(spent) / total),
            interval(np.array(lost)),
            f"{np.mean(hit):.0f}",
            f"{cost:.2f}",
            *(interval(column) for column in np.array(then).T),
        )
    return table


def main() -> None:
    from rich.console import Console

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("files", nargs="*", help="curves, or: make digits|fashion FILE")
    options.add_argument("--orders", type=int, default=100)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--at", type=int, nargs="*", default=[])
    options.add_argument("--seconds", type=float, default=np.inf, help="of processor time")
    given = options.parse_args()
    if given.files[:1] == ["make"]:
        make(given.files[1], Path(given.files[2]), given.seconds)
        return
    sets = {
        "synthetic": [synthetic(0.0, seed) for seed in range(10)],
        "synthetic, noise 0.5": [synthetic(0.5, seed) for seed in range(10)],
        **{file: [curves(Path(file))] for file in given.files},
    }
    for title, found in sets.items():
        table = shown(title, found, given.orders, given.workers, given.at)
        Console(width=140).print(table)


if __name__ == "__main__":
    run_script(main)
