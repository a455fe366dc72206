"""What every tabular benchmark must do. A new one: one line in ``CASES``."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import ToySpace

from raynas.benchmarks import BENCHMARKS, NASBench201Table, Synthetic, TabularBenchmark
from raynas.core import UserError, rng_for
from raynas.core.describe import describe, fresh
from raynas.core.metrics import TEST_ACCURACY, VAL_ACCURACY
from raynas.spaces import NASBench201, SearchSpace

Made = tuple[TabularBenchmark, SearchSpace]


def cells(folder: Path) -> Made:
    """The table of NAS-Bench-201 with made-up numbers."""
    archs = [arch.text for arch in NASBench201().enumerate()]
    columns: dict[str, list[object]] = {"arch": list(archs)}
    for dataset in ("cifar10", "cifar100", "imagenet16"):
        for column in ("valid", "test", "valid_12ep", "test_12ep"):
            columns[f"{dataset}_{column}"] = [40 + i % 50 for i in range(len(archs))]
        columns[f"{dataset}_train_time_200ep_s"] = [200.0 + i for i in range(len(archs))]
        columns[f"hw_{dataset}_fpga_latency"] = [None if i % 3 else 2.0 for i in range(len(archs))]
    pq.write_table(pa.table(columns), folder / "nb201.parquet")
    made = NASBench201Table(folder / "nb201.parquet", epochs=(12, 200), assumed_noise=0.2)
    return made, NASBench201()


def landscape(_: Path) -> Made:
    return Synthetic(max_step=5, noise=0.5), ToySpace(merge=True)


CASES: dict[str, Callable[[Path], Made]] = {
    "nasbench201": cells,
    "synthetic": landscape,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    benchmark, space = CASES[request.param](tmp_path_factory.mktemp("benchmark"))
    benchmark.setup(space)
    return benchmark, space


def test_every_benchmark_is_here() -> None:
    assert set(CASES) == set(BENCHMARKS)


def test_steps_rise_to_the_last(case: Made) -> None:
    benchmark, _ = case
    assert benchmark.datasets
    for dataset in benchmark.datasets:
        steps = benchmark.steps(dataset)
        assert list(steps) == sorted(set(steps))
        assert steps[0] >= 1
        assert steps[-1] == benchmark.max_step


def test_queries_are_of_architecture_step_and_seed_alone(case: Made) -> None:
    benchmark, space = case
    dataset, rng = benchmark.datasets[-1], rng_for(1)
    archs = [space.sample(rng) for _ in range(10)]
    ask = [(a, s, seed) for a in archs for s in benchmark.steps(dataset) for seed in (0, 1)]
    found = [benchmark.query(a, dataset, s, seed) for a, s, seed in ask]
    assert found == [benchmark.query(a, dataset, s, seed) for a, s, seed in reversed(ask)][::-1]
    other = fresh(benchmark)
    other.setup(space)
    assert found == [other.query(a, dataset, s, seed) for a, s, seed in ask]
    assert len({m.values[VAL_ACCURACY.name] for m in found}) > len(archs)  # seeds differ


def test_measurements_have_accuracies_and_seconds(case: Made) -> None:
    benchmark, space = case
    arch = space.sample(rng_for(2))
    for dataset in benchmark.datasets:
        for step in benchmark.steps(dataset):
            found = benchmark.query(arch, dataset, step, 0)
            assert found.step == step
            assert 0 <= found.values[VAL_ACCURACY.name] <= 100
            assert found.seconds > 0
            assert set(found.values) <= {VAL_ACCURACY.name, TEST_ACCURACY.name}
            assert (TEST_ACCURACY.name in found.values) == (step == benchmark.max_step)


def test_costs_are_finite_or_explicitly_missing(case: Made) -> None:
    benchmark, space = case
    arch, dataset = space.sample(rng_for(3)), benchmark.datasets[0]
    for metric in benchmark.costs:
        value = benchmark.cost(arch, dataset, metric.name)
        assert value is None or math.isfinite(value)
        assert metric.direction == "min"
    with pytest.raises(UserError, match="no_such_ms"):
        benchmark.cost(arch, dataset, "no_such_ms")


def test_setting_up_leaves_the_settings_and_may_be_repeated(case: Made) -> None:
    benchmark, space = case
    before = describe(benchmark)
    benchmark.setup(space)
    assert describe(benchmark) == before
    names = {f.name for f in fields(benchmark) if f.init}  # type: ignore[arg-type]
    assert not any(name.startswith("_") for name in names)


def test_it_travels_to_workers(case: Made) -> None:
    benchmark, space = case
    there = pickle.loads(pickle.dumps(benchmark))
    there.setup(space)
    arch, dataset = space.sample(rng_for(4)), benchmark.datasets[0]
    assert there.query(arch, dataset, benchmark.max_step, 7) == benchmark.query(
        arch, dataset, benchmark.max_step, 7
    )
