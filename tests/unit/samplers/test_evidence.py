from __future__ import annotations

import math

import numpy as np
import pytest

from raynas.core import (
    Architecture,
    Bound,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
)
from raynas.samplers.evidence import DOUBT, TrialObservation, evidence, standing

ARCH = Architecture("toy", (("a", 1),), "a=1")
PROBLEM = SearchProblem((Objective(),), 9, 0, "run-1", (Bound("latency_ms", max=5.0),))


def trial(state, values, scores=None, latency=None) -> Trial:
    found = Trial(3, ARCH, ARCH, state=TrialState(state))
    if scores:
        found.measurements.append(Measurement(0, scores))
    for step, value in enumerate(values, start=1):
        found.measurements.append(Measurement(step, {"val_accuracy": value}))
    found.costs = {} if latency is None else {"latency_ms": latency}
    return found


def curve(number, *values, complete=False, scores=None) -> TrialObservation:
    points = {step: (value,) for step, value in enumerate(values, start=1)}
    return TrialObservation(number, ARCH, points, complete, scores or {}, ())


def test_a_complete_trial_has_a_curve_and_limits():
    found = evidence(trial("COMPLETE", range(9), {"naswot": 2.0}, latency=4.0), ARCH, PROBLEM)
    assert found.complete
    assert found.last == (8.0,)
    assert found.step == 9
    assert found.scores == {"naswot": 2.0}
    assert found.limits == (4.0,)


@pytest.mark.parametrize(
    ("state", "steps", "complete"), [("STOPPED", 3, False), ("INFEASIBLE", 9, True)]
)
def test_what_was_not_measured_to_the_end_is_not_complete(state, steps, complete):
    found = evidence(trial(state, range(steps), latency=6.0), ARCH, PROBLEM)
    assert (found.complete, found.step) == (complete, steps)


def test_what_was_not_measured_may_still_tell_of_a_bound():
    found = evidence(trial("INFEASIBLE", [], latency=6.0), ARCH, PROBLEM)
    assert not found.curve
    assert found.limits == (6.0,)
    assert evidence(trial("INFEASIBLE", []), ARCH, PROBLEM) is None  # out of memory


@pytest.mark.parametrize("values", [[], [50.0, math.nan]])
def test_failed_trials_tell_nothing(values):
    assert evidence(trial("FAILED", values, latency=1.0), ARCH, PROBLEM) is None


def test_complete_trials_stand_by_rank():
    stand, doubt = standing([curve(n, v, complete=True) for n, v in enumerate([5, 90, 7, 7])], 0)
    assert stand.tolist() == [0.125, 0.875, 0.5, 0.5]
    assert doubt.tolist() == [1, 1, 1, 1]


def test_a_stopped_trial_stands_beside_those_whose_curve_was_like_its_own():
    whole = [curve(n, 10 * n, 50 + n, complete=True) for n in range(6)]
    stand, doubt = standing([*whole, curve(6, 32), curve(7, 1)], 0)
    assert np.argsort(stand).tolist() == [0, 7, 1, 2, 3, 6, 4, 5]
    assert doubt.tolist() == [1] * 6 + [DOUBT] * 2


def test_of_stopped_trials_alone_those_with_more_steps_are_better():
    found = [curve(0, 30), curve(1, 20, 21), curve(2, 40), curve(3, 10, 22)]
    assert np.argsort(standing(found, 0)[0]).tolist() == [0, 2, 1, 3]


def test_too_few_complete_trials_rank_above_all_stopped_ones():
    found = [curve(0, 10, 11, complete=True), curve(1, 30), curve(2, 20)]
    assert np.argsort(standing(found, 0)[0]).tolist() == [2, 1, 0]


def test_what_screening_held_back_stands_by_its_scores():
    whole = [curve(n, n, complete=True, scores={"s": n}) for n in range(12)]
    held = [curve(12, scores={"s": 10.5}), curve(13, scores={"s": 0.5})]
    stand, doubt = standing([*whole, *held], 0)
    assert stand[12] > np.median(stand) > stand[13]
    assert doubt[12] == DOUBT
    alone, _ = standing([*whole[:3], *held], 0)  # too few to learn from
    assert np.isnan(alone[3:]).all()
