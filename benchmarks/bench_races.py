"""Races among made-up subnets: how often one is lost by chance, and how early a worse one leaves.

    python benchmarks/bench_races.py --races 2000

Every subnet is right on an image when the image's difficulty, which is common to all, plus noise of
its own is low enough; ``noise`` is the share of its variance. One heat is run at a time, with
p = 0.1, on images in random order. Minutes on one core; nothing else is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from raynas.supernet.evaluation.race import Race, RaceCourse, Right, run_heat

IMAGES = 4000


def heat(
    accuracies: Sequence[float], keep: int, noise: float, rng: np.random.Generator
) -> RaceCourse:
    """One heat of subnets with these accuracies (shares)."""
    difficulty = rng.normal(size=IMAGES)
    own = rng.normal(size=(len(accuracies), IMAGES))
    latent = np.sqrt(1 - noise) * difficulty + np.sqrt(noise) * own
    right = latent < ndtri(np.asarray(accuracies))[:, None]

    def answers(some: Sequence[int], part: slice) -> Right:
        return right[list(some), part]

    return run_heat(Race(keep=keep, p=0.1), len(accuracies), IMAGES, answers)


def errors(races: int) -> None:
    """How often somebody leaves though fewer than ``keep`` are better."""
    print(f"\n| subnets | keep | noise | of {races} races lost one by chance |\n|---|---|---|---|")
    for better, equal, keep in ((0, 2, 1), (0, 8, 1), (0, 8, 3), (2, 6, 3), (7, 13, 8)):
        for noise in (0.3, 1.0):
            rng = np.random.default_rng([better, equal, keep, int(10 * noise)])
            field = [0.9] * better + [0.7] * equal
            lost = sum(len(heat(field, keep, noise, rng).stayed) < len(field) for _ in range(races))
            print(f"| {better} of 90 %, {equal} of 70 % | {keep} | {noise} | {lost / races:.4f} |")


def power(races: int) -> None:
    """How many images a worse one sees before it leaves."""
    print("\n| subnets | keep | images that a worse one sees |\n|---|---|---|")
    for best, worse, count in ((1, 1, 1), (8, 56, 8)):
        for gap in (0.2, 0.1, 0.05, 0.03):
            rng = np.random.default_rng([best, worse, int(100 * gap)])
            field = [0.7] * best + [0.7 - gap] * worse
            seen = [
                heat(field, count, 0.5, rng).seen[best:].mean()
                for _ in range(max(races // worse, 10))
            ]
            print(f"| {best} of 70 %, {worse} of {70 - 100 * gap:.0f} % | {count} | "
                  f"{np.mean(seen):.0f} of {IMAGES} |")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--races", type=int, default=2000)
    arguments = parser.parse_args()
    errors(arguments.races)
    power(arguments.races // 10)
