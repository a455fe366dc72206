"""Plans: what a search would find and cost on workers that are not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commands import done, experiment_file, raynas
from toys import Curves, ToyData, ToySpace

from raynas.apps.simulate import simulate, worker_counts
from raynas.apps.step_times import (
    StepTimes,
    assumed,
    fit,
    measured,
    payload_for,
    stated,
    tabled,
)
from raynas.benchmarks import NoImages, Synthetic
from raynas.core import Bound, Job, Objective, UserError, rng_for
from raynas.core.metrics import VAL_ACCURACY, VAL_LOSS
from raynas.evaluators import FunctionEvaluator, Screen, Tabular
from raynas.experiment import Budget, Experiment
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers import Random
from raynas.schedulers import ASHA

LANDSCAPE = Synthetic(max_step=9, seconds=60.0)


def experiment(**more: Any) -> Experiment:
    parts: dict[str, Any] = {
        "space": ToySpace(), "data": NoImages(), "evaluator": Tabular(LANDSCAPE),
        "sampler": Random(), "scheduler": ASHA(min_step=1, factor=3), "baselines": (),
        "budget": Budget(trials=60), "name": "toy", **more,
    }  # fmt: skip
    return Experiment(**parts)


def test_the_budget_of_the_experiment_or_hours() -> None:
    made = experiment()
    payload = tabled(made)
    budget = simulate(made, SimulatedCluster(4), payload=payload)
    assert len(budget.ends) == 60
    assert sum(budget.counts.values()) == 60
    half = simulate(made, SimulatedCluster(4), payload=payload, hours=0.5)
    assert len(half.ends) != 60
    last = max(when for when, _ in half.ends)
    assert 1800 < half.usage.seconds == last < 1800 + 9 * 90  # what ran was finished
    assert not half.note
    for hours in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--hours"):
            simulate(made, SimulatedCluster(4), payload=payload, hours=hours)


def test_the_best_so_far_rises_and_is_known_at_any_moment() -> None:
    made = experiment()
    found = simulate(made, SimulatedCluster(4), payload=tabled(made))
    values = [one.value for one in found.best]
    assert values == sorted(values)
    assert len(set(values)) == len(values) > 1
    assert found.at(0.0) == (None, {})
    best, ended = found.at(found.usage.seconds)
    assert best == found.best[-1]
    assert sum(ended.values()) == 60
    assert ended["STOPPED"] > 0
    moment = found.best[1].clock_s
    assert found.at(moment)[0] == found.best[1]
    assert found.at(moment - 1e-6)[0] == found.best[0]


def test_minimised_objectives_fall() -> None:
    made = experiment(
        evaluator=Tabular(LANDSCAPE, costs=("latency_ms",)),
        objectives=(Objective("latency_ms", "min"),),
    )
    values = [one.value for one in simulate(made, SimulatedCluster(2), payload=tabled(made)).best]
    assert values == sorted(values, reverse=True)


def test_equal_seeds_give_equal_plans() -> None:
    cluster = SimulatedCluster(
        8, 30.0, failure_rate=2.0, preempt_rate=2.0, checkpoint_s=45.0, seed=5
    )
    made = experiment()
    a, b = (simulate(made, cluster, payload=tabled(made)) for _ in range(2))
    assert (a.usage, a.best, a.ends) == (b.usage, b.best, b.ends)
    assert a.usage.failures + a.usage.preemptions > 0


def test_screening_takes_part_and_its_time_counts() -> None:
    quick = Tabular(Synthetic(max_step=1, seconds=7.0), costs=("latency_ms",))
    screen = Screen(quick, keep=0.5, batch=4)
    made = experiment(screen=screen, scheduler=ASHA(min_step=9), budget=Budget(trials=10))
    plain = experiment(scheduler=ASHA(min_step=9), budget=Budget(trials=10))
    screened = simulate(made, SimulatedCluster(1), payload=tabled(made))
    without = simulate(plain, SimulatedCluster(1), payload=tabled(plain))
    assert len([state for _, state in screened.ends if state == "COMPLETE"]) == 10
    assert screened.usage.idle > 20.0 > without.usage.idle


def test_what_works_for_real_is_refused_with_the_cure() -> None:
    made = experiment(evaluator=Curves(), data=ToyData())
    with pytest.raises(UserError, match=r"toy: curves trains networks.*--probe.*--step-seconds"):
        payload_for(made)
    with pytest.raises(UserError, match="give only one of them"):
        payload_for(made, probe=2, step_seconds=3.0)
    with pytest.raises(UserError, match=r"time of a step is known \(tabular\)"):
        payload_for(experiment(), probe=2)
    with pytest.raises(UserError, match="--step-seconds -1"):
        payload_for(made, step_seconds=-1.0)


def test_stated_times_go_by_macs_and_results_are_made_up() -> None:
    made = experiment(evaluator=Curves(), data=ToyData())
    payload, (remark,) = payload_for(made, step_seconds=30.0)
    assert "SIMULATED" in remark
    found = simulate(made, SimulatedCluster(3), payload=payload)
    assert found.made_up
    times, view = stated(made, 30.0), made.data.search_view(0)
    space, rng = made.space, rng_for(0)
    seconds = sorted(
        times.seconds(space.costs(space.sample(rng), view.input_shape, 2).macs) for _ in range(200)
    )
    assert seconds[100] == pytest.approx(30.0, rel=0.4)
    assert seconds[0] < 15.0
    assert {o.metric for o in made.objectives} <= {m.name for m in payload.evaluator.metrics}


def test_made_up_metrics_fit_their_directions() -> None:
    real = FunctionEvaluator(len, metrics=(VAL_ACCURACY, VAL_LOSS))
    made = experiment(evaluator=real, data=ToyData())
    payload = assumed(made, StepTimes(1.0, 0.0))
    payload.evaluator.setup(payload.space, payload.view)
    pairs = []
    for arch in made.space.enumerate():
        (one,) = payload.evaluator.evaluate(arch, Job(0, seed=0, max_step=1))
        pairs.append((one.values["val_accuracy"], one.values["val_loss"]))
        assert one.seconds == 1.0
    pairs.sort()
    assert [loss for _, loss in pairs] == sorted((loss for _, loss in pairs), reverse=True)


def test_a_probe_measures_steps_within_the_bounds() -> None:
    seen = []

    def train(arch: Any) -> Any:
        seen.append(arch)
        yield from (50.0, 60.0, 70.0)

    made = experiment(
        evaluator=FunctionEvaluator(train, max_step=3), data=ToyData(),
        bounds=(Bound("params", max=100),),
    )  # fmt: skip
    times = measured(made, 4)
    assert len(seen) == 5  # the first one twice: it warms up
    assert all((arch["x"] + 1) * (arch["y"] + 1) <= 10 for arch in seen)
    assert times.error is not None
    none = experiment(evaluator=Curves(), data=ToyData(), bounds=(Bound("params", max=1),))
    with pytest.raises(UserError, match="0 of 400 random architectures satisfy the bounds"):
        measured(none, 4)
    broken = FunctionEvaluator(hex)  # it fails for an architecture
    with pytest.raises(UserError, match=r"probing x=.*TypeError"):
        measured(experiment(evaluator=broken, data=ToyData()), 1)


def test_the_line_through_what_was_measured() -> None:
    exact = fit([1e6, 2e6, 4e6], [3.0, 5.0, 9.0])
    assert (exact.fixed, exact.per_mac) == pytest.approx((1.0, 2e-6))
    assert exact.error == pytest.approx(0.0, abs=1e-9)
    falling = fit([1e6, 2e6], [5.0, 4.0])  # noise: time cannot fall with work
    assert falling.fixed == 0.0
    assert falling.per_mac > 0
    assert falling.error == pytest.approx(0.4, abs=0.3)
    assert fit([2e6], [4.0]).seconds(1e6) == pytest.approx(2.0)


def test_numbers_of_workers() -> None:
    assert worker_counts("1, 10,500") == (1, 10, 500)
    for text in ("0", "a", "1,", "", "2.5"):
        with pytest.raises(UserError, match="--workers"):
            worker_counts(text)


# -- the command -------------------------------------------------------------------------------

HEAD = "from raynas.benchmarks import NoImages, Synthetic"
TABLED = {
    "data": "NoImages()", "evaluator": "Tabular(Synthetic(max_step=4, seconds=600))",
    "budget": "Budget(trials=40)",
}  # fmt: skip


def test_the_command_shows_one_cluster(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py", HEAD, **TABLED)
    out = done("simulate", file, "--workers", "8", "--startup", "60", "--preempt-rate", "2",
               "--checkpoint", "inf", "--spread", "0.3", "--price", "2.5")  # fmt: skip
    assert "simulated time" in out
    row = re.search(r"^ +8 +(\S+) +40 +(\S+) +\S+ +(\S+)% +(\S+) +(\S+)$", out, re.MULTILINE)
    assert row is not None, out
    assert float(row[5]) == pytest.approx(2.5 * float(row[4]), abs=0.2)
    shares = [float(share) for share in re.findall(r"([\d.]+) % [a-z]", out)]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert "preemptions" in out
    assert "best: x=" in out
    assert all(
        len(line) <= 80 for line in out.splitlines() if line.startswith((" ", "simulated t"))
    )


def test_the_command_compares_clusters(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py", HEAD, **TABLED)
    out = done("simulate", file, "--workers", "1,4,16", "--set", "budget.trials=20")
    assert [line.split()[0] for line in out.splitlines() if re.match(r" +\d+ +\d+:", line)] == [
        "1", "4", "16",
    ]  # fmt: skip
    assert "simulated time" not in out


def test_the_command_says_when_results_are_made_up(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py")
    out = done("simulate", file, "--step-seconds", "5")
    assert "SIMULATED" in out
    assert "best: " not in out
    called = raynas("simulate", file)
    assert called.code == 2
    assert "--probe 4" in called.err
    called = raynas("simulate", file, "--step-seconds", "5", "--workers", "many")
    assert called.code == 2
    assert "expected: a number from 1" in called.err
