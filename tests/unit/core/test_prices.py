"""What measurements count at equal cost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from raynas.core import Architecture, Measurement, Trial
from raynas.core.prices import (
    ExpectedPrice,
    in_multiply_adds,
    in_seconds,
    in_steps,
    records_time,
    total,
)

ARCH = Architecture("toy", {"x": 1}, "x=1")


def trial(*steps: int, seconds: float = 0.0, costs: Mapping[str, float] | None = None) -> Trial:
    found = [Measurement(step, {}, seconds) for step in steps]
    return Trial(0, ARCH, ARCH, measurements=found, costs=costs or {})


def test_steps_are_counted_from_the_measurement_before() -> None:
    one = trial(0, 3, 9, 27)
    assert [in_steps(one, m) for m in one.measurements] == [0.0, 3.0, 6.0, 18.0]
    assert in_steps(one, Measurement(30, {})) == 3.0  # its next one
    assert in_steps(trial(), Measurement(4, {})) == 4.0
    assert total([one, trial(2)], in_steps) == 29.0


def test_multiply_adds_are_those_of_the_steps_and_a_share_for_scores() -> None:
    one = trial(0, 1, 3, costs={"macs": 100})
    prices = [in_multiply_adds(one, m, 0.01) for m in one.measurements]
    assert prices == [pytest.approx(1.0), 100.0, 200.0]
    unknown = trial(0, 2)
    assert [in_multiply_adds(unknown, m) for m in unknown.measurements] == [1.0, 2.0]


def test_time_is_recorded_where_a_training_has_some() -> None:
    assert records_time([trial(1), trial(1, seconds=0.1)])
    assert not records_time([trial(0, seconds=1.0), trial(1, 2), trial()])
    assert in_seconds(trial(), Measurement(1, {}, 2.5)) == 2.5


def test_what_a_trial_will_cost_is_the_mean_of_those_that_cost_as_much() -> None:
    expected = ExpectedPrice([27.0, 1.0, 1.0, 3.0])
    assert [expected(paid) for paid in (0.0, 1.0)] == [8.0, 8.0]
    assert [expected(paid) for paid in (1.5, 3.0, 4.0, 27.0, 30.0)] == [
        15.0,
        15.0,
        27.0,
        27.0,
        30.0,
    ]
    assert expected.most == 27.0


def test_without_any_trials_nothing_more_is_expected() -> None:
    assert (ExpectedPrice([])(2.0), ExpectedPrice([]).most) == (2.0, 0.0)
