"""Which accounting of cost and noise gives the published search results of NAS-Bench-201?

`raynas run experiments/published_nb201.py --local` is one such search for a user: evolution sees
accuracies after 12 epochs, the best cell is looked up after 200. Whether 500 of them come to the
published mean,

    python experiments/published_nb201.py --validation 0.333 --noise 0

tells: the published protocol (12,000 simulated seconds on CIFAR-10, 12-epoch setting), with another
price of validation (share of an epoch's time: 1/3 if every epoch is validated, 1/36 if only the
last one is) and an assumed normal noise of the accuracy that the search sees (standard deviation
in percent): the table holds means over seeds, the paper's searches saw single trainings.

Question: how far do the results depend on what a table does not tell? Expected: see LOG.md; random
search, evolution, REINFORCE and BOHB agree with the paper where every epoch is validated and the
search sees means. Time: half a minute on one core. Data: the benchmark's nb201.parquet.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from raynas.apps.compare import protocols
from raynas.apps.compare.methods import PUBLISHED
from raynas.apps.compare.published import spend
from raynas.apps.compare.sections import PUBLISHED_RESULTS, label
from raynas.benchmarks import NASBench201Table, NoImages
from raynas.benchmarks.nasbench201 import DATASETS
from raynas.cli.main import run_script
from raynas.evaluators import Tabular
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import RegularizedEvolution
from raynas.spaces import NASBench201


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=NoImages(),
        evaluator=Tabular(NASBench201Table(epochs=(12,))),
        sampler=RegularizedEvolution(population=10, sample=3),
        budget=Budget(trials=75),
        finalists=Finalists(top=1, seeds=1, evaluator=Tabular(NASBench201Table())),
        smoke={"budget.trials": 12},
    )


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--table", type=Path, help="the benchmark's nb201.parquet")
    options.add_argument("--runs", type=int, default=500)
    options.add_argument("--validation", type=float, default=1 / 3)
    options.add_argument("--noise", type=float, default=0.0)
    given = options.parse_args()

    space, whole = NASBench201(), NASBench201Table(given.table)
    short = NASBench201Table(
        given.table, epochs=(12,), validation=given.validation, assumed_noise=given.noise
    )
    protocols.check("published", "cifar10", str(given.table) if given.table else None)
    print(f"validation {given.validation:.3f}, noise {given.noise}, {given.runs} runs")
    print(f"| method | n | {' | '.join(map(label, DATASETS))} |\n|---|---|---|---|---|")
    for method in PUBLISHED:
        found = [spend(method, seed, short) for seed in range(given.runs)]
        cells = []
        for dataset, (mean, deviation) in PUBLISHED_RESULTS[method].items():
            tests = np.array(
                [
                    whole.query(space.architecture(arch), dataset, 200, 0).values["test_accuracy"]
                    for arch, _, _ in found
                ]
            )
            error = math.hypot(tests.std() / math.sqrt(len(tests)), deviation / math.sqrt(500))
            z = (tests.mean() - mean) / error
            cells.append(f"{tests.mean():.2f} +- {tests.std():.2f} (z {z:+.1f})")
        number = np.mean([n for _, n, _ in found])
        print(f"| {method} | {number:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
