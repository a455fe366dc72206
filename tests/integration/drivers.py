"""Runs of experiment files on toys: in this process, and as processes of their own to be killed."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.toy_runs import content
from rich.console import Console

from raynas.core import Trial
from raynas.experiment import Experiment, load
from raynas.pipeline import history as stored
from raynas.pipeline import launch
from raynas.pipeline import searches as builders
from raynas.runners.local import LocalRunner
from raynas.store import RunFolder, read

TESTS = Path(__file__).resolve().parents[1]
PATHS = (str(TESTS), str(TESTS / "fakes"))

_FILE = """
from toys import Curves, Quick, ToyData, ToySpace
from raynas.experiment import Budget, Experiment, Finalists
from raynas.runners.base import Resources
from raynas.samplers import TPE, Random
from raynas.schedulers import ASHA, NoStopping

def experiment():
    return Experiment(
        space=ToySpace(), data=ToyData(),
        evaluator={evaluator}(max_step={steps}, seconds={seconds}, log={log!r}, fault={fault!r}),
        sampler={sampler}, scheduler={scheduler}, baselines=(), finalists=Finalists(top=0),
        budget=Budget(trials={trials}), resources=Resources(cpus=1.0),
        deterministic_workers={deterministic_workers},
    )
"""


def experiment_file(
    folder: Path,
    *,
    trials: int,
    evaluator: str = "Curves",
    sampler: str = "Random()",
    scheduler: str = "NoStopping()",
    steps: int = 4,
    seconds: float = 0.0,
    fault: Any = None,
    deterministic_workers: int = 0,
) -> Path:
    """``toy.py`` in ``folder``; its evaluations are logged in ``folder/log``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toy.py"
    text = _FILE.format(
        steps=steps,
        seconds=seconds,
        log=str(folder / "log"),
        evaluator=evaluator,
        sampler=sampler,
        scheduler=scheduler,
        trials=trials,
        fault=fault or {},
        deterministic_workers=deterministic_workers,
    )
    file.write_text(text)
    return file


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def run_here(file: Path, runner: Callable[..., Any] | None = None) -> RunFolder:
    """The experiment in this process, in ``run`` beside the file."""
    make = runner or (lambda _loaded, _folder: LocalRunner())
    loaded = load(file)
    return launch.start(
        loaded, file.parent / "run", make, overrides={}, smoke=False, console=quiet()
    )


def undisturbed(folder: Path, **settings: Any) -> list[Any]:
    """The content of the run of these settings to which nothing happens."""
    return content(rows_of(run_here(experiment_file(folder, **settings))))


@dataclass
class Resumed:
    """A run that was resumed in this process."""

    folder: RunFolder
    experiment: Experiment
    searches: list[Any] = field(default_factory=list)


def resume_here(path: Path, monkeypatch: Any, more: int = 0) -> Resumed:
    """Resume with the local runner; what the run used is there to be looked at."""
    experiments: list[Experiment] = []
    searches: list[Any] = []
    real = builders.build_search

    def search(*args: Any, **settings: Any) -> Any:
        searches.append(real(*args, **settings))
        return searches[-1]

    def runner(loaded: Any, _folder: Path) -> LocalRunner:
        experiments.append(loaded.experiment)
        return LocalRunner()

    with monkeypatch.context() as patch:
        patch.setattr(builders, "build_search", search)
        folder = launch.resume(path, runner, more_trials=more, console=quiet())
    return Resumed(folder, experiments[0], searches)


def rows_of(folder: RunFolder | Path) -> list[dict[str, Any]]:
    """The stored rows, in the order of trial and step."""
    opened = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    return read(opened).to_pylist()  # type: ignore[no-any-return]


def past(found: Resumed) -> list[Trial]:
    trials, _ = stored.history(
        found.folder, found.experiment, "search", found.experiment.sampler.name
    )
    return trials


def marked(mark: str) -> list[int]:
    """The living processes with ``mark`` in their environment, which children inherit."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if folder.name.isdigit() and mark in (folder / "environ").read_text("latin1"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(folder.name)] if state != "Z" else []
    return found


def commands(mark: str) -> list[str]:
    found = []
    for number in marked(mark):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{number}/cmdline").read_text("latin1"))
    return found


def session_folders(mark: str) -> set[Path]:
    """The folders of the Ray sessions that the marked processes work in."""
    names = [n for c in commands(mark) for n in re.findall(r"/tmp/ray/session_2[-_0-9]+", c)]
    return {Path(name) for name in names}


class Driver:
    """``raynas ARGS`` in a process of its own; knows all processes that descend from it.

    ``before``: words in front of the command, which run it.
    """

    def __init__(
        self,
        *args: str | Path,
        cwd: Path,
        program: str = "raynas.cli.main",
        before: Sequence[str] = (),
        **env: str,
    ) -> None:
        self.mark = f"RAYNAS_TEST={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        paths = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH")]))
        self.out, self.err = cwd / f"out-{value}", cwd / f"err-{value}"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", program, *map(str, args)],
                stdout=out, stderr=err, cwd=cwd, start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", name: value, **env},
            )  # fmt: skip

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)

    def until(self, condition: Callable[[], bool], timeout: float = 90) -> None:
        """Wait until ``condition()``. Raises: AssertionError, with what the driver printed."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"exit {ended}: {self.out.read_text()}{self.err.read_text()}")
            time.sleep(0.02)

    def processes(self) -> list[int]:
        """The driver and all that it, or Ray for it, has started and is still there."""
        return marked(self.mark)

    def commands(self) -> list[str]:
        """The command lines of its processes; Ray's workers say there what they do."""
        return commands(self.mark)

    def all_gone(self, timeout: float, but: tuple[str, ...] = ()) -> bool:
        """Whether within ``timeout`` seconds no process is left, or only such as ``but``."""
        deadline = time.monotonic() + timeout
        while any(c and not c.startswith(but or "\0") for c in self.commands()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        for number in [self.process.pid, *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(30)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
