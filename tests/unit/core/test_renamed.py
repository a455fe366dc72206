"""Old names of settings and classes: they work, warn once a use, and leave what is stored alone."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
from toys import Curves, ToyData, ToySpace

from raynas.core import UserError
from raynas.core.describe import describe
from raynas.core.renamed import STORED_AS, current_setting, stored_name
from raynas.experiment import Experiment, RankingCheck, apply
from raynas.samplers import LocalSearch, RegularizedEvolution

PARTS = {"space": ToySpace(), "data": ToyData(), "evaluator": Curves(), "sampler": LocalSearch()}
OLD = {
    "in_order": ("deterministic_workers", 2),
    "against": ("baselines", (RegularizedEvolution(),)),
    "truth": ("ranking_check", RankingCheck(Curves())),
}


@pytest.mark.parametrize("old", OLD)
def test_an_old_setting_is_the_new_one(old: str) -> None:
    new, value = OLD[old]
    wanted = Experiment(**PARTS, **{new: value})  # type: ignore[arg-type]
    with pytest.warns(FutureWarning, match=rf"Experiment\({old}=...\) is now .*{new}"):
        made = Experiment(**PARTS, **{old: value})  # type: ignore[arg-type]
    assert made == wanted
    with pytest.warns(FutureWarning, match=new):
        assert getattr(made, old) == value
    with pytest.warns(FutureWarning, match=new):
        changed = dataclasses.replace(Experiment(**PARTS), **{old: value})  # type: ignore[arg-type]
    assert changed == wanted


def test_old_settings_of_the_command_line() -> None:
    start = Experiment(**PARTS, baselines=(RegularizedEvolution(),))  # type: ignore[arg-type]
    with pytest.warns(FutureWarning, match="setting 'in_order' is now 'deterministic_workers'"):
        assert apply(start, {"in_order": 3}).deterministic_workers == 3
    with pytest.warns(FutureWarning, match="'against' is now 'baselines'"):
        found = apply(start, {"against.0.sample": 4}).baselines[0]
    assert isinstance(found, RegularizedEvolution)
    assert found.sample == 4
    assert current_setting(Experiment, "seed") == "seed"


def test_unknown_names_stay_unknown() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'againts'"):
        Experiment(**PARTS, againts=())  # type: ignore[call-arg, arg-type]
    with pytest.raises(AttributeError, match="no attribute 'againts'"):
        _ = Experiment(**PARTS).againts  # type: ignore[attr-defined, arg-type]
    with pytest.raises(ImportError, match="Thruth"):
        from raynas.experiment import Thruth  # type: ignore[attr-defined]  # noqa: F401


def test_descriptions_have_the_names_that_runs_were_stored_with() -> None:
    made = Experiment(**PARTS, deterministic_workers=2)  # type: ignore[arg-type]
    described = made.description()
    assert described["in_order"] == 2
    assert {"against", "truth"} <= described.keys()
    assert not {"deterministic_workers", "baselines", "ranking_check"} & described.keys()
    assert describe(RankingCheck(Curves()))["class"] == "Truth"


def test_only_classes_of_raynas_have_stored_names() -> None:
    class ElasticSize:
        """A user's class of the same name."""

    ElasticSize.__qualname__ = "ElasticSize"
    assert stored_name(ElasticSize) == "ElasticSize"
    assert STORED_AS["ElasticSize"] == "Size"


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("core", "Graph", "ArchitectureGraph"),
        ("core", "one_of", "unknown_option"),
        ("costs", "Latency", "LatencyMeasurement"),
        ("data", "View", "DataView"),
        ("data.base", "View", "DataView"),
        ("experiment", "Truth", "RankingCheck"),
        ("layers", "Size", "ElasticSize"),
        ("layers.base", "Part", "ElasticPart"),
        ("callbacks", "Observer", "RunCallback"),
        ("callbacks", "OBSERVERS", "CALLBACKS"),
        ("training", "Exported", "ExportedNetwork"),
        ("proxies", "Scores", "NetworkScores"),
        ("search.context", "Payload", "EvaluationContext"),
    ],
)
def test_an_old_class_is_the_new_one(module: str, old: str, new: str) -> None:
    home = importlib.import_module(f"raynas.{module}")
    with pytest.warns(FutureWarning, match=f"raynas.{module}.{old} is now raynas.{module}.{new}"):
        assert getattr(home, old) is getattr(home, new)


def test_old_keywords_of_an_error() -> None:
    with pytest.warns(FutureWarning) as told:
        error = UserError("x=2", allowed="0 to 1", cure="divide")
    assert [str(w.message) for w in told] == [
        "UserError(allowed=...) is now UserError(expected=...); the old name ends with the next "
        "release",
        "UserError(cure=...) is now UserError(hint=...); the old name ends with the next release",
    ]
    assert str(error) == "x=2; expected: 0 to 1; divide"
