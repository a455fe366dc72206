"""A run whose search inherits weights: they are trained once, kept, and named in every row."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from commands import experiment_file
from repetition import more
from rich.console import Console
from toys import ToySpace
from unit.pipeline.test_launch import StopsAfter, begin, found, local, plain

import raynas.reports
from raynas.core import UserError
from raynas.experiment import load
from raynas.pipeline.finalists import spread
from raynas.pipeline.interruption import RunInterrupted
from raynas.pipeline.launch import resume
from raynas.pipeline.live import remaining
from raynas.runners.local import LocalRunner
from raynas.search.job_source import JobSource
from raynas.store import RunFolder, read, trials

pytestmark = pytest.mark.usefixtures("undrawn")

HEAD = "from supernet_toys import *"
PARTS = {
    "evaluator": "Inheriting()",
    "scheduler": "NoStopping()",
    "baselines": "(RegularizedEvolution(3, 2),)",
    "budget": "Budget(8)",
    "finalists": "Finalists(1, 2, evaluator=Curves(max_step=2), inherited=Tuned(max_step=1))",
    "ranking_check": "RankingCheck(Curves(max_step=2), count=4)",
}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raynas.reports, "write_report", lambda _folder, _space: None)


def toy(path: Path, **parts: str) -> Path:
    return experiment_file(path, HEAD, **{**PARTS, **parts})


def version(folder: RunFolder) -> str:
    return str(json.loads((folder.supernet / "toy.json").read_text())["version"])


def test_the_weights_come_first_and_every_row_names_them(tmp_path: Path, console: Console) -> None:
    folder = begin(toy(tmp_path / "toy.py"), tmp_path / "run", console)
    stages = list(dict.fromkeys(row["stage"] for row in read(folder).to_pylist()))
    assert stages == ["supernet", "search", "truth", "final", "tuned"]
    (trained,) = found(folder, "supernet")
    assert (trained.arm, trained.state, trained.step) == ("trained", "COMPLETE", 4)
    assert trained.arch == ToySpace().extremes()[1].text
    made = version(folder)
    wanted = {"supernet": {None}, "search": {made}, "truth": {None}, "final": {None}}
    for stage, versions in {**wanted, "tuned": {made}}.items():
        assert {t.weights for t in found(folder, stage)} == versions, stage
    assert not (folder.checkpoints / f"{trained.number:06d}").exists()


def test_the_comparison_is_not_charged_the_training(tmp_path: Path, console: Console) -> None:
    folder = begin(toy(tmp_path / "toy.py"), tmp_path / "run", console)
    main, other = found(folder, arm="random"), found(folder, arm="evolution")
    assert sum(t.seconds for t in other) == sum(t.seconds for t in main) == 8 / 4
    assert len(found(folder, "supernet")) == 1


@pytest.mark.parametrize("left", [1, 9, 24, *more(4, 33)])
def test_a_run_goes_on_where_an_error_ended_it(tmp_path: Path, console: Console, left: int) -> None:
    log = tmp_path / "log"
    file = toy(tmp_path / "toy.py", evaluator=f"Inheriting(training=Trained(log={str(log)!r}))")
    whole = begin(file, tmp_path / "whole", console)
    log.unlink()
    with pytest.raises(RuntimeError):
        begin(file, tmp_path / "run", console, StopsAfter(left, RuntimeError("a cable")))
    again = resume(tmp_path / "run", local, console=console)
    assert plain(again) == plain(whole)
    assert version(again) == version(whole)
    steps = [line.split()[1] for line in log.read_text().splitlines()]
    assert steps == ["1", "2", "3", "4"]
    again = resume(tmp_path / "run", local, more_trials=3, console=console)
    assert len(log.read_text().splitlines()) == 4
    assert len(found(again, arm="random")) == 11


def test_a_training_that_fails_ends_the_run_and_is_tried_again(
    tmp_path: Path, console: Console
) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.fails").touch()
    part = f"Inheriting(training=Trained(fail=2, log={str(log)!r}))"
    file = toy(tmp_path / "toy.py", evaluator=part)
    with pytest.raises(UserError, match="no weights to inherit: train_loss is nan at step 2"):
        begin(file, tmp_path / "run", console)
    (tmp_path / "log.fails").unlink()
    folder = resume(tmp_path / "run", local, console=console)
    assert [t.state for t in found(folder, "supernet")] == ["FAILED", "COMPLETE"]
    assert len(found(folder, arm="random")) == 8


def test_lost_or_other_weights_are_refused(tmp_path: Path, console: Console) -> None:
    folder = begin(toy(tmp_path / "toy.py"), tmp_path / "run", console)
    made, file = version(folder), folder.supernet / "toy.json"
    file.write_text(json.dumps({"version": "other"}))
    with pytest.raises(UserError, match=f"inherits from weights {made}, not from other"):
        resume(folder.path, local, more_trials=1, console=console)
    shutil.rmtree(folder.supernet)
    with pytest.raises(UserError, match=r"are not in .*supernet; restore them"):
        resume(folder.path, local, more_trials=1, console=console)


def test_truth_is_spread_over_the_ranking_and_never_of_test_images(
    tmp_path: Path, console: Console
) -> None:
    folder = begin(toy(tmp_path / "toy.py"), tmp_path / "run", console)
    searched = {t.arch: t.measurements[-1].values["val_accuracy"] for t in found(folder, "search")}
    ranked = sorted(searched, key=lambda arch: -searched[arch])
    truth = found(folder, "truth")
    assert [t.arch for t in truth] == [ranked[i] for i in _places(len(ranked), 4)]
    assert {n for t in truth for m in t.measurements for n in m.values} == {"val_accuracy"}
    assert not list(folder.checkpoints.glob(f"{truth[0].number:06d}"))
    before = plain(folder)
    again = resume(folder.path, local, more_trials=4, console=console)
    assert found(again, "truth") == truth  # enough of them: an extension trains no more
    more = resume(folder.path, local, overrides={"ranking_check.count": 7}, console=console)
    assert len(found(more, "truth")) >= 7
    assert [row for row in plain(more) if row in before] == before


def _places(n: int, count: int) -> list[int]:
    return [round(i * (n - 1) / (count - 1)) for i in range(count)]


def test_spread_takes_each_once() -> None:
    ranked = [ToySpace().architecture({"x": x, "y": y, "op": "a"}) for x in range(6)
              for y in range(2)]  # fmt: skip
    for count in range(1, 20):
        chosen = spread(ranked, count)
        assert len({a.id for a in chosen}) == len(chosen) == min(count, 12)
        assert chosen[0] is ranked[0]
        assert count == 1 or chosen[-1] is ranked[-1]
    assert spread([], 4) == []


def test_weights_of_the_users_own_are_not_trained(tmp_path: Path, console: Console) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "toy.json").write_text(json.dumps({"version": "mine"}))
    own = f"weights=Path({str(tmp_path / 'own')!r})"
    finalists = f"Finalists(1, 1, evaluator=Curves(), inherited=Tuned({own}))"
    file = toy(tmp_path / "toy.py", evaluator=f"Inheriting({own})", finalists=finalists)
    folder = begin(file, tmp_path / "run", console)
    assert found(folder, "supernet") == []
    assert {t.weights for t in found(folder)} == {"mine"}
    assert not folder.supernet.exists()


def test_a_screen_may_inherit_too(tmp_path: Path, console: Console) -> None:
    file = toy(
        tmp_path / "toy.py", evaluator="Curves()", ranking_check="None",
        screen="Screen(Inheriting(), keep=0.5, batch=4)",
    )  # fmt: skip
    folder = begin(file, tmp_path / "run", console)
    main = found(folder, arm="random")
    assert {t.weights for t in main} == {version(folder)}
    assert all(t.measurements[0].step == 0 for t in main)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"evaluator": "Curves()"}, "there are no weights to inherit"),
        ({"screen": "Screen(Inheriting(training=Trained(max_step=3)))"}, "different trainings"),
        ({"ranking_check": "Curves()"}, "experiment's ranking_check is Curves; write ranking_"),
        (
            {"ranking_check": "RankingCheck(Curves(), count=0)"},
            "ranking_check.count=0; expected: >= 1",
        ),
    ],
)
def test_what_cannot_work_leaves_no_folder(
    tmp_path: Path, console: Console, parts: dict[str, str], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        begin(toy(tmp_path / "toy.py", **parts), tmp_path / "run", console)
    assert not (tmp_path / "run").exists()


def test_settings_of_the_training_identify_the_run(tmp_path: Path) -> None:
    file = toy(tmp_path / "toy.py")
    plain_, other = load(file), load(file, {"evaluator.training.max_step": 5})
    assert plain_.experiment.fingerprint != other.experiment.fingerprint
    more = load(file, {"ranking_check.count": 9, "finalists.inherited.max_step": 3})
    assert plain_.experiment.fingerprint == more.experiment.fingerprint


def test_the_live_view_knows_how_long_the_training_takes(tmp_path: Path, console: Console) -> None:
    seen: list[tuple[float, float | None]] = []

    class Watching(LocalRunner):
        def run(self, work: JobSource) -> None:
            report = work.report

            def told(*arguments: Any, **keywords: Any) -> Any:
                answer = report(*arguments, **keywords)
                if work.status().stage == "supernet":
                    work.progress.began = time.monotonic() - 10.0 * (1 + len(seen))
                    status = work.status()
                    seen.append((status.share, remaining(status)))
                return answer

            work.report = told  # type: ignore[method-assign]
            super().run(work)

    begin(toy(tmp_path / "toy.py"), tmp_path / "run", console, lambda *_: Watching())
    assert [share for share, _ in seen] == [0.25, 0.5, 0.75, 1.0]
    assert [left for _, left in seen] == [pytest.approx(t, abs=3) for t in (30, 20, 10, 0)]
    assert "supernet · trained 100%: 1 complete" in console.file.getvalue()  # type: ignore[attr-defined]


def test_ctrl_c_while_it_trains_leaves_a_run_to_resume(tmp_path: Path, console: Console) -> None:
    class Stopped(LocalRunner):
        def run(self, work: JobSource) -> None:
            report = work.report

            def told(*arguments: Any, **keywords: Any) -> Any:
                work.interrupt()
                return report(*arguments, **keywords)

            work.report = told  # type: ignore[method-assign]
            super().run(work)

    file = toy(tmp_path / "toy.py")
    with pytest.raises(RunInterrupted):
        begin(file, tmp_path / "run", console, lambda *_: Stopped())
    folder = RunFolder.open(tmp_path / "run")
    assert [(t.stage, t.state, t.step) for t in trials(read(folder))] == [
        ("supernet", "RUNNING", 1)
    ]
    again = resume(folder.path, local, console=console)
    whole = begin(file, tmp_path / "whole", console)
    assert plain(again) == plain(whole)
