"""Queries of the table: accuracies, seconds, what is missing; and tables that are none."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
from nb201_cells import columns, texts, write
from toys import ToySpace

from raynas.benchmarks import NASBench201Table
from raynas.benchmarks import nasbench201_file as file
from raynas.core import UserError
from raynas.spaces import NASBench201, NASBench201Cells

SPACE = NASBench201()
FIFTH = SPACE.architecture(texts()[5])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("table") / "nb201.parquet", columns())


def opened(path: Path, **settings: Any) -> NASBench201Table:
    table = NASBench201Table(path, **settings)
    table.setup(SPACE)
    return table


def test_the_end_of_a_training_and_its_seconds(path: Path) -> None:
    table = opened(path)
    assert table.steps("cifar100") == (200,)
    found = table.query(FIFTH, "cifar100", 200, seed=3)
    assert found.values == pytest.approx({"val_accuracy": 20.005, "test_accuracy": 30.005})
    assert found.seconds == pytest.approx(205 * 4 / 3)  # with validation
    assert opened(path, validation=0).query(FIFTH, "cifar10", 200, 0).seconds == pytest.approx(205)
    assert found == table.query(FIFTH, "cifar100", 200, seed=4)


def test_a_short_training_before_the_long_one(path: Path) -> None:
    table = opened(path, epochs=(12, 200), validation=0)
    assert table.steps("cifar10") == (12, 200)
    short, long = (table.query(FIFTH, "cifar10", step, 0) for step in (12, 200))
    assert short.values == pytest.approx({"val_accuracy": 10.005})  # the test waits for the end
    assert short.seconds == pytest.approx(205 * 12 / 200)
    assert long.values["val_accuracy"] == pytest.approx(20.005)
    assert long.seconds == pytest.approx(205)  # from scratch
    short = opened(path, epochs=(12,)).query(FIFTH, "cifar10", 12, 0)
    assert short.values == pytest.approx({"val_accuracy": 10.005, "test_accuracy": 15.005})


def test_an_interpolated_curve_passes_through_both_ends(path: Path) -> None:
    table = opened(path, curves="interpolated", validation=0)
    assert table.steps("cifar10") == tuple(range(1, 201))
    found = [table.query(FIFTH, "cifar10", step, 0) for step in range(1, 201)]
    curve = [m.values["val_accuracy"] for m in found]
    assert curve[11] == pytest.approx(10.005)
    assert curve[-1] == pytest.approx(20.005)
    assert all(a < b for a, b in itertools.pairwise(curve))
    assert sum(m.seconds for m in found) == pytest.approx(205.0)


def test_recorded_curves(tmp_path: Path) -> None:
    found = columns()
    curve = [float(e) / 10 for e in range(1, 201)]
    found["cifar10_valid_curve"] = [curve, None, *[curve] * 15_623]
    found["cifar10_valid_12ep_curve"] = [curve[:12]] * 15_625
    path = write(tmp_path / "t.parquet", found)
    table = opened(path, curves="recorded", validation=0)
    assert table.steps("cifar10") == tuple(range(1, 201))
    assert table.steps("cifar100") == (200,)
    assert table.query(FIFTH, "cifar10", 7, 0).values == {"val_accuracy": 0.7}
    assert table.query(FIFTH, "cifar10", 7, 0).seconds == pytest.approx(205 / 200)
    without = table.query(SPACE.architecture(texts()[1]), "cifar10", 7, 0)
    assert without.values == {}
    assert without.note == "cifar10 at epoch 7 is missing in the table"
    both = opened(path, curves="recorded", epochs=(12, 200), validation=0)
    assert both.steps("cifar10") == tuple(range(1, 201))
    seconds = [both.query(FIFTH, "cifar10", step, 0).seconds for step in (12, 13, 14)]
    assert seconds == pytest.approx([205 / 200, 13 * 205 / 200, 205 / 200])


def test_recorded_seeds_and_assumed_noise(tmp_path: Path, path: Path) -> None:
    found = columns()
    found["cifar10_valid_seeds"] = [[1.0, 2.0, 3.0]] * 15_625
    table = opened(write(tmp_path / "t.parquet", found), seeds="recorded")
    values = [table.query(FIFTH, "cifar10", 200, seed).values for seed in range(6)]
    assert [v["val_accuracy"] for v in values] == [1.0, 2.0, 3.0] * 2
    noisy = opened(path, assumed_noise=0.5)
    values = [noisy.query(FIFTH, "cifar10", 200, seed).values for seed in range(200)]
    mean = sum(v["val_accuracy"] for v in values) / 200
    assert mean == pytest.approx(20.005, abs=0.15)
    assert len({v["val_accuracy"] for v in values}) == 200
    assert {v["test_accuracy"] for v in values} == {30.005}


def test_seeds_that_nobody_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_package", lambda: None)
    table = opened(path, seeds="recorded")
    with pytest.raises(UserError, match=r"no values per seed .*seeds=\"mean\""):
        table.query(FIFTH, "imagenet16", 200, 0)


def test_costs_and_missing_ones(path: Path) -> None:
    table = opened(path)
    even = SPACE.architecture(texts()[4])
    assert table.cost(even, "cifar10", "edgetpu_latency_ms") == pytest.approx(1.004)
    assert table.cost(FIFTH, "cifar10", "edgetpu_latency_ms") is None
    assert table.cost(FIFTH, "cifar10", "fpga_energy_mj") is None  # the file has no such column
    with pytest.raises(UserError, match=r"'edgetpu_latency_ms'\?"):
        table.cost(FIFTH, "cifar10", "edgetpu_latency")


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no table .*absent\.parquet"):
        opened(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not this")
    with pytest.raises(UserError, match="not a Parquet file"):
        opened(tmp_path / "text.parquet")
    whole = columns()
    lacking = {name: values for name, values in whole.items() if name != "cifar100_valid"}
    with pytest.raises(UserError, match="lacks cifar100_valid"):
        opened(write(tmp_path / "a.parquet", lacking))
    with pytest.raises(UserError, match=r"15624 rows of 15624 of 15625 cells"):
        opened(write(tmp_path / "b.parquet", columns(15_624)))
    whole["arch"] = [*whole["arch"][:-1], "64:64:64"]
    with pytest.raises(
        UserError, match=r"of 15624 of 15625 cells, and '64:64:64', which is not a cell"
    ):
        opened(write(tmp_path / "c.parquet", whole))


def test_what_the_table_lacks_is_said_before_the_search(tmp_path: Path) -> None:
    found = {name: values for name, values in columns().items() if "12ep" not in name}
    path = write(tmp_path / "t.parquet", found)
    with pytest.raises(UserError, match=r"no valid accuracy of cifar10 after 12 epochs; .*convert"):
        opened(path, epochs=(12,)).steps("cifar10")
    with pytest.raises(UserError, match=r"after 12 epochs"):
        opened(path, curves="interpolated").steps("cifar10")
    found["cifar10_train_time_200ep_s"] = [None, *found["cifar10_train_time_200ep_s"][1:]]
    table = opened(write(tmp_path / "u.parquet", found))
    with pytest.raises(UserError, match="no training time on cifar10"):
        table.query(SPACE.architecture(texts()[0]), "cifar10", 200, 0)


def test_the_table_of_another_space(path: Path) -> None:
    table = NASBench201Table(path)
    with pytest.raises(UserError, match=r"does not fit space 'toy'.*NASBench201\(\)"):
        table.setup(ToySpace())
    table.setup(NASBench201Cells())
    with pytest.raises(UserError, match="has no cell"):
        table.query(ToySpace().architecture("x=1,y=1,op=a"), "cifar10", 200, 0)
    with pytest.raises(UserError, match=r"'cifar10'\?"):
        table.steps("cifar1")
    with pytest.raises(UserError, match=r"epoch 201 .*1\.\.200"):
        table.query(FIFTH, "cifar10", 201, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": (50,)},
        {"epochs": (200, 12)},
        {"curves": "all"},
        {"curves": "interpolated", "epochs": (12, 200)},
        {"seeds": "some"},
        {"validation": -1.0},
        {"assumed_noise": float("nan")},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        NASBench201Table(**wrong)


def test_where_the_table_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_package", lambda: None)
    monkeypatch.setenv("RAYNAS_DATA", str(path.parent))
    assert NASBench201Table().query(FIFTH, "cifar10", 200, 0).values["val_accuracy"] == 20.005
    monkeypatch.setenv("RAYNAS_DATA", str(path.parent / "none"))
    with pytest.raises(UserError, match=r"RAYNAS_DATA.*raynas\[bench\]"):
        NASBench201Table().setup(SPACE)


def test_the_table_is_named_with_what_it_lacks(path: Path, tmp_path: Path) -> None:
    assert NASBench201Table(path).remarks() == (f"table of NAS-Bench-201: {path}",)
    found = columns()
    bare = {n: v for n, v in found.items() if n.endswith(("arch", "_valid", "200ep_s"))}
    table = NASBench201Table(write(tmp_path / "bare.parquet", bare))
    (line,) = table.remarks()
    assert line.endswith("; it has no test accuracies, no trainings of 12 epochs, no latencies")
    assert (table.has_test("cifar10"), NASBench201Table(path).has_test("cifar10")) == (False, True)


def test_short_trainings_that_the_table_lacks_are_left_out_and_that_is_said(
    path: Path, tmp_path: Path
) -> None:
    found = {n: v for n, v in columns().items() if "12ep" not in n}
    bare = NASBench201Table(write(tmp_path / "bare.parquet", found), epochs=(12, 200))
    assert bare.steps("cifar10") == (200,)
    assert bare.max_step == 200
    told = bare.remarks()[1]
    assert told == (
        "the table has no trainings of 12 epochs: every cell is trained for 200 epochs, and none "
        "is stopped before"
    )
    one, other = (t.query(FIFTH, "cifar10", 200, 0) for t in (bare, opened(path)))
    assert one == other
    assert opened(path, epochs=(12, 200)).steps("cifar10") == (12, 200)
    assert len(opened(path, epochs=(12, 200)).remarks()) == 1
    recorded = opened(tmp_path / "bare.parquet", epochs=(12, 200), curves="recorded")
    assert recorded.steps("cifar10") == (200,)


def packaged(folder: Path, content: object) -> Path:
    place = folder / "datasets" / "nasbench201"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("cifar10", "cifar100", "imagenet"):
        (place / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))
    file.read_package.cache_clear()
    return folder


def test_the_package_is_read_and_its_code_is_not_run(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {
        digits: {"val_acc": [19.995 + i / 1000, 20.005 + i / 1000], "train_time": [100.0, 100.0]}
        for i, digits in enumerate(file._texts())
    }
    folder = packaged(tmp_path, cells)
    monkeypatch.setattr(file, "_package", lambda: folder)
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    table = NASBench201Table(seeds="recorded", validation=0)
    values = [table.query(FIFTH, "imagenet16", 200, seed) for seed in (0, 1)]
    assert [m.values["val_accuracy"] for m in values] == pytest.approx([20.0, 20.01])
    assert [m.seconds for m in values] == [100.0, 100.0]
    assert "test_accuracy" not in values[0].values
    with pytest.raises(UserError, match="after 12 epochs"):
        NASBench201Table(epochs=(12,)).steps("cifar10")
    # means from the file, values per seed from the package
    both = opened(path, seeds="recorded").query(FIFTH, "cifar10", 200, 1)
    assert both.values == pytest.approx({"val_accuracy": 20.01, "test_accuracy": 30.005})

    packaged(tmp_path, {**cells, "444444": {"val_acc": []}})
    with pytest.raises(UserError, match=r"cifar10\.pkl does not have the expected structure"):
        NASBench201Table().setup(SPACE)
    packaged(tmp_path, {"000000": cells["000000"]})
    with pytest.raises(UserError, match=r"keys that are not the cells"):
        NASBench201Table().setup(SPACE)
    packaged(tmp_path, NASBench201Table())
    with pytest.raises(UserError, match=r"asks for raynas.*expected: no name at all"):
        NASBench201Table().setup(SPACE)
