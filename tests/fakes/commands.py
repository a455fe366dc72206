"""Experiment files of toys, and the command line called in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

_PARTS = {
    "space": "ToySpace()",
    "data": "ToyData()",
    "evaluator": "Curves()",
    "sampler": "Random()",
    "scheduler": "ASHA(min_step=1, factor=2)",
    "baselines": "()",
    "budget": "Budget(trials=6)",
    "finalists": "Finalists(top=2, seeds=2)",
    "smoke": '{"budget.trials": 2, "finalists.top": 1}',
}

_FILE = """
from dataclasses import dataclass

from toys import Curves, ToyData, ToySpace

from raynas.core import *
from raynas.data import *
from raynas.evaluators import *
from raynas.experiment import *
from raynas.runners.base import Resources
from raynas.samplers import TPE, Random, RegularizedEvolution
from raynas.schedulers import ASHA, NoStopping
from raynas.training import Recipe

{head}

def experiment():
    return Experiment({parts})
"""


def experiment_file(path: Path, head: str = "", **parts: str) -> Path:
    """Write an experiment of toys to ``path``; ``parts`` replaces arguments, as source text."""
    shown = ", ".join(f"{name}={text}" for name, text in {**_PARTS, **parts}.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_FILE.format(head=head, parts=shown))
    return path


@dataclass(frozen=True)
class Called:
    """What a command answered."""

    code: int
    out: str
    err: str


def raynas(*arguments: object) -> Called:
    """``raynas ARGUMENTS`` in this process."""
    from raynas.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["raynas", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    return Called(int(str(code or 0)), out.getvalue(), err.getvalue())


def done(*arguments: object) -> str:
    """What a command printed that must end well."""
    called = raynas(*arguments)
    assert (called.code, called.err) == (0, ""), called.err
    return called.out


def stored(run: Path) -> dict[str, bytes]:
    """Everything that says what a run is and has found: its fragments, run.json, the source.

    Not the manifests, of which each start writes one.
    """
    files = [*(run / "results").glob("*.parquet*"), run / "run.json", run / "experiment.py"]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}
