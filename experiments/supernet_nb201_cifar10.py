"""One supernet for all 6,466 cells of NAS-Bench-201: does its ranking find what training finds?

The supernet (C = 16, N = 5) is trained on the 25,000 images of the benchmark's `cifar10-valid`: one
cell a step, drawn among those that are not isomorphic, no scale and shift in the cells' batch
norms, the weights of the last five epochs averaged (X. Ning et al., NeurIPS 2021). Then every cell
is measured with the weights that it inherits. Afterwards

    python experiments/supernet_nb201_cifar10.py [runs/supernet_nb201_cifar10] [--table FILE]

compares the ranking with the benchmark's CIFAR-10 test accuracies (200 epochs, mean over seeds),
beside the numbers of weights and multiply-adds. The table is `nb201.parquet` in $RAYNAS_DATA
(columns: arch, cifar10_test, ...).
Expected: what is published for one supernet of this space is a Kendall tau of .485 over all 15,625
cells, -.23 inside the true best tenth, and 92.89 % as the best true accuracy of its first 100 (five
supernets: .551, 93.79 %); the number of weights alone has .58. So the ranking is a filter, and who
wants the best cell trains the first few. Cells that others returned: GDAS 93.61 %, DARTS- 93.80 %.
Time and hardware: wants a GPU; 250 epochs of one path a step, then 6,466 cells on 5,000 images.
Not run at this size yet. `--smoke` takes seconds on a CPU.
Data: as for cifar10.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from raynas.cli.main import run_script
from raynas.data import CIFAR10
from raynas.evaluators import Inherited, TrainSupernet
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import Exhaustive
from raynas.spaces import NASBench201
from raynas.supernet import SinglePath
from raynas.training import Recipe


def experiment() -> Experiment:
    recipe = Recipe(
        epochs=250, batch_size=128, lr=0.05, weight_decay=5e-4, warmup_epochs=5, grad_clip=5.0
    )
    return Experiment(
        space=NASBench201(),
        data=CIFAR10(valid_share=0.5),
        evaluator=Inherited(
            TrainSupernet(recipe, SinglePath(canonical=True), average=5), images=5000
        ),
        sampler=Exhaustive(),
        budget=Budget(trials=6466),
        baselines=(),
        finalists=Finalists(top=0),
        smoke={
            "space.channels": 4,
            "space.cells": 1,
            "evaluator.training.average": 1,
            "evaluator.training.recipe.warmup_epochs": 0,
            "evaluator.training.recipe.epochs": 1,
            "evaluator.training.look_images": 32,
            "evaluator.training.look_calibration": 32,
            "evaluator.calibration": 64,
            "evaluator.images": 64,
            "budget.trials": 12,
            "data.subset": 256,
        },
    )


def main() -> None:
    from nb201.table import accuracies

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path, nargs="?", default=Path("runs/supernet_nb201_cifar10"))
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    given = options.parse_args()
    truth = accuracies(given.table, ("cifar10_test",))
    compare(given.run, {cell: row["cifar10_test"] for cell, row in truth.items()})


def compare(run: Path, truth: dict[str, float]) -> None:
    """Print how the run's ranking, and size, agree with ``truth``: over the classes of isomorphic
    cells that it measured, and over all cells of them."""
    import numpy as np
    from nb201.table import cells_of
    from rich.console import Console

    from raynas.reports import rank_qualities, rank_table
    from raynas.store import RunFolder, read

    rows = [
        row
        for row in read(RunFolder.open(run)).to_pylist()
        if row["stage"] == "search" and row["state"] == "COMPLETE"
    ]
    columns = {name: np.array([row[name] for row in rows], dtype=float)
               for name in ("val_accuracy", "params", "macs")}  # fmt: skip
    scores = {"inherited": columns.pop("val_accuracy"), **columns}
    classes = [row["arch"] for row in rows]
    cells, place = cells_of(classes)
    out = Console(width=120)
    for told, names, index in (
        ("classes of isomorphic cells", classes, np.arange(len(rows))), ("cells", cells, place),
    ):  # fmt: skip
        found = rank_qualities(
            {name: values[index] for name, values in scores.items()},
            [truth[name] for name in names],
        )  # fmt: skip
        out.print(rank_table(found, f"{len(names):,} {told}"))
    best = int(np.argmax(scores["inherited"]))
    out.print(f"returned: {classes[best]}, CIFAR-10 test accuracy {truth[classes[best]]:.2f} %")


if __name__ == "__main__":
    run_script(main)
