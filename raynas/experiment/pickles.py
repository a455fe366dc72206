"""This module stores an experiment as a pickle, and loads it again.

The file ``experiment.pkl`` has one line of JSON, then the pickle. The line names the versions of
Python and raynas, and has the source of the functions and classes that are stored by value (those
of a notebook's cells, a session or a script): fingerprints identify code by its source.
"""

from __future__ import annotations

import io
import json
import linecache
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle

from raynas.core import UserError
from raynas.core.errors import first_line
from raynas.experiment.experiment import Experiment
from raynas.experiment.importable import importable
from raynas.store.files import reason
from raynas.store.run_source import PICKLE, WRITTEN
from raynas.version import __version__

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

LOADER = f'''{WRITTEN}: loads the experiment from {PICKLE}, which is stored beside this file.

The first line of {PICKLE} has the source of the experiment's own functions and classes.
"""

from raynas.experiment import Experiment, stored_experiment


def experiment() -> Experiment:
    return stored_experiment(__file__)
'''
"""The text of a file that makes a pickled experiment."""


def pickled(experiment: Experiment) -> bytes:
    """Return the contents of ``experiment.pkl``.

    Args:
        experiment: The experiment.

    Returns:
        One line of JSON, then a pickle.

    Raises:
        UserError: If a part cannot be pickled.
    """
    content = io.BytesIO()
    pickler = _Pickler(content)
    try:
        pickler.dump(experiment)
    except Exception as error:  # of any kind: from the user's objects
        raise UserError(
            "the experiment cannot be stored, so its run could not be resumed: "
            f"{first_line(error)}",
            hint="write a file with experiment() that makes it, and give the path of that file",
        ) from error
    finally:
        pickler.close()
    own = sorted(file for file in pickler.files if not _is_installed(file))
    sources = {file: "".join(linecache.getlines(file)) for file in own}
    head = {
        "format": 1,
        "raynas": __version__,
        "python": _PYTHON,
        "code": bool(pickler.files),
        "sources": {file: text for file, text in sources.items() if text},
    }
    return json.dumps(head).encode() + b"\n" + content.getvalue()


def _is_installed(file: str) -> bool:
    """Return True for files of Python and of installed packages, which are the same elsewhere."""
    parts = Path(file).parts
    python = Path(linecache.__file__).parent
    return python in Path(file).parents or bool({"site-packages", "dist-packages"} & set(parts))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A pickler that knows the files of the code that it stores by value.

    Code of modules that no other process can import, such as the files of experiments, is stored
    by value, too.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.DEFAULT_PROTOCOL)
        self.files: set[str] = set()
        self._by_value: set[types.ModuleType] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            self.files.add(obj.co_filename)
        elif isinstance(obj, type | types.FunctionType):
            module = sys.modules.get(obj.__module__ or "")
            if module is not None and not importable(module.__name__):
                self._store_by_value(module)
        return super().reducer_override(obj)

    def _store_by_value(self, module: types.ModuleType) -> None:
        known = cloudpickle.list_registry_pickle_by_value()
        if module.__name__ not in known and module not in self._by_value:
            cloudpickle.register_pickle_by_value(module)
            self._by_value.add(module)

    def close(self) -> None:
        """Forget what was registered for this pickle."""
        for module in self._by_value:
            cloudpickle.unregister_pickle_by_value(module)


def stored_experiment(file: Path | str) -> Experiment:
    """Load the experiment that is stored beside a file; this executes code of that pickle.

    Args:
        file: The ``experiment.py`` in the folder of a run.

    Returns:
        The experiment.

    Raises:
        UserError: If the pickle is missing, damaged or of another version, or belongs to a user who
            owns neither this process nor ``file``.
    """
    place = Path(file).with_name(PICKLE)
    try:
        owner, trusted = place.stat().st_uid, {Path(file).stat().st_uid, os.geteuid()}
        content = place.read_bytes() if owner in trusted else b""
    except OSError as error:
        raise UserError(
            f"{place} cannot be read: {reason(error)}",
            hint="restore it from a copy of the run, or begin a new run",
        ) from error
    if owner not in trusted:
        raise UserError(
            f"{place} belongs to another user (uid {owner}), and loading it executes code",
            hint="make it yours if you trust it",
        )
    head, _, data = content.partition(b"\n")
    return _experiment(place, _header(place, head), data)


def _header(place: Path, line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
        if head["format"] != 1:
            raise ValueError(f"format {head['format']}, not 1")
        if not all(isinstance(text, str) for text in head["sources"].values()):
            raise ValueError("sources that are no texts")
        return {name: head[name] for name in ("raynas", "python", "code", "sources")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{place} is not a stored experiment, or is damaged: {first_line(error)}",
            hint="restore it from a copy of the run, or begin a new run",
        ) from error


def _experiment(place: Path, head: dict[str, Any], data: bytes) -> Experiment:
    """Unpickle an experiment; errors name the versions that stored it."""
    stored = f"it was stored by Python {head['python']} and raynas {head['raynas']}"
    this = f"this is Python {_PYTHON} and raynas {__version__}"
    hint = "use the versions that stored it, or begin a new run"
    if head["code"] and head["python"] != _PYTHON:
        raise UserError(
            f"{place} has code of functions or classes, which only one version of Python can load: "
            f"{stored}, {this}",
            hint=hint,
        )
    for file, text in head["sources"].items():
        lines = text.splitlines(keepends=True)
        linecache.cache[file] = (len(text), None, lines, file)
    try:
        found = pickle.loads(data)
    except Exception as error:  # of any kind: it executes the pickle's own code
        raise UserError(
            f"{place} cannot be loaded: {first_line(error)}; {stored}, {this}",
            hint=hint,
        ) from error
    if not isinstance(found, Experiment):
        raise UserError(f"{place} has a {type(found).__name__}", expected="an Experiment")
    return found
