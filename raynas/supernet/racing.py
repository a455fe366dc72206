"""Racing: many subnets see a few images, the promising ones more, the best ones all.

Contestants are compared on the same images, block by block, and one that is significantly behind
leaves (O. Maron and A. W. Moore, "Hoeffding Races", NeurIPS 1993; with a test on ranks as in the
F-race of M. Birattari et al., GECCO 2002). What is significant is told by F. Wilcoxon's signed rank
test ("Individual Comparisons by Ranking Methods", 1945).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError

Right = NDArray[np.bool_]
"""(contestants, images): whether an answer is right."""

#: observations that a test is made of, at the least
_LEAST = 8


@dataclass(frozen=True)
class Race:
    """How subnets that are evaluated together are compared.

    The images are those on which ``pilots`` of the contestants differ: on most others all subnets
    agree. There are two heats. In the first everybody gets batch norm statistics from
    ``calibration`` training images; who stays gets full statistics. A heat begins with ``first``
    images, and each round shows ``growth`` times as many as all before. ``p``: a contestant leaves
    when it would be so far behind the ``keep``-th best by chance with a probability below this.
    ``block``: images whose accuracy is one observation, fewer where there are few. ``keep``: so
    many are measured exactly in the end. In the next race the best of all have to be beaten.
    Raises: UserError for values that make no sense.
    """

    keep: int = 8
    calibration: int = 256
    pilots: int = 8
    first: int = 256
    growth: float = 1.0
    p: float = 0.1
    block: int = 32

    def __post_init__(self) -> None:
        least = {
            "keep": 1,
            "calibration": 2,
            "block": 1,
            "first": self.block,
            "pilots": 2,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"race.{name}={getattr(self, name)}", allowed=f">= {value}")
        if not 0 < self.p < 1:
            raise UserError(f"race.p={self.p}", allowed="between 0 and 1")
        if self.growth <= 0:
            raise UserError(f"race.growth={self.growth}", allowed="above 0")


@dataclass(frozen=True)
class Course:
    """How a heat went. ``seen``: images that each contestant saw; ``right``: its answers, False
    where there are none; ``stayed``: who was there at the end, best first; ``best``: those of
    them who have a place among the ``keep`` best, leaders included."""

    seen: NDArray[np.int64]
    right: Right
    best: list[int]
    stayed: list[int]


def run_heat(
    race: Race,
    contestants: int,
    images: int,
    answers: Callable[[Sequence[int], slice], Right],
    leaders: Sequence[NDArray[np.bool_]] = (),
) -> Course:
    """``answers(some, images)`` are those of some contestants to some of the images.

    ``leaders``: answers of the best of earlier heats to the images that they saw; they keep their
    places among the best until somebody is better.
    """
    right = np.zeros((contestants, images), bool)
    seen = np.zeros(contestants, np.int64)
    alive = np.arange(contestants)
    shown, ahead = 0, alive
    while shown < images and len(alive) and (shown == 0 or len(ahead) < len(alive)):
        step = max(race.first, int(race.growth * shown))
        part = slice(shown, min(shown + step, images))
        right[alive, part] = answers(alive.tolist(), part)
        shown = part.stop
        seen[alive] = shown
        others = [row[:shown] for row in leaders if len(row) >= shown]
        rivals = np.array([*right[alive, :shown], *others])
        order = np.argsort(-rivals.sum(axis=1), kind="stable")[: race.keep]
        ahead = alive[order[order < len(alive)]]
        if len(rivals) > race.keep:
            alive = alive[_stays(race, rivals, int(order[-1]))[: len(alive)]]
    order = np.argsort(-right[alive].sum(axis=1), kind="stable")
    return Course(seen, right, ahead.tolist(), alive[order].tolist())


def _stays(race: Race, rivals: Right, reference: int) -> NDArray[np.bool_]:
    """(rivals,): whether it is not significantly behind the one that is to be beaten."""
    from scipy.stats import wilcoxon

    scores = rivals.sum(axis=1)
    block = min(race.block, max(1, rivals.shape[1] // _LEAST))
    whole = rivals.shape[1] - rivals.shape[1] % block
    blocks = rivals[:, :whole].reshape(len(rivals), -1, block).sum(axis=2)
    stays = scores >= scores[reference]
    behind = np.flatnonzero(~stays)
    if len(behind):
        ahead = blocks[behind] - blocks[reference]
        test = wilcoxon(ahead, alternative="less", zero_method="zsplit", method="approx", axis=1)
        stays[behind] = ~(test.pvalue < race.p)
    return np.asarray(stays)
