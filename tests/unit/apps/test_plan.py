"""What `raynas plan` says before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from supernet_toys import Inheriting, Trained, Tuned
from toys import Curves, Quick, ToyData, ToySpace

from raynas.apps.plan import expected_steps, plan
from raynas.core import Bound, UserError
from raynas.evaluators import Screen
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.search.context import EvaluationContext


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
    with pytest.raises(UserError, match=r"none of \d+ random.*params <= 1.*relax"):
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
    monkeypatch.setattr("raynas.apps.plan._probe", lambda *_: 3.6)
    timed = replace(experiment, budget=Budget(trials=None, hours=0.1))
    found = plan(timed, sample=10)
    assert found.stages[0].trials == int(360 / (3.6 * 9))


def test_a_trial_that_fails_is_told_with_its_reason(experiment: Experiment) -> None:
    texts = [arch.text for arch in ToySpace().enumerate()]
    broken = replace(experiment, evaluator=Curves(max_step=3, fault=dict.fromkeys(texts, "crash")))
    with pytest.raises(UserError, match=r"a trial of x=\d.* fails: .*crash.*--no-probe"):
        plan(broken, sample=10)


@dataclass
class Dear(Curves):
    """Of a price that no other evaluator of an experiment has."""

    name: ClassVar[str] = "dear"


@dataclass
class Score(Quick):
    name: ClassVar[str] = "score"


SECONDS = {"curves": 2.0, "dear": 50.0, "score": 0.5}


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps cost what ``SECONDS`` says; the names of what is timed, in order."""
    timed: list[str] = []

    def probe(payload: EvaluationContext, *_: object) -> float:
        timed.append(payload.evaluator.name)
        return SECONDS[payload.evaluator.name]

    monkeypatch.setattr("raynas.apps.plan._probe", probe)
    return timed


def test_each_stage_is_priced_by_its_own_evaluator(
    experiment: Experiment, priced: list[str]
) -> None:
    found = plan(
        replace(
            experiment,
            screen=Screen(Score(max_step=1), keep=0.25),
            ranking_check=RankingCheck(Dear(max_step=5), count=4, seeds=2),
            finalists=Finalists(2, 3, evaluator=Dear(max_step=5)),
        ),
        sample=10,
    )
    shown = {stage.name: (stage.trials, stage.steps, stage.hours) for stage in found.stages}
    hours = (20 * 9 * 2 + 80 * 0.5) / 3600
    assert shown == {
        "screening (score)": (80, 80, pytest.approx(80 * 0.5 / 3600)),
        "search (tpe)": (20, 180, pytest.approx(180 * 2 / 3600)),
        "comparison (random)": (22, pytest.approx(200), pytest.approx(hours)),
        "truth (dear)": (8, 40, pytest.approx(40 * 50 / 3600)),
        "finalists": (6, 30, pytest.approx(30 * 50 / 3600)),
    }
    assert sorted(priced) == ["curves", "dear", "score"]  # each once
    assert found.hours == pytest.approx(2 * hours + 70 * 50 / 3600)
    assert found.step_seconds == 2.0
    assert found.most_workers == int(2 * 9 / 0.03)


@pytest.mark.usefixtures("priced")
def test_hours_as_a_budget_pay_for_screening_too(experiment: Experiment) -> None:
    timed = replace(
        experiment,
        budget=Budget(trials=None, hours=1),
        screen=Screen(Score(max_step=1), keep=0.5),
        finalists=Finalists(top=0),
    )
    found = plan(timed, sample=10)
    assert found.stages[1].trials == int(3600 / (9 * 2 + 2 * 0.5))
    assert found.hours == pytest.approx(2, rel=0.01)


@pytest.mark.usefixtures("priced")
def test_truth_is_of_what_was_searched(experiment: Experiment) -> None:
    few = replace(
        experiment,
        budget=Budget(trials=3),
        ranking_check=RankingCheck(Curves(max_step=9), count=40),
    )
    assert {s.name: s.trials for s in plan(few, sample=10).stages}["truth (curves)"] == 6


@pytest.mark.parametrize("probe", [False, True])
def test_a_search_over_inherited_weights(experiment: Experiment, probe: bool) -> None:
    """The supernet is trained for two steps, so that what needs its weights can be timed."""
    inheriting = replace(
        experiment,
        evaluator=Inheriting(),
        finalists=Finalists(1, 2, evaluator=Curves(max_step=2), inherited=Tuned(max_step=1)),
        ranking_check=RankingCheck(Curves(max_step=2), count=4),
    )
    found = plan(inheriting, sample=10, probe=probe)
    assert [(s.name, s.trials, s.steps) for s in found.stages] == [
        ("supernet (trained)", 1, Trained().max_step),
        ("search (tpe)", 20, 20),
        ("comparison (random)", 20, 20),
        ("truth (curves)", 4, 8),
        ("finalists", 2, 4),
        ("finalists, inherited (tuned_curves)", 2, 2),
    ]
    assert all((stage.hours is not None) == probe for stage in found.stages)
    if probe:  # as the toys say
        assert found.stages[0].hours == pytest.approx(4 * 5.0 / 3600)
        assert found.most_workers == max(1, int(found.step_seconds / 0.03))  # type: ignore[operator]
