"""Trial numbers: none twice, and none of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace

from raynas.core import Measurement, Objective, SearchProblem, Trial, TrialState
from raynas.samplers import RegularizedEvolution, Reinforce
from raynas.samplers.base import Sampler
from raynas.search.trial_numbers import NumberPlan, TrialNumbers

ARCH = ToySpace().architecture("x=0,y=0,op=a")


def past(*numbers: int) -> list[Trial]:
    return [Trial(number, ARCH, ARCH) for number in numbers]


def taken(plan: NumberPlan, count: int) -> list[int]:
    numbers = TrialNumbers(plan)
    return [numbers.take() for _ in range(count)]


def test_a_new_search_begins_behind_all_that_are_stored() -> None:
    assert taken(NumberPlan.of([], {0, 1, 5}), 3) == [6, 7, 8]
    assert taken(NumberPlan.of([], set()), 2) == [0, 1]


def test_lost_numbers_come_first() -> None:
    plan = NumberPlan.of(past(2, 5), {0, 1, 2, 5, 6})
    assert taken(plan, 4) == [3, 4, 7, 8]


def test_a_number_that_was_lost_before_the_first_stored_one_comes_again() -> None:
    assert taken(NumberPlan.of(past(12, 13), {*range(11), 12, 13}), 2) == [11, 14]


def test_what_is_gone_through_again_skips_what_others_took_since() -> None:
    own, others = past(0, 1, 2), {3, 4, 7}
    plan = NumberPlan.of(own, {0, 1, 2} | others).from_the_start(own)
    assert taken(plan, 7) == [0, 1, 2, 5, 6, 8, 9]
    base = past(3, 4)
    again = NumberPlan.of(base, {0, 1, 2, 3, 4, 7}).from_the_start(base)
    assert taken(again, 4) == [3, 4, 5, 6]


def test_numbers_that_are_far_apart_were_never_given_out() -> None:
    own = past(0, 1, 3, 10**9)
    plan = NumberPlan.of(own, {0, 1, 3, 10**9})
    assert list(plan.gaps) == []
    assert taken(plan, 2) == [10**9 + 1, 10**9 + 2]
    assert taken(plan.from_the_start(own), 3) == [0, 1, 2]


@pytest.mark.parametrize("sampler", [RegularizedEvolution(population=4, sample=2), Reinforce()])
def test_a_sampler_takes_over_numbers_that_are_far_apart(sampler: Sampler) -> None:
    space = ToySpace()
    sampler.setup(space, SearchProblem((Objective(),), 1, seed=0, run="test"))
    trials = [
        Trial(number, arch, arch, state=TrialState.COMPLETE,
              measurements=[Measurement(1, {"val_accuracy": 50.0})])
        for number, arch in zip((0, 1, 10**9), space.enumerate(), strict=False)
    ]  # fmt: skip
    sampler.replay(trials)
    assert sampler.ask(10**9 + 1).space == "toy"


def test_a_number_that_was_given_back_is_the_next_one() -> None:
    numbers = TrialNumbers(NumberPlan.of([], set()))
    first = numbers.take()
    numbers.give_back(first)
    assert [numbers.take(), numbers.take()] == [first, first + 1]


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.booleans())
def test_no_number_is_given_out_twice_or_belongs_to_others(
    own: set[int], others: set[int], anew: bool
) -> None:
    own, trials = own - others, past(*sorted(own - others))
    plan = NumberPlan.of(trials, own | others)
    given_out = taken(plan.from_the_start(trials) if anew else plan, 60)
    assert len(set(given_out)) == len(given_out)
    assert not others & set(given_out)
    if anew:
        assert own <= set(given_out)
    else:
        assert not own & set(given_out)
