"""The evolution of Zen-NAS: who enters the population, who leaves it, who is a parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from raynas.core import (
    Architecture,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
)
from raynas.core.errors import UserError
from raynas.samplers import ElitistEvolution
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.samplers.elitist import FOUNDERS
from raynas.spaces.base import SearchSpace

UP = (Objective("score"),)


@dataclass(frozen=True)
class Letters(SearchSpace):
    name: ClassVar[str] = "letters"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(Choice(f"l{i}", tuple("abcdef")) for i in range(6))

    def format(self, values):
        return "".join(map(str, values.values()))

    def parse(self, text):
        return {f"l{i}": letter for i, letter in enumerate(text)}

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


SPACE = Letters()
START = SPACE.architecture("abcdef")


def begin(objectives=UP, seed=0, **settings) -> ElitistEvolution:
    sampler = ElitistEvolution(**settings)
    sampler.setup(SPACE, SearchProblem(objectives, 1, seed, "run-1"))
    return sampler


def tell(sampler, number, arch, score, state=TrialState.COMPLETE) -> None:
    trial = Trial(number, arch, arch, state=state)
    trial.measurements = [Measurement(1, {"score": score})]
    sampler.tell(trial)


def distance(a: Architecture, b: Architecture) -> int:
    return sum(a[k] != b[k] for k in a)


def parents(sampler, candidates, numbers=range(100, 160)) -> set[int]:
    """Which of the candidates, all far from each other, have a child in these asks."""
    children = [sampler.ask(n) for n in numbers]
    return {i for child in children for i, c in enumerate(candidates) if distance(child, c) == 1}


FAR = [SPACE.architecture(letter * 6) for letter in "abcdef"]


def test_the_start_comes_first_then_its_mutants():
    sampler = begin(start="abcdef")
    asked = [sampler.ask(n) for n in range(20)]
    assert asked[0] == START
    assert all(distance(arch, START) == 1 for arch in asked[1:])
    assert len(set(asked)) == 20


def test_without_a_start_the_founders_are_random():
    sampler = begin()
    asked = [sampler.ask(n) for n in range(FOUNDERS)]
    assert asked == [ArchitectureDeduplicator(SPACE, 0).fresh(n) for n in range(FOUNDERS)]


def test_it_breeds_when_there_are_founders():
    sampler = begin(start="abcdef")
    asked = [sampler.ask(n) for n in range(FOUNDERS)]
    for n, arch in enumerate(asked[:-1]):
        tell(sampler, n, arch, float(n))
    assert distance(sampler.ask(50), START) == 1
    tell(sampler, FOUNDERS - 1, asked[-1], 99.0)
    later = {distance(sampler.ask(n), START) for n in range(51, 81)}
    assert 2 in later


def test_every_member_is_a_parent_and_the_worst_has_left():
    sampler = begin(population=3)
    for n, score in enumerate([5.0, 1.0, 4.0, 2.0, 3.0]):
        tell(sampler, n, FAR[n], score)
    assert parents(sampler, FAR) == {0, 2, 4}


def test_a_minimised_objective_keeps_the_lowest():
    sampler = begin((Objective("score", "min"),), population=2)
    for n, score in enumerate([5.0, 1.0, 4.0, 2.0]):
        tell(sampler, n, FAR[n], score)
    assert parents(sampler, FAR) == {1, 3}


def test_of_equals_the_younger_stays():
    sampler = begin(population=2)
    for n in (3, 0, 2, 1):
        tell(sampler, n, FAR[n], 7.0)
    assert parents(sampler, FAR) == {2, 3}


@pytest.mark.parametrize("state", [TrialState.INFEASIBLE, TrialState.FAILED, TrialState.STOPPED])
def test_only_completed_trials_enter(state):
    sampler = begin(population=2)
    for n, score in enumerate([1.0, 2.0]):
        tell(sampler, n, FAR[n], score)
    tell(sampler, 2, FAR[2], 99.0, state)
    tell(sampler, 3, FAR[3], float("nan"))
    assert parents(sampler, FAR) == {0, 1}


def test_the_order_in_which_trials_end_does_not_matter():
    def asked(order):
        sampler = begin(population=3)
        for n in order:
            tell(sampler, n, FAR[n], float(n % 3))
        return [sampler.ask(n) for n in range(10, 20)]

    assert asked([0, 1, 2, 3, 4, 5]) == asked([5, 3, 1, 0, 2, 4])


def test_it_climbs():
    sampler = begin(population=8, start="bbbbbb")
    best = 0
    for n in range(300):
        arch = sampler.ask(n)
        score = arch.text.count("a")
        best = max(best, score)
        tell(sampler, n, arch, float(score))
    assert best == 6


def test_what_it_cannot_serve_is_said():
    with pytest.raises(UserError, match="cannot serve 2 objectives"):
        begin((Objective("score"), Objective("macs", "min")))
    with pytest.raises(UserError, match="'x'"):
        begin(start="abcdex")
    with pytest.raises(UserError, match="population = 0; expected: 1 or more"):
        ElitistEvolution(population=0)
