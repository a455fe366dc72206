"""What every sampler promises, checked on all of them through one suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core import (
    Architecture,
    Bound,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
)
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

MAX_STEP = 9


@dataclass(frozen=True)
class Toy(SearchSpace):
    """Sorting the options of its unordered choices leaves the network as it is."""

    parts: tuple[Choice, ...] = ()
    name: ClassVar[str] = "toy"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return self.parts

    def canonical(self, arch: Architecture) -> Architecture:
        alike = [c.name for c in self.parts if not c.ordered]
        return self.architecture(
            {**arch, **dict(zip(alike, sorted(map(str, map(arch.get, alike))), strict=True))}
        )

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    import torch  # the GP uses it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ops(n: int, options: str = "abcd") -> tuple[Choice, ...]:
    return tuple(Choice(f"op{i}", tuple(options)) for i in range(n))


def widths(n: int, options: int = 5) -> tuple[Choice, ...]:
    return tuple(
        Choice(f"w{i}", tuple(8 * (k + 1) for k in range(options)), True) for i in range(n)
    )


CATEGORICAL = Toy(ops(4))  # 256 architectures, 35 classes
ORDERED = Toy(widths(4))  # 625
MIXED = Toy(ops(2, "abc") + widths(3))  # 1125
SPACES = {"categorical": CATEGORICAL, "ordered": ORDERED, "mixed": MIXED}
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
SEEDLESS = ("exhaustive",)
SINGLE = ("cmaes", "elitist", "local", "reinforce", "bohb")  # they take one objective
ONLY = {"cmaes": "ordered", "gp": "mixed"}  # the one cannot do others, the other is slow
CASES = [(s, p) for s in MAKERS for p in SPACES if ONLY.get(s, p) == p]
ONE = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("macs", "min"))
BOUND = Bound("params", max=100.0)


def problem(seed: int = 0, objectives=ONE, run: str = "run-1") -> SearchProblem:
    return SearchProblem(objectives, MAX_STEP, seed, run, bounds=(BOUND,))


def quality(space: SearchSpace, arch: Architecture) -> float:
    index = [c.options.index(arch[c.name]) / max(len(c) - 1, 1) for c in space.choices]
    return 100.0 * float(np.mean(index)) - 5.0 * abs(index[0] - index[-1])


KINDS = ("COMPLETE", "STOPPED", "COMPLETE", "INFEASIBLE", "COMPLETE", "FAILED")


def end(trial: Trial, space: SearchSpace, kind: str) -> None:
    """The trial's curve and end, as the search would leave them."""
    value = quality(space, trial.arch)
    steps = {"COMPLETE": MAX_STEP, "STOPPED": 3, "INFEASIBLE": 0, "FAILED": 2}[kind]
    trial.costs = {"params": 50.0, "macs": 1e6 + 1e4 * value}
    trial.violations = {str(BOUND): -0.5}
    if kind == "INFEASIBLE":
        trial.violations = {str(BOUND): 0.25 + value / 1000}
    trial.measurements = [
        Measurement(s, {"val_accuracy": value * s / MAX_STEP}) for s in range(1, steps + 1)
    ]
    if kind == "FAILED":
        trial.measurements.append(Measurement(3, {"val_accuracy": float("nan")}))
        trial.message = "the loss is NaN"
    trial.state = TrialState(kind)


@dataclass
class Play:
    """A small search: asks with several workers, ends trials in a seeded random order."""

    sampler: Sampler
    space: SearchSpace
    workers: int = 1
    kinds: tuple[str, ...] = KINDS
    trials: list[Trial] = field(default_factory=list)

    def step(self) -> None:
        running = [t for t in self.trials if t.state is TrialState.RUNNING]
        if len(running) < self.workers:
            number = len(self.trials)
            arch = self.sampler.ask(number)
            self.trials.append(Trial(number, arch, self.space.canonical(arch)))
            return
        done = running[(7 * len(self.trials)) % len(running)]
        end(done, self.space, self.kinds[done.number % len(self.kinds)])
        self.sampler.tell(done)

    def until(self, asked: int) -> Play:
        while len(self.trials) < asked:
            self.step()
        return self

    def proposals(self) -> list[Architecture]:
        return [t.proposal for t in self.trials]


def play(name: str, space: SearchSpace, seed: int = 0, objectives=ONE, **kwargs) -> Play:
    sampler = MAKERS[name]()
    sampler.setup(space, problem(seed, objectives))
    return Play(sampler, space, **kwargs)


def length(name: str) -> int:
    return 6 if name == "gp" else 30


@dataclass
class Answering(Play):
    """A search that answers proposals of known architectures itself and does not store them.

    ``trials`` are what is stored; ``asked`` has every number with its proposal.
    """

    asked: dict[int, Architecture] = field(default_factory=dict)
    waiting: list[tuple[Trial, Trial]] = field(default_factory=list)
    number: int = 0

    def step(self) -> None:
        running = [t for t in self.trials if t.state is TrialState.RUNNING]
        if len(running) < self.workers:
            self.ask()
            return
        done = running[(7 * len(self.trials)) % len(running)]
        end(done, self.space, self.kinds[done.number % len(self.kinds)])
        self.sampler.tell(done)
        for first, repeat in [pair for pair in self.waiting if pair[0] is done]:
            self.waiting.remove((first, repeat))
            self.answer(first, repeat)

    def ask(self) -> None:
        number, self.number = self.number, self.number + 1
        arch = self.sampler.ask(number)
        self.asked[number] = arch
        trial = Trial(number, arch, self.space.canonical(arch))
        first = next((t for t in self.trials if t.arch == trial.arch), None)
        if first is None:
            self.trials.append(trial)
        elif first.state.ended:
            self.answer(first, trial)
        else:
            self.waiting.append((first, trial))

    def answer(self, first: Trial, repeat: Trial) -> None:
        self.sampler.tell(
            dataclasses.replace(first, number=repeat.number, proposal=repeat.proposal)
        )

    def asks(self, count: int) -> Answering:
        while self.number < count:
            self.step()
        return self


def variants(name: str) -> list[Sampler]:
    """The sampler of the suite, and with each value of ``distinct`` where it has that setting."""
    made = MAKERS[name]()
    if not hasattr(made, "distinct"):
        return [made]
    return [dataclasses.replace(made, distinct=value) for value in (True, False)]


# GP is slow: the first of the tests below and test_resumed_equals_uninterrupted have it
VARIANTS = [(name, getattr(made, "distinct", None)) for name in MAKERS for made in variants(name)]


def variant(name: str, distinct: bool | None) -> Sampler:
    made = MAKERS[name]()
    return made if distinct is None else dataclasses.replace(made, distinct=distinct)


def answering(name: str, distinct: bool | None, **kwargs) -> Answering:
    sampler = variant(name, distinct)
    sampler.setup(ORDERED, problem())
    return Answering(sampler, ORDERED, **kwargs)


def restarted(before: Answering, name: str, distinct: bool | None) -> Answering:
    """A new sampler that knows what is stored."""
    after = answering(name, distinct, workers=before.workers, kinds=before.kinds)
    after.trials = copy.deepcopy(before.trials)
    after.number = 1 + max((t.number for t in after.trials), default=-1)
    after.sampler.replay(after.trials)
    return after


def test_the_suite_knows_every_sampler():
    assert {*MAKERS, "listed"} == set(samplers())  # a list is of one space: it has its own tests
    for name, make in MAKERS.items():
        assert make().name == name


@pytest.mark.parametrize(("name", "place"), CASES)
def test_proposals_are_of_the_space_and_new_up_to_isomorphism(name, place):
    space = SPACES[place]
    done = play(name, space, workers=8).until(length(name))
    for arch in done.proposals():
        assert space.architecture(dict(arch)) == arch
    assert len({t.arch for t in done.trials}) == length(name)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_same_seed_same_proposals_another_seed_others(name, place):
    space, n = SPACES[place], length(name)
    first = play(name, space, workers=3).until(n).proposals()
    assert play(name, space, workers=3).until(n).proposals() == first
    other = play(name, space, seed=1, workers=3).until(n).proposals()
    assert (other == first) == (name in SEEDLESS)


@pytest.mark.parametrize("name", MAKERS)
def test_setup_again_forgets_everything(name):
    done = play(name, ORDERED, workers=2).until(length(name))
    done.sampler.setup(ORDERED, problem())
    again = Play(done.sampler, ORDERED, workers=2).until(length(name))
    assert again.proposals() == done.proposals()


def resumed(before: Play, name: str, objectives=ONE) -> Play:
    sampler = MAKERS[name]()
    sampler.setup(before.space, problem(0, objectives))
    trials = copy.deepcopy(before.trials)
    sampler.replay(trials)
    return Play(sampler, before.space, before.workers, before.kinds, trials)


@pytest.mark.parametrize(
    ("name", "place", "objectives"),
    [(s, p, o) for s, p in CASES for o in (ONE, TWO) if s not in SINGLE or o is ONE],
)
def test_resumed_equals_uninterrupted(name, place, objectives):
    workers = {"cmaes": 1, "gp": 2}.get(name, 8)  # CMA-ES promises it for one worker only
    n = length(name)
    whole = play(name, SPACES[place], objectives=objectives, workers=workers)
    halves = [resumed(whole.until(cut), name, objectives) for cut in (n // 3, n - 3)]
    whole.until(n)
    for half in halves:
        assert half.until(n).proposals() == whole.proposals()


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "evolution",
        "elitist",
        "guided",
        "local",
        "reinforce",
        "bohb",
        "tpe",
        "nsga2",
        "optuna-random",
    ],
)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    events=st.integers(1, 50),
    workers=st.integers(1, 9),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5).map(tuple),
)
def test_resumed_equals_uninterrupted_wherever_it_is_cut(name, events, workers, kinds):
    whole = play(name, MIXED, workers=workers, kinds=kinds)
    for _ in range(events):
        whole.step()
    half = resumed(whole, name)
    n = len(whole.trials) + 5
    assert half.until(n).proposals() == whole.until(n).proposals()


@pytest.mark.parametrize(("name", "distinct"), VARIANTS)
def test_after_a_restart_one_worker_goes_on_as_if_undisturbed(name, distinct):
    """Also where proposals were answered from what was known, of which nothing is stored."""
    n = {"gp": 6, "guided": 40}.get(name, 90)
    whole = answering(name, distinct, kinds=("COMPLETE", "STOPPED", "COMPLETE"))
    halves = []
    for cut in (n - 3,) if name == "gp" else (n // 3, n // 2, n - 7):
        whole.asks(cut)
        halves.append(restarted(whole, name, distinct))
    whole.asks(n)
    repeated = len(whole.asked) - len(whole.trials)
    assert (repeated > 0) == (distinct is False)
    for half in halves:
        half.asks(n)
        assert half.asked == {k: whole.asked[k] for k in half.asked}
        assert [t.number for t in half.trials] == [t.number for t in whole.trials]


@pytest.mark.parametrize(("name", "distinct"), [v for v in VARIANTS if v[1] is False])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    events=st.integers(1, 90),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5).map(tuple),
)
def test_a_restart_anywhere_loses_no_repeat(name, distinct, events, kinds):
    whole = answering(name, distinct, kinds=kinds)
    for _ in range(events):
        whole.step()
    half = restarted(whole, name, distinct)
    stored = 1 + max((t.number for t in whole.trials), default=-1)
    n = whole.number + 6
    for play in (whole, half):
        play.asks(n)
    assert half.asked == {k: whole.asked[k] for k in range(stored, n)}


@pytest.mark.parametrize(("name", "distinct"), [v for v in VARIANTS if v[1] is False])
def test_a_restored_repeat_that_is_asked_for_again_changes_nothing(name, distinct):
    """A resumed search may give the missing numbers out again."""
    before = answering(name, distinct, kinds=("COMPLETE",)).asks(60)
    plain, again = (restarted(before, name, distinct) for _ in range(2))
    stored = {t.number for t in before.trials}
    missing = [n for n in range(max(stored)) if n not in stored]
    assert missing
    for number in missing:
        arch = again.sampler.ask(number)
        assert arch == before.asked[number]
        first = next(t for t in again.trials if t.arch == ORDERED.canonical(arch))
        again.sampler.tell(dataclasses.replace(first, number=number, proposal=arch))
    assert again.asks(80).asked == plain.asks(80).asked


@pytest.mark.parametrize(("name", "distinct"), [v for v in VARIANTS if v[0] != "gp"])
def test_a_restart_with_many_workers_and_repeats_goes_on_the_same_every_time(name, distinct):
    n = 30
    before = answering(name, distinct, workers=6).asks(n)
    one, other = (restarted(before, name, distinct).asks(n + 10) for _ in range(2))
    assert one.asked == other.asked
    if distinct is not False:
        assert len({t.arch for t in one.trials}) == len(one.trials) == n + 10


@pytest.mark.parametrize(("name", "distinct"), [v for v in VARIANTS if v[0] != "gp"])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_whole_history_with_repeats_in_it_is_taken_over(name, distinct, workers):
    """Where repeats are trials of their own, as in the comparison's published protocol."""
    if name == "cmaes" and workers > 1:
        return  # it promises this for one worker only
    sampler = variant(name, distinct)
    sampler.setup(ORDERED, problem())
    n = 40
    whole = Play(sampler, ORDERED, workers).until(n - 5)
    fresh = variant(name, distinct)
    fresh.setup(ORDERED, problem())
    trials = copy.deepcopy(whole.trials)
    fresh.replay(trials)
    half = Play(fresh, ORDERED, whole.workers, trials=trials)
    assert half.until(n).proposals() == whole.until(n).proposals()


@pytest.mark.parametrize("name", MAKERS)
def test_running_trials_of_a_history_are_told_later(name):
    before = play(name, ORDERED, workers=4).until(10)
    after = resumed(before, name)
    running = [t for t in after.trials if t.state is TrialState.RUNNING]
    assert len(running) == 4
    for trial in running:
        end(trial, ORDERED, "COMPLETE")
        after.sampler.tell(trial)
    arch = after.sampler.ask(10)
    assert ORDERED.canonical(arch) not in {t.arch for t in after.trials}


@pytest.mark.parametrize("name", MAKERS)
def test_a_history_with_holes_is_taken_over(name):
    before = play(name, ORDERED).until(12)
    kept = [t for t in before.trials if t.number not in (2, 5) and t.state.ended]
    sampler = MAKERS[name]()
    sampler.setup(ORDERED, problem())
    sampler.replay(kept)
    new = [sampler.ask(n) for n in range(12, 18)]
    assert len({*new, *(t.arch for t in kept)}) == len(kept) + 6


@pytest.mark.parametrize("name", MAKERS)
def test_a_proposal_that_left_the_space_is_named(name):
    trials = play(name, ORDERED).until(6).trials
    sampler = MAKERS[name]()
    smaller = Toy(widths(4, options=2))
    sampler.setup(smaller, problem())
    with pytest.raises(UserError, match=r"stored trial \d+ proposed 'w0=.*start a new run"):
        sampler.replay(trials)


@pytest.mark.parametrize("name", MAKERS)
def test_an_exhausted_space_is_said_so_after_its_last_class(name):
    space = Toy(widths(2, 3)) if name == "cmaes" else Toy(ops(2, "abc") + widths(1, 2))
    classes = {space.canonical(a) for a in space.enumerate()}
    done = play(name, space, kinds=("COMPLETE",)).until(len(classes))
    assert {t.arch for t in done.trials} == classes
    for number in (len(classes), len(classes) + 7):
        with pytest.raises(SpaceExhausted, match="toy"):
            done.sampler.ask(number)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", ["STOPPED", "INFEASIBLE", "FAILED"])
def test_a_search_in_which_nothing_completes_goes_on(name, kind):
    n = length(name)
    done = play(name, ORDERED, workers=3, kinds=(kind,)).until(n)
    assert len({t.arch for t in done.trials}) == n


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in SINGLE])
@pytest.mark.parametrize("kinds", [KINDS, ("STOPPED",), ("INFEASIBLE", "COMPLETE")])
def test_two_objectives_with_every_outcome(name, kinds):
    n = length(name)
    done = play(name, MIXED, objectives=TWO, workers=3, kinds=kinds).until(n)
    assert len({t.arch for t in done.trials}) == n


class Separable(Toy):
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
