"""This module has readable, stable descriptions of experiments, and their fingerprints."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
import types
import typing
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from raynas.core.code import describe_class, describe_function, digest, full_name, is_users
from raynas.core.renamed import stored_name

T = TypeVar("T")


def describe(part: Any, *, code: bool = True) -> Any:
    """Describe ``part`` as JSON data that is equal only for parts with the same behavior.

    * Dataclasses are described by class name and init fields. A whole number in a field of floats
      becomes the float that ``--set`` makes of it.
    * Arrays and tensors are described by type, shape and a hash of their values.
    * Other objects, such as networks, are described by class and attributes.
    * A user's functions and classes are described by their code (see :mod:`raynas.core.code`),
      others by name.

    A dataclass field with ``metadata={"fingerprint": False}`` is left out: changing it does not
    make another experiment (workers, paths). A field with ``metadata={"fingerprint": "unless
    default"}``, a setting of a later version, is left out while it has its default, so that earlier
    experiments keep their descriptions. A field with ``metadata={"stored as": NAME}`` is
    described by the name that it had before, and so are classes that were renamed.

    Args:
        part: Any value.
        code: True to describe a user's functions and classes by their code; False to use their
            names only, as in the headers of files that are read again after the code was edited.

    Returns:
        Data that ``json`` can write. It is the same in every process, on every machine, and in all
            versions of Python as long as the source of a user's functions can be read. Objects of C
            code are described by their ``repr``, those whose ``repr`` shows an address by name
            only.
    """
    return _Describer(code).of(part)


class _Describer:
    """A description in progress; a repeated object is described once, so that cycles end."""

    def __init__(self, code: bool) -> None:
        self._code = code
        self._seen: dict[
            int, tuple[str, Any]
        ] = {}  # keeps the object alive, so that its id is not reused

    def of(self, part: Any) -> Any:
        if isinstance(part, Enum):
            return part.value
        if part is None or isinstance(part, bool | int | float | str):
            return part
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return self._settings(part)
        if isinstance(part, Mapping):
            return self._mapping(part)
        if isinstance(part, list | tuple | range):
            return [self.of(v) for v in part]
        if isinstance(part, set | frozenset):
            return sorted((self.of(v) for v in part), key=json.dumps)
        if isinstance(part, np.generic):
            return part.item()
        if isinstance(part, np.ndarray):
            return self._array(part)
        if isinstance(part, Path):
            return str(part)
        if isinstance(part, bytes | bytearray):
            return {"bytes": len(part), "hash": _hash(bytes(part))}
        if isinstance(part, functools.partial):
            return {
                "partial": self.of([part.func, *part.args]),
                "keywords": self.of(part.keywords),
            }
        if isinstance(part, types.MethodType):
            return {"method": self._callable(part.__func__), "of": self.of(part.__self__)}
        if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
            return self._callable(part)
        if (tensor := _tensor(part)) is not None:
            return tensor
        return self._object(part)

    def _settings(self, part: Any) -> dict[str, Any]:
        hints = field_hints(type(part))
        shown = {
            _stored_field(f): self.of(as_declared(getattr(part, f.name), hints[f.name]))
            for f in dataclasses.fields(part)
            if _counts(f, part)
        }
        return {**self._kind(type(part)), **shown}

    def _kind(self, kind: type) -> dict[str, Any]:
        """Return the name of a class, and for the user's own classes a hash of the code."""
        found: dict[str, Any] = {"class": stored_name(kind)}
        if self._code and id(kind) not in self._seen:
            self._seen[id(kind)] = kind.__qualname__, kind
            if (written := describe_class(kind, self.of)) is not None:
                found["class code"] = digest(written)
        return found

    def _mapping(self, part: Mapping[Any, Any]) -> Any:
        shown = {str(k): self.of(v) for k, v in part.items()}
        if len(shown) == len(part):
            return shown
        return {"items": [[self.of(k), self.of(v)] for k, v in part.items()]}

    def _array(self, part: np.ndarray[Any, Any]) -> dict[str, Any]:
        shown = {"array": list(part.shape), "dtype": str(part.dtype)}
        if part.dtype.hasobject:  # its bytes are addresses
            return {**shown, "values": self.of(part.tolist())}
        return {**shown, "hash": _hash(np.ascontiguousarray(part).tobytes())}

    def _callable(self, part: Any) -> Any:
        if not self._code:
            return getattr(part, "__qualname__", type(part).__qualname__)
        if not is_users(part):
            return full_name(part)
        if isinstance(part, type):
            return self._kind(part)
        if not isinstance(part, types.FunctionType):
            return full_name(part)
        if id(part) in self._seen:
            return {"function": self._seen[id(part)][0]}
        self._seen[id(part)] = f"{part.__qualname__} again, {len(self._seen)}", part
        return {"function": part.__qualname__, "code": digest(describe_function(part, self.of))}

    def _object(self, part: Any) -> Any:
        """Describe an object that is not a dataclass: a network, an instance of a user's class."""
        kind = self._kind(type(part))
        if not is_users(type(part)):
            kind["class"] = full_name(type(part))
        if id(part) in self._seen:
            return {**kind, "again": self._seen[id(part)][0]}
        self._seen[id(part)] = str(len(self._seen)), part
        state = _state(part)
        if state:
            return {**kind, "state": self.of(state)}
        shown = repr(part)  # a class without its own repr shows an address
        return {**kind, "repr": shown} if shown and " at 0x" not in shown else kind


def _stored_field(setting: dataclasses.Field[Any]) -> str:
    """Return the name by which a field is described: the one that runs were first stored with."""
    return str(setting.metadata.get("stored as", setting.name))


def _counts(setting: dataclasses.Field[Any], part: Any) -> bool:
    """Return True when a field of the dataclass ``part`` belongs to the description."""
    rule = setting.metadata.get("fingerprint", True)
    if setting.init and rule == "unless default":
        return bool(getattr(part, setting.name) != setting.default)
    return setting.init and bool(rule)


def _state(part: Any) -> dict[str, Any]:
    """Return the attributes of an object, without those that every torch module has."""
    state = dict(getattr(part, "__dict__", {}))
    for owner in type(part).__mro__:
        names = owner.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(part, name):
                state[name] = getattr(part, name)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(part, torch.nn.Module):
        usual = vars(torch.nn.Module())
        state = {n: v for n, v in state.items() if n not in usual or v not in (usual[n], {}, [])}
    return {name: state[name] for name in sorted(state)}


def _tensor(part: Any) -> dict[str, Any] | None:
    """Return type, shape and a hash of the values of a torch tensor; None for other values."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(part, torch.Tensor):
        return None
    values = part.detach().resolve_conj().resolve_neg().cpu()
    values = values if values.layout == torch.strided else values.to_dense()
    numbers = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    shown = {"tensor": list(part.shape), "dtype": str(part.dtype).removeprefix("torch.")}
    return {**shown, "hash": _hash(numbers.tobytes())}


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


# -- the declared types of fields -----------------------------------------------------------------


def field_hints(owner: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass.

    Args:
        owner: A dataclass.

    Returns:
        Field name -> type; ``object`` where a name in the annotation is not available at run time,
            such as those imported for type checkers only.
    """
    return dict(_hints(owner))


@functools.lru_cache(maxsize=512)
def _hints(owner: type) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, _hint(owner, f.name)) for f in dataclasses.fields(owner))


def _hint(owner: type, name: str) -> Any:
    for kind in owner.__mro__:
        declared = vars(kind).get("__dataclass_fields__", {}).get(name)
        if declared is not None and name in _annotations(kind):
            alone = type("_", (), {"__module__": kind.__module__})
            alone.__annotations__ = {name: declared.type}
            try:
                return typing.get_type_hints(alone)[name]
            except Exception:  # any kind of error: the annotation is a user's text
                return object
    return object


def _annotations(kind: type) -> Collection[str]:
    import inspect

    return inspect.get_annotations(kind)


def as_declared(value: Any, hint: Any) -> Any:
    """Return ``value`` as a field of type ``hint`` holds it: 1 is 1.0 where a float belongs.

    Values from ``--set`` and from files become the same. Values that fit as they are, and those
    that do not fit at all, stay.

    Args:
        value: The value of the field.
        hint: The type of the field, as :func:`field_hints` returns it.

    Returns:
        The value, converted where the type requires it.

    Example:
        >>> as_declared(1, float), as_declared((1, 2), tuple[float, ...])
        (1.0, [1.0, 2.0])
    """
    options = _options(hint)
    if type(value) is int and float in options and int not in options:
        return float(value)
    if type(value) is float and int in options and float not in options and value.is_integer():
        return int(value)
    for option in options:
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if origin is tuple and isinstance(value, list | tuple):
            kinds = inner[:1] * len(value) if len(inner) == 2 and inner[1] is ... else inner
            if len(kinds) == len(value):
                return [as_declared(v, k) for v, k in zip(value, kinds, strict=True)]
        elif inner and _is_list(origin) and isinstance(value, list | tuple):
            return [as_declared(v, inner[0]) for v in value]
        elif len(inner) == 2 and _is_mapping(origin) and type(value) is dict:
            return {k: as_declared(v, inner[1]) for k, v in value.items()}
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, nested unions included; else the type alone."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return tuple(o for member in typing.get_args(hint) for o in _options(member))
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    return (hint,)


def _is_list(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(list, origin) and origin is not object


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(dict, origin) and origin is not object


# -- fingerprints ----------------------------------------------------------------------------------


def fingerprint(description: Any) -> str:
    """Return a short hash of a description.

    Args:
        description: JSON data, as :func:`describe` returns it.

    Returns:
        Twelve hexadecimal digits.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def fresh(part: T) -> T:
    """Return a copy of a dataclass with the same settings and without any state added since.

    Args:
        part: A dataclass instance.

    Returns:
        A new instance of the same class.
    """
    return dataclasses.replace(part)  # type: ignore[type-var]


def former_description(part: Any) -> Any:
    """Describe ``part`` as raynas 0.1 did, so that runs of that version can be resumed.

    Functions, classes and objects are described by name only there, and a 1 is not the 1.0 of
    ``--set``, so equal descriptions say less than equal ones of :func:`describe`.

    Args:
        part: Any value.

    Returns:
        Data that ``json`` can write.
    """
    if isinstance(part, Enum):
        return part.value
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        shown = {
            _stored_field(f): former_description(getattr(part, f.name))
            for f in dataclasses.fields(part)
            if _counts(f, part)
        }
        return {"class": stored_name(type(part)), **shown}
    if isinstance(part, Mapping):
        return {str(k): former_description(v) for k, v in part.items()}
    if isinstance(part, list | tuple | range):
        return [former_description(v) for v in part]
    if isinstance(part, set | frozenset):
        return sorted((former_description(v) for v in part), key=json.dumps)
    if isinstance(part, np.ndarray):
        content = _hash(np.ascontiguousarray(part).tobytes())
        return {"array": list(part.shape), "dtype": str(part.dtype), "hash": content}
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, Path):
        return str(part)
    if isinstance(part, functools.partial):
        shown = former_description([part.func, *part.args])
        return {"partial": shown, "keywords": former_description(part.keywords)}
    if isinstance(part, type) or callable(part):
        return getattr(part, "__qualname__", type(part).__qualname__)
    return {"class": stored_name(type(part))}
