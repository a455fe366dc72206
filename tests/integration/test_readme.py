"""Every command that README.md and docs/ show ends well in a fresh clone, without a data set.

A block of commands is run by bash, in its order, as it is written, in an empty folder with links to
what a clone has; ``my_search.py`` is the README's own. What would take minutes is shortened, what
wants a cluster or another network is named: a command that is neither run nor named fails the test.
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
from commands import done, raynas

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PROGRAMS = {
    ".", "apt-get", "aws", "bash", "cd", "curl", "docker", "export", "git", "kubectl", "make",
    "pip", "python", "python3", "ray", "raynas", "source",
}  # fmt: skip

#: blocks that hold no commands, by their first word
OTHER_BLOCKS = {
    "runs/NAME/": "the files of a run",
    "core": "the floors of the package",
}

_CLOUD = "wants machines of a cloud"
NOT_RUN = {
    "git clone <this repository> && cd raynas": "the clone is there",
    "make demo": "installs a virtual environment; its search is in test_experiments.py",
    "git clone <this repository> && cd raynas && make setup-cluster && . .venv/bin/activate": (
        "installs a virtual environment"
    ),
    "python deploy/aws.py": _CLOUD,
    "export RAY_AUTH_MODE=token && ray get-auth-token --generate > /dev/null && "
    "ray up -y cluster.yaml": _CLOUD,
    "ray dashboard cluster.yaml &": _CLOUD,
    "ray job submit --address http://127.0.0.1:8265 --working-dir . --no-wait --submission-id "
    "first -- raynas run experiments/cifar10.py --address auto --set resources.gpus=0.25": _CLOUD,
    "ray job logs --address http://127.0.0.1:8265 -f first": _CLOUD,
    "raynas top s3://BUCKET/runs/cifar10": "the bucket is the user's",
    "ray job stop --address http://127.0.0.1:8265 first": _CLOUD,
    "ray job submit --address http://127.0.0.1:8265 --working-dir . -- raynas resume "
    "s3://BUCKET/runs/cifar10 --address auto": _CLOUD,
    "ray down cluster.yaml": _CLOUD,
}


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

MY_IMAGES = """
import numpy as np

labels = np.arange(160) % 4
pixels = np.random.default_rng(0).integers(0, 256, (160, 16, 16, 3)).astype(np.uint8)
pixels[:, 4:8, 4:8] //= 1 + labels[:, None, None, None].astype(np.uint8)
"""


@dataclass(frozen=True)
class Block:
    """The commands of one block of a page, in their order."""

    page: str
    commands: tuple[str, ...]


def blocks_of(page: str, text: str) -> list[Block]:
    """Of fenced blocks without a language or of a shell, and of indented lines that begin with a
    program."""
    found = []
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if language not in ("", "bash", "console", "sh", "shell"):
            continue
        if language or body.split()[0] not in OTHER_BLOCKS:
            found.append(Block(page, commands_in(body)))
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in re.findall(r"^    (\S.*)$", outside, re.MULTILINE):
        if line.split()[0] in PROGRAMS:
            found.append(Block(page, commands_in(line)))
    return found


def commands_in(body: str) -> tuple[str, ...]:
    """Lines without their comments; one that ends with a backslash goes on in the next."""
    lines = re.sub(r"\s*\\\n\s*", " ", body).splitlines()
    plain = (re.sub(r"\s+#.*$|^#.*$", "", line).removeprefix("$ ").strip() for line in lines)
    return tuple(line for line in plain if line)


BLOCKS = [
    block
    for page in PAGES
    for block in blocks_of(page.relative_to(CHECKOUT).as_posix(), page.read_text())
]
COMMANDS = [command for block in BLOCKS for command in block.commands]
RUN = [
    Block(block.page, kept)
    for block in BLOCKS
    if (kept := tuple(c for c in block.commands if c not in NOT_RUN))
]


# -- what there is -----------------------------------------------------------------------------


def test_pages_are_read_as_a_reader_does() -> None:
    text = """
Text, with    raynas run inside.

```
runs/NAME/
  report.html
```

```
git status && cd x     # a remark
ray job submit --x \\
    -- raynas run f.py # and another
```

```python
raynas = 1
```

    python tests/x.py --n 2

    10 % of a table
"""
    assert blocks_of("p.md", text) == [
        Block("p.md", ("git status && cd x", "ray job submit --x -- raynas run f.py")),
        Block("p.md", ("python tests/x.py --n 2",)),
    ]


def test_every_command_is_known() -> None:
    assert len(COMMANDS) >= 25
    strange = [c for c in COMMANDS if c.split()[0] not in PROGRAMS]
    assert not strange, "no commands: name their block in OTHER_BLOCKS"
    wanted = {"raynas", "python"}
    lost = [c for c in COMMANDS if c not in NOT_RUN and shlex.split(c)[0] not in wanted]
    assert not lost, "cannot be run here: name them in NOT_RUN, with the reason"
    assert all(NOT_RUN.values())
    for name, table in {"NOT_RUN": NOT_RUN, "SHORTER": SHORTER, "QUICK": QUICK}.items():
        assert not set(table) - set(COMMANDS), f"{name} has what no page shows any more"
    assert not set(NOT_RUN) & (set(SHORTER) | set(QUICK))


def test_what_is_named_as_not_run_wants_what_a_clone_has_not() -> None:
    """A command on files of the clone cannot hide among the exceptions."""
    for command in NOT_RUN:
        local = command.startswith(("raynas", "python")) and "s3://BUCKET" not in command
        assert not local or command == "python deploy/aws.py"


def test_commands_that_the_text_names_have_these_options() -> None:
    named = {
        re.sub(r"\s+", " ", command)
        for page in PAGES
        for command in re.findall(r"`(raynas [a-z][^`]*)`", page.read_text())
    }
    assert len(named) >= 8
    for command in sorted(named):
        words = command.split()[1:]
        depth = 2 if words[0] == "bench" and len(words) > 1 else 1
        called = raynas(*words[:depth], "--help")
        assert called.code == 0, command
        for option in re.findall(r"--[a-z-]+", command):
            assert option in called.out, command


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
