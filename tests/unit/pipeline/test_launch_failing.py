"""Runs of spaces whose own code raises, from the command line: stored, resumed, told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Called, done, experiment_file, raynas

from raynas.store import RunFolder, read, trials

pytestmark = pytest.mark.usefixtures("undrawn")

_HEAD = """
from failing_spaces import FailingSpace

from raynas.samplers import Listed
"""
_TRAINING = "Retrain(Recipe(epochs=1, batch_size=4, warmup_epochs=0, crop_pad=0))"
_FUNCTION = (
    'FunctionEvaluator(lambda arch: 50 + arch["x"], metrics=(Metric("val_accuracy", "%", "max"),))'
)


def begin(path: Path, space: str, *more: object, **parts: str) -> Called:
    given = {
        "evaluator": _TRAINING,
        "scheduler": "NoStopping()",
        "finalists": "Finalists(top=0)",
        **parts,
    }
    file = experiment_file(path / "search.py", _HEAD, space=space, smoke="{}", **given)
    return raynas("run", file, "--local", "--output", path / "run", *more)


def stored(path: Path) -> dict[int, tuple[str, str]]:
    return {t.number: (t.state, t.message or "") for t in trials(read(RunFolder.open(path)))}


@pytest.mark.parametrize("where", ["canonical", "build"])
def test_a_run_goes_on_and_resumes(tmp_path: Path, where: str) -> None:
    called = begin(tmp_path, f'FailingSpace(where="{where}")', "--set", "budget.trials=8")
    assert (called.code, called.err) == (0, "")
    before = stored(tmp_path / "run")
    assert len(before) == 8
    failed = {n for n, (state, _) in before.items() if state == "FAILED"}
    assert 0 < len(failed) < 8
    assert all(f"no {where} with x below 3" in before[n][1] for n in failed)
    done("resume", tmp_path / "run", "--local", "--trials", "+4")
    after = stored(tmp_path / "run")
    assert len(after) == 12
    assert {n: after[n] for n in before} == before
    assert f"no {where}" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("where", ["canonical", "costs", "build", "forward"])
def test_a_run_without_any_result_says_why_once(tmp_path: Path, where: str) -> None:
    """Its first architectures pass the check before it, and then everything fails."""
    space = f'FailingSpace(where="{where}", bad=5)'
    listed = '[f"x=0,y={y},op={o}" for y in range(6) for o in "abc"]'
    called = begin(tmp_path, space, sampler=f"Listed(tuple({listed}))")
    assert called.code == 3, called.err
    assert called.err.count("\n") == 1
    assert called.err.count(f"no {where} with x below 5") == 1
    assert "all 6 trials failed, all of them with: " in called.err
    assert "Traceback" not in called.err + called.out
    status = done("status", tmp_path / "run")
    assert "all 6 trials failed, all of them with: " in " ".join(status.split())
    report = (tmp_path / "run" / "report.html").read_text()
    assert "There is no result: all 6 trials failed" in report
    again = raynas("resume", tmp_path / "run", "--local")
    assert again.code == 3
    assert len(stored(tmp_path / "run")) == 6
    more = raynas("resume", tmp_path / "run", "--local", "--trials", "+12")
    assert more.code == 3
    assert "the search was stopped: all 10 trials failed" in more.err
    assert len(stored(tmp_path / "run")) == 16
    assert more.err.count("\n") == 1


def test_what_fails_for_all_is_told_before_the_run(tmp_path: Path) -> None:
    called = begin(tmp_path, 'FailingSpace(bad=6, where="build")')
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert "none of 10 random architectures of space 'failing' can be evaluated" in called.err
    assert called.err.count("ValueError: no build with x below 6") == 1
    assert not (tmp_path / "run").exists()


def test_a_function_works_without_any_network(tmp_path: Path) -> None:
    called = begin(tmp_path, "FailingSpace(bad=6)", evaluator=_FUNCTION, baselines="(Random(),)",
                   sampler="RegularizedEvolution(population=4, sample=2)")  # fmt: skip
    assert (called.code, called.err) == (0, "")
    assert {state for state, _ in stored(tmp_path / "run").values()} == {"COMPLETE"}
    assert "55.00       -     -  x=5" in done("status", tmp_path / "run")


@pytest.mark.parametrize("where", ["canonical", "costs", "build"])
def test_a_plan_counts_what_has_no_network(tmp_path: Path, where: str) -> None:
    parts = {
        "evaluator": _TRAINING,
        "bounds": '(Bound("params", max=1e6),)',
    }
    space = f'FailingSpace(where="{where}")'
    file = experiment_file(tmp_path / "search.py", _HEAD, space=space, **parts)
    told = " ".join(done("plan", file, "--sample", "30").split())
    assert "cannot be built; most often: " in told
    assert f"ValueError: no {where} with x below 3" in told
    space = f'FailingSpace(where="{where}", bad=6)'
    file = experiment_file(tmp_path / "none.py", _HEAD, space=space, evaluator=_FUNCTION)
    called = raynas("plan", file, "--sample", "30", "--no-probe")
    assert called.code == 2
    assert "random architectures can be built: " in called.err
    assert called.err.count("\n") == 1


def test_a_simulation_passes_over_what_has_no_network(tmp_path: Path) -> None:
    space = 'FailingSpace(where="build")'
    file = experiment_file(tmp_path / "search.py", _HEAD, space=space, evaluator=_TRAINING)
    assert "simulated val_accuracy" in done("simulate", file, "--step-seconds", "1")
