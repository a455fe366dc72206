"""A stored search as Optuna reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from raynas.core import Bound, Choice, Measurement, Objective, Trial, TrialState, UserError
from raynas.core import violations as violated
from raynas.samplers.studies import write_studies
from raynas.spaces.base import SearchSpace

UP, TWO = (Objective(),), (Objective(), Objective("macs", "min"))
BOUND = Bound("params", max=100.0)
BEGAN = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Mixed(SearchSpace):
    name: ClassVar[str] = "mixed"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("width", (8, 16, 24), ordered=True),
            Choice("ratio", (0.5, 1.0, 4.0), ordered=True),
            Choice("kernel", (3, 5, 9), ordered=True),
            Choice("op", ("conv", None, True)),
        )


def trial(
    number: int, state: TrialState, curve: dict[int, float], *, params: float = 10.0, text: str = ""
) -> Trial:
    arch = Mixed().architecture({"width": 16, "ratio": 4.0, "kernel": 9, "op": None})
    found = [Measurement(s, {"val_accuracy": v, "val_loss": 0.1}, 2.0) for s, v in curve.items()]
    made = Trial(number, arch, arch, 2**63 + number, state, found, message=text)
    made.costs = {"params": params, "macs": 7 * params}
    made.violations = violated((BOUND,), made.costs)
    return made


TRIALS = [
    trial(3, TrialState.COMPLETE, {1: 50.0, 2: 60.0}),
    trial(5, TrialState.STOPPED, {1: 40.0}, text="asha at step 1"),
    trial(6, TrialState.INFEASIBLE, {}, params=500.0, text="params is 500"),
    trial(7, TrialState.FAILED, {1: 44.0}, text="RuntimeError: no"),
    trial(9, TrialState.INFEASIBLE, {}, text="out of memory: MemoryError"),
    trial(10, TrialState.RUNNING, {1: 30.0}),
    trial(11, TrialState.INFEASIBLE, {1: 50.0, 2: 61.0}, params=101.0, text="params is 101"),
]


def opened(
    tmp_path: Path, objectives: tuple[Objective, ...], trials: list[Trial] = TRIALS
) -> optuna.Study:
    file = tmp_path / "study.db"
    times = {t.number: (BEGAN, BEGAN + timedelta(seconds=t.number)) for t in trials}
    studies = {"run/tpe": trials, "run/b": []}
    write_studies(file, Mixed().choices, objectives, (BOUND,), studies, times)
    storage = f"sqlite:///{file}"
    assert sorted(s.study_name for s in optuna.get_all_study_summaries(storage)) == [
        "run/b", "run/tpe",
    ]  # fmt: skip
    return optuna.load_study(study_name="run/tpe", storage=storage)


def test_states_values_curves_and_constraints(tmp_path: Path) -> None:
    study = opened(tmp_path, UP)
    found = study.get_trials()
    assert [t.state for t in found] == [
        OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.PRUNED, OptunaState.FAIL,
        OptunaState.PRUNED, OptunaState.RUNNING, OptunaState.COMPLETE,
    ]  # fmt: skip
    assert [t.value for t in found] == [60.0, 40.0, None, None, None, None, 61.0]
    assert [t.intermediate_values for t in found[:3]] == [{1: 50.0, 2: 60.0}, {1: 40.0}, {}]
    limits = [t.constraints for t in found]
    assert [limit[str(BOUND)] > 0 for limit in limits] == [0, 0, 1, 0, 0, 0, 1]
    assert ["memory" in limit for limit in limits] == [0, 0, 0, 0, 1, 0, 0]
    assert study.best_trial.user_attrs["trial"] == 3  # 61 breaks the bound
    assert study.metric_names == ["val_accuracy"]


def test_parameters_are_the_options_themselves(tmp_path: Path) -> None:
    found = opened(tmp_path, UP).get_trials()[0]
    assert found.params == {"width": 16, "ratio": 4.0, "kernel": 9, "op": "None"}
    assert found.distributions == {
        "width": IntDistribution(8, 24, step=8),
        "ratio": CategoricalDistribution((0.5, 1.0, 4.0)),
        "kernel": CategoricalDistribution((3, 5, 9)),
        "op": CategoricalDistribution(("conv", "None", True)),
    }
    attributes = found.user_attrs
    assert attributes["seed"] == str(2**63 + 3)
    assert (attributes["val_loss"], attributes["params"], attributes["seconds"]) == (0.1, 10, 4)
    assert found.duration == timedelta(seconds=3)


def test_several_objectives(tmp_path: Path) -> None:
    study = opened(tmp_path, TWO)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    found = study.get_trials()
    assert [t.values for t in found[:3]] == [[60.0, 70.0], None, None]
    assert [t.user_attrs["trial"] for t in study.best_trials] == [3]


def test_what_is_not_finite_is_no_value(tmp_path: Path) -> None:
    bad = trial(0, TrialState.COMPLETE, {1: math.nan})
    bad.violations = {str(BOUND): math.inf}
    found = opened(tmp_path, UP, [bad]).get_trials()[0]
    assert (found.state, found.value, found.intermediate_values) == (OptunaState.FAIL, None, {})
    assert math.isfinite(found.constraints[str(BOUND)])


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    torn = trial(0, TrialState.COMPLETE, {1: 1.0})
    torn.state = "LOST"  # type: ignore[assignment]
    with pytest.raises(KeyError):
        opened(tmp_path, UP, [torn])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "study.db").write_text("mine")
    with pytest.raises(UserError, match=r"study\.db already exists"):
        opened(tmp_path, UP)
    assert (tmp_path / "study.db").read_text() == "mine"
