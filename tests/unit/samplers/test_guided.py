from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core import (
    Bound,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    UserError,
    violations,
)
from raynas.core.pareto import hypervolume
from raynas.samplers import Guided, Random
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.samplers.guided import _among, _settled
from raynas.samplers.subset import _spread, by_turns
from raynas.samplers.surrogate import SurrogateModel
from raynas.spaces.base import SearchSpace

MAX_STEP = 9
ONE = (Objective(),)
TWO = (Objective(), Objective("latency_ms", "min"))


@dataclass(frozen=True)
class Widths(SearchSpace):
    """Many ordered choices and some operations: too large to be a list of candidates."""

    count: int = 8
    name: ClassVar[str] = "widths"

    @property
    def choices(self):
        ordered = tuple(Choice(f"w{i}", (8, 16, 24, 32), True) for i in range(self.count))
        return (*ordered, *(Choice(f"op{i}", ("a", "b", "c")) for i in range(3)))

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


SMALL, LARGE = Widths(3), Widths()


def measured(arch) -> dict[str, float]:
    """An accuracy with an inner optimum, and a latency that grows with the widths."""
    widths = np.array([v / 8 - 1 for k, v in arch.items() if k[0] == "w"])
    operations = sum("abc".index(v) for k, v in arch.items() if k[0] == "o")
    loss = np.square(widths - 2 * (np.arange(len(widths)) % 2) - 0.5).sum() + operations
    return {"val_accuracy": 90.0 - float(loss), "latency_ms": 1.0 + float(widths.mean())}


def search(sampler, space, trials, seed=0, objectives=ONE, bounds=(), workers=1) -> list[Trial]:
    """Trials end in the order in which they began, ``workers`` at a time."""
    sampler.setup(space, SearchProblem(objectives, MAX_STEP, seed, "run-1", bounds))
    made: list[Trial] = []
    for number in range(trials):
        arch = sampler.ask(number)
        made.append(Trial(number, arch, space.canonical(arch)))
        if number >= workers - 1:
            end(sampler, made[number - workers + 1], bounds)
    return made


def end(sampler, trial, bounds=()) -> None:
    trial.measurements = [Measurement(MAX_STEP, measured(trial.arch))]
    trial.violations = violations(bounds, trial.values())
    broken = any(v > 0 for v in trial.violations.values())
    trial.state = TrialState.INFEASIBLE if broken else TrialState.COMPLETE
    sampler.tell(trial)


def best(trials) -> float:
    return max(t.values()["val_accuracy"] for t in trials if t.state is TrialState.COMPLETE)


@pytest.mark.parametrize(
    "setting",
    [{"startup": 0}, {"explore": -1.0}, {"explore": float("nan")}, {"candidates": 9},
     {"refit": 0}, {"most": 9}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        Guided(**setting)


def test_the_first_ones_are_random():
    made = search(Guided(startup=6), LARGE, 7)
    stream = ArchitectureDeduplicator(LARGE, 0)
    assert [t.proposal for t in made[:6]] == [stream.fresh(n) for n in range(6)]
    assert made[6].proposal != stream.fresh(6)


@pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("workers", [1, 5])
def test_it_finds_better_ones_than_random_search(space, workers):
    gains = [
        best(
            search(Guided(candidates=80, refit=3), space, 30, seed, workers=workers)[: 31 - workers]
        )
        - best(search(Random(), space, 30, seed, workers=workers)[: 31 - workers])
        for seed in range(2)
    ]
    assert np.mean(gains) > 1.0


def test_within_a_bound_it_wastes_few_trials_and_finds_better_ones():
    bound = (Bound("latency_ms", max=1.9),)  # one of six random architectures satisfies it
    kept, gains = [], []
    for seed in range(2):
        made = search(Guided(candidates=80, refit=3), LARGE, 40, seed, bounds=bound)
        other = search(Random(), LARGE, 40, seed, bounds=bound)
        kept.append(sum(t.state is TrialState.COMPLETE for t in made[10:]) / 30)
        gains.append(best(made) - best(other))
    assert np.mean(kept) > 0.6
    assert np.mean(gains) > 1.0


def test_before_anything_keeps_the_bound_it_looks_where_the_bound_is_nearest():
    bound = (Bound("latency_ms", max=1.2),)  # one of 2,000
    made = search(Guided(candidates=80, refit=3), LARGE, 30, bounds=bound)
    latency = [t.values()["latency_ms"] for t in made]
    assert np.mean(latency[20:]) < np.mean(latency[:5]) - 0.5


def test_two_objectives_reach_a_larger_front_than_random_search():
    def volume(trials) -> float:
        points = [(v["val_accuracy"], -v["latency_ms"]) for v in (t.values() for t in trials)]
        return hypervolume(np.array(points), np.array([50.0, -4.0]))

    gains = [
        volume(search(Guided(candidates=80, refit=3), LARGE, 30, seed, TWO))
        - volume(search(Random(), LARGE, 30, seed, TWO))
        for seed in range(2)
    ]
    assert np.mean(gains) > 3.0


def test_proposals_for_many_workers_are_unlike():
    def spread(sampler) -> float:
        made = search(sampler, LARGE, 20)
        codes = [LARGE.encode(sampler.ask(n)) for n in range(20, 28)]
        assert len({t.proposal for t in made}) == 20
        return float(np.mean([np.abs(a - b).sum() for a in codes for b in codes]))

    assert spread(Guided(explore=2.0, candidates=80)) > spread(Guided(explore=0.0, candidates=80))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(order=st.permutations(range(12)), cut=st.integers(0, 12))
def test_neither_the_order_of_the_ends_nor_a_restart_changes_a_proposal(order, cut):
    problem = SearchProblem(ONE, MAX_STEP, 0, "run-1")
    first, second, resumed = (Guided(candidates=40) for _ in range(3))
    for sampler in (first, second, resumed):
        sampler.setup(LARGE, problem)
    trials = [Trial(n, a, a) for n, a in enumerate([first.ask(n) for n in range(12)])]
    assert [second.ask(n) for n in range(12)] == [t.proposal for t in trials]
    for n in range(12):
        end(first, trials[n])
    for n in order[:cut]:
        end(second, trials[n])
    for n in order[cut:]:
        trials[n].state, trials[n].measurements = TrialState.RUNNING, []
    resumed.replay(trials)
    for n in order[cut:]:
        end(second, trials[n])
        resumed.tell(trials[n])
    asked = [first.ask(n) for n in range(12, 16)]
    assert [second.ask(n) for n in range(12, 16)] == asked
    assert [resumed.ask(n) for n in range(12, 16)] == asked


def test_a_running_trial_that_is_replayed_counts_as_when_it_was_asked():
    whole = Guided(candidates=40)
    made = search(whole, LARGE, 21, workers=8)
    asked = [whole.ask(n) for n in range(21, 25)]
    half = Guided(candidates=40)
    half.setup(LARGE, SearchProblem(ONE, MAX_STEP, 0, "run-1"))
    half.replay(made)
    assert [half.ask(n) for n in range(21, 25)] == asked


def test_stopped_trials_are_learned_from():
    sampler = Guided(candidates=80, refit=3)
    sampler.setup(LARGE, SearchProblem(ONE, MAX_STEP, 0, "run-1"))
    accuracies = []
    for number in range(40):
        arch = sampler.ask(number)
        trial = Trial(number, arch, arch, state=TrialState.STOPPED)
        value = measured(arch)["val_accuracy"]
        trial.measurements = [Measurement(1, {"val_accuracy": value})]
        accuracies.append(value)
        sampler.tell(trial)
    assert np.mean(accuracies[30:]) > np.mean(accuracies[:5]) + 3


def history(latencies, accuracies) -> list[Trial]:
    """Ended trials of different architectures; latencies up to 4 keep the bound."""
    rng = np.random.default_rng(0)
    archs = list(dict.fromkeys(LARGE.sample(rng) for _ in range(2 * len(latencies))))
    trials = []
    for number, (latency, accuracy) in enumerate(zip(latencies, accuracies, strict=True)):
        values = {"val_accuracy": float(accuracy), "latency_ms": float(latency)}
        trial = Trial(number, archs[number], archs[number])
        trial.measurements = [Measurement(MAX_STEP, values)]
        trial.violations = violations((LIMIT,), values)
        trial.state = TrialState.INFEASIBLE if latency > 4 else TrialState.COMPLETE
        trials.append(trial)
    return trials


LIMIT = Bound("latency_ms", max=4.0)


def taught(trials, most, objectives=ONE) -> tuple[list[list[int]], list[list[int]]]:
    """Numbers of the trials that the models of objectives, and of bounds, are made of."""
    made: list[list[int]] = []

    class Watched(Guided):
        def _learned(self, pool, places, *more):
            number = {place: n for n, place in enumerate(places)}
            models = super()._learned(pool, places, *more)
            made.extend([number[p] for p in m.at] for m in models)
            return models

    class Recorded(SurrogateModel):
        def __init__(self, distances, places, y, doubt):
            super().__init__(distances, places, y, doubt)
            self.at = list(places)

    sampler = Watched(candidates=20, most=most)
    sampler.setup(LARGE, SearchProblem(objectives, MAX_STEP, 0, "run-1", (LIMIT,)))
    sampler.replay(trials)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raynas.samplers.surrogate.SurrogateModel", Recorded)
        sampler.ask(len(trials))
    return made[: len(objectives)], made[len(objectives) :]


def test_a_bound_is_learned_from_its_border_not_from_the_worst_violators():
    """Many trials far beyond the bound, the latest among them, and few on either side of it."""
    rng = np.random.default_rng(1)
    near = np.linspace(3.9, 3.99, 20), np.linspace(4.01, 4.1, 20)
    latencies = np.concatenate([*near, rng.uniform(20, 90, 660)])
    trials = history(latencies, rng.uniform(50, 90, 700))
    (_,), (bound,) = taught(trials, 100)
    assert len(bound) == 100
    assert {*range(40)} < set(bound)  # all within and beyond, next to the border
    far = sorted(latencies[n] for n in bound if n >= 40)
    assert far[0] < 25  # and a fair spread over the others
    assert far[-1] > 85


def test_an_objective_is_learned_from_the_best_that_keep_the_bounds():
    """There are more better ones beyond the bound than the model can be made of."""
    accuracies = np.concatenate(
        [np.linspace(50, 60, 40), np.linspace(70, 90, 400), np.full(60, 40.0)]
    )
    latencies = np.concatenate([np.full(40, 3.0), np.full(400, 9.0), np.full(60, 9.0)])
    (objective,), (bound,) = taught(history(latencies, accuracies), 60)
    assert {*range(30, 40)} <= set(objective)
    assert {*range(30, 40)} <= set(bound)
    assert _settled(500, 2) - 1 in objective  # the latest
    assert any(accuracies[n] < 55 for n in objective)


def test_of_several_objectives_each_is_learned_from_the_whole_front():
    """The best by one objective are the worst by the other."""
    steps = np.linspace(0, 1, 400)
    trials = history(1.0 + 2.5 * steps, 50.0 + 40.0 * steps)  # all of them are on the front
    for model in taught(trials, 60, TWO)[0]:
        places = np.array(sorted(model)) / 400
        assert np.diff([0.0, *places, 1.0]).max() < 0.15


def test_few_trials_are_all_learned_from():
    trials = history(np.linspace(1, 9, 25), np.linspace(50, 60, 25))
    objectives, bounds = taught(trials, 600)
    settled = _settled(25, 2)
    assert [sorted(m) for m in (*objectives, *bounds)] == [list(range(settled))] * 2


@given(
    orders=st.lists(st.lists(st.integers(0, 30), max_size=30), max_size=5),
    most=st.integers(0, 40),
)
def test_turns_take_the_first_of_every_order(orders, most):
    chosen = by_turns(orders, most).tolist()
    everything = {i for order in orders for i in order}
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= everything
    assert len(chosen) == min(most, len(everything))
    if orders:
        for order in orders:
            assert set(order[: most // len(orders)]) <= set(chosen)


@given(count=st.integers(0, 300))
def test_every_beginning_of_a_spread_is_even(count):
    spread = _spread(np.arange(count))
    assert sorted(spread) == list(range(count))
    for some in (4, 16, 64):
        if some <= count:
            gaps = np.diff([*sorted(spread[:some]), count])
            assert gaps.max() <= 4 * count / some


@given(count=st.integers(0, 3000), least=st.integers(1, 9))
def test_a_model_lags_by_a_twentieth_of_the_trials(count, least):
    settled = _settled(count, least)
    assert 0 <= count - settled < max(least, count // 20 + 1)
    assert _settled(settled, least) == settled


def test_places_are_those_among_the_feasible():
    stand = np.array([0.1, 0.3, 0.5, 0.7, np.nan, 0.9])
    feasible = np.array([True, False, True, False, True, False])
    found = _among(stand, feasible)
    np.testing.assert_array_equal(found, [0.25, 0.5, 0.75, 0.75, np.nan, 0.75])
