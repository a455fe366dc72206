from __future__ import annotations

import numpy as np
import pytest
from toys import ToySpace

from raynas.core import Measurement, Objective, SearchProblem, Trial, TrialState, UserError
from raynas.samplers.bohb import BOHB, _Density

SPACE = ToySpace()
GOOD, BAD = ("x=3,y=4,op=c", "x=3,y=3,op=c"), ("x=0,y=0,op=a", "x=1,y=0,op=a", "x=0,y=1,op=a")


def start(**settings) -> BOHB:
    sampler = BOHB(**settings)
    sampler.setup(SPACE, SearchProblem((Objective(),), 9, 0, "run"))
    return sampler


def tell(sampler, number, text, curve, state="COMPLETE") -> None:
    arch = SPACE.architecture(text)
    trial = Trial(number, arch, arch, state=TrialState(state))
    trial.measurements = [Measurement(s, {"val_accuracy": v}) for s, v in curve.items()]
    sampler.tell(trial)


def fill(sampler, steps, first=0) -> None:
    """Eight trials at these steps, half of them good."""
    for n in range(8):
        text = GOOD[n % 2] if n % 2 else BAD[n % 3]
        tell(sampler, first + n, text, dict.fromkeys(steps, 90.0 * (n % 2)))


def test_a_density_is_one_over_all_places_and_highest_at_its_points():
    options = np.array([3, 2])
    density = _Density(np.array([[0, 1], [0, 0]]), np.array([0.3, 0.5]), options)
    every = density(np.array([(i, j) for i in range(3) for j in range(2)]))
    assert every.sum() == pytest.approx(1)
    assert every[0] > every[2]  # (0, 0) is a point, (1, 0) is none


def test_draws_stay_near_the_points_as_the_kernel_is_narrow():
    density = _Density(np.array([[2, 1]]), np.array([0.3, 0.3]), np.array([6, 6]))
    drawn = density.draw(2000, np.random.default_rng(0))
    share = (drawn == [2, 1]).mean()
    assert share == pytest.approx(0.7 + 0.3 / 6, abs=0.02)


def test_there_is_no_model_before_there_are_enough_of_both_kinds():
    sampler = start(random=0.0)
    fill(sampler, (1,))
    assert sampler._fit() is not None
    few = start()
    for n in range(5):
        tell(few, n, BAD[n % 3], {1: 1.0})
    assert few._fit() is None


def test_the_model_is_of_the_highest_step_with_enough_trials():
    sampler = start()
    fill(sampler, (1,))
    low = sampler._fit()
    fill(sampler, (1, 3), first=8)
    tell(sampler, 16, GOOD[0], {1: 0.0, 3: 0.0, 9: 0.0})
    high = sampler._fit()
    assert low is not None
    assert high is not None
    assert len(low[0].points) + len(low[1].points) == 8
    assert len(high[0].points) + len(high[1].points) == 9  # of step 3, not 17 nor 1


def test_while_a_higher_step_fills_the_model_is_of_the_step_below():
    sampler = start(random=0.0)
    fill(sampler, (1,))
    fill(sampler, (1,), first=8)
    fill(sampler, (1,), first=16)
    for n in range(8):  # the model needs 4 good and 4 bad ones, as there are 3 choices
        text = GOOD[n % 2] if n % 2 else BAD[n % 3]
        tell(sampler, n, text, {1: 1.0, 3: 90.0 * (n % 2)})
        model = sampler._fit()
        assert model is not None, f"{n + 1} trials at step 3"
        of_step_one = len(model[0].points) + len(model[1].points) == 24
        assert of_step_one == (n < 7)
    for n in range(6):  # two steps fill at once
        tell(sampler, n, BAD[n % 3], {1: 1.0, 3: 1.0, 9: 1.0})
        model = sampler._fit()
        assert model is not None
        assert len(model[0].points) + len(model[1].points) == 8


def test_proposals_are_the_models_while_a_higher_step_fills():
    one = start(random=0.0, distinct=False)
    other = start(random=0.0, distinct=False)
    for sampler in (one, other):
        fill(sampler, (1,))
    for n in range(6):
        tell(other, n, GOOD[n % 2] if n % 2 else BAD[n % 3], {1: 90.0 * (n % 2), 3: 1.0})
    assert [one.ask(n) for n in range(20, 40)] == [other.ask(n) for n in range(20, 40)]


@pytest.mark.parametrize(
    ("top", "trials", "good"),
    [(0.29, 100, 29), (0.15, 100, 15), (0.15, 8, 4), (1.0, 20, 16), (0.95, 20, 16)],
)
def test_the_good_ones_are_the_share_of_exact_arithmetic(top, trials, good):
    sampler = start(top=top)
    for n in range(trials):
        tell(sampler, n, BAD[n % 3], {1: float(n)})
    model = sampler._fit()
    assert model is not None
    assert [len(density.points) for density in model] == [good, trials - good]


def test_it_proposes_what_is_good_rather_than_bad():
    sampler = start(random=0.0, distinct=False)
    for n in range(60):
        place = SPACE.sample(np.random.default_rng(n))
        tell(sampler, n, place.text, {9: 50.0 + 10 * (place["op"] == "c") - place["x"]})
    asked = [sampler.ask(n) for n in range(60, 160)]
    assert np.mean([a["op"] == "c" for a in asked]) > 0.6


def test_broken_bounds_and_failures_are_not_in_the_model():
    sampler = start()
    fill(sampler, (1,))
    before = sampler._measured[1].copy()
    tell(sampler, 20, GOOD[0], {1: 5.0}, "INFEASIBLE")
    tell(sampler, 21, GOOD[0], {1: 5.0}, "FAILED")
    assert sampler._measured[1] == before


@pytest.mark.parametrize("settings", [{"top": 0.0}, {"random": 1.5}, {"width": -1.0}])
def test_bad_settings_are_named(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        BOHB(**settings)


def test_several_objectives_are_refused_with_a_cure():
    two = (Objective(), Objective("macs", "min"))
    with pytest.raises(UserError, match="2 objectives; give one"):
        BOHB().setup(SPACE, SearchProblem(two, 9, 0, "run"))
