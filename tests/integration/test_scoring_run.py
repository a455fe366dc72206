"""Scores of a whole space on Ray: a worker is killed, then the driver, and no row is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import done
from integration.drivers import Driver, lines, rows_of, session_folders

pytestmark = pytest.mark.ray

SPACE = '''
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from raynas.core import Choice, Costs
from raynas.data import Digits
from raynas.evaluators import Retrain
from raynas.experiment import Experiment
from raynas.runners.base import Resources
from raynas.samplers import TPE
from raynas.spaces import SearchSpace
from raynas.training import Recipe


@dataclass(frozen=True)
class Towers(SearchSpace):
    """72 networks, half of them without a ReLU; whoever is built is logged."""

    name: ClassVar[str] = "towers"
    log: str = ""

    @property
    def choices(self):
        return (
            Choice("depth", (1, 2, 3), ordered=True),
            Choice("width", (2, 3, 4, 5, 6, 7), ordered=True),
            Choice("kernel", (1, 3), ordered=True),
            Choice("act", ("relu", "gelu")),
        )

    def costs(self, arch, input_shape=(3, 32, 32), num_classes=10):
        return Costs(arch["depth"] * arch["width"], arch["kernel"])

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        if self.log:
            time.sleep(0.05)
            with Path(self.log).open("a") as file:
                file.write(arch.text + "\\n")
        layers, width, kernel = [], input_shape[0], arch["kernel"]
        for _ in range(arch["depth"]):
            layers += [
                nn.Conv2d(width, arch["width"], kernel, padding=kernel // 2),
                nn.BatchNorm2d(arch["width"]),
                nn.ReLU() if arch["act"] == "relu" else nn.GELU(),
            ]
            width = arch["width"]
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(width, num_classes))


def experiment():
    return Experiment(
        space=Towers(LOG), data=Digits(), evaluator=Retrain(Recipe(epochs=1)), sampler=TPE(),
        resources=Resources(concurrent=2),
    )
'''
WHAT = ("--all", "--proxies", "naswot,synflow,params", "--batch", "8")
SAME = ("arch", "seed", "step", "state", "message", "params", "macs", "naswot", "synflow")


def towers(folder: Path, log: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "towers.py"
    file.write_text(f"LOG = {log!r}\n{SPACE}")
    return file


def workers(driver: Driver) -> list[int]:
    """Ray's actors that score."""
    found = []
    for number in driver.processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{number}/cmdline").read_text("latin1")
            found += [number] if command.startswith("ray::ActorWorker") else []
    return found


def content(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row[name] for name in SAME) for row in rows)


def test_a_killed_worker_and_a_killed_driver_lose_and_repeat_no_row(tmp_path: Path) -> None:
    log, run = tmp_path / "log", tmp_path / "run"
    file = towers(tmp_path / "a", str(log))
    with Driver("score", file, *WHAT, "--output", run, cwd=tmp_path) as driver:
        driver.until(lambda: len(lines(log)) >= 12)
        killed = workers(driver)[0]
        os.kill(killed, signal.SIGKILL)
        driver.until(lambda: len(lines(log)) >= 36 and len(rows_of(run)) >= 16)
        assert killed not in workers(driver)
        left = session_folders(driver.mark)
        driver.process.kill()
        driver.wait(10)
        assert driver.all_gone(30, but=("ray::DashboardAgent", "ray::RuntimeEnvAgent"))
    for folder in left:  # of the killed driver: nobody is left to remove it
        shutil.rmtree(folder, ignore_errors=True)
    before, built = rows_of(run), len(lines(log))
    assert 16 <= len(before) < 72

    with Driver("resume", run, cwd=tmp_path) as driver:
        assert driver.wait(120) == 0, driver.err.read_text()
        assert "exhaustive 100%: 36 complete, 36 failed" in driver.out.read_text()
    rows = rows_of(run)
    assert len(rows) == len({row["arch"] for row in rows}) == 72
    assert sorted(row["trial"] for row in rows) == list(range(72))
    stored = {row["arch"]: row for row in rows}
    assert all(stored[row["arch"]] == row for row in before)
    checked, *scored = lines(log)[built:]  # one is built to see that the space fits the data
    assert len(scored) == len(set(scored)) == 72 - len(before), checked
    assert not set(scored) & {row["arch"] for row in before}
    calm = towers(tmp_path / "b", "")
    done("score", calm, *WHAT, "--local", "--output", tmp_path / "calm")
    assert content(rows) == content(rows_of(tmp_path / "calm"))
