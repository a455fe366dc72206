"""What `raynas plan` says before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toys import Curves, ToyData, ToySpace

from raynas.core import Bound, UserError
from raynas.experiment import Budget, Experiment, Finalists
from raynas.planning import expected_steps, plan
from raynas.samplers import TPE
from raynas.schedulers import ASHA


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(),
        data=ToyData(),
        evaluator=Curves(max_step=9),
        sampler=TPE(),
        budget=Budget(trials=20),
        finalists=Finalists(top=2, seeds=3),
    )


def test_the_space_its_costs_and_its_share_within_bounds(experiment: Experiment) -> None:
    bounded = replace(experiment, bounds=(Bound("params", max=60),))
    found = plan(bounded, sample=2000, probe=False)
    assert found.size == 108
    assert found.drawn == 108  # all of them, each once
    # 10 (x+1) (y+1) <= 60, with x, y in 0..5 and three operations
    assert found.feasible == 3 * sum((x + 1) * (y + 1) <= 6 for x in range(6) for y in range(6))
    assert found.costs["params"].least == 10
    assert found.costs["params"].most == 60
    assert found.costs["macs"].most == 420
    assert found.step_seconds is None
    assert found.hours is None


def test_bounds_that_nothing_keeps_are_told(experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"none of \d+ random.*params <= 1.*loosen"):
        plan(replace(experiment, bounds=(Bound("params", max=1),)), probe=False)


def test_stages_count_trials_steps_and_hours(experiment: Experiment) -> None:
    found = plan(replace(experiment, evaluator=Curves(max_step=9, seconds=0.01)), sample=20)
    assert [s.name for s in found.stages] == ["search (tpe)", "comparison (random)", "finalists"]
    assert [s.trials for s in found.stages] == [20, 20, 6]
    assert [s.steps for s in found.stages] == [180, 180, 54]
    assert found.step_seconds is not None
    assert found.hours == pytest.approx(found.step_seconds * 414 / 3600)


def test_asha_takes_fewer_steps_and_no_scheduler_takes_all(experiment: Experiment) -> None:
    assert expected_steps(experiment, 20) == 180
    pruned = replace(experiment, scheduler=ASHA(min_step=1, factor=3))
    steps = expected_steps(pruned, 200)
    # a third is promoted twice at most; overtaken ones make it somewhat more
    assert 200 * (1 + 2 / 3 + 6 / 9) <= steps < 200 * 9 / 2


def test_hours_as_a_budget_become_trials(experiment: Experiment, monkeypatch: Any) -> None:
    monkeypatch.setattr("raynas.planning._probe", lambda *_: 3.6)
    timed = replace(experiment, budget=Budget(trials=None, hours=0.1))
    found = plan(timed, sample=10)
    assert found.stages[0].trials == int(360 / (3.6 * 9))


def test_a_trial_that_fails_is_told_with_its_reason(experiment: Experiment) -> None:
    texts = [arch.text for arch in ToySpace().enumerate()]
    broken = replace(experiment, evaluator=Curves(max_step=3, fault=dict.fromkeys(texts, "crash")))
    with pytest.raises(UserError, match=r"a trial of x=\d.* fails: .*crash.*--no-probe"):
        plan(broken, sample=10)
