"""Optuna's test cases for samplers, on raynas' samplers behind ``as_optuna``.

The space of a case has choices named like the parameters that the case asks for. Optuna 5.0.0, 8
samplers: 948 cases, 708 pass, 240 do not apply: their parameter is a continuous or a logarithmic
range, and a choice of raynas has a fixed list of options.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from raynas.core import Choice
from raynas.samplers import (
    BOHB,
    TPE,
    ElitistEvolution,
    Guided,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Reinforce,
    Sampler,
    as_optuna,
)
from raynas.spaces.base import SearchSpace

MAKERS: dict[str, Callable[[], Sampler]] = {
    "random": Random,
    "evolution": lambda: RegularizedEvolution(population=6, sample=3),
    "guided": lambda: Guided(startup=4, candidates=50),
    "tpe": lambda: TPE(n_startup=4),
}
SINGLE: dict[str, Callable[[], Sampler]] = {
    "elitist": lambda: ElitistEvolution(population=4),
    "local": LocalSearch,
    "reinforce": Reinforce,
    "bohb": BOHB,
}


@dataclass(frozen=True)
class Parameters(SearchSpace):
    """The choices alone."""

    parts: tuple[Choice, ...]
    name: ClassVar[str] = "parameters"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return self.parts

    def build(self, arch: Any, input_shape: Any = (3, 32, 32), num_classes: int = 10) -> Any:
        raise AssertionError("a sampler never builds a network")


def choice_for(name: str, distribution: BaseDistribution) -> Choice:
    """Return the choice that stands for a parameter of Optuna."""
    if isinstance(distribution, CategoricalDistribution):
        return Choice(name, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.log or distribution.step is None:
        pytest.skip("a choice of raynas has a fixed list of options, not a continuous or log range")
    low, high, step = distribution.low, distribution.high, distribution.step
    count = round((high - low) / step) + 1
    return Choice(name, tuple(low + n * step for n in range(count)), ordered=True)


def space_for(request: pytest.FixtureRequest) -> SearchSpace:
    """Return a space with a choice for each distribution of a case, else with two others."""
    given = getattr(request.node, "callspec", None)
    params = dict(given.params) if given else {}
    named = {
        name.removesuffix("_distribution"): value
        for name, value in params.items()
        if name.endswith("_distribution")
    }
    case = request.node.originalname
    if case == "test_sample_relative_categorical":
        named = {
            "x": CategoricalDistribution([1, 10, 100]),
            "y": CategoricalDistribution([-1, -10, -100]),
        }
    if case == "test_sample_relative_mixed":
        named["y"] = CategoricalDistribution([-1, -10, -100])
    if not named:
        return Parameters(
            (Choice("width", tuple(range(40)), ordered=True), Choice("op", ("a", "b")))
        )
    return Parameters(tuple(choice_for(name, found) for name, found in named.items()))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


def made(request: pytest.FixtureRequest, make: Callable[[], Sampler]) -> Callable[[], BaseSampler]:
    space = space_for(request)
    return lambda: as_optuna(make(), space)


class TestBasic(BasicSamplerTestCase):
    @pytest.fixture(params=MAKERS | SINGLE)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request, (MAKERS | SINGLE)[request.param])


class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture(params=MAKERS | SINGLE)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request, (MAKERS | SINGLE)[request.param])


class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=MAKERS)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request, MAKERS[request.param])


class TestSingleOnly(SingleOnlySamplerTestCase):
    @pytest.fixture(params=SINGLE)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request, SINGLE[request.param])


# -- beyond Optuna's cases -----------------------------------------------------------------------

GRID = Parameters(
    (
        Choice("width", tuple(range(0, 40, 2)), ordered=True),
        Choice("rate", (0.0, 0.25, 0.5, 0.75), ordered=True),
        Choice("op", ("a", "b", "c")),
    )
)


def objective(trial: optuna.Trial) -> float:
    width = trial.suggest_int("width", 0, 38, step=2)
    rate = trial.suggest_float("rate", 0.0, 0.75, step=0.25)
    op = trial.suggest_categorical("op", ("a", "b", "c"))
    return (width - 22) ** 2 / 10 + 8 * abs(rate - 0.5) + "cab".index(op)


def proposals(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", MAKERS | SINGLE)
def test_the_parameters_are_the_proposals_of_the_sampler(name: str, direction: str) -> None:
    """The study's trials are what the sampler proposes when it is asked and told directly."""
    from raynas.core import Measurement, Objective, SearchProblem, Trial, TrialState

    make = (MAKERS | SINGLE)[name]
    study = optuna.create_study(
        sampler=as_optuna(make(), GRID, seed=3), study_name="s", direction=direction
    )
    study.optimize(objective, n_trials=20)
    sampler, found = make(), []
    sampler.setup(
        GRID,
        SearchProblem(
            (Objective("objective_0", "min" if direction == "minimize" else "max"),), 1, 3, "s"
        ),
    )
    for number in range(20):
        arch = sampler.ask(number)
        found.append(dict(arch))
        value = objective(optuna.trial.FixedTrial(dict(arch)))  # type: ignore[arg-type]
        trial = Trial(number, arch, arch, state=TrialState.COMPLETE)
        trial.measurements = [Measurement(1, {"objective_0": value})]
        sampler.tell(trial)
    assert proposals(study) == found
    assert len({tuple(p.items()) for p in found}) == 20


@pytest.mark.parametrize("name", MAKERS | SINGLE)
def test_a_study_that_is_loaded_again_goes_on_as_if_undisturbed(name: str) -> None:
    make, storage = (MAKERS | SINGLE)[name], optuna.storages.InMemoryStorage()
    whole = optuna.create_study(sampler=as_optuna(make(), GRID), study_name="s")
    whole.optimize(objective, n_trials=24)
    half = optuna.create_study(sampler=as_optuna(make(), GRID), study_name="s", storage=storage)
    half.optimize(objective, n_trials=13)
    again = optuna.load_study(sampler=as_optuna(make(), GRID), study_name="s", storage=storage)
    again.optimize(objective, n_trials=11)
    assert proposals(again) == proposals(whole)


def test_other_trials_of_the_study_are_learned_from_and_not_proposed_again() -> None:
    study = optuna.create_study(sampler=as_optuna(Guided(startup=2), GRID))
    study.enqueue_trial({"width": 4, "rate": 0.25, "op": "a"})
    study.enqueue_trial({"width": 3})  # no architecture of the space
    study.add_trial(
        optuna.create_trial(
            params={"width": 22, "rate": 0.5, "op": "c"},
            distributions=study.sampler.infer_relative_search_space(study, None),  # type: ignore[arg-type]
            value=0.0,
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # 3 is outside the steps of the range
        study.optimize(objective, n_trials=20)
    found = [tuple(p.items()) for p in proposals(study)]
    assert dict(found[0]) == {"width": 4, "rate": 0.25, "op": "a"}
    assert len(set(found)) == len(found) == 21


def test_every_end_of_a_trial_reaches_the_sampler() -> None:
    told = {}

    class Listening(Random):
        def tell(self, trial: Any) -> None:
            told[trial.number] = trial
            super().tell(trial)

    def run(trial: optuna.Trial) -> float:
        objective(trial)
        trial.report(5.0, 1)
        trial.report(4.0, 2)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            return float("nan")
        if trial.number == 3:
            return float("inf")
        if trial.number == 4:
            trial.set_constraint("memory", 2.0)
        return 3.0

    study = optuna.create_study(sampler=as_optuna(Listening(), GRID, max_step=3))
    study.optimize(run, n_trials=6)
    states = ["COMPLETE", "STOPPED", "FAILED", "FAILED", "INFEASIBLE"]
    assert [told[n].state.value for n in range(5)] == states
    assert [(m.step, dict(m.values)) for m in told[0].measurements] == [
        (1, {"objective_0": 5.0}), (2, {"objective_0": 4.0}), (3, {"objective_0": 3.0})
    ]  # fmt: skip
    assert told[1].step == 2
    assert told[4].violations == {"memory": 2.0}


def test_an_exhausted_space_is_drawn_from_again() -> None:
    space = Parameters((Choice("op", ("a", "b")),))
    study = optuna.create_study(sampler=as_optuna(Guided(), space))
    study.optimize(lambda t: "ab".index(t.suggest_categorical("op", ("a", "b"))), n_trials=6)
    assert {p["op"] for p in proposals(study)[:2]} == {"a", "b"}
    assert len(study.trials) == 6


def test_it_can_be_pickled_in_the_middle_of_a_study() -> None:
    import pickle

    whole = optuna.create_study(sampler=as_optuna(Guided(), GRID), study_name="s")
    whole.optimize(objective, n_trials=10)
    whole.sampler = pickle.loads(pickle.dumps(whole.sampler))
    whole.optimize(objective, n_trials=5)
    other = optuna.create_study(sampler=as_optuna(Guided(), GRID), study_name="s")
    other.optimize(objective, n_trials=15)
    assert proposals(whole) == proposals(other)
