from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from raynas.schedulers import (
    ASHA,
    PASHA,
    CurvePrediction,
    Hyperband,
    PromotionASHA,
    Rung,
    SuccessiveHalving,
)

ARCH = Architecture("toy", (("a", 1),), "a=1")
UP = Objective("val_accuracy")
DOWN = Objective("val_loss", "min")


def asha(steps: int = 27, objectives=(UP,), **kwargs) -> ASHA:
    scheduler = ASHA(**kwargs)
    scheduler.setup(SearchProblem(tuple(objectives), steps, 0, "run-1"))
    return scheduler


def trial(number: int, *points: tuple[int, float]) -> Trial:
    """A trial with (step, value) measurements; the loss is the negative accuracy."""
    return Trial(
        number,
        ARCH,
        ARCH,
        measurements=[Measurement(s, {"val_accuracy": v, "val_loss": -v}) for s, v in points],
    )


def report(scheduler: ASHA, one: Trial, step: int, value: float) -> Decision:
    one.measurements.append(Measurement(step, {"val_accuracy": value, "val_loss": -value}))
    return scheduler.decide(one)


@pytest.mark.parametrize(
    ("settings_", "max_step", "steps"),
    [
        ({}, 243, [1, 3, 9, 27, 81]),  # log(243, 3) rounds below 5; powers do not
        ({}, 3**12, [3**k for k in range(12)]),
        ({"factor": 10}, 1000, [1, 10, 100]),
        ({"min_step": 5, "factor": 2}, 40, [5, 10, 20]),
        ({"min_step": 5, "factor": 2}, 41, [5, 10, 20, 40]),
        ({"max_step": 10}, 243, [1, 3, 9]),
        ({"max_step": 500}, 9, [1, 3]),
        ({"min_step": 3}, 3, []),
        ({}, 1, []),
    ],
)
def test_rungs_are_exact(settings_, max_step, steps):
    assert [r.step for r in asha(max_step, **settings_).rungs()] == steps


@pytest.mark.parametrize(
    "settings_",
    [
        {"min_step": 0},
        {"factor": 1},
        {"max_step": 0},
        {"factor": 2.5},
        {"factor": math.inf},
        {"min_step": math.nan},
    ],
)
def test_bad_settings_name_value_and_allowed(settings_):
    ((name, value),) = settings_.items()
    with pytest.raises(UserError, match=rf"{name} ?= ?{value}; expected: (integers|whole)"):
        ASHA(**settings_)


def test_a_first_rung_beyond_the_last_step_is_told_at_setup() -> None:
    problem = SearchProblem((Objective(),), 3, 0, "run-1")
    for scheduler in (
        ASHA(min_step=4), PromotionASHA(min_step=4), PASHA(min_step=4), Hyperband(min_step=4),
        SuccessiveHalving(min_step=4), CurvePrediction(min_step=4), ASHA(min_step=3, max_step=2),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"min_step = \d, and an evaluation has [23] steps"):
            scheduler.setup(problem)


def test_the_top_third_goes_on():
    scheduler = asha()
    decisions = [scheduler.decide(trial(n, (1, v))) for n, v in enumerate([5, 4, 6, 3, 2, 5.5])]
    assert [d is Decision.CONTINUE for d in decisions] == [True, False, True, False, False, True]
    assert scheduler.rungs()[0] == Rung(1, 6, 3)


def test_a_metric_to_minimise_counts_the_other_way():
    up, down = asha(), asha(objectives=(DOWN,))
    for n, value in enumerate([5.0, 4.0, 6.0, 3.0, 2.0, 5.5]):
        assert up.decide(trial(n, (1, value))) is down.decide(trial(n, (1, value)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), None])
def test_a_metric_that_is_not_finite_stops_and_enters_no_rung(bad):
    scheduler = asha()
    assert scheduler.decide(trial(0, (1, 1.0))) is Decision.CONTINUE
    one = Trial(1, ARCH, ARCH, measurements=[Measurement(1, {"val_accuracy": bad})])
    assert scheduler.decide(one) is Decision.STOP
    assert scheduler.decide(Trial(2, ARCH, ARCH)) is Decision.STOP
    assert scheduler.rungs()[0].reached == 1


def test_a_missing_metric_stops():
    one = Trial(0, ARCH, ARCH, measurements=[Measurement(1, {"other": 1.0})])
    assert asha().decide(one) is Decision.STOP


def test_equal_values_do_not_all_go_on():
    scheduler = asha()
    decisions = [scheduler.decide(trial(n, (1, 50.0))) for n in range(12)]
    assert decisions.count(Decision.CONTINUE) == 1
    assert decisions[0] is Decision.CONTINUE


def test_an_improving_stream_does_not_pass_whole():
    """Each trial is the best so far when it comes; the overtaken stop at the next rung."""
    scheduler = asha()
    trials = [trial(n) for n in range(30)]
    for one in trials:
        assert report(scheduler, one, 1, float(one.number)) is Decision.CONTINUE
    between = {report(scheduler, one, 2, float(one.number)) for one in trials}
    assert between == {Decision.CONTINUE}
    third = [report(scheduler, one, 3, float(one.number)) for one in trials]
    assert third == [Decision.STOP] * 10 + [Decision.CONTINUE] * 20


def test_a_falling_stream_keeps_the_first():
    scheduler = asha()
    decisions = [scheduler.decide(trial(n, (1, -float(n)))) for n in range(30)]
    assert decisions == [Decision.CONTINUE] + [Decision.STOP] * 29


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.integers(0, 20).map(float), min_size=1, max_size=40),
    factor=st.integers(2, 4),
)
def test_what_is_guaranteed_for_any_stream(values, factor):
    scheduler = asha(min_step=2, factor=factor)
    trials = [trial(n) for n in range(len(values))]
    best = -1.0
    alive = []
    for one, value in zip(trials, values, strict=True):
        decision = report(scheduler, one, 2, value)
        if value > best:
            assert decision is Decision.CONTINUE
            best = value
        if decision is Decision.CONTINUE:
            alive.append(one)
    after = [
        t for t in alive if report(scheduler, t, 2 * factor, values[t.number]) is Decision.CONTINUE
    ]
    assert len(after) <= 2 * math.ceil(len(values) / factor)
    assert trials[values.index(max(values))] in after


def test_the_last_step_is_no_rung():
    scheduler = asha(9)
    assert scheduler.decide(trial(0, (9, 5.0))) is Decision.CONTINUE
    assert scheduler.decide(trial(1, (9, 1.0))) is Decision.CONTINUE


def test_before_the_first_rung_nothing_stops():
    scheduler = asha(min_step=3)
    assert scheduler.decide(trial(0, (1, 9.0))) is Decision.CONTINUE
    assert scheduler.decide(trial(1, (2, 0.0))) is Decision.CONTINUE
    assert scheduler.rungs()[0].reached == 0


def test_an_evaluator_that_reports_every_second_step_meets_every_rung():
    scheduler = asha(27)
    one = trial(0)
    for step in range(2, 27, 2):
        assert report(scheduler, one, step, float(step)) is Decision.CONTINUE
    assert [r.reached for r in scheduler.rungs()] == [1, 1, 1]


def test_a_jump_over_several_rungs_counts_in_the_highest():
    scheduler = asha(27)
    scheduler.decide(trial(0, (10, 1.0)))
    assert [r.reached for r in scheduler.rungs()] == [0, 0, 1]


def test_a_step_measured_again_replaces_its_value():
    scheduler = asha()
    scheduler.decide(trial(0, (1, 9.0)))
    scheduler.decide(trial(1, (1, 5.0)))
    assert scheduler.decide(trial(0, (1, 1.0))) is Decision.STOP
    assert scheduler.decide(trial(1, (1, 5.0))) is Decision.CONTINUE
    assert scheduler.rungs()[0] == Rung(1, 2, 1)


def test_an_earlier_step_of_a_resumed_worker_does_not_move_a_later_entry():
    scheduler = asha()
    one = trial(0, (1, 5.0))
    scheduler.decide(one)
    report(scheduler, one, 3, 6.0)
    scheduler.decide(trial(0, (1, 5.0), (2, 99.0)))
    other = trial(1, (1, 7.0))
    assert scheduler.decide(other) is Decision.CONTINUE
    assert report(scheduler, other, 3, 6.5) is Decision.CONTINUE


def test_several_objectives_rank_by_pareto_front():
    scheduler = asha(objectives=(UP, Objective("macs", "min")))

    def decide(number: int, accuracy: float, macs: float) -> Decision:
        return scheduler.decide(
            Trial(number, ARCH, ARCH, costs={"macs": macs},
                  measurements=[Measurement(1, {"val_accuracy": accuracy})])
        )  # fmt: skip

    assert decide(0, 50.0, 5.0) is Decision.CONTINUE
    assert decide(1, 40.0, 6.0) is Decision.STOP
    assert decide(2, 60.0, 4.0) is Decision.CONTINUE
    assert decide(3, 30.0, 7.0) is Decision.STOP
    assert decide(4, 45.0, 9.0) is Decision.STOP
    # of six, two go on: the only two on the front
    assert decide(5, 20.0, 1.0) is Decision.CONTINUE


def test_replay_knows_stopped_from_lost():
    stopped, lost = trial(1, (1, 2.0)), trial(2, (1, 1.0))
    stopped.state = TrialState.STOPPED
    scheduler = asha()
    scheduler.replay([trial(0, (1, 3.0)), stopped, lost])
    assert scheduler.rungs()[0] == Rung(1, 3, 2)


def test_global_random_states_are_left_alone():
    np.random.seed(3)
    random.seed(3)
    before = np.random.get_state()[1].copy(), random.getstate()
    scheduler = asha()
    for n in range(20):
        scheduler.decide(trial(n, (1, float(n * 7 % 11))))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]


def test_a_hundred_thousand_measurements():
    scheduler = asha(9)
    for n in range(50_000):
        one = trial(n, (1, float(n * 7919 % 10_007)))
        if scheduler.decide(one) is Decision.CONTINUE:
            report(scheduler, one, 2, 0.0)
    assert scheduler.rungs()[0].reached == 50_000
