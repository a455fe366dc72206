from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raynas.core import UserError
from raynas.data import pickles
from raynas.data.pickles import load_pickle

# {'data': array([[0, 1, 2], [3, 4, 5]], uint8), 'labels': [1, 0]} as Python 2 wrote it
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01bt"
    b"R(K\x01K\x02K\x03\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06" + bytes(range(6)) + b"tb"
    b"U\x06labels](K\x01K\x00eu."
)


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def write(folder: Path, content: bytes) -> Path:
    path = folder / "batch"
    path.write_bytes(content)
    return path


def test_python_2(tmp_path: Path) -> None:
    batch = load_pickle(write(tmp_path, PYTHON_2))
    assert batch["data"].dtype == np.uint8
    assert batch["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch["labels"] == [1, 0]


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_python_3(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    given = {"data": array, "labels": [1, 2], "name": "text"}
    batch = load_pickle(write(tmp_path, pickle.dumps(given, protocol=2)))
    assert np.array_equal(batch["data"], array)
    assert batch["data"].dtype == array.dtype
    assert batch["labels"] == [1, 2]
    assert batch["name"] == "text"


def test_hostile_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    path = write(tmp_path, pickle.dumps({"data": Call(os.system, f"touch {mark}")}, protocol=2))
    with pytest.raises(UserError, match=r"batch asks for \w+\.system") as info:
        load_pickle(path)
    assert not mark.exists()
    assert "\n" not in str(info.value)
    pickle.loads(path.read_bytes())  # the pickle does run where nobody stops it
    assert mark.exists()


@pytest.mark.parametrize(
    "function", [eval, getattr, __import__, np.load, np.frombuffer, pickle.loads, open]
)
def test_nothing_else_is_known(tmp_path: Path, function: Any) -> None:
    content = pickle.dumps({"data": Call(function, b"x")}, protocol=2)
    with pytest.raises(UserError, match="asks for"):
        load_pickle(write(tmp_path, content))


def test_what_is_known_cannot_be_changed(tmp_path: Path) -> None:
    before = dict(pickles.ARRAYS)
    content = b"\x80\x02cnumpy\ndtype\n}U\x05_callNsb."
    with pytest.raises(UserError, match="cannot be changed"):
        load_pickle(write(tmp_path, content))
    assert before == pickles.ARRAYS
    assert load_pickle(write(tmp_path, PYTHON_2))["labels"] == [1, 0]


def test_array_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    content = PYTHON_2.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86")
    with pytest.raises(UserError, match="6 numbers for an array of"):
        load_pickle(write(tmp_path, content))


def test_array_of_objects(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.array([None, "x"], dtype=object)}, protocol=2)
    with pytest.raises(UserError, match="'O8' are not allowed"):
        load_pickle(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PYTHON_2[:60], "damaged or not a pickle"),
        (b"", "damaged or not a pickle"),
        (b"\x1f\x8b not a pickle", "damaged or not a pickle"),
        (b"\x80\x02](K\x01e.", "holds list"),
        (b"\x80\x02}U\x04datacnumpy\nndarray\ns.", "not data"),
        (b"\x80\x02}U\x04datac_codecs\nencode\nX\x01\x00\x00\x00aU\x03rot\x86Rs.", "encoding"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as info:
        load_pickle(write(tmp_path, content))
    assert "\n" not in str(info.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_pickle(tmp_path / "batch")
