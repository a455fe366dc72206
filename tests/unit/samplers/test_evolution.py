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
from raynas.samplers import RegularizedEvolution
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.samplers.evolution import _Individual, _ranked
from raynas.spaces.base import SearchSpace

MAX_STEP = 9
UP = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("macs", "min"))


@dataclass(frozen=True)
class Letters(SearchSpace):
    name: ClassVar[str] = "letters"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(Choice(f"l{i}", tuple("abcdef")) for i in range(6))

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


SPACE = Letters()


def start(objectives=UP, **kwargs) -> RegularizedEvolution:
    sampler = RegularizedEvolution(**kwargs)
    sampler.setup(SPACE, SearchProblem(tuple(objectives), MAX_STEP, 0, "run-1"))
    return sampler


def tell(
    sampler, number, arch, value, state=TrialState.COMPLETE, steps=MAX_STEP, macs=1.0
) -> Trial:
    trial = Trial(number, arch, arch, state=state, costs={"macs": macs})
    trial.measurements = [Measurement(s + 1, {"val_accuracy": value}) for s in range(steps)]
    sampler.tell(trial)
    return trial


def distance(a: Architecture, b: Architecture) -> int:
    return sum(a[k] != b[k] for k in a)


def test_the_population_is_random_then_come_children_of_the_best():
    sampler = start(population=5, sample=5)
    firsts = [sampler.ask(n) for n in range(5)]
    for n, arch in enumerate(firsts):
        tell(sampler, n, arch, [1.0, 9.0, 3.0, 2.0, 5.0][n])
    assert all(distance(sampler.ask(n), firsts[1]) == 1 for n in range(5, 9))


def test_the_oldest_die_however_good():
    sampler = start(population=3, sample=3)
    archs = [sampler.ask(n) for n in range(3)]
    for n, value in enumerate([99.0, 1.0, 2.0]):
        tell(sampler, n, archs[n], value)
    child = sampler.ask(3)
    assert distance(child, archs[0]) == 1
    tell(sampler, 3, child, 0.0)
    assert distance(sampler.ask(4), archs[2]) == 1


def test_age_is_the_number_not_the_time_of_the_end():
    asked = {n: start(population=2, sample=2).ask(n) for n in range(3)}

    def parent_of_next(order) -> Architecture:
        sampler = start(population=2, sample=2)
        for n in range(3):
            sampler.ask(n)
        for n in order:
            tell(sampler, n, asked[n], [9.0, 1.0, 2.0][n])
        return sampler.ask(3)

    assert parent_of_next([0, 1, 2]) == parent_of_next([2, 1, 0])


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.INFEASIBLE])
def test_failed_and_infeasible_trials_are_no_parents_and_are_made_up_for(state):
    sampler = start(population=3, sample=3)
    archs = [sampler.ask(n) for n in range(3)]
    tell(sampler, 0, archs[0], 99.0, state=state)
    tell(sampler, 1, archs[1], 1.0)
    tell(sampler, 2, archs[2], 2.0)
    replacement = sampler.ask(3)  # random again: one of three has no value
    assert replacement == ArchitectureDeduplicator(SPACE, 0).fresh(3)
    tell(sampler, 3, replacement, 0.0)
    assert distance(sampler.ask(4), archs[2]) == 1


def test_a_value_that_is_not_finite_is_no_parent():
    sampler = start(population=2, sample=2)
    archs = [sampler.ask(n) for n in range(2)]
    tell(sampler, 0, archs[0], float("nan"))
    tell(sampler, 1, archs[1], 1.0)
    tell(sampler, 2, sampler.ask(2), 0.0)
    assert distance(sampler.ask(3), archs[1]) == 1


def test_a_high_value_at_a_low_step_does_not_beat_a_completed_trial():
    sampler = start(population=3, sample=3)
    archs = [sampler.ask(n) for n in range(3)]
    tell(sampler, 0, archs[0], 99.0, state=TrialState.STOPPED, steps=1)
    tell(sampler, 1, archs[1], 10.0)
    tell(sampler, 2, archs[2], 50.0, state=TrialState.STOPPED, steps=3)
    assert distance(sampler.ask(3), archs[1]) == 1


def test_order_of_unlike_fidelities():
    def one(number: int, step: int, *values: float) -> _Individual:
        return _Individual(
            number,
            SPACE.architecture(dict.fromkeys((c.name for c in SPACE.choices), "a")),
            step,
            values,
        )

    ranked = _ranked([one(0, 1, 99.0), one(1, 3, 5.0), one(2, 10, 1.0), one(3, 3, 7.0)])
    assert [i.number for i in ranked] == [2, 3, 1, 0]


def test_several_objectives_breed_from_the_front():
    sampler = start(TWO, population=4, sample=4)
    archs = [sampler.ask(n) for n in range(4)]
    for n, (value, macs) in enumerate([(5.0, 5.0), (4.0, 6.0), (3.0, 7.0), (2.0, 8.0)]):
        tell(sampler, n, archs[n], value, macs=macs)
    assert distance(sampler.ask(4), archs[0]) == 1


def test_pending_trials_fill_the_first_population():
    sampler = start(population=4, sample=2)
    archs = [sampler.ask(n) for n in range(8)]  # nothing ended yet: all are random
    assert len(set(archs)) == 8
    tell(sampler, 5, archs[5], 1.0)
    assert distance(sampler.ask(8), archs[5]) == 1


def test_bad_settings_name_value_and_allowed():
    with pytest.raises(UserError, match="population = 1; expected: 2 or more"):
        RegularizedEvolution(population=1)
    with pytest.raises(UserError, match="sample = 0; expected: 1 or more"):
        RegularizedEvolution(sample=0)


def test_without_distinct_children_may_be_known():
    asked = {}
    for distinct in (True, False):
        sampler = start(population=2, sample=2, distinct=distinct)
        for n in range(2):
            tell(sampler, n, sampler.ask(n), float(n))
        asked[distinct] = [sampler.ask(n) for n in range(2, 32)]  # 30 neighbours of one parent
    assert len(set(asked[True])) == 30
    assert len(set(asked[False])) < 30
