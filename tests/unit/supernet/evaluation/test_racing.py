"""Races on answers that are made up: who stays, who leaves, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from raynas.core import UserError
from raynas.supernet.evaluation.race import Race, Right, _level, _stays, run_heat

IMAGES = 4000


class Field:
    """Contestants of known strength on common images; counts what is asked of them."""

    def __init__(self, strengths: Sequence[float], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        difficulty = rng.normal(size=IMAGES)
        noise = 0.5 * rng.normal(size=(len(strengths), IMAGES))
        self.right = np.asarray(strengths)[:, None] + noise > difficulty
        self.asked = np.zeros(len(strengths), np.int64)

    def __call__(self, some: Sequence[int], part: slice) -> Right:
        self.asked[list(some)] += part.stop - part.start
        return self.right[list(some), part]


def test_the_best_are_kept_for_a_fraction_of_the_images() -> None:
    strengths = np.linspace(0, 2, 100)
    field = Field(strengths)
    course = run_heat(Race(keep=8), 100, IMAGES, field)
    assert len(course.best) == 8
    exact = np.argsort(-field.right.mean(axis=1))
    assert len(set(course.best) & set(exact[:8].tolist())) >= 7
    assert field.asked.mean() < IMAGES / 3
    assert (field.asked == course.seen).all()
    assert course.seen[course.best].min() == course.seen.max()


@settings(max_examples=30, deadline=None)
@given(
    strengths=st.lists(st.floats(-2, 2), min_size=1, max_size=12),
    keep=st.integers(1, 6),
    growth=st.floats(0.2, 3),
    first=st.integers(64, 900),
)
def test_any_race_ends_with_the_best_of_those_who_stayed(
    strengths: list[float], keep: int, growth: float, first: int
) -> None:
    field = Field(strengths)
    course = run_heat(
        Race(keep=keep, growth=growth, first=first, p=0.1), len(strengths), IMAGES, field
    )
    assert len(course.best) == min(keep, len(strengths))
    last = int(course.seen.max())
    stayed = np.flatnonzero(course.seen == last)
    scores = field.right[:, :last].sum(axis=1)
    assert set(course.best) <= set(stayed.tolist())
    assert scores[course.best].min() >= np.sort(scores[stayed])[::-1][: len(course.best)].min()
    for place, seen in enumerate(course.seen):
        assert (course.right[place, :seen] == field.right[place, :seen]).all()
        assert not course.right[place, seen:].any()


def test_equal_contestants_all_stay_to_the_end() -> None:
    field = Field([0.5])
    field.right = np.repeat(field.right, 5, axis=0)
    course = run_heat(Race(keep=2), 5, IMAGES, lambda some, part: field.right[list(some), part])
    assert (course.seen == IMAGES).all()
    assert course.best == [0, 1]


@pytest.mark.parametrize(
    ("better", "equal", "keep"), [(0, 2, 1), (0, 6, 1), (2, 4, 3)], ids=["two", "six", "a place"]
)
def test_no_equal_contestant_is_lost_more_often_than_p(better: int, equal: int, keep: int) -> None:
    """Over all rounds and all pairs; the equal ones are independent of each other."""
    races, p = 300, 0.1
    rng = np.random.default_rng(0)
    share = np.repeat([0.95, 0.7], [better, equal])[:, None]
    lost = 0
    for _ in range(races):
        right = rng.random((better + equal, 1000)) < share
        race = Race(keep=keep, first=100, growth=0.5, p=p)
        course = run_heat(race, len(right), 1000, lambda some, part, r=right: r[list(some), part])
        assert set(range(better)) <= set(course.stayed)
        lost += len(course.stayed) < len(right)
    assert binomtest(lost, races, p, alternative="greater").pvalue > 0.001


def test_a_clearly_worse_one_leaves_early() -> None:
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(50):
        right = rng.random((2, IMAGES)) < [[0.8], [0.6]]
        course = run_heat(Race(keep=1), 2, IMAGES, lambda some, part, r=right: r[list(some), part])
        assert course.best == course.stayed == [0]
        seen.append(course.seen[1])
    assert np.mean(seen) < IMAGES / 8


@given(
    wins=st.integers(0, 40), losses=st.integers(0, 40), both=st.integers(0, 9),
    level=st.floats(1e-9, 0.5),
)  # fmt: skip
def test_two_are_compared_by_the_images_on_which_they_differ(
    wins: int, losses: int, both: int, level: float
) -> None:
    first = np.repeat([True, False, True], [wins, losses, both])
    second = np.repeat([False, True, True], [wins, losses, both])
    chance = binom.cdf(wins, wins + losses, 0.5)
    assume(abs(chance - level) > 1e-12)
    rivals = np.array([first, second]).reshape(2, -1)
    assert _stays(rivals, 1, 1, level).tolist() == [chance > level]


def test_errors_of_all_rounds_and_comparisons_add_up_to_p() -> None:
    race = Race(keep=3, first=100, growth=1.0, p=0.1)
    # looks at 100, 200, 400, 800 and 1000 images; 10 contestants with 10 + 2 - 3 wrong rivals
    assert _level(race, 10, 2, 1000) == pytest.approx(0.1 / (5 * 10 * 9))
    assert _level(race, 3, 0, 1000) == 0.1  # nobody can leave


def test_leaders_of_earlier_races_must_be_beaten() -> None:
    strong, weak = Field([2.0, 1.9]), Field([0.0, 0.1, 2.5])
    course = run_heat(Race(keep=2), 3, IMAGES, weak, leaders=list(strong.right))
    assert course.best == [2]
    assert course.seen[:2].max() < IMAGES / 4
    nobody = run_heat(Race(keep=2), 2, IMAGES, weak, leaders=list(strong.right))
    assert nobody.best == []


def test_leaders_say_nothing_beyond_what_they_saw() -> None:
    strong, weak = Field([2.0, 1.9]), Field([0.0, 0.1])
    short = [row[:100] for row in strong.right]
    assert run_heat(Race(keep=2), 2, IMAGES, weak, leaders=short).best == [1, 0]


def test_few_images_are_all_shown() -> None:
    field = Field([0.0, 0.5, 1.0])
    course = run_heat(Race(keep=1, first=9999), 3, IMAGES, field)
    assert (course.seen == IMAGES).all()
    assert course.best == course.stayed == [2]


def test_a_block_is_smaller_when_images_are_few() -> None:
    field = Field([0.0, 3.0, 0.1, 0.2, -0.1])
    course = run_heat(Race(keep=1, p=0.05), 5, 60, field)
    assert course.stayed == [1]  # two blocks of 32 could not show it


@pytest.mark.parametrize(
    "wrong",
    [{"keep": 0}, {"p": 0.0}, {"p": 1.0}, {"growth": 0.0}, {"first": 0}, {"block": 0}],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"race.{next(iter(wrong))}"):
        Race(**wrong)  # type: ignore[arg-type]
