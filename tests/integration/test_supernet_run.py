"""A run that trains what its search inherits, on Ray: its driver is killed while it trains and
while it searches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import experiment_file
from integration.drivers import Driver, lines, rows_of, run_here

from raynas.store import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("undrawn")]

SAME = ("trial", "stage", "arm", "arch", "seed", "step", "state", "weights", "val_accuracy",
        "train_loss", "test_accuracy")  # fmt: skip


def toy(folder: Path, seconds: float) -> Path:
    folder.mkdir()
    trained = f"Trained(max_step=6, seconds={4 * seconds}, log={str(folder / 'trained')!r})"
    search = f"seconds={seconds}, log={str(folder / 'searched')!r}"
    return experiment_file(
        folder / "toy.py", "from supernet_toys import *", scheduler="NoStopping()",
        evaluator=f"Inheriting(training={trained}, {search})", budget="Budget(30)",
        finalists="Finalists(1, 2, evaluator=Curves(), inherited=Tuned())",
        resources="Resources(concurrent=1)",
    )  # fmt: skip


def content(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in SAME) for row in rows]


def weights(run: Path) -> dict[str, Any]:
    return dict(json.loads((RunFolder.open(run).supernet / "toy.json").read_text()))


def test_killed_drivers_train_once_and_repeat_no_row(tmp_path: Path) -> None:
    calm = run_here(toy(tmp_path / "calm", 0.0))
    file = toy(tmp_path / "killed", 0.1)
    run, trained, searched = (file.parent / name for name in ("run", "trained", "searched"))
    with Driver("run", file, "--output", run, cwd=file.parent) as driver:
        driver.until(lambda: len(lines(trained)) >= 3)
    assert not (run / "supernet").exists()
    steps = len(lines(trained))
    with Driver("resume", run, cwd=file.parent) as driver:
        driver.until(lambda: len(lines(searched)) >= 6)
    assert len(lines(trained)) - steps <= 6 - steps + 1  # the one it was at, at most
    known = {r["arch"] for r in rows_of(run) if r["stage"] == "search" and r["state"] == "COMPLETE"}
    log, done = len(lines(trained)), len(lines(searched))
    with Driver("resume", run, "--local", cwd=file.parent) as driver:
        assert driver.wait(90) == 0
    assert len(lines(trained)) == log
    assert not {line.split()[0] for line in lines(searched)[done:]} & known
    rows = rows_of(run)
    assert max(Counter((row["trial"], row["step"]) for row in rows).values()) == 1
    assert content(rows) == content(rows_of(calm))
    assert weights(run) == weights(calm.path)
