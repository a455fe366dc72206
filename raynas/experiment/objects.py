"""This module stores an experiment that was built in a script, a notebook or a session.

A run must be resumable in another process, so its folder needs a file that makes the experiment.
The first of these that makes an equal one is stored as the run's ``experiment.py``:

1. the script itself, if it defines ``experiment()`` and begins the run below
   ``if __name__ == "__main__":``;
2. source code that :mod:`raynas.experiment.source_text` writes, if the experiment consists of
   importable classes and plain values;
3. a small file that loads a pickle beside it; see :mod:`raynas.experiment.pickles`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from raynas.core import UserError
from raynas.core.describe import fresh
from raynas.experiment.experiment import Experiment
from raynas.experiment.loading import LoadedExperiment, load, with_settings
from raynas.experiment.pickles import LOADER, pickled
from raynas.experiment.source_text import source_text
from raynas.store.run_source import PICKLE


def load_object(
    experiment: Experiment, overrides: Mapping[str, object] | None = None, *, smoke: bool = False
) -> LoadedExperiment:
    """Return an experiment with the source from which another process makes it again.

    Args:
        experiment: The experiment. Its parts may have been used in an earlier run.
        overrides: Path of a setting -> value.
        smoke: True also applies the experiment's own ``smoke`` settings, before the overrides.

    Returns:
        The experiment as its stored form makes it, with that form.

    Raises:
        UserError: If it cannot be stored, or an override does not fit.
    """
    script = _script()
    experiment = _unused(experiment)
    if not experiment.name:
        name = script.stem if script else "experiment"
        experiment = dataclasses.replace(experiment, name=name)
    loaded = _from_script(script, experiment)
    if loaded is None:
        place = script or Path.cwd() / "(interactive)"
        loaded = _from_source(experiment, place) or _from_pickle(experiment, place)
    return dataclasses.replace(
        loaded, experiment=with_settings(loaded.experiment, overrides, smoke=smoke)
    )


def _unused(experiment: Experiment) -> Experiment:
    """Return the experiment with copies of its parts that have no state of an earlier run."""
    parts = {f.name: _fresh(getattr(experiment, f.name)) for f in dataclasses.fields(experiment)}
    return dataclasses.replace(experiment, **parts)


def _fresh(part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(_fresh(one) for one in part)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    with contextlib.suppress(Exception):  # a user's class may not be made anew from its fields
        return fresh(part)
    return part


def _script() -> Path | None:
    """Return the file that Python was started with; None in notebooks and sessions."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    path = Path(file).absolute() if file else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _from_script(script: Path | None, experiment: Experiment) -> LoadedExperiment | None:
    """Load the experiment from the script that runs now, if its ``experiment()`` makes it."""
    if script is None or not _only_begun_by_main(script):
        return None
    with contextlib.suppress(UserError):
        return _equal(load(script, name=experiment.name), experiment)
    return None


def _only_begun_by_main(script: Path) -> bool:
    """Return True if a script defines ``experiment()`` and this call comes from its main part."""
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return False
    if not any(isinstance(n, ast.FunctionDef) and n.name == "experiment" for n in tree.body):
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals is not vars(sys.modules["__main__"]):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    line = 0 if frame is None else frame.f_lineno
    return any(
        isinstance(node, ast.If)
        and "__name__" in ast.unparse(node.test)
        and node.lineno <= line <= (node.end_lineno or 0)
        for node in tree.body
    )


def _from_source(experiment: Experiment, place: Path) -> LoadedExperiment | None:
    """Load the experiment from source code that is written for it, if there can be any."""
    text = source_text(experiment)
    if text is None:
        return None
    with contextlib.suppress(UserError):
        return _equal(_loaded(text, b"", experiment.name, place), experiment)
    return None


def _from_pickle(experiment: Experiment, place: Path) -> LoadedExperiment:
    content = pickled(experiment)
    loaded = _equal(_loaded(LOADER, content, experiment.name, place), experiment)
    if loaded is None:
        raise UserError(
            "the experiment changes when it is stored, so its run could not be resumed",
            hint="write a file with experiment() that makes it, and give the path of that file",
        )
    return loaded


def _loaded(text: str, content: bytes, name: str, place: Path) -> LoadedExperiment:
    """Load an experiment as another process will, from a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "experiment.py"
        file.write_text(text, encoding="utf-8")
        if content:
            file.with_name(PICKLE).write_bytes(content)
        loaded = load(file, name=name, beside=place.parent)
    return dataclasses.replace(loaded, path=place)


def _equal(loaded: LoadedExperiment, experiment: Experiment) -> LoadedExperiment | None:
    same = (
        loaded.experiment.description() == experiment.description()
        and loaded.experiment.smoke == experiment.smoke
    )
    return loaded if same else None
