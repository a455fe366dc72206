"""Results measured again."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
from integration.drivers import experiment_file, run_here
from rich.console import Console
from toys import ToySpace

import raynas.apps.verify as verify_module
from raynas.apps.verify import VerifiedTrial, verify, verify_history
from raynas.cli.run_views import show_verified
from raynas.core import AllTrialsFailed, Measurement, Trial, UserError
from raynas.store import Provenance, RunFolder, Writer, read


def test_what_was_measured_is_the_same_again(tmp_path: Path) -> None:
    run = run_here(experiment_file(tmp_path, trials=5, scheduler="ASHA(1, 2)"))
    before = read(run)
    found = list(verify(run.path, count=4))
    assert len(found) == 4
    assert [v.differs for v in found] == [()] * 4
    assert [v.steps for v in found] == [v.trial.step for v in found]
    assert read(run).equals(before)


def test_a_result_that_its_experiment_does_not_give_is_found(tmp_path: Path) -> None:
    run = run_here(experiment_file(tmp_path, trials=2))
    (row, *_) = [r for r in read(run).to_pylist() if r["step"] == 2]
    forged = {**row, "val_accuracy": row["val_accuracy"] + 1, "attempt": 9}
    for name in ("run", "experiment", "session", "host", "git", "versions", "time"):
        del forged[name]
    with Writer(RunFolder.open(run.path), 2, Provenance("", {}, "h", "p", 1)) as writer:
        writer.append([forged])
    (bad,) = [v for v in verify(run.path, count=9) if v.differs]
    assert bad.differs == ((2, "val_accuracy", row["val_accuracy"] + 1, row["val_accuracy"]),)
    assert all(not v.differs for v in verify(run.path, count=9, tolerance=0.1))


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    texts = {f"x={x},y={y},op={o}": "memory" for x in range(6) for y in range(6) for o in "abc"}
    with pytest.raises(AllTrialsFailed):
        run_here(experiment_file(tmp_path, trials=1, steps=2, fault=texts))
    run = RunFolder.open(tmp_path / "run")
    with Writer(run, 2, Provenance("", {}, "h", "p", 1)):
        pass
    assert list(verify(run.path)) != []  # step 1 was measured before it failed
    for file in run.results.iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no results yet"):
        list(verify(run.path))


# -- what one of the two does not have ----------------------------------------------------------


def trial(*steps: dict[str, float], first: int = 1) -> Trial:
    arch = ToySpace().architecture("x=0,y=0,op=a")
    measured = [Measurement(first + n, values) for n, values in enumerate(steps)]
    return Trial(0, arch, arch, seed=0, measurements=measured)


def compared(
    stored: Trial, *now: dict[str, float], tolerance: float = 0.0, error: Exception | None = None
) -> VerifiedTrial:
    def again() -> Iterator[Measurement]:
        for step, values in enumerate(now, start=1):
            yield Measurement(step, values)
        if error is not None:
            raise error

    return verify_module._compare(stored, again(), {"a", "b"}, tolerance)


def test_an_evaluation_that_ends_early_is_not_the_same() -> None:
    found = compared(trial({"a": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 4.0}), {"a": 1.0}, {"a": 2.0})
    assert found.steps == 2
    assert [d[:3] for d in found.differs] == [(3, "a", 3.0), (3, "b", 4.0)]
    assert all(math.isnan(now) for *_, now in found.differs)
    assert found.most == math.inf
    nothing = compared(trial({"a": 1.0}))
    assert (nothing.steps, len(nothing.differs)) == (0, 1)


def test_a_step_that_is_left_out_is_missed_and_one_more_on_the_way_is_not() -> None:
    stored = trial({"a": 1.0}, {"a": 2.0}, {"a": 3.0})

    def holes() -> Iterator[Measurement]:
        yield from (Measurement(1, {"a": 1.0}), Measurement(3, {"a": 3.0}))

    found = verify_module._compare(stored, holes(), {"a"}, 0.0)
    assert [(step, name) for step, name, *_ in found.differs] == [(2, "a")]
    stored.measurements = [stored.measurements[0], stored.measurements[2]]
    assert not compared(stored, {"a": 1.0}, {"a": 2.0}, {"a": 3.0}).differs


def test_a_metric_more_or_less_is_another_result() -> None:
    lacks = compared(trial({"a": 1.0, "b": 2.0}), {"a": 1.0}, tolerance=0.5)
    assert [(name, stored) for _, name, stored, _ in lacks.differs] == [("b", 2.0)]
    more = compared(trial({"a": 1.0}), {"a": 1.0, "b": 2.0}, tolerance=0.5)
    assert [(name, now) for _, name, _, now in more.differs] == [("b", 2.0)]
    assert math.isnan(more.differs[0][2])
    # the run's table has no column for it: raynas measures more now
    assert not compared(trial({"a": 1.0}), {"a": 1.0, "new": 2.0}).differs


@pytest.mark.parametrize(
    ("stored", "now", "tolerance", "same"),
    [
        (math.nan, math.nan, 0.0, True),
        (math.inf, math.inf, 0.0, True),
        (math.nan, 1.0, 9.0, False),
        (1.0, math.nan, 9.0, False),
        (math.inf, 1.0, 9.0, False),
        (-math.inf, math.inf, 9.0, False),
        (0.0, 0.0, 0.0, True),
        (0.0, 1e-300, 0.0, False),
        (0.0, 1e-30, 0.1, False),
        (1e-20, 2e-20, 0.1, False),  # was divided by 1e-12, so anything tiny was the same
        (1e-20, 1.05e-20, 0.1, True),
        (-2.0, -2.1, 0.1, True),
        (-2.0, 2.0, 0.1, False),
    ],
)
def test_values_that_are_hard_to_compare(
    stored: float, now: float, tolerance: float, same: bool
) -> None:
    found = compared(trial({"a": stored}), {"a": now}, tolerance=tolerance)
    assert (not found.differs) == same


def test_an_evaluation_that_fails_is_reported_with_its_reason() -> None:
    stored = trial({"a": 1.0}, {"a": 2.0})
    found = compared(stored, {"a": 1.0}, error=RuntimeError("no"))
    assert found.failure == "RuntimeError: no"
    assert [step for step, *_ in found.differs] == [2]
    late = compared(stored, {"a": 1.0}, error=UserError("gave 1 of 2 measurements"))
    assert late.failure.startswith("UserError: gave 1 of 2")
    with pytest.raises(UserError, match="no data"):
        compared(stored, error=UserError("no data"))


def test_a_run_whose_evaluation_ends_early_now_is_found(tmp_path: Path) -> None:
    """The whole way: what the run's own file gives has fewer steps than were stored."""
    run = run_here(experiment_file(tmp_path, trials=2))
    text = run.source.read_text()
    short = {f"x={x},y={y},op={o}": "short" for x in range(6) for y in range(6) for o in "abc"}
    assert "fault={}" in text
    run.source.write_text(text.replace("fault={}", f"fault={short}"))
    found = list(verify(run.path, count=9))
    assert [v.steps for v in found] == [1, 1]
    assert [[step for step, *_ in v.differs] for v in found] == [[2, 3, 4]] * 2
    shown = io.StringIO()
    show_verified(found[0], Console(file=shown, width=200))
    assert "DIFFERS" in shown.getvalue()
    assert "is missing now" in shown.getvalue()


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(tmp_path: Path, tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance="):
        list(verify(tmp_path, tolerance=tolerance))


# -- the stored history --------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ASHA(1, 2)", "PromotionASHA(1, 2)"])
def test_the_history_of_a_run_that_was_extended_holds(scheduler: str, tmp_path: Path) -> None:
    head = "from raynas.schedulers import PromotionASHA"
    file = commands.experiment_file(tmp_path / "toy.py", head=head, scheduler=scheduler)
    commands.done("run", file, "--local", "--output", tmp_path / "run")
    commands.done("resume", tmp_path / "run", "--local", "--trials", "+3")
    rows, violations = verify_history(tmp_path / "run")
    assert violations == []
    told = commands.done("verify", tmp_path / "run", "--history")
    assert told.strip() == f"history of {rows} rows: no violations"


def test_a_number_of_two_trials_is_found(tmp_path: Path) -> None:
    file = commands.experiment_file(tmp_path / "toy.py")
    commands.done("run", file, "--local", "--output", tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    (row, *_) = read(folder).to_pylist()
    forged = {**row, "arch": "[bold]other", "arch_id": "other", "session": 2}
    for name in ("run", "experiment", "host", "git", "versions", "time"):
        del forged[name]
    with Writer(folder, 2, Provenance("", {}, "h", "p", 1)) as writer:
        writer.append([forged])
    called = commands.raynas("verify", tmp_path / "run", "--history")
    assert called.code == 3
    assert "trial 0: its arch is '[bold]other' and" in called.out
