"""Pickles that stand for far more work or memory than they have bytes."""

from __future__ import annotations

import bz2
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.benchmarks import nasbench201_authors as authors
from raynas.benchmarks.nasbench201_authors import read_cell
from raynas.core import UserError
from raynas.core.printable import brief
from raynas.data.pickle_cost import _BY_CODE, PickleRefused, check_cost
from raynas.data.pickles import RECORDS, load_pickle


def twice(levels: int, leaf: bytes = b"K\x01") -> bytes:
    """A tuple of the same tuple twice, and so on: a hash of it visits 2**levels values."""
    return leaf + b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(levels))


def bombs() -> dict[str, bytes]:
    key = b"\x80\x02}" + twice(60) + b"K\x01s."
    return {
        "tuple key": key,
        "wide tuple key": b"\x80\x02}" + b"K\x01q\x000(" + b"h\x00" * 60_000 + b"tK\x01s.",
        "tuple in a frozen set": b"\x80\x04(" + twice(60) + b"\x91.",
        "tuple in an ordered dict": b"\x80\x02ccollections\nOrderedDict\n]("
        + twice(60) + b"K\x01\x86e\x85R.",
        "many lists": b"\x80\x02(" + b"]" * 4_000_000 + b"l.",
        "many sets": b"\x80\x04(" + b"\x8f" * 2_000_000 + b"l.",
        "memo": b"\x80\x02}r" + struct.pack("<I", 2**31) + b".",
        "bytes that are not there": b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b".",
        "long number": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + bytes(10**6) + b".",
        "number of many digits": b"\x80\x02I" + b"9" * 4000 + b"\n.",
        "scalars of one long text": b"\x80\x02cnumpy\ndtype\nU\x02b1\x85Rq\x010T"
        + struct.pack("<i", 10**6) + bytes(10**6) + b"q\x020(cnumpy.core.multiarray\nscalar\nq\x030"
        + b"h\x03h\x01h\x02\x86R" * 1000 + b"l.",
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "000000.pickle.pbz2"
    path.write_bytes(bz2.compress(bombs()[name]))
    with pytest.raises(UserError) as told:
        read_cell(path, 0)
    assert str(path) in str(told.value)
    assert len(str(told.value)) < 600
    assert "\n" not in str(told.value)


def test_what_is_packed_is_not_unpacked_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "000000.pickle.pbz2"
    path.write_bytes(bz2.compress(bytes(2 * authors._LARGEST)))
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match="unpacks to more than 32 MiB"):
        read_cell(path, 0)


def test_foreign_values_are_shown_briefly(tmp_path: Path) -> None:
    """A list of the same list twice, and so on, has a repr of 2**60 letters."""
    nested: list[Any] = []
    for _ in range(60):
        nested = [nested, nested]
    path = tmp_path / "000000.pickle.pbz2"
    path.write_bytes(bz2.compress(pickle.dumps({"200": {"arch_str": nested, "arch_index": 0}})))
    with pytest.raises(UserError, match="architecture 0 is") as told:
        read_cell(path, 0)
    assert len(str(told.value)) < 600
    assert len(brief(10**10_000)) < 80
    assert brief("\x1b[2J") == r"'\x1b[2J'"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)  # fmt: skip


@settings(deadline=None)
@given(values, st.integers(0, 5))
def test_data_of_every_protocol_pass(value: Any, protocol: int) -> None:
    check_cost(pickle.dumps({"data": value, "again": value}, protocol=protocol), 1 << 20)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.text(), st.integers(-(2**127), 2**127 - 1)), st.floats(allow_nan=False)
    )
)
def test_records_are_read_as_before(found: dict[Any, float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", None)  # nothing is read from the disk
        import io

        data = pickle.dumps({"200": OrderedDict(found), "x": np.float64(3)})
        read = load_pickle(Path("cell"), RECORDS, lambda _: io.BytesIO(data))
    assert read == {"200": OrderedDict(found), "x": 3.0}


def test_every_instruction_of_data_is_known() -> None:
    """Those of other objects than data, and of buffers beside the file, are refused."""
    known = set(_BY_CODE) | {b"."}
    codes = {op.code.encode("latin-1"): op.name for op in pickletools.opcodes}
    assert known <= codes.keys()
    assert {codes[code] for code in codes.keys() - known} == {
        "BINPERSID", "PERSID", "EXT1", "EXT2", "EXT4", "BYTEARRAY8", "NEXT_BUFFER",
        "READONLY_BUFFER",
    }  # fmt: skip


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_reason(data: bytes) -> None:
    try:
        check_cost(b"\x80\x04" + data, 1 << 20)
    except PickleRefused:
        return
    assert b"." in data
