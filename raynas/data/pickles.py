"""This module reads pickles from the internet without executing them.

Some image sets come as pickles of dicts, lists and numpy arrays, some benchmarks as pickles of
dicts and numbers. A pickle may name any function on the machine and call it. Here only the few
names that such data need are allowed, and even those are replaced by our own classes: numpy's own
unpickling never sees the file.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from raynas.core import UserError
from raynas.core.printable import brief, printable
from raynas.data.pickle_cost import PickleRefused, check_cost

_KINDS = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}
_ORDERS = ("<", ">", "=", "|")


def load_pickle(
    path: Path,
    known: Globals | None = None,
    opened: Callable[[Path], BinaryIO] = lambda path: path.open("rb"),
) -> dict[str, Any]:
    """Read the dict that a pickle holds.

    Args:
        path: The file.
        known: The names that the pickle may use: ``ARRAYS`` (the default), ``RECORDS``, or an empty
            mapping.
        opened: Opens the file, for one that is compressed.

    Returns:
        The dict, with keys as text. Arrays are numpy arrays; strings are bytes or str.

    Raises:
        UserError: The file is damaged, or is not a pickle of a dict with text keys.
        UserError: The pickle names a function that such data do not need. No function was called.
        UserError: Memory is exhausted, or the pickle would take too much.
        UserError: The system refuses to read the file.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "data.pkl")
        ...     _ = path.write_bytes(pickle.dumps({"labels": [3, 1]}))
        ...     load_pickle(path)
        {'labels': [3, 1]}
    """
    known = ARRAYS if known is None else known
    try:
        with opened(path) as file:
            data = file.read()
        most = _MOST_RECORDS if known is RECORDS else _MOST_ARRAYS + 8 * len(data)
        check_cost(data, most)
        content = _Reader(BytesIO(data), path, known, most).load()
    except UserError:
        raise
    except PickleRefused as error:
        raise UserError(
            f"{path} is damaged or not a pickle of data: {error}", hint="download it again"
        ) from None
    except MemoryError:
        raise UserError(
            f"memory is exhausted while {path} is read", hint="free memory, then try again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a damaged pickle may fail anywhere in the machine
        raise UserError(
            f"{path} is damaged or not a pickle ({type(error).__name__}: {_line(error)})",
            hint="download it again",
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}", expected="a dict")
    for key in content:
        if not isinstance(key, bytes | str):
            raise UserError(f"{path} has the key {brief(key)}", expected="texts")
    return {_text(key): _plain(value, path) for key, value in content.items()}


def _line(error: Exception) -> str:
    return printable(str(error))[:200]


_MOST_RECORDS = 200 << 20
_MOST_ARRAYS = 256 << 20
"""The largest estimated memory of a pickle's values in bytes; for arrays, plus 8 x file size."""


class _Reader(pickle.Unpickler):
    """An unpickler that knows only the allowed names.

    ``most`` is the number of bytes that all calls together may receive as arguments, since one
    value may be passed many times.
    """

    def __init__(self, file: BinaryIO, path: Path, known: Globals, most: int) -> None:
        super().__init__(file, encoding="bytes")
        self._path, self._known, self._left = path, known, most

    def spend(self, arguments: tuple[Any, ...]) -> None:
        for one in arguments:
            self._left -= len(one) if isinstance(one, bytes | str) else 64
        if self._left < 0:
            raise PickleRefused("its values take more memory than its size allows")

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 writes the same functions under another module's name
        known = self._known.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            named = printable(f"{module}.{name}")[:200]
            raise UserError(
                f"{self._path} asks for {named}, which its data do not need",
                expected=", ".join(f"{m}.{n}" for m, n in self._known) or "no name at all",
                hint="do not use this file: a pickle can run code; get it from its publisher",
            )
        return _Metered(known, self)


class _Known:
    """A callable that a pickle may name; it can be called, but not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a global cannot be changed")


class _Metered:
    """A known callable that counts the bytes passed to it against one reader's limit."""

    __slots__ = ("_known", "_reader")

    def __init__(self, known: _Known, reader: _Reader) -> None:
        self._known, self._reader = known, reader

    def __call__(self, *arguments: Any) -> Any:
        self._reader.spend(arguments)
        return self._known(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a global cannot be changed")


class _Dtype:
    """A replacement of numpy.dtype: plain numbers only, in either byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "="
        if self.code not in _KINDS:
            raise pickle.UnpicklingError(f"arrays of type {brief(self.code)} are not allowed")

    def __setstate__(self, state: Any) -> None:
        if (order := _text(state[1])) not in _ORDERS:
            raise pickle.UnpicklingError(f"byte order {brief(order)} is not allowed")
        self.order = order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """A replacement of numpy.ndarray that checks the state of a pickled array."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if type(shape) is not tuple or not all(type(size) is int for size in shape):
            raise pickle.UnpicklingError(f"an array of shape {brief(shape)}")
        flat = np.frombuffer(raw, dtype=dtype.numpy())
        if len(flat) != math.prod(shape) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"{len(flat)} numbers for an array of {brief(shape)}")
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: Any) -> bytes:
    """Return the bytes that Python 3 writes into a pickle of protocol 2 as Latin-1 text."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {brief(encoding)} is not allowed")
    return text.encode("latin-1")


def _scalar(dtype: Any, raw: Any) -> int | float | bool:
    """A numpy number, as Python's own."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("a number without a type")
    kind = dtype.numpy()
    if len(raw) != kind.itemsize:
        raise pickle.UnpicklingError(f"{len(raw)} bytes for a number of {kind.itemsize}")
    (number,) = np.frombuffer(raw, dtype=kind).tolist()
    return number  # type: ignore[no-any-return]


def _ordered(*arguments: Any) -> OrderedDict[Any, Any]:
    """Return an empty ordered dict, as Python 3 pickles it; its items follow in the pickle."""
    if arguments and arguments != ((),) and arguments != ([],):
        raise pickle.UnpicklingError("an ordered dict is made of values that were read before")
    return OrderedDict()


Globals = Mapping[tuple[str, str], _Known]
ARRAYS: Globals = {
    ("numpy.core.multiarray", "_reconstruct"): _Known(_Array),
    ("numpy", "ndarray"): _Known(_Array),
    ("numpy", "dtype"): _Known(_Dtype),
    ("_codecs", "encode"): _Known(_encode),
}
"""The names that numpy arrays need, in pickles of Python 2 and 3."""
RECORDS: Globals = {
    ("collections", "OrderedDict"): _Known(_ordered),
    ("numpy.core.multiarray", "scalar"): _Known(_scalar),
    ("numpy", "dtype"): _Known(_Dtype),
}
"""The names that dicts of numpy numbers need."""


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any, path: Path) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Dtype | _Known | _Metered):
        raise UserError(f"{path} holds {type(value).__name__}, not data", hint="download it again")
    return value
