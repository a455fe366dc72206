"""Races on answers that are made up: who stays, who leaves, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core import UserError
from raynas.supernet.racing import Race, Right, run_heat

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
    [{"keep": 0}, {"p": 0.0}, {"p": 1.0}, {"growth": 0.0}, {"first": 8}, {"block": 0}],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"race.{next(iter(wrong))}"):
        Race(**wrong)  # type: ignore[arg-type]
