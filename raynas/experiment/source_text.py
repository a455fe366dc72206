"""This module writes an experiment as Python source, where it consists of parts that have any."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from enum import Enum
from pathlib import Path
from typing import Any

from raynas.experiment.experiment import Experiment
from raynas.experiment.importable import importable
from raynas.store.run_source import WRITTEN

_WIDTH = 92


def source_text(experiment: Experiment) -> str | None:
    """Write a file whose ``experiment()`` makes an experiment.

    Args:
        experiment: The experiment.

    Returns:
        The text of the file; None if a part of the experiment is not made of importable
        dataclasses, functions and plain values only.
    """
    writer = _SourceWriter()
    try:
        value = writer.text(experiment, 4)
    except _NoSourceError:
        return None
    modules = sorted(set(writer.imports.values()))
    imports = [f"from {module} import {', '.join(writer.names_of(module))}" for module in modules]
    head = f'{WRITTEN}: an experiment that was given to raynas.run as an object."""'
    return "\n".join(
        [head, "", *imports, "", "", "def experiment() -> Experiment:", f"    return {value}", ""]
    )


class _NoSourceError(Exception):
    """A value cannot be written as an expression."""


class _SourceWriter:
    """A writer of expressions that collects the imports they need."""

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}  # name -> module

    def names_of(self, module: str) -> list[str]:
        """Return the names that are imported from a module, sorted."""
        return sorted(name for name, home in self.imports.items() if home == module)

    def text(self, value: Any, indent: int) -> str:
        """Return an expression that makes ``value``, in lines that begin at ``indent``."""
        kind = type(value)
        if value is None or kind in (bool, int, str, bytes, range):
            return repr(value)
        if kind is float:
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if kind in (tuple, list, set, frozenset):
            return self._collection(value, indent)
        if kind is dict:
            items = [
                f"{self.text(k, indent + 4)}: {self.text(v, indent + 4)}" for k, v in value.items()
            ]
            return _lines("{", items, "}", indent)
        if isinstance(value, Enum):
            return f"{self._name(kind)}.{value.name}"
        if isinstance(value, Path):
            return f"{self._named('Path', 'pathlib')}({str(value)!r})"
        if isinstance(value, type | types.FunctionType):
            return self._name(value)
        if dataclasses.is_dataclass(value):
            return self._call(value, indent)
        raise _NoSourceError

    def _collection(self, value: Any, indent: int) -> str:
        items = [self.text(v, indent + 4) for v in value]
        if isinstance(value, tuple):
            return f"({items[0]},)" if len(items) == 1 else _lines("(", items, ")", indent)
        if isinstance(value, list):
            return _lines("[", items, "]", indent)
        return _lines(f"{type(value).__name__}([", sorted(items), "])", indent)

    def _call(self, value: Any, indent: int) -> str:
        given = [
            f"{setting.name}={self.text(getattr(value, setting.name), indent + 4)}"
            for setting in dataclasses.fields(value)
            if setting.init and not _is_default(setting, getattr(value, setting.name))
        ]
        return _lines(f"{self._name(type(value))}(", given, ")", indent)

    def _name(self, part: Any) -> str:
        """Return the name of a class or function that a new process can import."""
        name, module = part.__qualname__, part.__module__
        if not name.isidentifier() or not importable(module):
            raise _NoSourceError
        if getattr(sys.modules.get(module), name, None) is not part:
            raise _NoSourceError
        parts = module.split(".")
        for length in range(2 if parts[0] == "raynas" else 1, len(parts)):
            package = ".".join(parts[:length])
            if getattr(sys.modules.get(package), name, None) is part:
                return self._named(name, package)
        return self._named(name, module)

    def _named(self, name: str, module: str) -> str:
        if module != "builtins" and self.imports.setdefault(name, module) != module:
            raise _NoSourceError  # two parts of one name
        return name


def _lines(begin: str, items: list[str], end: str, indent: int) -> str:
    """Return the items on one line, or on a line each where they do not fit."""
    one = f"{begin}{', '.join(items)}{end}"
    if "\n" not in one and len(one) + indent <= _WIDTH:
        return one
    inner = " " * (indent + 4)
    return "\n".join([begin, *(f"{inner}{item}," for item in items), " " * indent + end])


def _is_default(setting: dataclasses.Field[Any], value: Any) -> bool:
    default = setting.default
    if setting.default_factory is not dataclasses.MISSING:
        default = setting.default_factory()
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # such as arrays, which compare element by element
        return False
