"""This module has hashable keys that distinguish values that ``==`` treats as equal.

Examples are 1, 1.0 and True, 0.0 and -0.0, and equal objects of which some settings are not
compared.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

#: a function that returns the key of a value; ``None`` leaves the value to :func:`exact_key`
Special = Callable[[Any], Hashable | None]

_PLAIN = (bool, int, str, bytes, complex, type(None), type(Ellipsis), type(NotImplemented))
#: identified by identity: these objects do not change
_BY_IDENTITY = (
    type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, np.dtype, np.ufunc,
)  # fmt: skip
_BASES = (
    object, *_PLAIN, float, list, tuple, range, slice, set, frozenset, dict, OrderedDict,
    types.MappingProxyType,
)  # fmt: skip
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by a C extension


class NoExactKeyError(TypeError):
    """An error that is raised for a value whose content is not visible from Python."""


def exact_key(value: object, special: Special = lambda _: None) -> Hashable:
    """Return a key that is equal only for values of one type and content, nested values included.

    Classes, functions and modules are identified by their identity, so a key is valid within one
    process. Keys may differ for values that are alike (the order of a dict counts), never the other
    way.

    Args:
        value: Plain values, containers, arrays, and objects whose state is in their attributes.
        special: A function that is asked first about every nested value; its answer is that value's
            key, None leaves the value to this function.

    Returns:
        A hashable key. It keeps no reference to arrays, only to classes and functions.

    Raises:
        NoExactKeyError: A value has state that is hidden in C code, or contains itself.
    """
    return _Keys(special).of(value)


class _Keys:
    def __init__(self, special: Special) -> None:
        self._special = special
        self._open: set[int] = set()

    def of(self, value: Any) -> Hashable:
        answer = self._special(value)
        if answer is not None:
            return answer
        kind = type(value)
        if kind in _PLAIN:
            return kind, value
        if kind is float:
            return float, value.hex()
        if isinstance(value, (*_BY_IDENTITY, enum.Enum)):
            return "identity", kind, _Same(value)
        if kind is np.ndarray or isinstance(value, np.generic):
            return kind, _of_array(np.asarray(value))
        if id(value) in self._open:
            raise NoExactKeyError(f"a {kind.__qualname__} that contains itself")
        self._open.add(id(value))
        try:
            return kind, self._content(value), self._attributes(value)
        finally:
            self._open.remove(id(value))

    def _content(self, value: Any) -> Hashable:
        """Return the key of a container's or callable's content besides its attributes."""
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if type(value) is functools.partial:
            return self.of(value.func), self.of(value.args), self.of(value.keywords)
        base = _c_base(type(value))
        if base in (dict, OrderedDict, types.MappingProxyType):
            return tuple((self.of(k), self.of(v)) for k, v in value.items())
        if base in (list, tuple):
            return tuple(map(self.of, value))
        if base in (set, frozenset):
            return frozenset(map(self.of, value))
        if base in (range, slice):
            return tuple(self.of(part) for part in (value.start, value.stop, value.step))
        shown: Any = base.__repr__  # not the subclass's, which may differ
        return shown(value) if base in _PLAIN or base is float else None

    def _attributes(self, value: Any) -> Hashable:
        """Return the keys of the attributes in ``__dict__`` and slots."""
        if isinstance(
            value, types.MethodType | PurePath
        ):  # a path caches parts of itself in its attributes
            return str(value) if isinstance(value, PurePath) else None
        found = dict(getattr(value, "__dict__", {}))
        for name in _slots(type(value)):
            if hasattr(value, name):
                found[name] = getattr(value, name)
        return tuple((name, self.of(found[name])) for name in sorted(found))


class _Same:
    """A key that is equal only to a key of the same object, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)


def _of_array(array: np.ndarray[Any, Any]) -> Hashable:
    if array.dtype.hasobject:
        raise NoExactKeyError("an array of Python objects")
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
    return array.dtype.str, repr(array.dtype), array.shape, array.strides, digest


def _slots(kind: type) -> list[str]:
    """Return the names of all ``__slots__`` as attributes are called."""
    found = []
    for owner in kind.__mro__:
        names = owner.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{owner.__name__.lstrip('_')}{name}" if private else name)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _c_base(kind: type) -> type:
    """Return the C class that ``kind`` is derived from, when its content can be read.

    Raises:
        NoExactKeyError: The content of the C class is unknown, or a class adds state that is not an
            attribute.
    """
    base = next(owner for owner in kind.__mro__ if not owner.__flags__ & _HEAP_TYPE)
    room = base.__basicsize__ + 8 * (len(_slots(kind)) + 2)  # 2: __dict__ and __weakref__
    if base not in _BASES or kind.__basicsize__ > room:
        raise NoExactKeyError(f"the contents of a {kind.__qualname__} cannot be read")
    return base


def remember(maxsize: int) -> Callable[[Callable[[T], R]], Callable[[T], R]]:
    """Return a decorator that caches a function of one argument by its :func:`exact_key`.

    ``functools.lru_cache`` treats arguments that are equal as the same one, such as a space with an
    option 1 and one with an option 1.0. Arguments without a key are not cached.

    Args:
        maxsize: The number of results to keep; the least recently used is dropped first.

    Returns:
        A decorator.

    Example:
        >>> @remember(maxsize=2)
        ... def name_of(value):
        ...     return type(value).__name__
        >>> name_of(1), name_of(1.0)
        ('int', 'float')
    """

    def wrap(function: Callable[[T], R]) -> Callable[[T], R]:
        known: OrderedDict[Hashable, R] = OrderedDict()

        @functools.wraps(function)
        def remembered(value: T) -> R:
            try:
                key = exact_key(value)
            except NoExactKeyError:
                return function(value)
            if key not in known:
                known[key] = function(value)
            known.move_to_end(key)
            while len(known) > maxsize:
                known.popitem(last=False)
            return known[key]

        return remembered

    return wrap
