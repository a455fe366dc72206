"""Resuming: after kill -9 at any moment, after the end, after faults. Without Ray."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import (
    Driver,
    experiment_file,
    lines,
    past,
    resume_here,
    rows_of,
    run_here,
    undisturbed,
)
from integration.toy_runs import content
from optuna.trial import TrialState as OptunaState

from raynas.core import AllTrialsFailed, SearchProblem, UserError
from raynas.store import RunFolder, Writer
from raynas.store.files import reason

pytestmark = pytest.mark.usefixtures("undrawn")


def finished(rows: list[dict[str, Any]]) -> set[str]:
    return {row["arch"] for row in rows if row["state"] != "RUNNING"}


def kill_at_random_moments(file: Path, times: int) -> Path:
    """A run whose driver was killed ``times`` times while it searched."""
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed of the moments: {seed}")
    moments = random.Random(seed)
    run, log = file.parent / "run", file.parent / "log"
    for attempt in range(times):
        done, before = len(lines(log)), finished(rows_of(run)) if attempt else set()
        args = ["resume", run] if attempt else ["run", file, "--output", run]
        more = moments.randrange(1, 12)
        with Driver(*args, "--local", cwd=file.parent) as driver:
            driver.until(lambda done=done, more=more: len(lines(log)) >= done + more)
        again = {line.split()[0] for line in lines(log)[done:]}
        assert not again & before, "finished evaluations were repeated"
    return run


@pytest.mark.parametrize("sampler", ["Random()", "TPE(n_startup=4)"])
def test_killed_drivers_lose_nothing_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    settings = {"trials": 14, "sampler": sampler, "scheduler": "ASHA(1, 3)", "steps": 9}
    file = experiment_file(tmp_path / "a", seconds=0.03, **settings)
    run = kill_at_random_moments(file, times=2)
    before = finished(rows_of(run))
    log = len(lines(file.parent / "log"))
    found = resume_here(run, monkeypatch)
    again = {line.split()[0] for line in lines(file.parent / "log")[log:]}
    assert not again & before
    rows = rows_of(run)
    assert max(Counter((r["trial"], r["step"]) for r in rows).values()) == 1
    assert len({row["arch"] for row in rows}) == 14
    assert {t.state.value for t in past(found)} <= {"COMPLETE", "STOPPED"}

    work = found.searches[0]
    rebuilt = type(work.scheduler)(1, 3)
    rebuilt.setup(SearchProblem(work.objectives, 9, 0, "again"))
    rebuilt.replay(past(found))
    assert work.scheduler.rungs() == rebuilt.rungs()
    assert [rung.step for rung in work.scheduler.rungs()] == [1, 3]

    if sampler == "Random()":
        assert content(rows) == undisturbed(tmp_path / "b", **settings)
    else:
        states = [t.state for t in work.proposer.sampler._study.trials]
        assert OptunaState.RUNNING not in states
        assert states.count(OptunaState.PRUNED) == sum(t.state == "STOPPED" for t in past(found))


def test_an_extended_run_adds_exactly_that_many_and_keeps_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = experiment_file(tmp_path, trials=6, sampler="TPE(n_startup=3)", scheduler="ASHA(1, 3)")
    run = run_here(file)
    before, log = rows_of(run), len(lines(tmp_path / "log"))
    found = resume_here(run.path, monkeypatch, more=5)
    after = rows_of(run)
    assert after[: len(before)] == before
    assert len({row["trial"] for row in after}) == 11
    assert len(lines(tmp_path / "log")) - log == len(after) - len(before)
    assert found.experiment.budget.trials == 11
    again = resume_here(run.path, monkeypatch)  # at its end: nothing to do
    assert again.experiment.budget.trials == 11
    assert rows_of(run) == after


def test_two_runs_in_one_process_share_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = []
    for name in ("a", "b"):
        run = run_here(experiment_file(tmp_path / name, trials=3, sampler="TPE(n_startup=2)"))
        works.append(resume_here(run.path, monkeypatch, more=2).searches[0])
    studies = [work.proposer.sampler._study for work in works]
    assert studies[0].study_name != studies[1].study_name
    assert [len(study.trials) for study in studies] == [5, 5]


def test_a_search_to_243_steps_has_its_last_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = experiment_file(tmp_path, trials=1, steps=243, scheduler="ASHA(1, 3)")
    work = resume_here(run_here(file).path, monkeypatch, more=1).searches[0]
    rungs = work.scheduler.rungs()
    assert [rung.step for rung in rungs] == [1, 3, 9, 27, 81]
    assert rungs[-1].reached >= 1


def test_a_run_in_which_every_trial_fails_ends_with_a_report(tmp_path: Path) -> None:
    fault = {f"x={x},y={y},op={o}": "crash" for x in range(6) for y in range(6) for o in "abc"}
    with pytest.raises(AllTrialsFailed, match=r"all 4 trials failed, .* a toy crash"):
        run_here(experiment_file(tmp_path, trials=4, fault=fault))
    run = RunFolder.open(tmp_path / "run")
    assert {row["state"] for row in rows_of(run) if row["step"] is None} == {"FAILED"}
    assert run.report.stat().st_size > 1000
    assert "a toy crash" in run.report.read_text()


def test_a_full_disk_ends_the_run_and_resuming_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = experiment_file(tmp_path / "a", trials=5)
    real, calls = Writer.append, []

    def append(self: Writer, rows: Any) -> None:
        calls.append(rows)
        if len(calls) > 7:
            error = OSError(28, "No space left on device")
            raise UserError(f"results cannot be stored: {reason(error)}")
        real(self, rows)

    monkeypatch.setattr(Writer, "append", append)
    with pytest.raises(UserError, match="No space left on device"):
        run_here(file)
    monkeypatch.undo()
    run = tmp_path / "a" / "run"
    assert len(rows_of(run)) == 7
    resume_here(run, monkeypatch)
    assert content(rows_of(run)) == undisturbed(tmp_path / "b", trials=5)
