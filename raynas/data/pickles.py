"""Pickles from the internet, read without running them.

Some image sets come as pickles of dicts, lists and numpy arrays, some benchmarks as pickles of
dicts and numbers. A pickle may name any function of the machine and call it. Here only the few
names that such data need are known, and even those lead to stand-ins of our own: numpy's own
unpickling never sees the file.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from raynas.core import UserError

_KINDS = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}


def load_pickle(
    path: Path,
    known: Globals | None = None,
    opened: Callable[[Path], BinaryIO] = lambda path: path.open("rb"),
) -> dict[str, Any]:
    """The dict that ``path`` holds: text keys; arrays as numpy arrays, strings as bytes or str.

    ``known``: what the pickle may name, ``ARRAYS`` (the default), ``RECORDS`` or nothing.
    ``opened``: opens a file that is compressed.
    Raises: UserError naming the file when it is damaged, or names a function that such data do
    not need; nothing of it has been called then.
    """
    try:
        with opened(path) as file:
            content = _Reader(file, path, ARRAYS if known is None else known).load()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a damaged pickle may fail anywhere in the machine
        raise UserError(
            f"{path} is damaged or no pickle ({type(error).__name__}: {error})",
            cure="download it again",
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}", allowed="a dict")
    return {_text(key): _plain(value, path) for key, value in content.items()}


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path, known: Globals) -> None:
        super().__init__(file, encoding="bytes")
        self._path, self._known = path, known

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 writes the same functions under another module's name
        known = self._known.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise UserError(
                f"{self._path} asks for {module}.{name}, which its data do not need",
                allowed=", ".join(f"{m}.{n}" for m, n in self._known) or "no name at all",
                cure="do not use this file: a pickle can run code; get it from its publisher",
            )
        return known


class _Known:
    """A callable that a pickle may name; it can be called, and nothing be written to it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a global cannot be changed")


class _Dtype:
    """Stands for numpy.dtype: plain numbers only, in either byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "="
        if self.code not in _KINDS:
            raise pickle.UnpicklingError(f"arrays of type {self.code!r} are not allowed")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Stands for numpy.ndarray: takes the state of a pickled array and checks it."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        flat = np.frombuffer(raw, dtype=dtype.numpy())
        if len(flat) != math.prod(shape) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"{len(flat)} numbers for an array of {shape}")
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: Any) -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2: as text of 256 letters."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin-1")


def _scalar(dtype: Any, raw: Any) -> int | float | bool:
    """A numpy number, as Python's own."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("a number without a type")
    (number,) = np.frombuffer(raw, dtype=dtype.numpy()).tolist()
    return number  # type: ignore[no-any-return]


Globals = Mapping[tuple[str, str], _Known]
ARRAYS: Globals = {
    ("numpy.core.multiarray", "_reconstruct"): _Known(_Array),
    ("numpy", "ndarray"): _Known(_Array),
    ("numpy", "dtype"): _Known(_Dtype),
    ("_codecs", "encode"): _Known(_encode),
}
"""What numpy arrays need, in pickles of Python 2 and 3."""
RECORDS: Globals = {
    ("collections", "OrderedDict"): _Known(OrderedDict),
    ("numpy.core.multiarray", "scalar"): _Known(_scalar),
    ("numpy", "dtype"): _Known(_Dtype),
}
"""What dicts of numpy numbers need."""


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any, path: Path) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Dtype | _Known):
        raise UserError(f"{path} holds {type(value).__name__}, not data", cure="download it again")
    return value
