"""This module applies settings from the command line: ``--set path=value``."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raynas.core import UserError, unknown_option
from raynas.core.fields import (
    MISFIT,
    brief,
    declared_types,
    fit_any,
    is_plain,
    shown_type,
    union_members,
)
from raynas.core.renamed import current_setting
from raynas.experiment.experiment import Experiment


def parse_overrides(texts: Sequence[str]) -> dict[str, object]:
    """Parse settings from the command line.

    Args:
        texts: Each as ``path=value``. A value is read as a Python literal; other text stays text.

    Returns:
        Path -> value.

    Raises:
        UserError: If a text has no ``=``, or no path.

    Example:
        >>> parse_overrides(["budget.trials=8", "evaluator.recipe.lr=0.05", "name=first"])
        {'budget.trials': 8, 'evaluator.recipe.lr': 0.05, 'name': 'first'}
    """
    found: dict[str, object] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--set {text!r}", expected="path=value, as in budget.trials=8")
        found[path.strip()] = _literal(value.strip())
    return found


def _literal(text: str) -> object:
    names = {"true": True, "false": False, "none": None}
    if text.lower() in names:
        return names[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # not a literal, such as {[1]}, or a number of 5,000 digits


def apply(experiment: Experiment, overrides: Mapping[str, object]) -> Experiment:
    """Return the experiment with values replaced along dotted paths of field names.

    Each part is made once, with all that is set in it, so that settings that must fit together may
    come in any order.

    Args:
        experiment: Stays as it is.
        overrides: Path -> value; of two for one path, or for a part and for something in it, the
            later one counts.

    Returns:
        A new experiment.

    Raises:
        UserError: For unknown paths and values that do not fit; it names those that would.
    """
    wanted = _Wanted()
    for path, value in overrides.items():
        wanted.add(path.split("."), path, value)
    made: Experiment = _replaced(experiment, wanted, "")
    return made


_UNSET: Final = object()


@dataclass
class _Wanted:
    """The settings of one part: a value for the whole, then values inside it, by their keys."""

    value: object = _UNSET
    told: str = ""
    inside: dict[str, _Wanted] = field(default_factory=dict)

    def add(self, keys: Sequence[str], path: str, value: object) -> None:
        if keys:
            self.inside.setdefault(keys[0], _Wanted()).add(keys[1:], path, value)
            return
        self.value, self.told, self.inside = value, path, {}

    @property
    def paths(self) -> list[str]:
        """The settings that the user wrote, as ``path=value``."""
        own = [] if self.value is _UNSET else [f"{self.told}={brief(self.value)}"]
        return own + [path for wanted in self.inside.values() for path in wanted.paths]

    @property
    def path(self) -> str:
        """The first of the paths, for messages."""
        return self.told or next(w.path for w in self.inside.values())


def _replaced(part: Any, wanted: _Wanted, place: str) -> Any:
    """Return ``part``, found at the path ``place``, with all settings inside it applied."""
    if not wanted.inside:
        return part
    if isinstance(part, tuple):
        return _replaced_items(part, wanted, place)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise UserError(
            f"--set {wanted.path}: there is nothing to set inside {place}",
            hint=f"--set {place}=VALUE",
        )
    names = [f.name for f in dataclasses.fields(part) if f.init and f.metadata.get("set", True)]
    if not names:
        raise UserError(
            f"--set {wanted.path}: {type(part).__name__} has no settings",
            hint="change the experiment file",
        )
    changes = {}
    for written, inner in wanted.inside.items():
        key = current_setting(type(part), written)
        if key not in names:
            raise unknown_option(f"key in --set {inner.path}:", key, names)
        current = getattr(part, key)
        if inner.value is not _UNSET:
            current = _coerce(inner.value, declared_types(type(part))[key], current, inner.told)
        changes[key] = _replaced(current, inner, f"{place}.{key}".lstrip("."))
    return _with(part, changes, f"--set {', '.join(wanted.paths)}")


def _replaced_items(part: tuple[Any, ...], wanted: _Wanted, place: str) -> Any:
    """Return a tuple with settings of its parts applied, as by ``baselines.0.n_startup``."""
    items, places = list(part), [str(i) for i in range(len(part))]
    for key, inner in wanted.inside.items():
        if key not in places:
            raise unknown_option(f"place in --set {inner.path}:", key, places)
        if inner.value is not _UNSET:
            raise UserError(
                f"--set {inner.told}: {type(part[int(key)]).__name__} is not a plain value",
                hint=f"set one of its settings: {inner.told}.NAME=VALUE, or change the experiment "
                "file",
            )
        items[int(key)] = _replaced(part[int(key)], inner, f"{place}.{key}")
    return tuple(items)


def _with(part: Any, changes: Mapping[str, object], told: str) -> Any:
    try:
        return dataclasses.replace(part, **changes)
    except UserError:
        raise
    except Exception as error:  # raised by a part's own check of its settings
        raise UserError(f"{told}: {type(error).__name__}: {error}") from error


def _coerce(value: object, hint: Any, current: object, path: str) -> object:
    """Return ``value`` as the field's type.

    An int passes for a float, a list for a tuple, unless the field may have ints and lists, too.
    """
    options = union_members(hint)
    fitted = fit_any(value, options)
    if fitted is not MISFIT:
        return fitted
    raise UserError(
        f"--set {path}={brief(value)}",
        expected=" or ".join(map(shown_type, options)),
        hint=_hint_for(options, current, path),
    )


def _hint_for(options: Sequence[Any], current: object, path: str) -> str:
    """Return what to write instead."""
    if dataclasses.is_dataclass(current):
        names = [f.name for f in dataclasses.fields(current) if f.init]
        if names:
            return (
                f"set one of its settings: {path}.{names[0]}=VALUE, or change the experiment file"
            )
    if isinstance(current, tuple) and not any(map(is_plain, options)):
        return f"change the experiment file; {path}='()' leaves them out"
    if not any(map(is_plain, options)):
        return "change the experiment file"
    quotes = f"; text that looks like a number needs quotes: {path}='\"1\"'"
    return f"it is {brief(current)} now" + (quotes if str in options else "")
