"""Every command that README.md, CONTRIBUTING.md and docs/ show ends well in a fresh clone.

A block of commands is run by bash, in its order, as it is written, in a folder with links to what
a clone has, without data sets; ``my_search.py`` is the README's own. What would take minutes is
shortened here. A block that says ``not run`` (tests/pages.py) is left out, and so is one that
tests/unit/test_pages.py carries out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import done
from pages import BLOCKS, CHECKOUT, MY_IMAGES, Block

COMMANDS = [c for block in BLOCKS if block.is_shell for c in block.commands]
RUN = [block for block in BLOCKS if block.is_shell and not block.how]
WANTED = [command for block in RUN for command in block.commands]


@dataclass(frozen=True)
class Shorter:
    """What is put in the place of parts of a command, and behind it, and why."""

    why: str
    more: str = ""
    instead: Mapping[str, str] | None = None

    def of(self, command: str) -> str:
        for part, other in (self.instead or {}).items():
            assert part in command
            command = command.replace(part, other)
        return f"{command} {self.more}".strip()


SHORTER = {
    "raynas run my_search.py": Shorter(
        "100 trials of 27 epochs",
        "--set budget.trials=2 --set evaluator.recipe.epochs=2 --set finalists.top=1 "
        "--set finalists.seeds=1",
    ),
    "raynas resume runs/my_search --trials +100": Shorter(
        "100 trials more", instead={"+100": "+1"}
    ),
    "raynas score nasbench201 --random 100 --proxies naswot,synflow,params --data cifar10 "
    "--table scores.csv": Shorter("100 networks", instead={"--random 100": "--random 3"}),
    "raynas score my_search.py --random 100": Shorter(
        "100 networks", instead={"--random 100": "--random 3"}
    ),
    "raynas run experiments/many_budgets.py": Shorter("two minutes of training", "--smoke"),
    "raynas specialize runs/many_budgets --max macs=1e6 --max latency_ms=2 --format onnx": Shorter(
        "the latency of a busy machine", instead={"latency_ms=2": "latency_ms=200"}
    ),
    "raynas bench nb201 --methods guided,tpe,local,evolution,random": Shorter(
        "1,500 searches", "--seeds 1 --datasets cifar10"
    ),
    "raynas simulate experiments/cifar10.py --workers 64 --hours 12 --step-seconds 25": Shorter(
        "5,000 simulated trials, each proposed by TPE", instead={"--hours 12": "--hours 0.5"}
    ),
    "python tests/calibration/calibrate.py --repeats 1000": Shorter(
        "thirteen minutes", instead={"1000": "2"}
    ),
}

#: commands that take a second or two in this process, and what makes them so
QUICK = {
    "raynas list proxies": "",
    "raynas score nasbench201 --random 100 --proxies naswot,synflow,params --data cifar10 "
    "--table scores.csv": "--local --set space.cells=1 --set budget.trials=2",
    "raynas simulate experiments/cifar10.py --workers 64 --hours 12 --step-seconds 25": (
        "--smoke --hours 0.01"
    ),
}

# -- what there is -----------------------------------------------------------------------------


def test_what_is_run_wants_no_cluster() -> None:
    assert len(WANTED) >= 12
    lost = [c for c in WANTED if shlex.split(c)[0] not in ("raynas", "python")]
    assert not lost, "cannot be run here: say in the page why, see tests/pages.py"
    for name, table in {"SHORTER": SHORTER, "QUICK": QUICK}.items():
        assert not set(table) - set(COMMANDS), f"{name} has what no page shows any more"


# -- they run ----------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are given: no data set, no storage, nothing kept at home."""
    for name in ("experiments", "tests", "raynas"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (code,) = re.findall(
        r"```python\n# my_search\.py\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL
    )
    (tmp_path / "my_search.py").write_text(code)
    (tmp_path / "my_images.py").write_text(MY_IMAGES)
    monkeypatch.chdir(tmp_path)
    for name in ("RAYNAS_DATA", "RAYNAS_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAYNAS_CACHE", "off")
    return tmp_path


@pytest.mark.parametrize("command", QUICK)
def test_quick_commands(command: str, clone: Path) -> None:
    out = done(*shlex.split(f"{command} {QUICK[command]}")[1:])
    if "cifar10" in command:
        (line,) = [line for line in out.splitlines() if "random images stand in" in line]
        assert "32 x 32 x 3, 10 classes, 50,000 training and 10,000 test images" in line
    if "--table" in command:
        assert (clone / "scores.csv").read_text().count("\n") == 3


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", RUN, ids=[f"{b.page}: {b.commands[0]}" for b in RUN])
def test_commands_as_they_are_written(block: Block, clone: Path) -> None:
    """``raynas`` and ``python`` are those of the tests; all else is as a reader has it."""
    programs = clone / "bin"
    programs.mkdir()
    for name, start in {
        "python": "",
        "raynas": "-c 'from raynas.cli.main import main; main()' ",
    }.items():
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start}"$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    for command in block.commands:
        short = SHORTER[command].of(command) if command in SHORTER else command
        ended = subprocess.run(
            ["bash", "-c", short], cwd=clone, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{short}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
        assert "Traceback" not in ended.stdout + ended.stderr, short
