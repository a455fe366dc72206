"""Runs whose evaluators give numbers at the edge, and stored runs that have such numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import done, experiment_file
from failing_spaces import FailingSpace
from searches import make_search
from toys import ToyData

from raynas.core import Bound, Costs, Measurement, Metric, Objective, TrialState
from raynas.evaluators import FunctionEvaluator
from raynas.pipeline.history import history
from raynas.pipeline.launch import reload
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers import (
    NSGA2,
    TPE,
    Guided,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Reinforce,
)
from raynas.samplers.base import Sampler
from raynas.schedulers import ASHA, NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.store import Provenance, RunFolder, Writer, next_session, read, trials

pytestmark = pytest.mark.usefixtures("undrawn")

VALUES = (1e150, -1e150, 1.0, 2.0, 1e149, 1e-300)
ACCURACY, LOSS = Metric("val_accuracy", "%", "max"), Metric("val_loss", "", "min")


class Table(list[dict[str, Any]]):
    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.extend(dict(row) for row in rows)


def search(evaluator: Any, sampler: Sampler, space: Any = None, **more: Any) -> Any:
    payload = EvaluationContext(
        space or FailingSpace(where="nowhere"), evaluator, ToyData().search_view(0)
    )
    settings: dict[str, Any] = {
        "sampler": sampler,
        "fallback": Random(),
        "scheduler": NoStopping(),
        "limits": SearchLimits(trials=16),
        "run": "test",
        "stage": "search",
        "arm": "test",
        "seed": 0,
        "objectives": (Objective(),),
        **more,
    }
    return make_search(payload, Table(), **settings)


@pytest.mark.parametrize(
    "sampler",
    [
        RegularizedEvolution(population=4, sample=2), LocalSearch(initial=3), Guided(startup=3),
        Reinforce(), TPE(),
    ],
    ids=lambda sampler: sampler.name,
)  # fmt: skip
@pytest.mark.parametrize("huge", [1.0, 1e158])
def test_samplers_compute_with_huge_values(sampler: Sampler, huge: float) -> None:
    """``huge``: of the values a third is beyond the largest, and these trials fail."""
    evaluator = FunctionEvaluator(lambda arch: VALUES[int(arch["x"])] * huge)
    work = search(evaluator, sampler)
    LocalRunner().run(work)
    assert work.error is None
    assert len(work.trials) == 16
    for trial in work.trials.values():
        beyond = abs(VALUES[int(trial.arch["x"])] * huge) > 1e150
        assert trial.state is (TrialState.FAILED if beyond else TrialState.COMPLETE)
        assert trial.message in (("val_accuracy is inf at step 1", "val_accuracy is -inf at step 1")
                                 if beyond else ("",))  # fmt: skip


@pytest.mark.parametrize(
    "sampler", [Guided(startup=3), NSGA2(population=4), RegularizedEvolution(4, 2)],
    ids=lambda sampler: sampler.name,
)  # fmt: skip
def test_of_several_objectives_within_bounds_too(sampler: Sampler) -> None:
    evaluator = FunctionEvaluator(
        lambda arch: {"val_accuracy": VALUES[int(arch["x"])], "val_loss": VALUES[-int(arch["y"])]},
        metrics=(ACCURACY, LOSS),
    )
    objectives = (Objective(), Objective("val_loss", "min"))
    bounds = (Bound("val_loss", max=1e308, min=-1e308), Bound("params", max=1e308))
    work = search(evaluator, sampler, objectives=objectives, bounds=bounds)
    LocalRunner().run(work)
    assert {t.state for t in work.trials.values()} == {TrialState.COMPLETE}


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_what_is_no_time_does_not_end_a_clock(seconds: float) -> None:
    class Odd(FunctionEvaluator):
        def evaluate(self, arch: Any, job: Any) -> Any:
            yield Measurement(1, {"val_accuracy": float(arch["x"])}, seconds)

    work = search(Odd(lambda _: 0.0), Random())
    runner = VirtualRunner(SimulatedCluster(workers=3))
    runner.run(work)
    assert runner.now == 0.0
    assert work.meter.paid == 0.0


@pytest.mark.parametrize("step", [1.5, "1", -1, 2**40])
def test_a_step_that_is_none_costs_one_trial(step: Any) -> None:
    class Odd(FunctionEvaluator):
        def evaluate(self, arch: Any, job: Any) -> Any:
            yield Measurement(step if job.trial == 3 else 1, {"val_accuracy": float(arch["x"])})

    work = search(Odd(lambda _: 0.0), Random())
    LocalRunner().run(work)
    assert [t.number for t in work.trials.values() if t.state is TrialState.FAILED] == [3]
    assert f"step {step!r} of a measurement" in work.trials[3].message


@pytest.mark.parametrize("count", [math.nan, math.inf, -1, 1e308, 2**63, 0.5, "many"])
def test_costs_that_are_no_counts_cost_one_trial(count: Any) -> None:
    class Odd(FailingSpace):
        def costs(self, arch: Any, input_shape: Any = (1, 4, 4), num_classes: int = 2) -> Costs:
            return Costs(count if arch["x"] < 3 else 5, 7)

    bounds = (Bound("params", max=1e6),)
    work = search(FunctionEvaluator(lambda _: 1.0), Random(), Odd(where="nowhere"), bounds=bounds)
    LocalRunner().run(work)
    for trial in work.trials.values():
        assert (trial.state is TrialState.FAILED) == (trial.arch["x"] < 3)
        assert not trial.failure or f"params is {count!r}, not a whole number" in trial.message


def test_a_scheduler_with_huge_values() -> None:
    def curve(arch: Any) -> Any:
        for step in range(1, 5):
            yield VALUES[int(arch["x"])] * (-1) ** step

    evaluator = FunctionEvaluator(curve, max_step=4)
    work = search(evaluator, Random(), scheduler=ASHA(min_step=1, factor=2))
    LocalRunner().run(work)
    assert len(work.trials) == 16
    assert TrialState.FAILED not in {t.state for t in work.trials.values()}


# -- stored runs -------------------------------------------------------------------------------

_HEAD = """
from raynas.core import Metric

def f(arch):
    return [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][arch["x"]]
"""


def run_with(path: Path, rows: Sequence[Mapping[str, Any]]) -> RunFolder:
    """A finished run of four trials, with more rows as another version may have stored them."""
    file = experiment_file(
        path / "search.py", _HEAD, evaluator="FunctionEvaluator(f)", scheduler="NoStopping()",
        finalists="Finalists(top=0)", budget="Budget(trials=4)", smoke="{}",
    )  # fmt: skip
    done("run", file, "--local", "--output", path / "run")
    folder = RunFolder.open(path / "run")
    some = reload(folder).experiment.space.architecture("x=0,y=0,op=c")
    plain = {
        "stage": "search", "arm": "random", "attempt": 0, "seed": 0, "step": 1, "seconds": 1.0,
        "state": "COMPLETE", "message": None, "params": 1, "macs": 1, "layers": None, "host": "h",
        "device": "cpu", "weights": None, "arch": some.text, "arch_id": some.id,
        "proposal": some.text,
    }  # fmt: skip
    with Writer(folder, next_session(read(folder)), Provenance.collect("x.py")) as writer:
        writer.append([{**plain, **row} for row in rows])
    return folder


def test_a_stored_huge_value_ends_neither_report_nor_resume(tmp_path: Path) -> None:
    folder = run_with(tmp_path, [{"trial": 7, "val_accuracy": 1e308}])
    done("resume", folder.path, "--local", "--trials", "+2")
    done("report", folder.path)
    assert "1e+308" not in done("status", folder.path)
    past, _ = history(folder, reload(folder).experiment, "search", "random")
    (odd,) = [t for t in past if t.number == 7]
    assert odd.state is TrialState.FAILED
    assert odd.message == "val_accuracy is inf"
    assert {t.state for t in trials(read(folder))} == {"COMPLETE"}  # what is stored stays


def test_trial_numbers_that_are_far_apart_are_no_gaps(tmp_path: Path) -> None:
    folder = run_with(tmp_path, [{"trial": 10**9, "val_accuracy": 3.0}])
    done("resume", folder.path, "--local", "--trials", "+3")
    numbers = [t.number for t in trials(read(folder))]
    assert len(numbers) == 7
    assert max(numbers) == 10**9 + 2


@pytest.mark.parametrize("seconds", [1e300, math.nan])
def test_times_out_of_range_can_be_exported(tmp_path: Path, seconds: float) -> None:
    folder = run_with(tmp_path, [{"trial": 7, "val_accuracy": 3.0, "seconds": seconds}])
    done("export-study", folder.path, tmp_path / "study.db")
    assert (tmp_path / "study.db").stat().st_size > 0
    done("status", folder.path)
