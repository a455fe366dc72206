"""This module keeps names of raynas 0.1 working for one release, with a warning.

Experiment files of raynas 0.1, those kept in the folders of runs among them, use these names. The
old names of settings and classes end with the next release. :data:`STORED_AS` stays as long as runs
of raynas 0.1 are to be resumed, since their fingerprints hold these names.
"""

from __future__ import annotations

import functools
import importlib
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

STORED_AS = {
    "ArchitectureGraph": "Graph",
    "ConvSpec": "Conv",
    "DataView": "View",
    "DatasetDownload": "Download",
    "DatasetSource": "Source",
    "DeclaredImages": "Declaration",
    "ElasticPart": "Part",
    "ElasticSize": "Size",
    "FileLayout": "Layout",
    "PublishedFile": "File",
    "RankingCheck": "Truth",
    "ResNetBlock": "Block",
    "ResidualLink": "Link",
    "ResidualSum": "Sum",
    "ZenBlock": "Block",
}
"""Class of raynas -> the name by which descriptions of experiments have it."""


def stored_name(part: Any) -> str:
    """Return the name by which a class or function is described and stored.

    Args:
        part: A class or a function.

    Returns:
        The first name of a renamed class of raynas; any other part's qualified name, which is empty
        for an object without one.

    Example:
        >>> from raynas.experiment import RankingCheck
        >>> stored_name(RankingCheck)
        'Truth'
    """
    name = str(getattr(part, "__qualname__", None) or "")
    module = str(getattr(part, "__module__", None) or "")
    return STORED_AS.get(name, name) if module.partition(".")[0] == "raynas" else name


def warn_renamed(old: str, new: str, *, depth: int = 3) -> None:
    """Warn that a name is old.

    Args:
        old: The name that was used.
        new: The name to use.
        depth: The number of calls between the warning and the user's line, this one included.
    """
    warnings.warn(
        f"{old} is now {new}; the old name ends with the next release",
        FutureWarning,
        stacklevel=depth,
    )


def renamed_settings(**names: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator of a dataclass that accepts old names of its fields.

    The constructor, ``dataclasses.replace`` and attributes take both names.

    Args:
        names: Old name -> name of the field.

    Returns:
        The decorator; it changes the class and returns it.
    """

    def decorate(kind: type[T]) -> type[T]:
        made: Callable[..., None] = kind.__init__
        inherited: Callable[[Any, str], Any] | None = getattr(kind, "__getattr__", None)
        title = kind.__name__

        @functools.wraps(made)
        def __init__(self: Any, *args: Any, **settings: Any) -> None:
            for old in [name for name in settings if name in names]:
                warn_renamed(f"{title}({old}=...)", f"{title}({names[old]}=...)")
                settings[names[old]] = settings.pop(old)
            made(self, *args, **settings)

        def __getattr__(self: Any, name: str) -> Any:
            if name in names:
                warn_renamed(f"{title}.{name}", f"{title}.{names[name]}")
                return getattr(self, names[name])
            if inherited is not None:
                return inherited(self, name)
            raise AttributeError(f"{title!r} object has no attribute {name!r}")

        kind.__init__ = __init__  # type: ignore[method-assign]
        kind.__getattr__ = __getattr__  # type: ignore[attr-defined]
        kind.__renamed__ = names  # type: ignore[attr-defined]
        return kind

    return decorate


def current_setting(owner: type, name: str) -> str:
    """Return the name of a field for a name that a user wrote.

    Args:
        owner: A dataclass.
        name: The old or the new name of a field, or any other name.

    Returns:
        The new name for an old one, with a warning; any other name as it is.
    """
    names: dict[str, str] = getattr(owner, "__renamed__", {})
    if name not in names:
        return name
    warn_renamed(f"setting {name!r}", repr(names[name]), depth=2)
    return names[name]


def adopt_old_members(kind: type, names: Mapping[str, str]) -> None:
    """Give a subclass the new names of members that it defines by their old names, with a warning.

    Call it in ``__init_subclass__`` of the base class.

    Args:
        kind: The subclass.
        names: Old name -> new name of a method, a class attribute or a field.
    """
    for old, new in names.items():
        if old not in kind.__dict__ or new in kind.__dict__:
            continue
        warn_renamed(f"{kind.__name__}.{old}", f"{kind.__name__}.{new}", depth=5)
        member = kind.__dict__[old]
        annotation = str(getattr(kind, "__annotations__", {}).get(old, "ClassVar"))
        constant = "ClassVar" in annotation or callable(member) or isinstance(member, property)
        setattr(kind, new, member if constant else property(operator.attrgetter(old)))


def old_member(owner: object, name: str, names: Mapping[str, str]) -> Any:
    """Return a member of an object by its old name, with a warning; for ``__getattr__``.

    Args:
        owner: The object.
        name: The name that was used.
        names: Old name -> new name.

    Returns:
        The member.

    Raises:
        AttributeError: ``name`` is not an old name.
    """
    title = type(owner).__name__
    if name not in names:
        raise AttributeError(f"{title!r} object has no attribute {name!r}")
    warn_renamed(f"{title}.{name}", f"{title}.{names[name]}", depth=4)
    return getattr(owner, names[name])


def renamed_names(module: str, **names: str) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module whose classes have new names.

    Args:
        module: The module's ``__name__``.
        names: Old name -> new name in the same module.

    Returns:
        The function, to be kept as ``__getattr__`` of the module.

    Example:
        >>> __getattr__ = renamed_names("raynas.experiment", Truth="RankingCheck")
    """

    def __getattr__(name: str) -> Any:
        if name in names:
            warn_renamed(f"{module}.{name}", f"{module}.{names[name]}")
            return getattr(importlib.import_module(module), names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__
