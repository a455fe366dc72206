"""A readable, stable description of the parts of an experiment, and its fingerprint."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def describe(part: Any) -> Any:
    """``part`` as JSON-able data: dataclasses by class name and init fields, arrays by hash.

    A dataclass field with ``metadata={"fingerprint": False}`` is left out: it may change
    without making another experiment (workers, paths).
    """
    if isinstance(part, Enum):
        return part.value
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        shown = {
            f.name: describe(getattr(part, f.name))
            for f in dataclasses.fields(part)
            if f.init and f.metadata.get("fingerprint", True)
        }
        return {"class": type(part).__qualname__, **shown}
    if isinstance(part, Mapping):
        return {str(k): describe(v) for k, v in part.items()}
    if isinstance(part, list | tuple | range):
        return [describe(v) for v in part]
    if isinstance(part, set | frozenset):
        return sorted((describe(v) for v in part), key=json.dumps)
    if isinstance(part, np.ndarray):
        digest = hashlib.blake2b(np.ascontiguousarray(part).tobytes(), digest_size=8)
        return {"array": list(part.shape), "dtype": str(part.dtype), "hash": digest.hexdigest()}
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, Path):
        return str(part)
    if isinstance(part, functools.partial):
        shown = describe([part.func, *part.args])
        return {"partial": shown, "keywords": describe(part.keywords)}
    if isinstance(part, type) or callable(part):
        return getattr(part, "__qualname__", type(part).__qualname__)
    return {"class": type(part).__qualname__}


def fingerprint(description: Any) -> str:
    """Twelve hexadecimal digits of the description."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def fresh(part: T) -> T:
    """A copy of a dataclass with the same settings and none of the state it took on since."""
    return dataclasses.replace(part)  # type: ignore[type-var]
