"""This module checks the values of a part's fields, for ``--set`` and for constructors."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from raynas.core.code import is_users
from raynas.core.errors import UserError

MISFIT: Final = object()
"""The result of :func:`fit` for a value that is not of the type."""

_SHOWN = 120
_LARGEST = 2**63
"""Absolute values of whole numbers are below it: the store, torch and numpy have 64 bits."""


def check_fields(part: Any, *, unchecked: Collection[str] = ()) -> None:
    """Check that each setting of a dataclass has the type that its field declares.

    A part calls it first in ``__post_init__``, so that its own checks get the expected types. Lists
    become the tuples of the field, texts its paths; numpy's numbers, and 3.0 in a field of whole
    numbers, become Python's. A whole number in a field of floats stays as it is. Infinite numbers
    are allowed only in fields with ``metadata={"infinite": True}``.

    Args:
        part: The dataclass instance; it may be frozen.
        unchecked: Names of fields that the part checks itself.

    Raises:
        UserError: A value has another type; the message names class, field, value and what is
            allowed.
    """
    for field in dataclasses.fields(part):
        if not field.init or field.name in unchecked or is_users(_owner(part, field.name)):
            continue
        value = getattr(part, field.name)
        options = union_members(declared_types(type(part))[field.name])
        fitted = fit_any(value, options, widen=False)
        endless = isinstance(fitted, float) and math.isinf(fitted)
        if fitted is MISFIT or (endless and not field.metadata.get("infinite")):
            raise UserError(
                f"{type(part).__name__} has {field.name}={brief(value)}",
                expected=" or ".join(map(shown_type, options)),
            )
        if fitted is not value:
            object.__setattr__(part, field.name, fitted)


def _owner(part: Any, name: str) -> type:
    """Return the class that declares the field."""
    kinds = [kind for kind in type(part).__mro__ if name in inspect.get_annotations(kind)]
    return kinds[0] if kinds else type(part)


def fit_any(value: object, options: Collection[Any], *, widen: bool = True) -> object:
    """Return ``value`` as the first type that accepts it, its own type before others.

    Args:
        value: Any value.
        options: Types, none of which is a union.
        widen: True to turn a whole number in a field of floats into a float.

    Returns:
        The value as the field holds it, or :data:`MISFIT`.
    """
    for option in sorted(options, key=lambda option: option is not type(value)):
        fitted = fit(value, option, widen=widen)
        if fitted is not MISFIT:
            return fitted
    return MISFIT


def fit(value: object, kind: Any, *, widen: bool = True) -> object:
    """Return ``value`` as a field of type ``kind`` holds it.

    Args:
        value: Any value.
        kind: A type as a field declares it.
        widen: True to turn a whole number in a field of floats into a float.

    Returns:
        The value as the field holds it, or :data:`MISFIT`.

    Example:
        >>> fit(3.0, int), fit([1, 2], tuple[int, ...]), fit("x", float) is MISFIT
        (3, (1, 2), True)
    """
    options = union_members(kind)
    if len(options) > 1:
        return fit_any(value, options, widen=widen)
    kind = options[0]
    origin = _origin(kind)
    if origin is typing.Literal:
        return _choice(value, typing.get_args(kind))
    if origin in (None, type(None)):
        return None if value is None else MISFIT
    if origin in (int, float):
        return _number(value, origin, widen)
    if origin is Path:
        return _path(value)
    if origin in (tuple, list):
        return _sequence(value, origin, typing.get_args(kind), widen)
    if origin is np.ndarray:  # what numpy can make one of
        return value if isinstance(value, list | tuple) or hasattr(value, "__array__") else MISFIT
    if isinstance(origin, type) and origin is not Any:
        return value if isinstance(value, origin) else MISFIT
    return value


def union_members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, nested unions included.

    Args:
        kind: A type.

    Returns:
        The members; the type alone when it is not a union.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(o for member in typing.get_args(kind) for o in union_members(member))
    if typing.get_origin(kind) is typing.Annotated:
        return union_members(typing.get_args(kind)[0])
    return (kind,)


def is_plain(kind: Any) -> bool:
    """Return True when values of a type can be written on a command line.

    Args:
        kind: A type as a field declares it.

    Returns:
        True for numbers, texts, paths, literals, and tuples of them.
    """
    if _origin(kind) is tuple:
        return all(is_plain(k) for k in typing.get_args(kind) if k is not ...)
    return _origin(kind) in (int, float, bool, str, Path, typing.Literal)


def shown_type(kind: Any) -> str:
    """Return a type in the words of an error message.

    Args:
        kind: A type as a field declares it.

    Returns:
        Text, for instance "whole number".
    """
    if kind in (None, type(None)):
        return "none"
    if _origin(kind) is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if _origin(kind) is tuple:
        return f"({', '.join('...' if k is ... else shown_type(k) for k in typing.get_args(kind))})"
    plain = {int: "whole number", float: "number", str: "text", bool: "true, false"}
    if _origin(kind) is Callable:
        return "function"
    return plain.get(kind) or f"{getattr(kind, '__name__', kind)} object"


def brief(value: object) -> str:
    """Return the ``repr`` of a user's value, cut where it is long.

    Args:
        value: Any value; its ``repr`` may fail.

    Returns:
        At most 120 characters of the ``repr``, and its length if it was cut.
    """
    try:
        text = repr(value)
    except Exception as error:  # an int of more than 4,300 digits, an object with a broken repr
        return f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _choice(value: object, allowed: tuple[object, ...]) -> object:
    """Return the allowed value that has the same type, too: 1 is not True."""
    same = (a for a in allowed if type(a) is type(value) and a == value)
    return next(same, MISFIT)


def _number(value: object, kind: type, widen: bool) -> object:
    if isinstance(value, np.integer | np.floating):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISFIT
    if isinstance(value, float) and math.isnan(value):
        return MISFIT
    if kind is float:
        return _real(value, widen)
    if isinstance(value, float):  # 1e6 is how people write a million
        if not value.is_integer():
            return MISFIT
        value = int(value)
    return value if abs(value) < _LARGEST else MISFIT


def _real(value: float, widen: bool) -> object:
    try:
        real = float(value)
    except OverflowError:  # a whole number of 400 digits
        return MISFIT
    return real if widen or isinstance(value, float) else value


def _path(value: object) -> object:
    if not isinstance(value, str | Path) or "\0" in str(value):
        return MISFIT
    return value if isinstance(value, Path) else Path(value)


def _sequence(value: object, made: type, kinds: tuple[Any, ...], widen: bool) -> object:
    """Return a tuple or list whose items fit; the same object where no item changes."""
    if not isinstance(value, tuple | list):
        return MISFIT
    if kinds and (made is list or kinds[1:] == (...,)):
        kinds = kinds[:1] * len(value)
    elif kinds and len(kinds) != len(value):
        return MISFIT
    items = list(value)
    if kinds:
        items = [fit(v, k, widen=widen) for v, k in zip(value, kinds, strict=True)]
    if any(item is MISFIT for item in items):
        return MISFIT
    same = type(value) is made and all(a is b for a, b in zip(items, value, strict=True))
    return value if same else made(items)


# -- the types of fields ---------------------------------------------------------------------------


def declared_types(owner: type) -> Mapping[str, Any]:
    """Return the type of each setting (init field) of a dataclass.

    Names that its module imports for type checkers only, under ``if TYPE_CHECKING:``, are imported
    where a field's type needs them. A type that cannot be resolved is ``object``, which accepts any
    value.

    Args:
        owner: A dataclass.

    Returns:
        Field name -> type, read-only.
    """
    return _declared_types(owner)


@functools.lru_cache(maxsize=512)
def _declared_types(owner: type) -> Mapping[str, Any]:
    return types.MappingProxyType(
        {f.name: _declared_type(owner, f.name) for f in dataclasses.fields(owner) if f.init}
    )


def _declared_type(owner: type, name: str) -> Any:
    for kind in owner.__mro__:
        declared = vars(kind).get("__dataclass_fields__", {}).get(name)
        if declared is None or name not in inspect.get_annotations(kind):
            continue
        home = sys.modules.get(kind.__module__)
        known = _Names(vars(home) if home else {}, kind)
        alone = type("_", (), {"__annotations__": {name: declared.type}})
        try:
            return typing.get_type_hints(alone, globalns={}, localns=known)[name]
        except Exception:  # any kind of error: the annotation is a user's text
            return object
    return object


class _Names(dict[str, Any]):
    """The names that an annotation of ``owner`` may use; it imports those for type checkers."""

    def __init__(self, names: Mapping[str, Any], owner: type) -> None:
        super().__init__(names)
        self._owner = owner

    def __missing__(self, name: str) -> Any:
        if hasattr(importlib.import_module("builtins"), name):
            raise KeyError(name)
        found = _checkers_import(self._owner.__module__, name)
        if found is None:
            raise KeyError(name)
        module, attribute = found
        imported = importlib.import_module(module)
        return getattr(imported, attribute) if attribute else imported


def _checkers_import(module: str, name: str) -> tuple[str, str] | None:
    """Return module and attribute that ``name`` is imported from under ``if TYPE_CHECKING:``."""
    home = sys.modules.get(module)
    try:
        tree = ast.parse(inspect.getsource(home)) if home else ast.Module([], [])
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                found = _imported(statement, name, getattr(home, "__package__", "") or "")
                if found is not None:
                    return found
    return None


def _imported(statement: ast.stmt, name: str, package: str) -> tuple[str, str] | None:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if name == (alias.asname or alias.name.partition(".")[0]):
                return alias.name if alias.asname else name, ""
    if isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            if name == (alias.asname or alias.name):
                base = "." * statement.level + (statement.module or "")
                return importlib.util.resolve_name(base, package), alias.name
    return None
