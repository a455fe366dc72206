"""This module loads experiment files, and reports an error in one as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from raynas.core import UserError
from raynas.data.stand_in import available
from raynas.data.stand_in import stand_in as random_images
from raynas.experiment.experiment import Experiment
from raynas.experiment.overrides import apply
from raynas.store.run_source import PICKLE, WRITTEN


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment file that was executed.

    Attributes:
        experiment: The experiment that the file returned, with the settings of the command line.
        source: The text of the file.
        path: The absolute path of the file.
        module: The module of the file, which workers need.
        stand_in: True if random images take the place of those of the file's data set.
        pickled: The contents of ``experiment.pkl``, if ``source`` loads the experiment from it.
    """

    experiment: Experiment
    source: str
    path: Path
    module: ModuleType
    stand_in: bool = False
    pickled: bytes = b""


def with_data(loaded: LoadedExperiment) -> LoadedExperiment:
    """Let random images stand in for a data set whose files are missing, if it declares them.

    Args:
        loaded: A loaded experiment file.

    Returns:
        ``loaded``, or a copy that is marked with ``stand_in``; the remarks of its data set say so.

    Raises:
        UserError: If the files are damaged, or are not where the user says.
    """
    data = available(loaded.experiment.data)
    if data is loaded.experiment.data:
        return loaded
    experiment = dataclasses.replace(loaded.experiment, data=data)
    return dataclasses.replace(loaded, experiment=experiment, stand_in=True)


def load(
    path: Path | str, overrides: Mapping[str, object] | None = None, *, smoke: bool = False,
    stand_in: bool = False, name: str = "", beside: Path | None = None,
) -> LoadedExperiment:  # fmt: skip
    """Execute an experiment file, call its ``experiment()``, and apply overrides.

    Args:
        path: The Python file.
        overrides: Path of a setting -> value.
        smoke: True also applies the experiment's own ``smoke`` settings, before the overrides.
        stand_in: True lets random images take the place of those that the data set declares.
        name: The name of the experiment if the file gives none; if empty, the file's own name.
        beside: A folder from which the file may import too (where it was when the run began).

    Returns:
        The experiment, its source and its module.

    Raises:
        UserError: If there is no such file, it has no ``experiment()``, it fails or returns
            something else, or an override has an unknown path or a value that does not fit.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise UserError(
            f"no experiment file {str(path)!r}", hint="give a .py file, as in experiments/"
        )
    if path.suffix != ".py":
        raise UserError(f"experiment file {path.name!r}", expected="a Python file, *.py")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"experiment file {str(path)!r} cannot be read: {error}",
            hint="make it readable, as UTF-8 text",
        ) from error
    module = _import_file(path, beside)
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UserError(
            f"{path.name} has no experiment()",
            hint="define `def experiment() -> Experiment:` that returns one",
        )
    with _told(path), _executing(path):
        found = function()
    if not isinstance(found, Experiment):
        raise UserError(
            f"experiment() of {path.name} returned {type(found).__name__}",
            expected="an Experiment",
            hint="end it with `return Experiment(space=..., data=..., ...)`",
        )
    if not found.name:
        found = dataclasses.replace(found, name=name or path.stem)
    found = with_settings(found, overrides, smoke=smoke)
    if stand_in:
        found = dataclasses.replace(found, data=random_images(found.data))
    return LoadedExperiment(found, source, path, module, stand_in, _pickle_beside(path, source))


def with_settings(
    experiment: Experiment, overrides: Mapping[str, object] | None = None, *, smoke: bool = False
) -> Experiment:
    """Return an experiment with the settings of a command line.

    Args:
        experiment: Stays as it is.
        overrides: Path of a setting -> value.
        smoke: True also applies the experiment's own ``smoke`` settings, before the overrides.

    Returns:
        A new experiment.

    Raises:
        UserError: If an override has an unknown path or a value that does not fit.
    """
    if smoke:
        experiment = apply(experiment, experiment.smoke)
    experiment = apply(experiment, overrides or {})
    if not experiment.name:
        raise UserError("--set name=: the name is empty", hint="leave it out, or give a name")
    return experiment


def _pickle_beside(path: Path, source: str) -> bytes:
    """Return the pickle that a file written by raynas loads; empty for other files."""
    if not source.startswith(WRITTEN) or not path.with_name(PICKLE).is_file():
        return b""
    return path.with_name(PICKLE).read_bytes()


_FILE: ContextVar[Path | None] = ContextVar("file that is executed", default=None)


def refuse_nested() -> None:
    """Check that no experiment file is being executed, which must not begin runs itself.

    Raises:
        UserError: If one is.
    """
    if (path := _FILE.get()) is not None:
        raise UserError(
            f"experiment file {path.name} begins a run when it is loaded",
            hint="put that below `if __name__ == '__main__':`",
        )


@contextlib.contextmanager
def _executing(path: Path) -> Iterator[None]:
    token = _FILE.set(path)
    try:
        yield
    finally:
        _FILE.reset(token)


def _import_file(path: Path, beside: Path | None) -> ModuleType:
    name = f"raynas_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    folders = [str(folder) for folder in (beside, path.parent) if folder and folder.is_dir()]
    sys.modules[name] = module
    sys.path[:0] = folders
    try:
        with _told(path), _executing(path):
            _remember(path)
            spec.loader.exec_module(module)
    finally:
        for folder in folders:
            sys.path.remove(folder)
    return module


def _remember(path: Path) -> None:
    """Keep the source as it is executed: fingerprints read it after the file is gone or changed."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    linecache.cache[str(path)] = (sum(map(len, lines)), None, lines, str(path))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn an error of a user's file into one line that says where; UserErrors stay."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line, problem = error.lineno, error.msg
        else:
            line, problem = _line(error, path), str(error)
        where = f"{path.name}, line {line}" if line else path.name
        raise UserError(
            f"experiment file {where}: {type(error).__name__}: {problem}",
            hint="correct it and try again",
        ) from error


def _line(error: BaseException, path: Path) -> int | None:
    """Return the last line of ``path`` that was executed when ``error`` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else None
