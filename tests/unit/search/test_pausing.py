"""Trials that a scheduler pauses: what is stored, what is evaluated, what a resume makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import done, experiment_file
from integration.toy_runs import SAME, Table, search
from toys import Curves, ToySpace

from raynas.core import Measurement, Trial, TrialState
from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers.random import Random
from raynas.schedulers import PASHA, Hyperband, PromotionASHA, Scheduler, SuccessiveHalving
from raynas.search.context import SearchLimits

pytestmark = pytest.mark.usefixtures("undrawn")

MAKERS = {
    "promotion": PromotionASHA,
    "pasha": lambda: PASHA(epsilon=0.0),
    "hyperband": Hyperband,
    "halving": SuccessiveHalving,
    "halving that waits": lambda: SuccessiveHalving(size=5, overlap=False),
}
SPACE = ToySpace()


def work_of(scheduler: Scheduler, rows: Table, trials: int | None = 14, **more: Any) -> Any:
    more.setdefault("limits", SearchLimits(trials=trials))
    evaluator = more.pop("evaluator", None) or Curves(max_step=9)
    return search(Random(), evaluator, rows, scheduler=scheduler, **more)


def content(rows: Iterable[Mapping[str, Any]]) -> list[Any]:
    return sorted(
        (tuple(row.get(name) for name in (*SAME, "val_accuracy")) for row in rows), key=repr
    )


def stored(rows: Iterable[Mapping[str, Any]]) -> list[Trial]:
    """The trials of these rows, as a resume reads them."""
    found: dict[int, Trial] = {}
    for row in rows:
        arch = SPACE.architecture(row["arch"])
        trial = found.setdefault(row["trial"], Trial(row["trial"], arch, arch, row["seed"]))
        trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
        if row["step"] is not None:
            values = {"val_accuracy": row["val_accuracy"]}
            trial.measurements.append(Measurement(row["step"], values, row["seconds"]))
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("name", MAKERS)
def test_all_come_to_rest_and_no_step_is_evaluated_twice(name: str, tmp_path: Path) -> None:
    rows = Table()
    evaluator = Curves(max_step=9, log=str(tmp_path / "log"))
    work = work_of(MAKERS[name](), rows, evaluator=evaluator, folder=tmp_path / "jobs")
    LocalRunner().run(work)
    assert work.done
    ends = Counter(t.state for t in work.trials.values())
    assert set(ends) == {TrialState.COMPLETE, TrialState.STOPPED}
    assert sum(ends.values()) == 14
    log = [line.rpartition(" ")[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(log) == len(set(log)) == sum(row["step"] is not None for row in rows)
    assert all(row["state"] != "RUNNING" for row in {r["trial"]: r for r in rows}.values())
    kept = {int(folder.name) for folder in (tmp_path / "jobs").iterdir()}
    assert kept == {t.number for t in work.best}


def test_a_paused_trial_is_running_in_the_store_until_it_goes_on_or_the_end() -> None:
    rows = Table()
    work = work_of(PromotionASHA(), rows, trials=4)
    jobs = []
    for number in range(3):
        jobs.append(work.next())
        assert jobs[-1].trial == number
        work.report(jobs[-1], Measurement(1, {"val_accuracy": float(number)}))
        assert work.live == ()
    assert [row["state"] for row in rows] == ["RUNNING"] * 3
    assert work.next().trial == 2  # of three the best goes on, before anything new starts
    work.report(jobs[1], Measurement(2, {"val_accuracy": 99.0}))  # a worker that was ahead
    assert work.trials[1].step == 1
    work.fail(jobs[1], "a worker that was ahead")
    assert work.trials[1].state is TrialState.RUNNING
    work.report(work.jobs[2], Measurement(2, {"val_accuracy": 2.0}))
    work.fail(work.jobs[2], "broken")
    assert work.next().trial == 3
    work.report(work.jobs[3], Measurement(1, {"val_accuracy": -1.0}))
    assert work.next().trial == 1  # nothing is new: the best that waits goes on to the end
    for step in range(2, 10):
        work.report(work.jobs[1], Measurement(step, {"val_accuracy": 1.0}))
        if step in (3,):
            assert work.next().trial == 1
    assert not work.done
    assert work.next() is None
    assert work.done
    ends = {n: (t.state.value, t.message) for n, t in work.trials.items()}
    waited = ("STOPPED", "asha_promotion at step 1 when the search ended")
    assert ends == {0: waited, 1: ("COMPLETE", ""), 2: ("FAILED", "broken"), 3: waited}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("cut", [1, 4, 9, 15, 22, 30])
def test_a_search_cut_at_any_row_and_resumed_ends_in_the_same_table(name: str, cut: int) -> None:
    whole = Table()
    LocalRunner().run(work_of(MAKERS[name](), whole))
    half = Table(whole[:cut])
    LocalRunner().run(work_of(MAKERS[name](), half, past=stored(half)))
    assert content(half) == content(whole)


@pytest.mark.parametrize("name", MAKERS)
def test_a_resume_counts_no_attempt_for_a_paused_trial(name: str) -> None:
    rows = Table()
    work = work_of(MAKERS[name](), rows)
    assert work.next().trial == 0
    work.report(work.jobs[0], Measurement(1, {"val_accuracy": 1.0}))
    again = work_of(MAKERS[name](), rows, past=stored(rows))
    assert again.trials[0].attempt == 0
    assert again.next().trial == 1


@pytest.mark.parametrize("name", MAKERS)
def test_simulated_workers_do_the_same_and_one_of_them_does_as_this_process(name: str) -> None:
    here, one, many = Table(), Table(), Table()
    LocalRunner().run(work_of(MAKERS[name](), here))
    VirtualRunner(SimulatedCluster(1)).run(work_of(MAKERS[name](), one))
    assert content(one) == content(here)
    work = work_of(MAKERS[name](), many)
    VirtualRunner(SimulatedCluster(5, failure_rate=200.0), Resources(retries=50)).run(work)
    assert work.done
    assert all(t.state.ended for t in work.trials.values())
    assert any(t.state is TrialState.COMPLETE for t in work.trials.values())


def test_workers_wait_where_the_scheduler_admits_nothing_new() -> None:
    waits = VirtualRunner(SimulatedCluster(5))
    waits.run(work_of(SuccessiveHalving(size=5, overlap=False), Table(), trials=20))
    overlaps = VirtualRunner(SimulatedCluster(5))
    overlaps.run(work_of(SuccessiveHalving(size=5), Table(), trials=20))
    assert waits.usage().utilisation < 0.6 < overlaps.usage().utilisation
    assert waits.now > overlaps.now


def test_where_time_is_over_what_waits_ends() -> None:
    now, rows = [0.0], Table()
    work = work_of(PromotionASHA(), rows, limits=SearchLimits(deadline=10.0), clock=lambda: now[0])
    for number in range(3):
        assert work.next().trial == number
        work.report(work.jobs[number], Measurement(1, {"val_accuracy": float(number)}))
    now[0] = 11.0
    assert not work.done
    assert work.next() is None
    assert work.done
    assert {t.state for t in work.trials.values()} == {TrialState.STOPPED}


def test_an_interrupted_search_leaves_them_to_be_resumed() -> None:
    rows = Table()
    work = work_of(PromotionASHA(), rows, trials=3)
    for number in range(3):
        assert work.next().trial == number
        work.report(work.jobs[number], Measurement(1, {"val_accuracy": float(number)}))
    work.interrupt()
    assert work.next() is None
    assert work.done
    assert {row["state"] for row in rows} == {"RUNNING"}


def test_a_stored_run_is_extended_and_reported(tmp_path: Path) -> None:
    file = experiment_file(
        tmp_path / "toy.py",
        head="from raynas.schedulers import PromotionASHA",
        scheduler="PromotionASHA(factor=2)",
        sampler="RegularizedEvolution(population=3, sample=2)",
    )
    done("run", file, "--local", "--output", tmp_path / "run")
    ends = [len(states_of(tmp_path / "run"))]
    done("resume", tmp_path / "run", "--local", "--trials", "+4")
    states = states_of(tmp_path / "run")
    assert len(states) == ends[0] + 4
    assert set(states.values()) == {"COMPLETE", "STOPPED"}
    assert "PromotionASHA" in (tmp_path / "run" / "report.html").read_text()


def states_of(run: Path) -> dict[int, str]:
    """Of the search's trials the last state stored."""
    table = pq.read_table(run / "results")
    rows = zip(*(table[c].to_pylist() for c in ("stage", "trial", "state")), strict=True)
    found: dict[int, str] = {}
    for stage, trial, state in rows:
        if stage == "search" and found.get(trial) in (None, "RUNNING"):
            found[trial] = state
    return found


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seconds", [1.0, 20.0])
def test_an_arm_whose_worker_time_is_spent_decides_on_its_paused_trials(
    name: str, seconds: float
) -> None:
    """As at the end of an arm that had its number of trials: each has a winner."""
    runner = VirtualRunner(SimulatedCluster(8))
    work = work_of(
        MAKERS[name](), Table(), limits=SearchLimits(seconds=seconds), clock=runner.clock
    )
    runner.run(work)
    assert work.done
    assert work.meter.paid >= seconds
    assert Counter(t.state for t in work.trials.values())[TrialState.COMPLETE] > 0


def test_after_a_deadline_paused_trials_do_not_go_on() -> None:
    runner = VirtualRunner(SimulatedCluster(2))
    work = work_of(PromotionASHA(), Table(), limits=SearchLimits(deadline=3.0), clock=runner.clock)
    runner.run(work)
    assert work.done
    assert all(t.state is TrialState.STOPPED for t in work.trials.values())
