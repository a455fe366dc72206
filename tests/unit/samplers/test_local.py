from __future__ import annotations

import pytest
from toys import ToySpace, quality

from raynas.core import Measurement, Objective, SearchProblem, Trial, TrialState, UserError
from raynas.samplers.local import LocalSearch

SPACE = ToySpace()


def start(**settings) -> LocalSearch:
    sampler = LocalSearch(**settings)
    sampler.setup(SPACE, SearchProblem((Objective(),), 4, 0, "run"))
    return sampler


def tell(sampler, number, arch, value, state="COMPLETE", step=4) -> None:
    trial = Trial(number, arch, arch, state=TrialState(state))
    trial.measurements = [Measurement(step, {"val_accuracy": value})]
    sampler.tell(trial)


def play(sampler, count, value=quality) -> list:
    asked = []
    for number in range(count):
        asked.append(sampler.ask(number))
        tell(sampler, number, asked[-1], value(asked[-1]))
    return asked


def changes(a, b) -> int:
    return sum(a[name] != b[name] for name in a)


def test_after_the_random_ones_come_neighbours_of_the_best():
    sampler = start(initial=5)
    asked = play(sampler, 5)
    best = max(asked, key=quality)
    assert changes(sampler.ask(5), best) == 1


def test_the_first_improvement_moves_it_the_best_one_waits_for_all_neighbours():
    for improvement, moved in (("first", True), ("best", False)):
        sampler = start(initial=1, improvement=improvement)
        begin = sampler.ask(0)
        tell(sampler, 0, begin, 10.0)
        near = sampler.ask(1)
        tell(sampler, 1, near, 20.0)
        following = [sampler.ask(n) for n in range(2, 8)]
        assert all(changes(a, near if moved else begin) == 1 for a in following)


@pytest.mark.parametrize("improvement", ["first", "best"])
def test_it_climbs_to_the_best_of_the_space_and_then_begins_anew(improvement):
    sampler = start(initial=3, improvement=improvement)
    asked = play(sampler, 70)
    top = max(SPACE.enumerate(), key=quality)
    assert top in asked[:55]
    around = {top, *SPACE.neighbors(top)}
    closed = max(n for n, a in enumerate(asked) if a in around)
    assert closed < 60
    assert any(changes(a, top) > 1 for a in asked[closed + 1 : closed + 4])


def test_a_complete_trial_beats_a_stopped_one_with_a_higher_value():
    sampler = start(initial=2)
    one, two = sampler.ask(0), sampler.ask(1)
    tell(sampler, 0, one, 50.0)
    tell(sampler, 1, two, 99.0, "STOPPED", step=1)
    assert all(changes(sampler.ask(n), one) == 1 for n in range(2, 6))


def test_where_nothing_succeeds_it_goes_on_at_random():
    sampler = start(initial=2)
    for number in range(12):
        tell(sampler, number, sampler.ask(number), 1.0, "FAILED")
    assert sampler._open() == []


@pytest.mark.parametrize("settings", [{"initial": 0}, {"improvement": "worst"}])
def test_bad_settings_are_named(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        LocalSearch(**settings)


def test_several_objectives_are_refused_with_a_cure():
    two = (Objective(), Objective("macs", "min"))
    with pytest.raises(UserError, match="2 objectives; give one"):
        LocalSearch().setup(SPACE, SearchProblem(two, 4, 0, "run"))
