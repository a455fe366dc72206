from __future__ import annotations

import numpy as np
import pytest
from toys import ToySpace

from raynas.core import Measurement, Objective, SearchProblem, Trial, TrialState, UserError
from raynas.samplers.reinforce import Reinforce, _softmax

SPACE = ToySpace()


def start(**settings) -> Reinforce:
    sampler = Reinforce(**settings)
    sampler.setup(SPACE, SearchProblem((Objective(),), 4, 0, "run"))
    return sampler


def ended(number, text, value, state="COMPLETE") -> Trial:
    arch = SPACE.architecture(text)
    trial = Trial(number, arch, arch, state=TrialState(state))
    if value is not None:
        trial.measurements = [Measurement(4, {"val_accuracy": value})]
    return trial


def chances(sampler) -> np.ndarray:
    sampler._learn()
    return _softmax(sampler._states[-1].logits)


def test_it_begins_uniform_over_the_options_that_each_choice_has():
    np.testing.assert_allclose(chances(start()), [[1 / 6] * 6, [1 / 6] * 6, [1 / 3] * 3 + [0] * 3])


def test_better_than_the_baseline_becomes_likelier_and_worse_less_likely():
    sampler = start(lr=0.1)
    sampler.tell(ended(0, "x=0,y=0,op=a", 50.0))  # the first one is its own baseline
    np.testing.assert_allclose(chances(sampler)[0], 1 / 6)
    sampler.tell(ended(1, "x=1,y=1,op=b", 60.0))
    assert chances(sampler)[0].argmax() == 1
    assert chances(sampler)[2].argmax() == 1
    sampler.tell(ended(2, "x=2,y=2,op=c", 10.0))
    assert chances(sampler)[0].argmin() == 2


def test_the_steps_are_those_of_adam_with_a_moving_average_baseline():
    """Against the formulas, written down once more for the second reward."""
    sampler = start(lr=0.1, momentum=0.9)
    sampler.tell(ended(0, "x=0,y=0,op=a", 50.0))
    sampler.tell(ended(1, "x=1,y=0,op=a", 60.0))
    baseline = (0.9 * 0.1 * 50 + 0.1 * 60) / (0.9 * 0.1 + 0.1)
    gradient = (60 - baseline) * (np.full(6, 1 / 6) - np.eye(6)[1])
    mean = 0.1 * gradient / (1 - 0.9**2)
    square = 0.001 * gradient**2 / (1 - 0.999**2)
    logits = -0.1 * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(chances(sampler)[0], np.exp(logits) / np.exp(logits).sum())


def test_lessons_count_in_the_order_of_their_numbers():
    lessons = [ended(n, f"x={n},y=0,op=a", v) for n, v in enumerate([50.0, 70.0, 20.0, 60.0])]
    forth, back = start(), start()
    for trial in lessons:
        forth.tell(trial)
        chances(forth)
    for trial in reversed(lessons):
        back.tell(trial)
        chances(back)
    np.testing.assert_array_equal(chances(forth), chances(back))


def test_stopped_and_infeasible_trials_repel_and_failed_ones_do_nothing():
    for state, value in (("STOPPED", 80.0), ("INFEASIBLE", None), ("FAILED", None)):
        sampler = start()
        sampler.tell(ended(0, "x=0,y=0,op=a", 50.0))
        sampler.tell(ended(1, "x=5,y=0,op=a", 60.0))
        before = chances(sampler)[0, 2]
        sampler.tell(ended(2, "x=2,y=0,op=a", value, state))
        # Adam's momentum moves all options a little
        assert (chances(sampler)[0, 2] < before) == (state != "FAILED")
        assert chances(sampler)[0].argmax() == 5


def test_without_distinct_a_sure_controller_repeats_itself():
    sampler = start(lr=5.0, distinct=False)
    for number in range(40):
        arch = sampler.ask(number)
        sampler.tell(ended(number, arch.text, 90.0 if arch["x"] == 3 else 10.0))
    assert len({sampler.ask(n).text for n in range(40, 60)}) < 20


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"momentum": 1.0}])
def test_bad_settings_are_named(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Reinforce(**settings)


def test_several_objectives_are_refused_with_a_cure():
    two = (Objective(), Objective("macs", "min"))
    with pytest.raises(UserError, match="2 objectives; give one"):
        Reinforce().setup(SPACE, SearchProblem(two, 4, 0, "run"))
