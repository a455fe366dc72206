"""Trials and measurements."""

import math

import numpy as np
import pytest

from raynas.core import Architecture, Decision, Measurement, Trial, TrialState, UserError

ARCH = Architecture("toy", (("width", 8),), "width=8")


def test_only_running_has_not_ended() -> None:
    assert [s for s in TrialState if not s.ended] == [TrialState.RUNNING]
    assert {s.value for s in TrialState} == {
        "RUNNING", "COMPLETE", "STOPPED", "INFEASIBLE", "FAILED",
    }  # fmt: skip
    assert TrialState("STOPPED") is TrialState.STOPPED  # as read from the store
    assert [str(d) for d in Decision] == ["CONTINUE", "STOP", "PAUSE"]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        None,
        "0.5",
        10**400,
        1.1e150,
        -1e308,
        np.float32("nan"),
        [1.0],
    ],
)
def test_values_that_are_no_finite_numbers_are_bad(value: object) -> None:
    measurement = Measurement(1, {"loss": value, "acc": 1.0})  # type: ignore[dict-item]
    assert measurement.bad_values(["loss", "acc"]) == ["loss"]


def test_missing_values_are_bad_and_others_do_not_matter() -> None:
    measurement = Measurement(1, {"acc": 1, "extra": math.nan})
    assert measurement.bad_values(["acc"]) == []
    assert measurement.bad_values(["acc", "loss"]) == ["loss"]
    assert measurement.bad_values([]) == []


@pytest.mark.parametrize("value", [0, -1.5, True, np.float32(2), np.int64(3), 1e150, -1e150])
def test_all_kinds_of_finite_numbers_are_good(value: float) -> None:
    assert Measurement(1, {"acc": value}).bad_values(["acc"]) == []


def test_values_that_cannot_be_computed_with_are_infinite() -> None:
    """Squares of them are; and NaN, text and what is missing stay as they are."""
    given = {"a": 1e308, "b": -(10**400), "c": "no", "d": None, "e": 5.0, "f": math.nan}
    found = Measurement(1, given).values  # type: ignore[arg-type]
    assert (found["a"], found["b"], found["c"], found["d"]) == (math.inf, -math.inf, "no", None)
    assert found["e"] == 5.0
    assert math.isnan(found["f"])
    assert given["a"] == 1e308


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e11, None, "1", 10**400])
def test_what_is_no_time_counts_nothing(seconds: object) -> None:
    assert Measurement(1, {}, seconds).seconds == 0.0  # type: ignore[arg-type]
    assert Measurement(1, {}, 1e9).seconds == 1e9


@pytest.mark.parametrize("step", [-1, 1.5, "1", None, 2**31, math.nan])
def test_a_step_is_a_whole_number(step: object) -> None:
    with pytest.raises(UserError, match="of a measurement; expected: a whole number from 0"):
        Measurement(step, {})  # type: ignore[arg-type]
    assert Measurement(np.int64(3), {}).step == 3


def test_a_trial_sums_up_its_measurements() -> None:
    trial = Trial(0, ARCH, ARCH, costs={"params": 7.0, "macs": 9.0})
    assert (trial.last, trial.step, trial.seconds) == (None, 0, 0)
    assert trial.values() == {"params": 7.0, "macs": 9.0}
    first, second = Measurement(1, {"acc": 10.0}, 0.5), Measurement(3, {"acc": 20.0}, 1.5)
    trial.measurements += [first, second]
    assert trial.last is second
    assert trial.step == 3
    assert trial.seconds == 2.0
    assert trial.values() == {"params": 7.0, "macs": 9.0, "acc": 20.0}
    assert trial.values(first)["acc"] == 10.0


def test_a_measured_cost_replaces_the_computed_one() -> None:
    trial = Trial(0, ARCH, ARCH, costs={"params": 7.0})
    trial.measurements.append(Measurement(1, {"params": 8.0}))
    assert trial.values() == {"params": 8.0}


def test_trials_do_not_share_their_lists() -> None:
    one, other = Trial(0, ARCH, ARCH), Trial(1, ARCH, ARCH)
    one.measurements.append(Measurement(1, {}))
    assert other.measurements == []
