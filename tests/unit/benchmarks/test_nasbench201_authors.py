"""The authors' files become our table; damaged, hostile and foreign ones become errors."""

from __future__ import annotations

import bz2
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import done, raynas
from nb201_cells import cell, folder_of, pack, value

from raynas.benchmarks import nasbench201_authors as authors
from raynas.benchmarks.nasbench201_authors import convert, read_cell
from raynas.core import UserError
from raynas.spaces import NASBench201

COUNT = 6


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A whole archive of a benchmark of six cells."""
    folder = folder_of(tmp_path / "tss", COUNT)
    monkeypatch.setattr(authors, "CELLS", COUNT)
    archs = [NASBench201().from_index(i).text for i in range(COUNT)]
    pack(folder / "meta.pickle.pbz2", {"meta_archs": archs, "total_archs": COUNT})
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_table_holds_what_the_files_do(few: Path, tmp_path: Path, jobs: int) -> None:
    seen: list[tuple[int, int]] = []
    missing = convert(
        few, tmp_path / "t.parquet", jobs=jobs, progress=lambda *done: seen.append(done)
    )
    assert seen == [(i + 1, COUNT) for i in range(COUNT)]
    table = pq.read_table(tmp_path / "t.parquet")
    rows = table.to_pylist()
    assert [row["arch"] for row in rows] == [NASBench201().from_index(i).text for i in range(COUNT)]
    row = rows[3]
    ends = [value("cifar10-valid", 200, seed, 3, 199, "x-valid") for seed in (777, 888)]
    assert row["cifar10_valid_seeds"] == pytest.approx(ends)
    assert row["cifar10_valid"] == pytest.approx(sum(ends) / 2)
    assert row["cifar10_valid_nseeds"] == 2
    assert row["cifar10_test"] == pytest.approx(
        value("cifar10", 200, 777, 3, 199, "ori-test") + 0.25
    )
    assert row["imagenet16_test_12ep"] == pytest.approx(
        value("ImageNet16-120", 12, 777, 3, 11, "x-test") + 0.25
    )
    assert len(row["cifar10_valid_curve"]) == 200
    assert row["cifar10_valid_curve"][-1] == pytest.approx(row["cifar10_valid"])
    assert row["cifar100_valid_curve"] is None  # recorded at the end only
    assert len(row["cifar100_valid_12ep_curve"]) == 12
    assert row["cifar100_train_time_200ep_s"] == 400.0
    assert row["cifar10_latency_s"] == pytest.approx(0.02)
    assert rows[2]["cifar10_latency_s"] is None
    assert row["op_0_1"] == NASBench201().from_index(3)["op_0_1"]
    assert missing["cifar10_latency_s"] == COUNT / 2
    assert missing["cifar100_valid_curve"] == COUNT
    assert "cifar10_valid" not in missing


def test_missing_seeds_are_missing(tmp_path: Path) -> None:
    content = cell(5, seeds=(999,))
    del content["200"]["all_results"]["cifar100", 999]
    row = read_cell(pack(tmp_path / "000005.pickle.pbz2", content), 5)
    assert row["cifar100_valid"] is None
    assert row["cifar100_valid_nseeds"] == 0
    assert row["cifar100_train_time_200ep_s"] is None
    assert row["cifar10_valid_nseeds"] == 1
    assert row["cifar100_valid_12ep"] is not None


class Call:
    def __reduce__(self) -> Any:
        return os.system, ("touch was-run",)


def test_a_hostile_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = cell(0)
    content["200"]["all_results"]["cifar10", 777]["seed"] = Call()
    with pytest.raises(UserError, match=r"000000.*asks for \w+\.system.*OrderedDict"):
        read_cell(pack(tmp_path / "000000.pickle.pbz2", content), 0)
    assert not Path("was-run").exists()


def test_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "000000.pickle.pbz2", cell(0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"000000.* cut off"):
        read_cell(path, 0)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="not a bz2 file"):
        read_cell(path, 0)
    path.write_bytes(bz2.compress(pickle.dumps(cell(0))[:-30]))
    with pytest.raises(UserError, match=r"damaged or not a pickle"):
        read_cell(path, 0)
    path.write_bytes(bz2.compress(pickle.dumps([1, 2])))
    with pytest.raises(UserError, match=r"holds list.*expected: a dict"):
        read_cell(path, 0)
    monkeypatch.setattr(authors, "_LARGEST", 1000)
    path.write_bytes(whole)
    with pytest.raises(UserError, match="unpacks to more than"):
        read_cell(path, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (float("nan"), "finite"),
        ("93", "numbers"),
        (True, "numbers"),
        (130.0, "0..100"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, bad: object, message: str) -> None:
    content = cell(0)
    results = content["200"]["all_results"]["cifar10-valid", 777]["eval_acc1es"]
    results["x-valid@199"] = bad
    with pytest.raises(UserError, match=rf"000000.*{message}"):
        read_cell(pack(tmp_path / "000000.pickle.pbz2", content), 0)


def test_files_of_another_space(few: Path, tmp_path: Path) -> None:
    to = tmp_path / "t.parquet"
    pack(few / "000002.pickle.pbz2", cell(4))
    with pytest.raises(UserError, match=r"000002.*not a file of NAS-Bench-201: architecture 4 is"):
        convert(few, to)
    pack(few / "meta.pickle.pbz2", {"meta_archs": ["64:64:64:64:64"] * COUNT})
    with pytest.raises(UserError, match=r"architecture 0 is '64:64:64:64:64'.*topology"):
        convert(few, to)
    pack(few / "meta.pickle.pbz2", {"meta_archs": ["x"]})
    with pytest.raises(UserError, match="names 1 architectures"):
        convert(few, to)
    assert not to.exists()


def test_an_incomplete_folder(few: Path, tmp_path: Path) -> None:
    (few / "000003.pickle.pbz2").unlink()
    (few / "000005.pickle.pbz2").unlink()
    with pytest.raises(UserError, match=r"lacks 2 of 7 files, as 000003"):
        convert(few, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="no folder"):
        convert(tmp_path / "none", tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"expected: a \.parquet file"):
        convert(few, tmp_path / "t.csv")


def test_the_command_says_what_is_missing_and_how_far_it_is(few: Path, tmp_path: Path) -> None:
    out = done("bench", "convert", few, tmp_path / "own" / "nb201.parquet")
    assert "reading cells: 6 of 6" in out
    assert "cifar100_valid_curve is missing for 6 cells" in out
    assert (tmp_path / "own" / "nb201.parquet").is_file()
    (few / "000001.pickle.pbz2").write_bytes(b"not this")
    called = raynas("bench", "convert", few, tmp_path / "nb201.parquet")
    assert called.code == 2
    assert called.err.startswith("error: ")
    assert called.err.count("\n") == 1
    assert "000001.pickle.pbz2 is damaged" in called.err
    assert not (tmp_path / "nb201.parquet").exists()
