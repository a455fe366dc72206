"""Racing, which shows many subnets a few images, the promising ones more and the best ones all.

Contestants are compared on the same images, and one that is significantly behind is removed (O.
Maron and A. W. Moore, "Hoeffding Races", NeurIPS 1993). Two of them are compared by the images
that one classifies correctly and the other does not: if they are equal, either is right with
probability 1/2 (the exact form of Q. McNemar's test, "Note on the Sampling Error of the Difference
between Correlated Proportions", Psychometrika 12, 1947).

The probability of an error is divided among all looks and comparisons, so that it holds for the
race as a whole: in equal parts among the looks, whose number is known (alpha spending: K. K. G. Lan
and D. L. DeMets, "Discrete Sequential Boundaries for Clinical Trials", Biometrika 70, 1983), and by
Bonferroni's inequality among contestants and rivals (for "behind at least so many": Y. Benjamini
and R. Heller, "Screening for Partial Conjunction Hypotheses", Biometrics 64, 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.core.fields import check_fields

Right = NDArray[np.bool_]
"""A bool array (contestants, images), True for right answers."""


@dataclass(frozen=True)
class Race:
    """Settings of the comparison of subnets that are evaluated together.

    The images are those on which ``pilots`` of the contestants differ: on most others all subnets
    agree. There are two heats. In the first all contestants get batch norm statistics from
    ``calibration`` training images; those that remain get full statistics in the second. In the
    next race the best of all have to be beaten.

    Attributes:
        keep: Number of subnets that are measured exactly in the end.
        calibration: Training images for batch norm statistics in the first heat, at least 2.
        pilots: Number of contestants that select the images, at least 2.
        first: Number of images at the start of a heat.
        growth: Each round shows ``growth`` times as many images as all rounds before.
        p: The probability that a race removes any subnet by chance. A contestant is removed when at
            least ``keep`` others are better than it. That it is removed though fewer than ``keep``
            are better happens, to any contestant in any round, in at most this share of races.
            Better is meant as the heats measure it: on the images that they show, in the first heat
            with statistics from ``calibration`` images.
        block: Has no effect any more; it is kept so that runs that were started with it can be
            resumed.

    Raises:
        UserError: When a setting is outside its range.
    """

    keep: int = 8
    calibration: int = 256
    pilots: int = 8
    first: int = 256
    growth: float = 1.0
    p: float = 0.1
    block: int = 32

    def __post_init__(self) -> None:
        check_fields(self)
        least = {
            "keep": 1,
            "calibration": 2,
            "block": 1,
            "first": 1,
            "pilots": 2,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"race.{name}={getattr(self, name)}", expected=f">= {value}")
        if not 0 < self.p < 1:
            raise UserError(f"race.p={self.p}", expected="between 0 and 1")
        if self.growth <= 0:
            raise UserError(f"race.growth={self.growth}", expected="above 0")


@dataclass(frozen=True)
class RaceCourse:
    """The result of a heat.

    Attributes:
        seen: (contestants,) images that each contestant saw.
        right: (contestants, images) their answers, False where there are none.
        best: Those of ``stayed`` that are among the ``keep`` best, leaders included.
        stayed: The contestants that remained at the end, best first.
    """

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
) -> RaceCourse:
    """Show the contestants more and more images until the ``keep`` best are known.

    Args:
        race: Its settings; ``race.p`` is the probability of an error in this heat.
        contestants: Number of contestants.
        images: Number of images that can be shown, in random order.
        answers: ``answers(some, images)`` are those of some contestants to some of the images.
        leaders: Answers of the best of earlier heats to the images that they saw; they remain among
            the best until a contestant is better.

    Returns:
        The remaining and the best contestants, and all answers.
    """
    level = _level(race, contestants, len(leaders), images)
    right = np.zeros((contestants, images), bool)
    seen = np.zeros(contestants, np.int64)
    alive = np.arange(contestants)
    shown, ahead = 0, alive
    while shown < images and len(alive) and (shown == 0 or len(ahead) < len(alive)):
        part = slice(shown, min(shown + _step(race, shown), images))
        right[alive, part] = answers(alive.tolist(), part)
        shown = part.stop
        seen[alive] = shown
        others = [row[:shown] for row in leaders if len(row) >= shown]
        rivals = np.array([*right[alive, :shown], *others])
        order = np.argsort(-rivals.sum(axis=1), kind="stable")[: race.keep]
        ahead = alive[order[order < len(alive)]]
        if len(rivals) > race.keep:
            alive = alive[_stays(rivals, len(alive), race.keep, level)]
    order = np.argsort(-right[alive].sum(axis=1), kind="stable")
    return RaceCourse(seen, right, ahead.tolist(), alive[order].tolist())


def _step(race: Race, shown: int) -> int:
    """Return the number of images that the next round shows."""
    return max(race.first, int(race.growth * shown))


def _level(race: Race, contestants: int, leaders: int, images: int) -> float:
    """Return the level of one comparison, so that all errors of a heat have probability ``race.p``.

    Let fewer than ``keep`` of a contestant's n rivals be better than it. It leaves if of its n
    comparisons at least ``keep`` are significant at this level t, which has probability
    (n - keep + 1) t at most (Benjamini and Heller 2008, with the bound of Bonferroni). The sum over
    contestants and looks is ``race.p``.
    """
    looks = shown = 0
    while shown < images:
        looks, shown = looks + 1, shown + _step(race, shown)
    wrong = contestants + leaders - race.keep  # n - keep + 1
    return race.p / max(looks * contestants * wrong, 1)


def _stays(rivals: Right, count: int, keep: int, level: float) -> NDArray[np.bool_]:
    """Return the contestants that fewer than ``keep`` of all rivals are significantly better than.

    Args:
        rivals: (rivals, images) right answers.
        count: The first ``count`` rivals are contestants that may leave.
        keep: The number of better rivals at which a contestant leaves.
        level: Of a comparison of two.

    Returns:
        (count,) bool.
    """
    from scipy.special import betainc

    own, others = rivals[:count].astype(np.float32), rivals.astype(np.float32)
    ahead = np.rint(own @ (1.0 - others.T)).astype(np.float64)  # (count, rivals) images
    behind = np.rint((1.0 - own) @ others.T).astype(np.float64)
    # probability that a fair coin, tossed for each image on which the two differ, shows at most so
    # many heads: the binomial distribution function, as an incomplete beta function
    chance = np.where(behind > 0, betainc(np.maximum(behind, 1.0), ahead + 1.0, 0.5), 1.0)
    return np.asarray((chance <= level).sum(axis=1) < keep)
