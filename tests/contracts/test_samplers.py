"""The suites that every sampler passes. A new sampler: a line in ``MAKERS``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from raynas.core import Architecture, Measurement, Trial, TrialState
from raynas.samplers import (
    BOHB,
    CMAES,
    GP,
    NSGA2,
    TPE,
    ElitistEvolution,
    Exhaustive,
    Guided,
    LocalSearch,
    OptunaRandom,
    Random,
    RegularizedEvolution,
    Reinforce,
    Sampler,
    samplers,
)
from raynas.spaces.base import SearchSpace
from raynas.testing.sampler_histories import (
    MAX_STEP,
    MIXED,
    ORDERED,
    ChoicesOnly,
    MakeSampler,
    ops,
    problem,
    widths,
)
from raynas.testing.samplers import (
    MultiObjectiveSamplerTestCase,
    ParallelSamplerTestCase,
    RepeatingSamplerTestCase,
    RestartedSamplerTestCase,
    SamplerTestCase,
    SamplerTraits,
)

MAKERS: dict[str, Callable[[], Sampler]] = {
    "random": Random,
    "evolution": lambda: RegularizedEvolution(population=6, sample=3),
    "elitist": lambda: ElitistEvolution(population=4),
    "guided": lambda: Guided(startup=4, candidates=50),
    "local": lambda: LocalSearch(initial=3),
    "reinforce": Reinforce,
    "bohb": lambda: BOHB(candidates=8),
    "tpe": lambda: TPE(n_startup=4),
    "nsga2": lambda: NSGA2(population=4),
    "gp": lambda: GP(n_startup=2),
    "cmaes": lambda: CMAES(population=4),
    "optuna-random": OptunaRandom,
    "exhaustive": Exhaustive,
}
SINGLE = ("cmaes", "elitist", "local", "reinforce", "bohb")  # they take one objective
OTHERS = ("cmaes", "gp")  # the one cannot do all spaces, the other is slow: they have own classes
ORDINARY = [name for name in MAKERS if name not in OTHERS]
REPEATING = [name for name in MAKERS if hasattr(MAKERS[name](), "distinct")]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    import torch  # the GP uses it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestSamplers(SamplerTestCase):
    @pytest.fixture(params=ORDINARY)
    def sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        return MAKERS[request.param]

    @pytest.fixture
    def traits(self, sampler: MakeSampler) -> SamplerTraits:
        return SamplerTraits(
            depends_on_seed=sampler is not Exhaustive,
            restart_trials=40 if sampler is MAKERS["guided"] else 90,
        )


class TestParallelSamplers(ParallelSamplerTestCase):
    @pytest.fixture(params=[name for name in ORDINARY if name != "exhaustive"])
    def sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        return MAKERS[request.param]


class TestRestartedSamplers(RestartedSamplerTestCase):
    @pytest.fixture(params=ORDINARY)
    def sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        return MAKERS[request.param]


class TestRepeatingSamplers(RepeatingSamplerTestCase):
    @pytest.fixture(params=REPEATING)
    def sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        return lambda: dataclasses.replace(MAKERS[request.param](), distinct=False)  # type: ignore[call-arg]


class TestMultiObjectiveSamplers(MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=[name for name in ORDINARY if name not in SINGLE])
    def sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        return MAKERS[request.param]


class TestCMAES(SamplerTestCase, RestartedSamplerTestCase):
    """It promises exact resumes for one worker only, and takes ordered choices only."""

    @pytest.fixture
    def sampler(self) -> MakeSampler:
        return MAKERS["cmaes"]

    @pytest.fixture
    def traits(self) -> SamplerTraits:
        return SamplerTraits(workers=1, small_space=ChoicesOnly(widths(2, 3)))

    @pytest.fixture
    def space(self) -> SearchSpace:
        return ORDERED

    @pytest.fixture
    def workers(self) -> int:
        return 1


class TestGP(SamplerTestCase, MultiObjectiveSamplerTestCase):
    """It is slow."""

    @pytest.fixture
    def sampler(self) -> MakeSampler:
        return MAKERS["gp"]

    @pytest.fixture
    def traits(self) -> SamplerTraits:
        return SamplerTraits(trials=6, restart_trials=6, workers=2, slow=True)

    @pytest.fixture
    def space(self) -> SearchSpace:
        return MIXED


def test_the_suite_knows_every_sampler():
    assert {*MAKERS, "listed"} == set(samplers())  # a list is of one space: it has its own tests
    for name, make in MAKERS.items():
        assert make().name == name


class Separable(ChoicesOnly):
    """No two architectures are alike."""

    def canonical(self, arch: Architecture) -> Architecture:
        return arch


def best_after(sampler: Sampler, seed: int, trials: int) -> float:
    space = Separable(ops(7, "01234"))
    weights = np.random.default_rng(seed).uniform(size=(7, 5))
    sampler.setup(space, problem(seed))
    best = -np.inf
    for number in range(trials):
        arch = sampler.ask(number)
        value = float(sum(weights[i, int(o)] for i, o in enumerate(arch.options)))
        trial = Trial(number, arch, arch, state=TrialState.COMPLETE)
        trial.measurements = [Measurement(MAX_STEP, {"val_accuracy": value})]
        sampler.tell(trial)
        best = max(best, value)
    return best / float(weights.max(axis=1).sum())


@pytest.mark.parametrize(
    "make",
    [
        TPE,
        lambda: RegularizedEvolution(population=20, sample=8),
        lambda: ElitistEvolution(4),
        lambda: Guided(candidates=60, refit=6),
        LocalSearch,
        lambda: LocalSearch(improvement="best"),
        lambda: Reinforce(lr=0.2),
    ],
    ids=["tpe", "evolution", "elitist", "guided", "local", "local, best", "reinforce"],
)
def test_learning_beats_random_on_a_separable_problem(make):
    gains = [best_after(make(), s, 60) - best_after(Random(), s, 60) for s in range(16)]
    assert np.mean(gains) > 2.5 * np.std(gains, ddof=1) / np.sqrt(len(gains))
