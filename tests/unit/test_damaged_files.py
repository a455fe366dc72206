"""Readers of files, put to mutated ones: an answer or a UserError of one line, nothing else."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raynas.core import Metric, RaynasError, UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read, trials

sys.path.insert(0, str(Path(__file__).parent / "data"))
import fake_sets as fake

METRICS = (Metric("val_accuracy", "%", "max", "share right"),)
DESCRIPTION = {
    "objectives": [{"class": "Objective", "metric": "val_accuracy", "direction": "max"}],
    "bounds": [{"class": "Bound", "metric": "params", "max": 1e6, "min": -1e300}],
    "budget": {"trials": 4},
    "evaluator": {"class": "Train", "recipe": {"epochs": 2}},
    "space": {"class": "Toy"},
    "name": "fuzz",
}
ROW = {
    "stage": "search", "arm": "random", "trial": 0, "attempt": 0, "arch_id": "a" * 12,
    "arch": "x=1",
    "proposal": "x=1", "seed": 7, "step": 1, "state": "COMPLETE", "seconds": 0.5, "device": "cpu",
    "params": 10, "macs": 20, "val_accuracy": 50.0,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A reader, and files that it can read."""

    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]


# -- what is read ------------------------------------------------------------------------------


@cache
def run_files() -> Mapping[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        info = RunInfo("fuzz-1", "fuzz", "f" * 12, DESCRIPTION, "/x.py", {"a": 1}, METRICS)
        folder = RunFolder.create(Path(name) / "run", info, "")
        provenance = Provenance("abc", {"python": "3"}, "host", "os", 2)
        with Writer(folder, 1, provenance) as writer:
            writer.append([{**ROW, "trial": n} for n in range(3)])
            (fragment,) = folder.results.glob("*.parquet")
            (manifest,) = folder.results.glob("*.json")
            return {
                "run.json": folder.run_file.read_bytes(),
                "fragment": fragment.read_bytes(),
                "manifest": manifest.read_bytes(),
            }


def look(folder: RunFolder) -> None:
    """As status, report and export-study do."""
    from raynas.analysis.descriptions import bounds_of
    from raynas.cli.run_views import show_status
    from raynas.pipeline.printing import data_console

    trials(read(folder))
    if isinstance(folder.info.description, dict):
        bounds_of(folder.info.description)
    show_status(folder, data_console(file=io.StringIO(), width=80))


def read_run(path: Path, *, run: bool) -> None:
    """``path`` is the run.json (``run``) or the fragment of a run."""
    folder = path.parent / "run"
    (folder / "results").mkdir(parents=True, exist_ok=True)
    files = {**run_files(), ("run.json" if run else "fragment"): path.read_bytes()}
    (folder / "run.json").write_bytes(files["run.json"])
    (folder / "results" / "0001-00000001.parquet").write_bytes(files["fragment"])
    look(RunFolder.open(folder))


def read_manifest(path: Path) -> None:
    from raynas.store.manifest import Manifest

    try:
        Manifest.from_json(path.read_bytes())
    except ValueError as error:
        raise UserError(str(error)) from None


def read_space(path: Path) -> None:
    from raynas.spaces.stored import StoredSpace

    try:
        space = StoredSpace.from_json(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise UserError(str(error)) from None
    for text in ("x=1", *space.taken):
        space.graph(space.architecture(text))


def space_file() -> bytes:
    from raynas.spaces import NASBench201

    space = NASBench201()
    texts = [space.sample(np.random.default_rng(seed)).text for seed in range(3)]
    from raynas.spaces.stored import StoredSpace

    return StoredSpace.of(space).holding(space, texts, texts).to_json(quick=True).encode()


def read_idx_pair(path: Path) -> None:
    from raynas.data.idx import read_pair

    labels = path.parent / "labels"
    labels.write_bytes(fake.idx_bytes(np.arange(4)))
    read_pair(path, labels)
    read_pair(labels, path)


def read_pictures(path: Path) -> None:
    from raynas.data.cifar import read_parquet

    read_parquet([path], "label", side=4)


def picture_file(label: Any = None, pictures: Any = None, kind: Any = None) -> bytes:
    given = [fake.png(np.full((4, 4, 3), n, np.uint8)) for n in range(3)]
    column = pictures if pictures is not None else [{"bytes": p, "path": None} for p in given]
    usual = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {"img": pa.array(column, kind or (None if pictures is not None else usual)),
             "label": [0, 1, 2] if label is None else label}  # fmt: skip
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    return file.getvalue()


def read_pickled(path: Path) -> None:
    from raynas.data.cifar import read_batches

    read_batches([path], "labels", side=2)


def pickled(protocol: int) -> bytes:
    import pickle

    rows = np.arange(24, dtype=np.uint8).reshape(2, 12)
    return pickle.dumps({"data": rows, "labels": [0, 1], "more": {"a": (1, 2.0)}}, protocol)


@cache
def supernet() -> Any:
    from tiny_supernet import Tiny

    return Tiny().supernet((1, 4, 4), 3)


def weights_file() -> bytes:
    import tempfile

    from raynas.data.base import Images
    from raynas.supernet.weights import save_weights

    with tempfile.TemporaryDirectory() as name:
        images = Images(np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1), np.array([0, 1]))
        saved = save_weights(Path(name), supernet(), epoch=1, identity={"a": 1}, images=images)
        return saved.path.read_bytes()


def read_weights(path: Path) -> None:
    from raynas.supernet.weights import load_weights, read_arrays, read_trained_on, read_version

    for reader in (read_version, read_trained_on, read_arrays):
        try:
            reader(path)
        except UserError:
            continue
    load_weights(path, supernet())


def network() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def network_file() -> bytes:
    from safetensors.torch import save

    return save(dict(network().state_dict()), {"a": "b"})


def read_network(path: Path) -> None:
    from raynas.training.checkpoint import load_network

    load_network(path, network())


@cache
def case(name: str) -> Case:
    idx = fake.idx_bytes(np.arange(64).reshape(4, 4, 4))
    return {
        "fragment": lambda: Case((run_files()["fragment"],), lambda p: read_run(p, run=False)),
        "run.json": lambda: Case((run_files()["run.json"],), lambda p: read_run(p, run=True)),
        "manifest": lambda: Case((run_files()["manifest"],), read_manifest),
        "space.json": lambda: Case((space_file(),), read_space),
        "idx": lambda: Case((idx, gzip.compress(idx, mtime=0)), read_idx_pair),
        "pictures": lambda: Case((picture_file(),), read_pictures),
        "pickle": lambda: Case((pickled(2), pickled(4)), read_pickled),
        "weights": lambda: Case((weights_file(),), read_weights),
        "network": lambda: Case((network_file(),), read_network),
    }[name]()


CASES = (
    "fragment", "run.json", "manifest", "space.json", "idx", "pictures", "pickle", "weights",
    "network",
)  # fmt: skip


# -- how it is damaged -------------------------------------------------------------------------

_TELLING = (0, 1, 2, 7, 8, 0x40, 0x7F, 0x80, 0xFF)
_ODD = (
    None, True, 0, -1, 2**31, 2**63, 2**80, 1.5, float("nan"), float("inf"), "", "x", "../../x",
    "\x1b[2J", "\ud800", [], [[]], {}, {"x": 1}, [None], "min",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    data = bytearray(draw(st.sampled_from(seeds)))
    if data[:1] == b"{" and draw(st.booleans()):
        return draw(other_json(bytes(data)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        size = draw(st.sampled_from((1, 1, 1, 2, 4, 8, 64)))
        way = draw(st.sampled_from(("set", "set", "flip", "cut", "drop", "insert", "copy")))
        if way == "set":
            data[at : at + 1] = bytes([draw(st.sampled_from(_TELLING) | st.integers(0, 255))])
        elif way == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif way == "cut":
            del data[at:]
        elif way == "drop":
            del data[at : at + size]
        elif way == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif way == "copy":
            data[at:at] = data[max(at - size, 0) : at]
    return bytes(data)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    return [path, *(p for key, one in inner for p in places(one, (*path, key)))]


@st.composite
def other_json(draw: st.DrawFn, data: bytes) -> bytes:
    """With another value somewhere, or without it."""
    content = json.loads(data)
    *above, last = draw(st.sampled_from([p for p in places(content) if p]))
    owner = content
    for key in above:
        owner = owner[key]
    if draw(st.integers(0, 3)):
        owner[last] = draw(st.sampled_from(_ODD))
    else:
        del owner[last]
    return json.dumps(content).encode()


# -- what is expected --------------------------------------------------------------------------


def expect_a_line(found: Case, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        found.read(path)
    except RaynasError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 1500, len(text)


def fuzz(name: str, folder: Path, examples: int) -> None:
    found = case(name)

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(damaged(found.seeds))
    def one(data: bytes) -> None:
        expect_a_line(found, folder / "file", data)

    for seed in found.seeds:
        (folder / "file").write_bytes(seed)
        if name != "space.json":  # its text form is not one that can be told
            found.read(folder / "file") if name != "idx" else None
    one()


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, 40)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_ten_thousand_damaged_files(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, 10_000)


# -- types and shapes that no accident makes ---------------------------------------------------

COLUMNS = {
    "text": ["a", "b", "c"],
    "nulls": [None, None, None],
    "some": [1, None, 2],
    "numbers": [1, 2, 3],
    "fractions": [1.5, 2.5, float("nan")],
    "large": pa.array([2**63, 2**63 + 1, 0], pa.uint64()),
    "negative": [-1, -2, -3],
    "lists": [[1], [2, 3], []],
    "structs": [{"a": 1}, {"a": 2}, {"a": None}],
    "bytes": [b"\xff", b"", b"x"],
    "times": pa.array([0, 1, 2], pa.timestamp("ns")),
    "years": pa.array([-(2**62), 2**62, 0], pa.timestamp("us", tz="UTC")),
    "decimals": pa.array([1, 2, 3], pa.decimal128(30, 2)),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "views": pa.array(["a", "b", "c"], pa.string_view()),
}


@pytest.mark.parametrize("odd", COLUMNS)
@pytest.mark.parametrize(
    "column", ["trial", "state", "stage", "time", "step", "arch", "val_accuracy"]
)
def test_columns_of_other_types(column: str, odd: str, tmp_path: Path) -> None:
    table = pq.read_table(io.BytesIO(run_files()["fragment"]))
    given = COLUMNS[odd]
    array = given if isinstance(given, pa.Array) else pa.array(given)
    table = table.set_column(table.column_names.index(column), column, array)
    file = io.BytesIO()
    pq.write_table(table, file)
    expect_a_line(case("fragment"), tmp_path / "file", file.getvalue())


@pytest.mark.parametrize("odd", COLUMNS)
@pytest.mark.parametrize("column", ["img", "label"])
def test_pictures_and_labels_of_other_types(column: str, odd: str, tmp_path: Path) -> None:
    given = COLUMNS[odd]
    array = given if isinstance(given, pa.Array) else pa.array(given)
    more = {"label": array} if column == "label" else {"pictures": array}
    expect_a_line(case("pictures"), tmp_path / "file", picture_file(**more))


def test_a_picture_of_another_kind_is_not_decoded(tmp_path: Path) -> None:
    """Pillow would start Ghostscript for an EPS file."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    file = tmp_path / "file"
    for kind in ("BMP", "GIF", "TIFF", "EPS"):
        encoded = eps
        if kind != "EPS":
            from PIL import Image

            buffer = io.BytesIO()
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(buffer, kind)
            encoded = buffer.getvalue()
        column = [{"bytes": encoded, "path": None}] * 3
        usual = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        file.write_bytes(picture_file(pictures=column, kind=usual))
        with pytest.raises(UserError, match=r"row 0 cannot be decoded.*expected: PNG and JPEG"):
            read_pictures(file)


def test_a_jpeg_is_read(tmp_path: Path) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(buffer, "JPEG")
    column = [{"bytes": buffer.getvalue(), "path": None}] * 3
    usual = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    (tmp_path / "file").write_bytes(picture_file(pictures=column, kind=usual))
    from raynas.data.cifar import read_parquet

    assert abs(int(read_parquet([tmp_path / "file"], "label", 4).pixels.mean()) - 90) < 3


def test_an_idx_file_of_a_thousand_million_zeros_is_not_unpacked(tmp_path: Path) -> None:
    from raynas.data.idx import read_idx

    file = tmp_path / "file"
    head = bytes([0, 0, 8, 1]) + struct.pack(">I", 10)
    file.write_bytes(gzip.compress(head + bytes(50_000_000), mtime=0))
    with pytest.raises(UserError, match="holds 11 bytes of data, its header says 10"):
        read_idx(file)
    file.write_bytes(bytes([0, 0, 8, 200]) + struct.pack(">200I", *[1] * 200) + b"x")
    with pytest.raises(UserError, match="has 200 dimensions; expected: 1 to 8"):
        read_idx(file)


# -- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [pa.ArrowMemoryError("malloc of size 64 failed"), MemoryError()])
def test_memory_that_is_exhausted_is_no_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.store import fragments

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(fragments.pq, "ParquetFile", Full)
    (tmp_path / "file").write_bytes(run_files()["fragment"])
    with pytest.raises(UserError, match="memory is exhausted while fragment") as told:
        read_run(tmp_path / "file", run=False)
    assert "torn" not in str(told.value)
    assert "move it away" not in str(told.value)
    assert "leave the fragment where it is" in str(told.value)


def test_memory_that_is_exhausted_in_joining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.store import fragments

    def full(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(fragments.pa, "concat_tables", full)
    (tmp_path / "file").write_bytes(run_files()["fragment"])
    with pytest.raises(UserError, match="memory is exhausted while 1 fragments are read"):
        read_run(tmp_path / "file", run=False)
