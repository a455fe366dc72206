"""Racing: many subnets see a few images, the promising ones more, the best ones all.

Contestants are compared on the same images, and one that is significantly behind leaves (O. Maron
and A. W. Moore, "Hoeffding Races", NeurIPS 1993). Two of them are compared by the images that one
gets right and the other does not: if they are equal, either is right with probability 1/2 (the
exact form of Q. McNemar's test, "Note on the Sampling Error of the Difference between Correlated
Proportions", Psychometrika 12, 1947).

The probability of an error is shared out among all looks and comparisons, so that it holds for the
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
"""(contestants, images): whether an answer is right."""


@dataclass(frozen=True)
class Race:
    """How subnets that are evaluated together are compared.

    The images are those on which ``pilots`` of the contestants differ: on most others all subnets
    agree. There are two heats. In the first everybody gets batch norm statistics from
    ``calibration`` training images; who stays gets full statistics. A heat begins with ``first``
    images, and each round shows ``growth`` times as many as all before. ``keep``: so many are
    measured exactly in the end. In the next race the best of all have to be beaten.

    ``p``: the probability that a race loses anyone by chance. A contestant leaves when at least
    ``keep`` others are better than it; that it does so though fewer than ``keep`` are better
    happens, to whomever and in whichever round, in at most this share of races. Better is meant as
    the heats measure it: on the images that they show, in the first heat with statistics from
    ``calibration`` images.

    ``block``: has no effect any more; it stays so that runs that were started with it can be
    resumed. Raises: UserError for values that make no sense.
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
    """Show the contestants more and more images until the ``keep`` best are known.

    Args:
        race: Its settings; ``race.p`` is the probability of an error in this heat.
        contestants: How many there are.
        images: How many can be shown, in random order.
        answers: ``answers(some, images)`` are those of some contestants to some of the images.
        leaders: Answers of the best of earlier heats to the images that they saw; they keep their
            places among the best until somebody is better.

    Returns:
        Who stayed, who is best, and what everybody answered.
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
    return Course(seen, right, ahead.tolist(), alive[order].tolist())


def _step(race: Race, shown: int) -> int:
    """How many images the next round shows."""
    return max(race.first, int(race.growth * shown))


def _level(race: Race, contestants: int, leaders: int, images: int) -> float:
    """The level of one comparison, such that all errors of a heat have probability ``race.p``.

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
    """Whom fewer than ``keep`` of all rivals are significantly better than.

    Args:
        rivals: (rivals, images) right answers.
        count: So many of them, the first ones, may leave.
        keep: How many must be better than one that leaves.
        level: Of a comparison of two.

    Returns:
        (count,)
    """
    from scipy.special import betainc

    own, others = rivals[:count].astype(np.float32), rivals.astype(np.float32)
    ahead = np.rint(own @ (1.0 - others.T)).astype(np.float64)  # (count, rivals) images
    behind = np.rint((1.0 - own) @ others.T).astype(np.float64)
    # of a fair coin, tossed for each image on which the two differ, so many heads or fewer: the
    # binomial distribution as an incomplete beta function
    chance = np.where(behind > 0, betainc(np.maximum(behind, 1.0), ahead + 1.0, 0.5), 1.0)
    return np.asarray((chance <= level).sum(axis=1) < keep)
