"""This module asks an object for an optional ability, which a protocol describes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")


def has(owner: object, ability: Callable[..., T]) -> TypeGuard[T]:
    """Return whether an object's class defines the methods of a protocol.

    The answer is remembered for each class, so that it can be asked for in inner loops; an
    ``isinstance`` test takes about thirty times as long.

    Args:
        owner: Any object.
        ability: A protocol of methods that is ``runtime_checkable``.

    Returns:
        True if it has them all.

    Example:
        >>> from collections.abc import Sized
        >>> has([], Sized), has(1, Sized)
        (True, False)
    """
    kind: Any = type(owner)
    return _offers(kind, ability)


@lru_cache(maxsize=4096)
def _offers(kind: Any, ability: Any) -> bool:
    return issubclass(kind, ability)
