"""From an experiment to a finished run: what is carried out, in which order, and what remains."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import done, experiment_file, stored
from repetition import more
from rich.console import Console

import raynas.reports
from raynas.core import AllTrialsFailed, TrialState, UserError
from raynas.experiment import LoadedExperiment, load
from raynas.pipeline.history import history, reload
from raynas.pipeline.interruption import RunInterrupted
from raynas.pipeline.launch import place_for, resume, start
from raynas.pipeline.results import best_trial
from raynas.runners.base import Runner
from raynas.runners.local import LocalRunner
from raynas.search.job_source import JobSource
from raynas.store import Provenance, RunFolder, StoredTrial, Writer, read, trials

pytestmark = pytest.mark.usefixtures("undrawn")

Make = Callable[[LoadedExperiment, Path], Runner]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that a report was asked for; they are drawn elsewhere."""
    asked: list[Path] = []
    monkeypatch.setattr(
        raynas.reports, "write_report", lambda folder, _space: asked.append(folder.path)
    )
    return asked


def local(loaded: LoadedExperiment, _folder: Path) -> Runner:
    return LocalRunner(loaded.experiment.resources)


def begin(
    file: Path, output: Path | None, console: Console, runner: Make = local,
    overrides: Mapping[str, object] | None = None, smoke: bool = False,
) -> RunFolder:  # fmt: skip
    loaded = load(file, overrides, smoke=smoke)
    return start(loaded, output, runner, overrides=overrides or {}, smoke=smoke, console=console)


def found(folder: RunFolder, stage: str = "search", arm: str = "") -> list[StoredTrial]:
    rows = [t for t in trials(read(folder)) if t.stage == stage]
    return [t for t in rows if not arm or t.arm == arm]


def plain(folder: RunFolder) -> list[tuple[Any, ...]]:
    """Everything that must not depend on where and when a run was interrupted."""
    return [
        (
            t.stage,
            t.arm,
            t.arch,
            t.seed,
            t.state,
            [(m.step, dict(m.values)) for m in t.measurements],
        )
        for t in trials(read(folder))
    ]


class StopsAfter(LocalRunner):
    """Raises once so many measurements were reported in this process."""

    def __init__(self, left: int, error: BaseException) -> None:
        super().__init__()
        self.left, self.error, self.closed = left, error, False

    def __call__(self, loaded: LoadedExperiment, folder: Path) -> Runner:
        return self

    def run(self, work: JobSource) -> None:
        report = work.report

        def counted(*arguments: Any, **keywords: Any) -> Any:
            answer = report(*arguments, **keywords)
            self.left -= 1
            if self.left == 0:
                raise self.error
            return answer

        work.report = counted  # type: ignore[method-assign]
        super().run(work)

    def close(self) -> None:
        self.closed = True


def test_the_parts_of_a_run_in_order(tmp_path: Path, console: Console, reports: list[Path]) -> None:
    file = experiment_file(tmp_path / "toy.py", baselines="(RegularizedEvolution(3, 2),)")
    folder = begin(file, tmp_path / "run", console)
    assert [len(found(folder, "search", "random")), len(found(folder, "final"))] == [6, 4]
    order = list(dict.fromkeys((t.stage, t.arm) for t in trials(read(folder))))
    assert order == [("search", "random"), ("search", "evolution"), ("final", "random")]
    assert reports == [folder.path]
    assert folder.live_writer() is None


def test_baselines_get_the_worker_time_of_the_main_one_and_finish_what_runs(
    tmp_path: Path, console: Console
) -> None:
    file = experiment_file(
        tmp_path / "toy.py", baselines="(RegularizedEvolution(3, 2), TPE(n_startup=2))"
    )
    folder = begin(file, tmp_path / "run", console)
    spent = sum(t.seconds for t in found(folder, arm="random"))
    for arm in ("evolution", "tpe"):
        other = found(folder, arm=arm)
        # the toy takes a second a step, and the trial that crosses the line is finished
        assert spent <= sum(t.seconds for t in other) < spent + 4
        assert sum(t.seconds for t in other[:-1]) < spent
        assert all(t.state != "RUNNING" for t in other)


def test_the_best_are_trained_anew_over_seeds(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py", finalists="Finalists(top=2, seeds=3)")
    folder = begin(file, tmp_path / "run", console)
    complete = [t for t in found(folder) if t.state == "COMPLETE"]
    ranked = sorted(complete, key=lambda t: -t.measurements[-1].values["val_accuracy"])
    finals = found(folder, "final")
    assert {t.arch for t in finals} == {t.arch for t in ranked[:2]}
    assert [len({t.seed for t in finals if t.arch == r.arch}) for r in ranked[:2]] == [3, 3]
    assert {t.seed for t in finals}.isdisjoint(t.seed for t in complete)


def test_test_metrics_are_in_the_final_stage_only(tmp_path: Path, console: Console) -> None:
    folder = begin(experiment_file(tmp_path / "toy.py"), tmp_path / "run", console)
    for stage, metrics in (("search", {"val_accuracy"}), ("final", {"test_accuracy"})):
        rows = found(folder, stage)
        assert {name for t in rows for m in t.measurements for name in m.values} == metrics


def test_without_finalists_no_test_image_is_read(tmp_path: Path, console: Console) -> None:
    head = (
        "class Sealed(ToyData):\n"
        "    def final_view(self, seed):\n"
        "        raise AssertionError('the test images were read')\n"
    )
    file = experiment_file(tmp_path / "toy.py", head, data="Sealed()", finalists="Finalists(top=0)")
    folder = begin(file, tmp_path / "run", console)
    assert found(folder, "final") == []
    assert len(found(folder)) == 6
    assert best_trial(folder, load(file).experiment) is not None


def test_the_best_network_is_kept(tmp_path: Path, console: Console) -> None:
    file = experiment_file(
        tmp_path / "net.py", space="NASBench201(channels=2, cells=1)", data="Digits(subset=100)",
        evaluator="Retrain(Recipe(epochs=1, batch_size=50))", scheduler="NoStopping()",
        budget="Budget(2)", finalists="Finalists(1, 2)",
        head="from raynas.spaces import NASBench201",
    )  # fmt: skip
    folder = begin(file, tmp_path / "run", console)
    told = json.loads((folder.best / "architecture.json").read_text())
    best = best_trial(folder, load(file).experiment)
    assert best is not None
    assert told["arch"] == best.arch.text
    finals = found(folder, "final")
    assert told["trained"]["trial"] == finals[0].number  # the first seed: no choice by test images
    assert told["trained"]["test_accuracy"] == finals[0].measurements[-1].values["test_accuracy"]
    from raynas.training import load_network

    experiment = load(file).experiment
    network = experiment.space.build(experiment.space.architecture(told["arch"]), (1, 8, 8), 10)
    load_network(folder.best / "network.safetensors", network)


def test_nothing_complete_no_finalists(tmp_path: Path, console: Console) -> None:
    head = "FAULT = {a.text: 'crash' for a in ToySpace().enumerate()}"
    file = experiment_file(tmp_path / "toy.py", head, evaluator="Curves(fault=FAULT)",
                           scheduler="NoStopping()")  # fmt: skip
    with pytest.raises(AllTrialsFailed, match=r"all 6 trials failed.*toy crash"):
        begin(file, tmp_path / "run", console)
    folder = RunFolder.open(tmp_path / "run")
    assert {t.state for t in found(folder)} == {"FAILED"}
    assert found(folder, "final") == []
    assert not list(folder.best.iterdir())


def test_an_exhausted_space_ends_the_arm_with_a_note(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py", space="ToySpace(depth=1)", budget="Budget(99)")
    folder = begin(file, tmp_path / "run", console)
    assert len(found(folder)) == 18
    assert "random ended: all 18 " in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_taken_folder_is_refused(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py")
    folder = begin(file, tmp_path / "run", console)
    before = stored(folder.path)
    with pytest.raises(UserError, match="already exists; go on with: raynas resume"):
        begin(file, tmp_path / "run", console)
    assert stored(folder.path) == before


def test_what_cannot_work_leaves_no_folder(tmp_path: Path, console: Console) -> None:
    head = (
        "class Lost(ToyData):\n"
        "    def search_view(self, seed):\n"
        "        raise UserError('images not found')\n"
    )
    file = experiment_file(tmp_path / "toy.py", head, data="Lost()")
    with pytest.raises(UserError, match="images not found"):
        begin(file, tmp_path / "run", console)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "parts",
    [{"bounds": '(Bound("layers", max=3),)'}, {"objectives": '(Objective("layers", "min"),)'}],
)
def test_a_cost_that_the_space_does_not_count_is_refused_before_anything_is_made(
    tmp_path: Path, console: Console, parts: dict[str, str]
) -> None:
    file = experiment_file(tmp_path / "toy.py", **parts)
    with pytest.raises(UserError, match=r"'layers' .*'toy' does not compute it; .*params, macs"):
        begin(file, tmp_path / "run", console)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("left", [1, 17, *more(9, 25)])
def test_a_run_goes_on_where_an_error_ended_it(
    tmp_path: Path, console: Console, reports: list[Path], left: int
) -> None:
    file = experiment_file(tmp_path / "toy.py", baselines="(RegularizedEvolution(3, 2),)")
    whole = begin(file, tmp_path / "whole", console)
    breaks = StopsAfter(left, RuntimeError("a cable was pulled"))
    with pytest.raises(RuntimeError, match="a cable was pulled"):
        begin(file, tmp_path / "run", console, breaks)
    assert breaks.closed
    assert reports[-1] == tmp_path / "run"  # what there is can be looked at
    assert RunFolder.open(tmp_path / "run").live_writer() is None
    before = {(t.number, m.step) for t in trials(read(RunFolder.open(tmp_path / "run")))
              for m in t.measurements}  # fmt: skip
    assert len(before) == left
    folder = resume(tmp_path / "run", local, console=console)
    assert plain(folder) == plain(whole)


def test_ctrl_c_says_which_run_to_go_on_with(tmp_path: Path, console: Console) -> None:
    class Interrupts(LocalRunner):
        def run(self, work: JobSource) -> None:
            report = work.report

            def one(*arguments: Any, **keywords: Any) -> Any:
                work.interrupt()
                return report(*arguments, **keywords)

            work.report = one  # type: ignore[method-assign]
            super().run(work)

    file = experiment_file(tmp_path / "toy.py")
    whole = begin(file, tmp_path / "whole", console)
    with pytest.raises(RunInterrupted) as raised:
        begin(file, tmp_path / "run", console, lambda _loaded, _folder: Interrupts())
    assert str(raised.value) == f"raynas resume {tmp_path / 'run'}"
    assert len(found(RunFolder.open(tmp_path / "run"))) == 1
    assert plain(resume(tmp_path / "run", local, console=console)) == plain(whole)


def test_a_second_interruption_leaves_at_once(
    tmp_path: Path, console: Console, reports: list[Path]
) -> None:
    breaks = StopsAfter(3, KeyboardInterrupt())
    with pytest.raises(RunInterrupted, match=str(tmp_path / "run")):
        begin(experiment_file(tmp_path / "toy.py"), tmp_path / "run", console, breaks)
    assert breaks.closed
    assert reports == []


def test_an_error_is_not_hidden_by_a_report_that_fails(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: RunFolder, _space: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raynas.reports, "write_report", full)
    breaks = StopsAfter(3, UserError("results cannot be stored"))
    with pytest.raises(UserError, match="results cannot be stored"):
        begin(experiment_file(tmp_path / "toy.py"), tmp_path / "run", console, breaks)
    assert breaks.closed


def test_extending_a_run_is_kept(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py")
    folder = begin(file, tmp_path / "run", console)
    first = plain(folder)
    folder = resume(folder.path, local, more_trials=3, console=console)
    assert len(found(folder)) == 9
    assert [row for row in plain(folder) if row in first] == first
    info = RunFolder.open(folder.path).info
    assert info.overrides == {"budget.trials": 9}
    assert info.description["budget"]["trials"] == 9
    assert plain(resume(folder.path, local, console=console)) == plain(folder)


def test_extending_needs_a_budget_of_trials(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py", budget="Budget(trials=None, hours=1e-4)")
    folder = begin(file, tmp_path / "run", console)
    with pytest.raises(UserError, match=r"without a trial budget; --set budget\.hours"):
        resume(folder.path, local, more_trials=3, console=console)


def test_settings_of_the_start_hold_on_a_resume(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py")
    overrides = {"scheduler.factor": 3, "evaluator.fault": {}, "baselines": ()}
    folder = begin(file, tmp_path / "run", console, overrides=overrides, smoke=True)
    again = reload(RunFolder.open(folder.path)).experiment
    assert again == load(file, overrides, smoke=True).experiment
    assert (again.budget.trials, again.scheduler.factor) == (2, 3)  # type: ignore[attr-defined]
    assert again.fingerprint == folder.info.fingerprint
    folder = resume(folder.path, local, overrides={"finalists.seeds": 3}, console=console)
    assert len(found(folder, "final")) == 3
    assert RunFolder.open(folder.path).info.overrides["scheduler.factor"] == 3


def test_another_experiment_is_no_resume(tmp_path: Path, console: Console) -> None:
    folder = begin(experiment_file(tmp_path / "toy.py"), tmp_path / "run", console)
    before = stored(folder.path)
    with pytest.raises(UserError, match=r"another experiment.*scheduler\.factor: 2 -> 3"):
        resume(folder.path, local, overrides={"scheduler.factor": 3}, console=console)
    assert stored(folder.path) == before


def test_a_folder_that_is_being_written_is_left_alone(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py")
    folder = begin(file, tmp_path / "run", console)
    with Writer(folder, 2, Provenance.collect(str(file))):
        before = stored(folder.path)
        with pytest.raises(UserError, match=r"is being written by process \d+"):
            resume(folder.path, local, more_trials=3, console=console)
        assert stored(folder.path) == before


def test_a_moved_run_goes_on(tmp_path: Path, console: Console) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "my_parts_of_a_move.py").write_text("SEEDS = 2\n")
    file = experiment_file(
        tmp_path / "home" / "toy.py", "from my_parts_of_a_move import SEEDS",
        finalists="Finalists(2, SEEDS)",
    )  # fmt: skip
    whole = begin(file, tmp_path / "whole", console)
    with pytest.raises(RuntimeError):
        begin(file, tmp_path / "run", console, StopsAfter(7, RuntimeError()))
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "named anew"))
    file.unlink()  # the copy in the run is what counts
    assert plain(resume(moved, local, console=console)) == plain(whole)


HINTS = """
from dataclasses import dataclass
from toys import noise, quality

@dataclass
class Hints(Curves):
    name = "hints"
    lightweight = True
    max_step: int = 1

    @property
    def metrics(self):
        return (Metric("hint", "", "max"),)

    def evaluate(self, arch, job):
        yield Measurement(1, {"hint": quality(arch) + noise(arch.text)}, seconds=0.25)
"""


def test_finalists_of_scores_are_trained_for_accuracy(tmp_path: Path, console: Console) -> None:
    """No training gives the score that they were chosen by."""
    file = experiment_file(
        tmp_path / "toy.py", HINTS, evaluator="Hints()", scheduler="NoStopping()",
        objectives='(Objective("hint"), Objective("params", "min"))',
        finalists="Finalists(top=2, seeds=2, evaluator=Curves())",
    )  # fmt: skip
    folder = begin(file, tmp_path / "run", console)
    finals = [row for row in read(folder).to_pylist() if row["stage"] == "final"]
    ends = [row for row in finals if row["state"] != "RUNNING"]
    assert [row["state"] for row in ends] == ["COMPLETE"] * 4
    assert all(row["test_accuracy"] is not None and row["message"] is None for row in ends)
    assert "4 of 4 trained" in done("status", folder.path)


def screened(path: Path, **parts: str) -> Path:
    usual = {
        "screen": "Screen(Hints(), keep=0.5, batch=6)", "space": "ToySpace(depth=12)",
        "baselines": "(RegularizedEvolution(3, 2),)", "bounds": '(Bound("hint", min=20),)',
    }  # fmt: skip
    return experiment_file(path, HINTS, **{**usual, **parts})


def test_a_screened_arm_is_compared_with_one_that_trains_all(
    tmp_path: Path, console: Console
) -> None:
    folder = begin(screened(tmp_path / "toy.py"), tmp_path / "run", console)
    main, other = found(folder, arm="random"), found(folder, arm="evolution")
    assert len([t for t in main if t.step]) == 6
    assert len(main) > 11
    assert all(t.measurements[0].step == 0 for t in main)
    assert all(t.measurements[0].step == 1 for t in other)
    assert sum(t.seconds for t in other) >= sum(t.seconds for t in main)
    best = max((t for t in main if t.state == "COMPLETE"),
               key=lambda t: t.measurements[-1].values["val_accuracy"])  # fmt: skip
    finals = found(folder, "final")
    assert finals[0].arch == best.arch
    assert all(t.measurements[0].step == 1 for t in finals)
    out = {t.arch for t in main if not t.step}
    assert not out & {t.arch for t in finals}
    told = best_trial(folder, load(tmp_path / "toy.py").experiment)
    assert told is not None
    assert told.number == best.number
    assert {"hint", "val_accuracy", "params"} <= told.values().keys()


def test_a_screen_that_holds_nothing_back_bounds_all_arms(tmp_path: Path, console: Console) -> None:
    file = screened(
        tmp_path / "toy.py", screen="Screen(Hints(), keep=1.0, batch=6)",
        bounds='(Bound("hint", min=85),)',
    )  # fmt: skip
    folder = begin(file, tmp_path / "run", console)
    for arm in ("random", "evolution"):
        trials = found(folder, arm=arm)
        assert all(t.measurements[0].step == 0 for t in trials)
        evaluated = [t for t in trials if t.step]
        assert evaluated
        assert all(t.measurements[0].values["hint"] >= 85 for t in evaluated)


@pytest.mark.parametrize("left", [1, 5, 14, *more(2, 9, 20)])
def test_a_screened_run_goes_on_where_an_error_ended_it(
    tmp_path: Path, console: Console, left: int
) -> None:
    file = screened(tmp_path / "toy.py", sampler="TPE(n_startup=2)")
    whole = begin(file, tmp_path / "whole", console)
    with pytest.raises(RuntimeError):
        begin(file, tmp_path / "run", console, StopsAfter(left, RuntimeError("a cable")))
    assert plain(resume(tmp_path / "run", local, console=console)) == plain(whole)


def test_a_history_has_scores_and_what_they_break(tmp_path: Path, console: Console) -> None:
    file = screened(tmp_path / "toy.py", bounds='(Bound("hint", min=85),)')
    folder = begin(file, tmp_path / "run", console)
    past, _ = history(folder, load(file).experiment, "search", "random")
    states = {t.number: t.state for t in past}
    assert TrialState.INFEASIBLE in states.values()
    for trial in past:
        beyond = trial.values()["hint"] < 85
        assert (trial.state is TrialState.INFEASIBLE) == beyond
        assert (trial.violations["85 <= hint"] > 0) == beyond
    assert sum(t.step > 0 for t in past) == 6


def test_a_screened_run_can_be_extended(tmp_path: Path, console: Console) -> None:
    file = screened(tmp_path / "toy.py", baselines="()")
    folder = begin(file, tmp_path / "run", console)
    first = [row for row in plain(folder) if row[0] == "search"]
    folder = resume(folder.path, local, more_trials=3, console=console)
    assert len([t for t in found(folder) if t.step]) == 9
    assert [row for row in plain(folder) if row in first] == first
    status = done("status", folder.path)
    assert "random 9/9" in status
    assert "screened" in status  # in two lines at 80 columns
    assert all(len(line) <= 80 for line in status.splitlines() if "run" not in line)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_free_names_are_numbered(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_STORAGE", f"{scheme}{tmp_path}")
    names: Sequence[str] = ("a", "a-2", "a-3")
    for name in names:
        assert place_for("a") == f"{scheme}{tmp_path / name}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    shutil.rmtree(tmp_path / "a-2")
    assert place_for("a") == f"{scheme}{tmp_path / 'a-2'}"


def test_what_the_storage_lost_is_not_written_over(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "storage"
    monkeypatch.setenv("RAYNAS_STORAGE", f"file://{storage}")
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    file = experiment_file(tmp_path / "toy.py")
    first = begin(file, None, console)
    shutil.rmtree(storage / "toy")
    assert begin(file, None, console).place == f"file://{storage / 'toy-2'}"
    assert found(first)


def test_without_a_named_storage_runs_are_in_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for storage in ("", None):
        if storage is None:
            monkeypatch.delenv("RAYNAS_STORAGE")
        else:
            monkeypatch.setenv("RAYNAS_STORAGE", storage)
        assert place_for("a") == str(Path("runs") / "a")


def test_a_run_goes_to_the_named_storage(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "storage"
    monkeypatch.setenv("RAYNAS_STORAGE", f"file://{storage}")
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    folder = begin(experiment_file(tmp_path / "toy.py"), None, console)
    assert folder.place == f"file://{storage / 'toy'}"
    assert (storage / "toy" / "run.json").is_file()


_TERMINATED = """
import os, pathlib, signal, sys
import raynas.reports
from rich.console import Console
from raynas.experiment import load
from raynas.pipeline.launch import start
from raynas.runners.local import LocalRunner
from raynas.pipeline.interruption import RunInterrupted

class LeavesTheDefault(LocalRunner):  # as Ray does when it is shut down
    def close(self):
        super().close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

def die(*_):
    os.kill(os.getpid(), signal.SIGTERM)

raynas.reports.write_report = die
make = lambda loaded, folder: LeavesTheDefault(loaded.experiment.resources)
file, storage = sys.argv[1:]
try:
    start(load(pathlib.Path(file), {}), storage, make, overrides={}, smoke=False, console=Console())
except RunInterrupted:
    print("in order")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_while_the_report_is_written_gives_the_run_back(tmp_path: Path, name: str) -> None:
    file, storage = experiment_file(tmp_path / "toy.py"), tmp_path / "storage" / "toy"
    script = _TERMINATED.replace("SIGTERM", name)
    command = [sys.executable, "-c", script, str(file), f"file://{storage}"]
    paths = os.pathsep.join(sys.path)
    env = {**os.environ, "RAYNAS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": paths}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "in order" in ended.stdout, ended.stderr
    (claim,) = (storage / "lease").iterdir()
    assert json.loads(claim.read_text())["free"]


def test_the_same_run_twice_gives_the_same_table(tmp_path: Path, console: Console) -> None:
    file = experiment_file(tmp_path / "toy.py", sampler="TPE(n_startup=2)", baselines="(Random(),)")
    first = begin(file, tmp_path / "first", console)
    done("run", file, "--local", "--output", tmp_path / "second")
    assert plain(RunFolder.open(tmp_path / "second")) == plain(first)
