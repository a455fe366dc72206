"""Do inherited weights rank architectures better than their size does, on a CPU, on Fashion-MNIST?

A small elastic ResNet (width, depth, kernel and expansion are open, 14 x 14 pixels) whose supernet
trains once on 5,000 images. `raynas run` trains it, searches it by NSGA-II for accuracy against
weights, and trains architectures from all over the ranking as the truth:

    raynas run experiments/supernet_fashion_mnist.py
    raynas specialize runs/supernet_fashion_mnist --max params=8e3

The same in pieces, with architectures drawn uniformly as the truth (the ranking of a search holds
few bad ones), and three budgets answered from the one supernet:

    python experiments/supernet_fashion_mnist.py --train         # each may be stopped and goes on
    python experiments/supernet_fashion_mnist.py --truth
    python experiments/supernet_fashion_mnist.py --compare
    python experiments/supernet_fashion_mnist.py --budgets

    python experiments/supernet_fashion_mnist.py --truth --alone 20 --macs 4e5 6e5   # of one cost

Expected: not over the whole space. With the sandwich rule (40 epochs, 5 to 8 minutes of one core)
inherited accuracy has Kendall's tau .66 [.54 .76] with a truth of 20 epochs of 40 architectures,
weights .70, multiply-adds .70. Among networks of 400 to 600 thousand multiply-adds these say
nothing (.10), inherited accuracy .44, with kernel transforms .55 [.37 .70], weights .51. Two
trainings of the truth with different seeds agree no better than that (.70, .47). A search for
three budgets takes 5 seconds. experiments/LOG.md says more.
Time and hardware: each training of the truth 9 seconds of one core, 6 minutes for 40 (with 20
epochs 20 minutes); `raynas run` about the same again. All of it is reduced: 5,000 images.
Data: `apt-get install dataset-fashion-mnist`, or FashionMNIST(folder=...).
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from raynas.cli.main import run_script
from raynas.core import Architecture, Job, Objective, rng_for
from raynas.data import FashionMNIST
from raynas.data.base import DataView
from raynas.evaluators import FineTune, Inherited, Retrain, TrainSupernet
from raynas.evaluators.networks import build_network
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck
from raynas.samplers import NSGA2
from raynas.spaces import ElasticResNet
from raynas.supernet.rules import Sandwich, SinglePath, StrictFairness
from raynas.training import Recipe, train

SPACE = ElasticResNet(
    widths=((4, 8, 16), (8, 16, 32), (16, 32, 64)),
    strides=(1, 2, 2),
    depths=(1, 2),
    kernels=(1, 3, 5),
    resolutions=(14,),
    stem_width=8,
    divisor=4,
)
DATA = FashionMNIST(subset=10_000, valid_share=0.5)
IMAGE = (1, 28, 28)
ALONE = Recipe(epochs=6, batch_size=64, lr=0.1, crop_pad=1)
RULES = {"single": SinglePath(), "sandwich": Sandwich(), "fair": StrictFairness()}
BUDGETS = (8_000, 20_000, 60_000)
RESAMPLES = 2000


def training(rule: str = "single", epochs: int = 60) -> TrainSupernet:
    recipe = Recipe(epochs=epochs, batch_size=64, lr=0.1, crop_pad=1, grad_clip=5.0)
    looks = {"look_random": 2, "look_images": 500, "look_calibration": 256}
    return TrainSupernet(recipe, RULES[rule], average=5, **looks)


def experiment() -> Experiment:
    return Experiment(
        space=SPACE,
        data=DATA,
        evaluator=Inherited(training(), calibration=512, images=1000),
        sampler=NSGA2(population=20),
        objectives=(Objective("val_accuracy"), Objective("params", "min")),
        budget=Budget(trials=200),
        finalists=Finalists(
            top=2,
            seeds=2,
            evaluator=Retrain(ALONE),
            inherited=FineTune(Recipe(epochs=2, batch_size=64, lr=0.02, crop_pad=1)),
        ),
        ranking_check=RankingCheck(Retrain(ALONE), count=40),
        smoke={
            "budget.trials": 6,
            "evaluator.training.recipe.epochs": 1,
            "evaluator.training.look_images": 64,
            "evaluator.training.look_calibration": 64,
            "evaluator.calibration": 64,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "finalists.evaluator.recipe.epochs": 1,
            "finalists.inherited.recipe.epochs": 1,
            "ranking_check.count": 4,
            "ranking_check.evaluator.recipe.epochs": 1,
            "data.subset": 256,
            "data.test_subset": 256,
        },
    )


class Pieces:
    """The study in pieces, whose results lie in ``folder``."""

    def __init__(
        self,
        folder: Path,
        rule: str,
        epochs: int,
        minutes: float,
        alone: int = ALONE.epochs,
        transforms: bool = False,
    ) -> None:
        self.folder, self.training = folder, training(rule, epochs)
        self.alone = replace(ALONE, epochs=alone)
        self.space = replace(SPACE, kernel_transforms=transforms)
        self.supernet = folder / f"{rule}-{epochs}{'-transforms' if transforms else ''}"
        self.view = DATA.search_view(0)
        self.end = time.monotonic() + 60 * minutes
        folder.mkdir(parents=True, exist_ok=True)

    def train(self) -> None:
        """The supernet, an epoch a line in ``epochs.jsonl``."""
        self.training.setup(self.space, self.view)
        job = Job(0, seed=0, max_step=self.training.max_step, workdir=self.supernet)
        for row in self.training.evaluate(self.space.extremes()[1], job):
            line = {"epoch": row.step, "seconds": row.seconds, **row.values}
            _append(self.supernet / "epochs.jsonl", line)
            print({k: round(v, 2) for k, v in line.items()}, flush=True)
            if time.monotonic() > self.end:
                return

    def truth(self, archs: list[Architecture], seeds: int) -> dict[str, list[float]]:
        """Text -> validation accuracy of its trainings from scratch, those that are there."""
        file = self.folder / f"truth-{self.alone.epochs}.jsonl"
        found: dict[str, list[float]] = {arch.text: [] for arch in archs}
        known = {(row["arch"], row["seed"]): row["val_accuracy"] for row in _rows(file)}
        for seed in range(seeds):
            for arch in {arch.text: arch for arch in archs}.values():
                if (arch.text, seed) not in known and time.monotonic() < self.end:
                    accuracy = alone(arch, self.view, self.alone, seed)
                    _append(file, {"arch": arch.text, "seed": seed, "val_accuracy": accuracy})
                    known[arch.text, seed] = accuracy
                if (arch.text, seed) in known:
                    found[arch.text].append(known[arch.text, seed])
        return found

    def inherited(self, archs: list[Architecture], images: int | None) -> tuple[np.ndarray, float]:
        """(2, n) accuracies and losses with inherited weights; processor seconds that it took."""
        evaluator = Inherited(self.training, 512, images, weights=self.supernet / "weights")
        evaluator.setup(self.space, self.view)
        began = time.process_time()
        jobs = [Job(number, seed=0, max_step=1) for number in range(len(archs))]
        rows = {k: row for k, row in evaluator.evaluate_many(archs, jobs) if row is not None}
        found = [
            [rows[k].values[name] for k in range(len(archs))]
            for name in ("val_accuracy", "val_loss")
        ]
        return np.array(found), time.process_time() - began

    def tuned(self, archs: list[Architecture], epochs: int) -> np.ndarray:
        """(2, n) accuracies and losses after so many epochs from inherited weights."""
        recipe = Recipe(epochs=epochs, batch_size=64, lr=0.05, crop_pad=1)
        evaluator = FineTune(recipe, weights=self.supernet / "weights")
        evaluator.setup(self.space, self.view)
        file, found = self.supernet / f"tuned-{epochs}.jsonl", []
        known = {row["arch"]: row for row in _rows(file)}
        for arch in archs:
            if arch.text not in known:
                *_, last = evaluator.evaluate(arch, Job(0, seed=0, max_step=epochs))
                known[arch.text] = {"arch": arch.text, **last.values}
                _append(file, known[arch.text])
            found.append([known[arch.text][name] for name in ("val_accuracy", "val_loss")])
        return np.transpose(found)

    def trained_seconds(self) -> float:
        """Of the supernet; of an epoch that was trained again, its last training."""
        rows = _rows(self.supernet / "epochs.jsonl")
        return sum({row["epoch"]: row["seconds"] for row in rows}.values())


def alone(arch: Architecture, view: DataView, recipe: Recipe, seed: int) -> float:
    """Validation accuracy (%) after a training from scratch, as ``Retrain`` gives it."""
    network = build_network(SPACE, arch, view.input_shape, view.num_classes, seed)
    *_, last = train(network, view, recipe, seed=seed, measure_every=0)
    return last.values["val_accuracy"]


def drawn(
    count: int,
    word: str = "truth",
    most: float = math.inf,
    macs: tuple[float, float] = (0, math.inf),
) -> list[Architecture]:
    """Architectures as uniform draws give them, no two alike.

    ``most``: weights that they may have; ``macs``: least and most multiply-adds.
    """
    found: dict[str, Architecture] = {}
    rng = rng_for(word, most)
    while len(found) < count:
        arch = SPACE.canonical(SPACE.sample(rng))
        costs = SPACE.costs(arch, IMAGE)
        if costs.params <= most and macs[0] <= costs.macs <= macs[1]:
            found.setdefault(arch.text, arch)
    return list(found.values())


def compare(pieces: Pieces, archs: list[Architecture], seeds: int, tune: int = 0) -> None:
    """Kendall's tau with the truth of inherited accuracy, params and MACs; paired intervals.

    ``tune``: also after so many epochs from inherited weights.
    """
    truth = pieces.truth(archs, seeds)
    archs = [arch for arch in archs if truth[arch.text]]
    twice = [truth[a.text] for a in archs if len(truth[a.text]) == 2]
    (accuracies, losses), seconds = pieces.inherited(archs, None)
    costs = [SPACE.costs(arch, IMAGE) for arch in archs]
    first = np.array([fmean(truth[arch.text]) for arch in archs])
    table = {
        "inherited": accuracies,
        "by loss": -losses,
        "params": np.array([c.params for c in costs], dtype=float),
        "MACs": np.array([c.macs for c in costs], dtype=float),
    }
    if tune:
        table["tuned"], losses = pieces.tuned(archs, tune)
        table["by its loss"] = -losses
    print(f"{len(archs)} architectures, accuracy {first.min():.2f} to {first.max():.2f} %")
    if len(twice) > 2:
        gaps = np.diff(twice, axis=1)
        print(
            f"{len(twice)} trained twice: seeds differ by {np.sqrt(np.mean(gaps**2) / 2):.2f} %, "
            f"tau between them {tau(*np.transpose(twice)):.3f}"
        )
    samples = [rng_for("pairs", k).integers(len(archs), size=len(archs)) for k in range(RESAMPLES)]
    drawn_taus = {
        name: np.array([tau(column[s], first[s]) for s in samples])
        for name, column in table.items()
    }
    for name, column in table.items():
        low, high = np.quantile(drawn_taus[name], (0.025, 0.975))
        line = f"{name:11} tau {tau(column, first):.3f} [{low:.3f} {high:.3f}]"
        if name != "inherited":
            low, high = np.quantile(drawn_taus["inherited"] - drawn_taus[name], (0.025, 0.975))
            gain = tau(table["inherited"], first) - tau(column, first)
            line += f", inherited is {gain:+.3f} [{low:+.3f} {high:+.3f}]"
        print(line)
    size = table["params"]
    pairs = [
        (i, j)
        for i in range(len(archs))
        for j in range(i)
        if max(size[i], size[j]) < 1.5 * min(size[i], size[j]) and first[i] != first[j]
    ]
    for name, column in table.items() if pairs else ():
        right = [(column[i] - column[j]) * (first[i] - first[j]) > 0 for i, j in pairs]
        print(f"{name:11} orders {100 * fmean(right):.0f} % of {len(pairs)} pairs of like size")
    spent, per = pieces.trained_seconds(), seconds / len(archs)
    print(f"supernet trained in {spent:.0f} s, {per:.2f} s a subnet on all images")


def tau(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def budgets(pieces: Pieces, count: int, seeds: int) -> None:
    """One search for all budgets: the best by inherited weights, and the largest, of each.

    ``count``: candidates for each budget; those of the smaller ones stand for the larger ones, too.
    """
    began = time.process_time()
    archs = [arch for most in BUDGETS for arch in drawn(count, "search", most)]
    params = [SPACE.costs(arch, IMAGE).params for arch in archs]
    (values, _), _ = pieces.inherited(archs, 1000)
    spent = time.process_time() - began
    share = 100 * spent / pieces.trained_seconds()
    print(f"search of {len(archs)}: {spent:.1f} s, {share:.1f} % of the supernet's training")
    chosen = {}
    for most in BUDGETS:
        within = [k for k, size in enumerate(params) if size <= most]
        chosen[most] = (
            max(within, key=lambda k: values[k]),
            max(within, key=lambda k: params[k]),
        )
    truth = pieces.truth([archs[k] for pair in chosen.values() for k in pair], seeds)
    for most, pair in chosen.items():
        for way, k in zip(("by inherited weights", "the largest"), pair, strict=True):
            found = truth[archs[k].text]
            accuracy = f"{fmean(found):.2f} over {len(found)} seeds" if found else "not trained"
            print(
                f"{most:,} weights, {way}: {archs[k].text}, {params[k]:,} weights, inherited "
                f"{values[k]:.2f} %, alone {accuracy}"
            )


def _rows(file: Path) -> Iterator[dict]:
    return map(json.loads, file.read_text().splitlines() if file.exists() else [])


def _append(file: Path, row: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="The study in pieces.")
    for piece in ("train", "truth", "compare", "budgets"):
        parser.add_argument(f"--{piece}", action="store_true")
    parser.add_argument("--rule", choices=RULES, default="single")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--transforms", action="store_true",
                        help="smaller kernels are learnt transforms of larger ones")  # fmt: skip
    parser.add_argument("--count", type=int, default=40, help="architectures of the truth")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each")
    parser.add_argument("--alone", type=int, default=ALONE.epochs, help="epochs of the truth")
    parser.add_argument(
        "--tune",
        type=int,
        default=0,
        metavar="EPOCHS",
        help="compare networks tuned so long from inherited weights, too",
    )
    parser.add_argument("--macs", type=float, nargs=2, default=(0, math.inf),
                        help="least and most multiply-adds in the truth")  # fmt: skip
    parser.add_argument("--candidates", type=int, default=20, help="of a search for each budget")
    parser.add_argument("--minutes", type=float, default=600, help="then stop; go on later")
    parser.add_argument("--folder", type=Path, default=Path("runs/supernet_fashion_mnist_pieces"))
    given = parser.parse_args()
    pieces = Pieces(
        given.folder, given.rule, given.epochs, given.minutes, given.alone, given.transforms
    )
    archs = drawn(given.count, macs=tuple(given.macs))
    if given.train:
        pieces.train()
    if given.truth:
        pieces.truth(archs, given.seeds)
    if given.compare:
        compare(pieces, archs, given.seeds, given.tune)
    if given.budgets:
        budgets(pieces, given.candidates, max(given.seeds, 2))


if __name__ == "__main__":
    run_script(main)
