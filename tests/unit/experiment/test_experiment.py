"""Experiments, their files, and settings replaced along paths."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from commands import experiment_file
from hypothesis import given
from hypothesis import strategies as st
from toys import Curves, ToyData, ToySpace

from raynas.core import Bound, Ensemble, Metric, Objective, UserError
from raynas.evaluators import Screen
from raynas.experiment import (
    Budget,
    Experiment,
    Finalists,
    LoadedExperiment,
    apply,
    load,
    parse_overrides,
)
from raynas.runners.base import Resources
from raynas.samplers import TPE, Random, RegularizedEvolution
from raynas.schedulers import ASHA


@dataclass
class Settings(Curves):
    """A field of every kind that a command line can write, and of some it cannot."""

    whole: int = 1
    real: float = 0.5
    maybe: float | None = None
    yes: bool = False
    text: str = "a"
    mode: Literal["on", "off", 3] = "on"
    folder: str | Path | None = None
    place: Path = Path()
    widths: tuple[int, ...] = (1, 2)
    stages: tuple[tuple[int, ...], ...] = ((1,), (2,))
    pair: tuple[int, str] = (1, "a")
    bare: tuple = ()  # type: ignore[type-arg]
    inner: Budget = field(default_factory=Budget)
    anything: Any = None

    def __post_init__(self) -> None:
        if self.whole == 13:
            raise ValueError("not thirteen")


@dataclass
class Optional(Settings):
    """Measures more where it is told to."""

    hint: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*super().metrics, *([Metric("hint", "", "max")] if self.hint else []))


def experiment(**parts: Any) -> Experiment:
    usual = {"space": ToySpace(), "data": ToyData(), "evaluator": Settings(), "sampler": TPE()}
    return Experiment(**{**usual, **parts})


def set_(text: str, start: Experiment | None = None) -> Experiment:
    return apply(start or experiment(), parse_overrides([text]))


def problem(text: str, start: Experiment | None = None) -> str:
    with pytest.raises(UserError) as raised:
        set_(text, start)
    message = str(raised.value)
    assert "\n" not in message
    return message


def at(part: Any, path: str) -> Any:
    for key in path.split("."):
        part = part[int(key)] if isinstance(part, tuple) else getattr(part, key)
    return part


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("budget.trials=8", 8),
        ("budget.trials=1e3", 1000),
        ("budget.hours=2", 2.0),
        ("budget.hours=none", None),
        ("seed=7", 7),
        ("name=other", "other"),
        ("name='3'", "3"),
        ("finalists.top=0", 0),
        ("resources.cpus=0.5", 0.5),
        ("resources.gpus=None", None),
        ("resources.gpus=0.25", 0.25),
        ("resources.gpus=fit", "fit"),
        ("resources.memory=4", 4.0),
        ("resources.patience=600", 600.0),
        ("space.merge=true", True),
        ("sampler.n_startup=3", 3),
        ("scheduler.min_step=2", 2),
        ("baselines.0.sample=4", 4),
        ("baselines=()", ()),
        ("bounds.1.max=1e6", 1e6),
        ("bounds=[]", ()),
        ("objectives.0.direction=min", "min"),
        ("evaluator.whole=-2", -2),
        ("evaluator.real=3", 3.0),
        ("evaluator.maybe=1e-3", 1e-3),
        ("evaluator.maybe=none", None),
        ("evaluator.yes=True", True),
        ("evaluator.text=off", "off"),
        ("evaluator.text=a=b", "a=b"),
        ("evaluator.mode=off", "off"),
        ("evaluator.mode=3", 3),
        ("evaluator.folder=/some/where", "/some/where"),
        ("evaluator.place=some/where", Path("some/where")),
        ("evaluator.widths=(8, 16)", (8, 16)),
        ("evaluator.widths=[8]", (8,)),
        ("evaluator.stages=[[8, 16], [24]]", ((8, 16), (24,))),
        ("evaluator.pair=(2, 'b')", (2, "b")),
        ("evaluator.bare=[1, 'x']", (1, "x")),
        ("evaluator.inner.trials=5", 5),
        ("evaluator.anything={'a': 1}", {"a": 1}),
    ],
)
def test_a_value_arrives_with_the_type_of_its_field(text: str, value: object) -> None:
    bounds = (Bound("params", max=10), Bound("macs", max=20))
    start = experiment(baselines=(RegularizedEvolution(),), scheduler=ASHA(), bounds=bounds)
    found = at(set_(text, start), text.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budget.trials=many", ["budget.trials='many'", "whole number or none", "it is 32 now"]),
        ("budget.trials=2.5", ["2.5", "whole number or none"]),
        ("budget.trials=true", ["True", "whole number or none"]),
        ("budget.trials=0", ["budget.trials=0", ">= 1"]),
        ("budget.hours=-1", ["budget.hours=-1", "> 0"]),
        ("evaluator.real=true", ["number", "it is 0.5 now"]),
        ("evaluator.yes=1", ["true, false", "it is False now"]),
        ("evaluator.text=3", ["text", "quotes"]),
        ("evaluator.mode=maybe", ["on, off, 3", "it is 'on' now"]),
        ("evaluator.mode=3.0", ["on, off, 3"]),
        ("evaluator.widths=8", ["(whole number, ...)", "it is (1, 2) now"]),
        ("evaluator.widths=(8, 'x')", ["(8, 'x')", "(whole number, ...)"]),
        ("evaluator.stages=(8, 16)", ["((whole number, ...), ...)"]),
        ("evaluator.pair=(1, 'a', 2)", ["(whole number, text)"]),
        ("evaluator.inner=3", ["Budget object", "evaluator.inner.trials=VALUE"]),
        ("evaluator.whole=13", ["evaluator.whole=13", "ValueError: not thirteen"]),
        ("sampler=TPE", ["sampler='TPE'", "Sampler object", "change the experiment file"]),
        ("bounds=1e6", ["(Bound object, ...)", "bounds='()'"]),
        ("bounds=[1, 2]", ["(Bound object, ...)", "change the experiment file"]),
        ("objectives=()", ["has no objectives"]),
        ("objectives.0=3", ["objectives.0.NAME=VALUE"]),
        ("objectives.1.metric=x", ["'1'", "expected: 0"]),
        ("objectives.0.metric=speed", ["'speed'", "layers, macs, params, val_accuracy"]),
        ("budget.trials.more=3", ["budget.trials", "nothing to set inside"]),
        ("baselines.0.more=3", ["Random has no settings"]),
        ("bugdet.trials=3", ["'bugdet'", "space, data", "did you mean 'budget'?"]),
        ("budget.trails=3", ["'trails'", "trials, hours", "did you mean 'trials'?"]),
        ("evaluator._view=3", ["'_view'"]),
        ("smoke=3", ["'smoke'"]),
        ("budget..trials=3", ["unknown key", "trials, hours"]),
    ],
)
def test_what_does_not_fit_is_named_with_what_does(text: str, words: list[str]) -> None:
    message = problem(text)
    for word in words:
        assert word in message


@pytest.mark.parametrize("turned", [False, True])
def test_what_must_fit_together_is_checked_once_all_of_it_is_set(turned: bool) -> None:
    """Each of two alone would be refused."""
    start = experiment(evaluator=Optional(), bounds=(Bound("params", min=1, max=10),))

    def both(*texts: str) -> Experiment:
        return apply(start, parse_overrides(texts[::-1] if turned else texts))

    assert both("bounds.0.min=50", "bounds.0.max=60").bounds == (Bound("params", 60, 50),)
    assert both("objectives.0.metric=hint", "evaluator.hint=true").objectives[0].metric == "hint"
    spent = apply(start, {"budget.hours": 2, "budget.trials": None})
    texts = {"budget.hours": None, "budget.trials": 3}
    found = apply(spent, dict(reversed(texts.items())) if turned else texts)
    assert found.budget == Budget(3)


def test_a_screen_and_bounds_on_its_metrics_are_dropped_in_any_order() -> None:
    screen = Screen(Hinting(max_step=1))
    start = experiment(evaluator=Curves(), screen=screen, bounds=(Bound("hint", min=1),))
    for texts in (["screen=none", "bounds=()"], ["bounds=()", "screen=none"]):
        found = apply(start, parse_overrides(texts))
        assert (found.screen, found.bounds) == (None, ())
    assert "metric in bounds: 'hint'" in problem("screen=none", start)


def test_of_two_values_for_one_place_the_later_counts() -> None:
    start = experiment(baselines=(RegularizedEvolution(),))
    assert apply(start, {"baselines.0.sample": 4, "baselines": ()}).baselines == ()
    with pytest.raises(UserError, match=r"place in --set baselines\.0\.sample"):
        apply(start, {"baselines": (), "baselines.0.sample": 4})


@pytest.mark.parametrize("text", ["{[1]}", "[" * 5000, "9" * 5000, "1e999", "0x" + "f" * 5000])
def test_hostile_values_are_one_short_line(text: str) -> None:
    for path in ("budget.trials", "evaluator.whole", "evaluator.widths", "screen", "baselines"):
        message = problem(f"{path}={text}")
        assert path in message
        assert len(message) < 600


@pytest.mark.parametrize("text", ["budget.trials", "=3", " =3", ""])
def test_an_override_is_a_path_and_a_value(text: str) -> None:
    with pytest.raises(UserError, match="path=value, as in"):
        parse_overrides([text])


@given(st.one_of(st.integers(-(10**12), 10**12), st.booleans(), st.none()))
def test_plain_values_are_read_as_python_writes_them(value: object) -> None:
    assert parse_overrides([f"evaluator.anything={value!r}"]) == {"evaluator.anything": value}


@given(
    st.recursive(
        st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text()),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["whole", "real", "maybe", "yes", "text", "mode", "widths", "stages", "pair"]),
)
def test_a_field_takes_its_own_type_or_says_no(value: object, name: str) -> None:
    try:
        found = at(apply(experiment(), {f"evaluator.{name}": value}), f"evaluator.{name}")
    except UserError:
        return
    kinds = {
        "whole": (int,), "real": (float,), "maybe": (float, type(None)), "yes": (bool,),
        "text": (str,), "mode": (str, int), "widths": (tuple,), "stages": (tuple,),
        "pair": (tuple,),
    }  # fmt: skip
    assert type(found) in kinds[name]
    assert found == (tuple(value) if name in ("widths", "pair") else found)  # type: ignore[arg-type]
    if name == "stages":
        assert all(type(width) is int for stage in found for width in stage)


@given(
    st.dictionaries(
        st.sampled_from(["budget.trials", "seed", "evaluator.whole"]), st.integers(1, 9)
    )
)
def test_overrides_survive_json(overrides: dict[str, object]) -> None:
    again = json.loads(json.dumps(overrides))
    assert apply(experiment(), again) == apply(experiment(), overrides)


def test_a_list_from_json_becomes_the_tuple_it_was() -> None:
    overrides = parse_overrides(["evaluator.stages=((8, 16), (24,))"])
    again = apply(experiment(), json.loads(json.dumps(overrides)))
    assert at(again, "evaluator.stages") == ((8, 16), (24,))


@pytest.mark.parametrize(
    "text",
    ["budget.trials=8", "budget.hours=1", "finalists.top=1", "finalists.seeds=9",
     "resources.cpus=2", "resources.concurrent=3", "evaluator.log=elsewhere"],
)  # fmt: skip
def test_what_may_change_on_a_resume_keeps_the_fingerprint(text: str) -> None:
    assert set_(text).fingerprint == experiment().fingerprint


@pytest.mark.parametrize(
    "text",
    ["seed=1", "space.merge=true", "sampler.n_startup=5", "evaluator.real=0.25", "baselines=()",
     "evaluator.widths=(1, 3)", "objectives.0.direction=min", "name=other"],
)  # fmt: skip
def test_what_makes_other_results_changes_the_fingerprint(text: str) -> None:
    assert set_(text).fingerprint != experiment().fingerprint


def test_the_description_holds_everything_that_was_set() -> None:
    shown = set_("resources.cpus=3", set_("budget.trials=8")).description()
    assert shown["budget"]["trials"] == 8
    assert shown["resources"]["cpus"] == 3
    assert shown["finalists"]["seeds"] == 3
    assert shown["space"]["class"] == "ToySpace"
    json.dumps(shown)


def test_applying_leaves_the_experiment_as_it_was() -> None:
    start = experiment()
    before = dataclasses.replace(start)
    set_("evaluator.inner.trials=5", start)
    assert start == before
    assert start.evaluator.inner.trials == 32  # type: ignore[attr-defined]


# -- what an experiment refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"space": 3}, "space is int, not a SearchSpace"),
        ({"sampler": Random}, "sampler is the class Random; write sampler=Random(...)"),
        ({"bounds": (Bound("latency", max=3),)}, "metric in bounds: 'latency'; expected: layers"),
        ({"objectives": (Objective("val_acuracy"),)}, "did you mean 'val_accuracy'?"),
        ({"objectives": ()}, "has no objectives"),
        ({"baselines": (TPE(n_startup=3),)}, "several samplers have the same name: tpe, tpe"),
    ],
)
def test_parts_that_do_not_make_an_experiment(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as raised:
        experiment(**parts)
    assert words in str(raised.value)


def test_budgets_and_finalists_have_limits() -> None:
    for make in (
        lambda: Budget(trials=None),
        lambda: Budget(hours=0),
        lambda: Finalists(top=-1),
        lambda: Finalists(seeds=0),
        lambda: Resources(cpus=0),
    ):
        with pytest.raises(UserError):
            make()


@pytest.mark.parametrize(
    "name",
    ["../up", "..", ".", "/etc/x", "a/../../b", "a//b", "a/", " a", "a\0b", "a\nb", "n" * 300],
)
def test_a_name_that_leads_out_of_the_folder_of_runs_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be the name of a run's folder.*printable") as told:
        experiment(name=name)
    assert "\n" not in str(told.value)
    file = experiment_file(tmp_path / "toy.py")
    with pytest.raises(UserError, match="cannot be the name"):
        load(file, {"name": name})


def test_names_with_a_group_or_of_other_scripts_are_names(tmp_path: Path) -> None:
    for name in ("first", "group/first", "Größe 2", "実験", ".hidden", "a..b"):
        assert experiment(name=name).name == name
    with pytest.raises(UserError, match="the name is empty"):
        load(experiment_file(tmp_path / "toy.py"), {"name": ""})


def test_a_number_of_ordered_workers_is_not_negative() -> None:
    with pytest.raises(UserError, match=r"deterministic_workers=-1; expected: 0"):
        experiment(deterministic_workers=-1)
    assert "deterministic_workers=-3" in problem("deterministic_workers=-3")


# -- files -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    known, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    for name in set(sys.modules) - known:
        if name.startswith("raynas_experiment_"):
            del sys.modules[name]


def test_a_file_gives_its_name_source_and_module(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "my_search.py")
    loaded = load(file)
    assert isinstance(loaded, LoadedExperiment)
    assert loaded.experiment.name == "my_search"
    assert loaded.source == file.read_text()
    assert sys.modules[loaded.module.__name__] is loaded.module
    assert load(file, name="first").experiment.name == "first"


def test_smoke_first_then_overrides(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py")
    assert load(file).experiment.budget.trials == 6
    assert load(file, smoke=True).experiment.budget.trials == 2
    both = load(file, {"budget.trials": 3}, smoke=True).experiment
    assert (both.budget.trials, both.finalists.top) == (3, 1)
    assert load(file, smoke=True).experiment.fingerprint == load(file).experiment.fingerprint


def test_a_file_imports_what_lies_beside_it_or_lay_there(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "beside_it.py").write_text("TRIALS = 4\n")
    text = "from beside_it import TRIALS"
    file = experiment_file(tmp_path / "home" / "a.py", text, budget="Budget(TRIALS)")
    copy = experiment_file(tmp_path / "run" / "b.py", text, budget="Budget(TRIALS)")
    try:
        assert load(file).experiment.budget.trials == 4
        del sys.modules["beside_it"]
        assert load(copy, beside=file.parent).experiment.budget.trials == 4
        del sys.modules["beside_it"]
        with pytest.raises(UserError, match=r"b\.py, line 15: ModuleNotFoundError"):
            load(copy)
    finally:
        sys.modules.pop("beside_it", None)


def test_a_wrong_smoke_setting_is_the_users_to_know(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py", smoke='{"budget.trails": 2}')
    with pytest.raises(UserError, match="did you mean 'trials'"):
        load(file, smoke=True)


def test_a_users_error_from_a_file_is_not_wrapped(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py", budget="Budget(trials=0)")
    with pytest.raises(UserError, match=r"^budget\.trials=0; expected: >= 1$"):
        load(file)


# -- screening ---------------------------------------------------------------------------------


def screened(**parts: Any) -> Experiment:
    return experiment(evaluator=Curves(), screen=Screen(Settings(max_step=1)), **parts)


def test_a_screen_belongs_to_what_identifies_an_experiment() -> None:
    one, other = screened(), set_("screen.keep=0.5", screened())
    assert other.screen is not None
    assert (other.screen.keep, other.screen.batch) == (0.5, 16)
    assert len({e.fingerprint for e in (one, other, experiment(evaluator=Curves()))}) == 3
    assert one.description()["screen"]["keep"] == 0.25
    json.dumps(one.description())
    assert set_("screen=None", one).screen is None
    inner = set_("screen.evaluator.whole=2", one).screen
    assert inner is not None
    assert at(inner, "evaluator.whole") == 2
    assert set_("screen.within=run", one).fingerprint != one.fingerprint


def test_settings_of_a_screen_are_checked() -> None:
    assert "above 0, up to 1" in problem("screen.keep=2", screened())
    assert "batch" in problem("screen.within=all", screened())
    assert "nothing to set inside screen" in problem("screen.keep=0.5")
    with pytest.raises(UserError, match=r"screen is float.*write screen=Screen"):
        experiment(screen=0.25)
    with pytest.raises(UserError, match=r"screen is type.*write screen=Screen"):
        experiment(screen=Screen)
    by = Screen(Settings(max_step=1), by=Ensemble(("params",)))
    assert experiment(screen=by).screen == by


@dataclass
class Hinting(Settings):
    """Measures something that training does not."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("hint", "", "max"),)


def test_what_screening_measures_can_be_bounded_but_is_no_objective() -> None:
    screen = Screen(Hinting(max_step=1))
    assert experiment(screen=screen, bounds=(Bound("hint", min=1),)).bounds
    with pytest.raises(UserError, match="metric in objectives: 'hint'"):
        experiment(screen=screen, objectives=(Objective("hint"),))
    with pytest.raises(UserError, match="metric in bounds: 'hint'"):
        experiment(bounds=(Bound("hint", min=1),))
