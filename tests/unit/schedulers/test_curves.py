from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from raynas.core import (
    Architecture,
    Decision,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    UserError,
)
from raynas.schedulers import CurvePrediction
from raynas.schedulers.curves import _regression

ARCH = Architecture("toy", (("a", 1),), "a=1")
MAX_STEP = 9
UP = (Objective("val_accuracy"),)


def scheduler(objectives=UP, **settings) -> CurvePrediction:
    made = CurvePrediction(**settings)
    made.setup(SearchProblem(tuple(objectives), MAX_STEP, 0, "run-1"))
    return made


def feed(curves: CurvePrediction, number: int, values, latency=None) -> Trial:
    """A trial that is measured until it is stopped."""
    trial = Trial(number, ARCH, ARCH)
    for step, value in enumerate(values, start=1):
        costs = {} if latency is None else {"latency_ms": latency}
        trial.measurements.append(Measurement(step, {"val_accuracy": value, **costs}))
        if curves.decide(trial) is Decision.STOP:
            trial.state = TrialState.STOPPED
            break
    return trial


def rising(final: float, speed: float = 0.5) -> list[float]:
    return [final * (1 - np.exp(-speed * step)) for step in range(1, MAX_STEP + 1)]


@pytest.mark.parametrize(
    "setting",
    [{"best": 0}, {"min_step": 0}, {"enough": 3}, {"neighbours": 2}, {"confidence": 0.4},
     {"confidence": 1.0}, {"confidence": float("nan")}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        CurvePrediction(**setting)


def test_what_is_sure_to_fall_short_stops_and_what_may_not_goes_on():
    curves = scheduler()
    for number, final in enumerate(np.linspace(60, 90, 12)):
        feed(curves, number, rising(final))
    assert feed(curves, 12, rising(50)).step < 3
    assert feed(curves, 13, rising(95)).step == MAX_STEP


def test_nothing_stops_before_enough_others_went_further():
    curves = scheduler(enough=5)
    for number in range(4):
        assert feed(curves, number, rising(90)).step == MAX_STEP
    assert feed(curves, 4, rising(10)).step == MAX_STEP
    assert feed(curves, 5, rising(10)).step < MAX_STEP


def test_more_confidence_stops_less():
    def epochs(confidence: float) -> int:
        rng = np.random.default_rng(0)
        curves = scheduler(confidence=confidence)
        return sum(
            feed(curves, n, rising(rng.uniform(50, 90), rng.uniform(0.2, 1))).step
            for n in range(60)
        )

    assert epochs(0.6) < epochs(0.9) < epochs(0.99) < 60 * MAX_STEP


@pytest.mark.parametrize("best", [1, 5])
def test_the_best_are_found_at_the_confidence_that_was_asked_for(best):
    """Of trials with crossing curves that belong to the best when they start, few are stopped."""
    wronged = due = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        curves, finals = scheduler(best=best, confidence=0.9), []
        for number in range(40):
            final, speed = rng.uniform(50, 90), rng.uniform(0.3, 1.0)
            values = np.array(rising(final, speed)) + rng.normal(size=MAX_STEP)
            trial = feed(curves, number, values)
            if number >= 10 and sum(f > values[-1] for f in finals) < best:
                due += 1
                wronged += trial.step < MAX_STEP
            if trial.step == MAX_STEP:
                finals.append(values[-1])
    assert due > 20
    assert wronged / due < 0.25  # several looks at each curve, each at 10 %


def test_what_shines_late_is_not_stopped_once_that_was_seen():
    curves = scheduler(best=1, confidence=0.9)
    late = [5.0] * 5 + [40.0, 60.0, 80.0, 95.0]
    for number in range(6):
        feed(curves, number, rising(70 + number))
    for number in range(6, 11):  # while these are measured nothing else is known of such curves
        trial = Trial(number, ARCH, ARCH)
        trial.measurements = [
            Measurement(step, {"val_accuracy": value}) for step, value in enumerate(late, start=1)
        ]
        curves.replay([trial])
    assert feed(curves, 11, late).step == MAX_STEP


def test_with_two_objectives_only_what_falls_short_in_all_stops():
    two = (Objective("val_accuracy"), Objective("latency_ms", "min"))
    curves = scheduler(two)
    for number, final in enumerate(np.linspace(80, 90, 12)):
        feed(curves, number, rising(final), latency=5.0 + number % 3)
    assert feed(curves, 12, rising(50), latency=9.0).step < MAX_STEP
    assert feed(curves, 13, rising(50), latency=1.0).step == MAX_STEP


def test_a_value_that_is_not_finite_stops_the_trial_and_is_not_learned_from():
    curves = scheduler()
    assert feed(curves, 0, [1.0, float("nan"), 2.0]).step == 2
    assert curves._curves == {0: {1: (1.0,)}}


def test_the_regression_is_scikit_learns_ridge_and_its_interval_holds():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 2)) * [1.0, 5.0]
    y = x @ [2.0, -0.3] + 0.5 * rng.normal(size=30) + 3
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    at = np.array([0.5, 4.0])
    mean, deviation, freedom = _regression(x, y, at)
    expected = Ridge(alpha=1.0).fit(z, y).predict([(at - x.mean(axis=0)) / x.std(axis=0)])
    assert mean == pytest.approx(expected[0])
    assert freedom == 27
    assert 0.3 < deviation < 0.8
    far = _regression(x, y, at * 100)[1]
    assert far > 5 * deviation


def test_equal_values_predict_themselves_without_doubt():
    mean, deviation, _ = _regression(np.ones((5, 2)), np.full(5, 4.0), np.ones(2))
    assert (mean, deviation) == (4.0, 0.0)
