"""Looked-up trainings: what a search sees of the table, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from integration.toy_runs import Table, search
from toys import ToySpace

from raynas.benchmarks import NASBench201Table, NoImages, Synthetic
from raynas.core import Architecture, Bound, Job, Measurement, Objective, RaynasError, UserError
from raynas.evaluators import Screen, Tabular
from raynas.experiment import Experiment
from raynas.pipeline.checks import prepare
from raynas.pipeline.finalists import finalists_refused
from raynas.runners.local import LocalRunner
from raynas.samplers import Random
from raynas.spaces import NASBench201

SPACE = NASBench201()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of every second cell the latency on the EdgeTPU is missing."""
    archs = [arch.text for arch in SPACE.enumerate()]
    columns: dict[str, Any] = {"arch": archs}
    for dataset in ("cifar10", "cifar100", "imagenet16"):
        columns[f"{dataset}_valid"] = [50 + i / 1000 for i in range(len(archs))]
        columns[f"{dataset}_test"] = [60 + i / 1000 for i in range(len(archs))]
        columns[f"{dataset}_train_time_200ep_s"] = [200.0] * len(archs)
    columns["hw_cifar10_edgetpu_latency"] = [None if i % 2 else 1.5 for i in range(len(archs))]
    path = tmp_path_factory.mktemp("table") / "nb201.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def evaluated(evaluator: Tabular, arch: Architecture, final: bool = False) -> list[Measurement]:
    data = NoImages()
    evaluator.setup(SPACE, data.final_view(0) if final else data.search_view(0))
    return list(evaluator.evaluate(arch, Job(0, seed=0, max_step=evaluator.max_step)))


def test_test_accuracy_stays_in_the_table_until_the_finals(path: Path) -> None:
    arch = next(SPACE.enumerate())
    (seen,) = evaluated(Tabular(NASBench201Table(path)), arch)
    assert seen.values == {"val_accuracy": 50.0}
    (final,) = evaluated(Tabular(NASBench201Table(path)), arch, final=True)
    assert final.values == {"test_accuracy": 60.0}


def test_a_final_training_measures_once_and_takes_the_whole_time() -> None:
    landscape = Synthetic(max_step=5, seconds=60.0)
    evaluator, space, data = Tabular(landscape), ToySpace(), NoImages()
    arch = space.architecture("x=1,y=1,op=a")
    evaluator.setup(space, data.search_view(0))
    curve = list(evaluator.evaluate(arch, Job(0, seed=0, max_step=5)))
    assert [m.step for m in curve] == [1, 2, 3, 4, 5]
    evaluator.setup(space, data.final_view(0))
    (final,) = evaluator.evaluate(arch, Job(0, seed=0, max_step=5))
    assert final.step == 5
    assert list(final.values) == ["test_accuracy"]
    assert final.seconds == pytest.approx(sum(m.seconds for m in curve))


def test_costs_that_are_missing_are_said_to_be(path: Path) -> None:
    evaluator = Tabular(NASBench201Table(path), "cifar10", ("edgetpu_latency_ms",))
    assert [m.name for m in evaluator.metrics] == ["val_accuracy", "edgetpu_latency_ms"]
    even, odd = list(SPACE.enumerate())[:2]
    (known,), (unknown,) = evaluated(evaluator, even), evaluated(evaluator, odd)
    assert known.values["edgetpu_latency_ms"] == 1.5
    assert known.note == ""
    assert "edgetpu_latency_ms" not in unknown.values
    assert unknown.note == "edgetpu_latency_ms is missing in the table"


def test_a_missing_objective_fails_its_trial_with_the_reason(path: Path) -> None:
    evaluator = Tabular(NASBench201Table(path), "cifar10", ("edgetpu_latency_ms",))
    rows = Table()
    work = search(
        Random(), evaluator, rows, trials=30, space=SPACE, view=NoImages().search_view(0),
        objectives=(Objective(), Objective("edgetpu_latency_ms", "min")),
        bounds=(Bound("edgetpu_latency_ms", max=2.0),),
    )  # fmt: skip
    LocalRunner().run(work)
    states = {row["state"] for row in rows}
    assert states == {"COMPLETE", "FAILED"}
    message = next(row["message"] for row in rows if row["state"] == "FAILED")
    assert message == (
        "edgetpu_latency_ms is missing at step 200: edgetpu_latency_ms is missing in the table"
    )


def test_seconds_are_the_table_s(path: Path) -> None:
    work = search(
        Random(), Tabular(NASBench201Table(path, validation=0)), Table(), trials=5, space=SPACE,
        view=NoImages().search_view(0),
    )  # fmt: skip
    LocalRunner().run(work)
    assert work.meter.spent == pytest.approx(1000.0)


def test_what_does_not_fit_is_said_before_anything_is_spent(path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set in nasbench201: 'cifar'"):
        Tabular(NASBench201Table(path), "cifar")
    with pytest.raises(UserError, match=r"unknown cost in nasbench201: 'latency_ms'"):
        Tabular(NASBench201Table(path), "cifar10", ("latency_ms",))
    with pytest.raises(UserError, match="does not fit space 'toy'"):
        Tabular(NASBench201Table(path)).setup(ToySpace(), NoImages().search_view(0))
    with pytest.raises(RaynasError, match="before setup"):
        list(Tabular(Synthetic()).evaluate(next(SPACE.enumerate()), Job(0, 0, 1)))


def test_a_table_without_test_accuracies_has_no_finals(path: Path, tmp_path: Path) -> None:
    table = pq.read_table(path)
    kept = [name for name in table.column_names if not name.endswith("_test")]
    pq.write_table(table.select(kept), tmp_path / "t.parquet")
    evaluator, arch = Tabular(NASBench201Table(tmp_path / "t.parquet")), next(SPACE.enumerate())
    evaluator.setup(SPACE, NoImages().search_view(0))
    evaluator.check(arch)
    evaluator.setup(SPACE, NoImages().final_view(0))
    with pytest.raises(UserError, match="no test_accuracy of cifar10"):
        evaluator.check(arch)
    (final,) = evaluated(evaluator, arch, final=True)
    assert final.values == {}
    assert final.note == "test_accuracy of cifar10 is missing in the table"


def test_a_search_goes_without_finalists_where_the_table_has_no_test_accuracies(
    path: Path, tmp_path: Path
) -> None:
    table = pq.read_table(path)
    kept = [name for name in table.column_names if not name.endswith("_test")]
    pq.write_table(table.select(kept), tmp_path / "t.parquet")

    def experiment(file: Path) -> Experiment:
        return Experiment(
            space=SPACE, data=NoImages(), evaluator=Tabular(NASBench201Table(file)),
            sampler=Random(), baselines=(),
        )  # fmt: skip

    prepare(experiment(tmp_path / "t.parquet"))
    told = finalists_refused(experiment(tmp_path / "t.parquet"))
    assert "the table of nasbench201 has no test_accuracy of cifar10; take one that has" in told
    assert finalists_refused(experiment(path)) == ""
    assert "no test accuracies" in experiment(tmp_path / "t.parquet").evaluator.remarks()[0]
    assert Tabular(Synthetic()).no_test_reason() == ""
    assert Tabular(Synthetic()).remarks() == ()


def test_an_experiment_on_a_table_needs_no_images() -> None:
    view = NoImages(classes=120, size=16).search_view(0)
    assert view.input_shape == (3, 16, 16)
    assert view.num_classes == 120
    assert len(view.train) == 0
    made = Experiment(
        space=ToySpace(), data=NoImages(), evaluator=Tabular(Synthetic(), costs=("latency_ms",)),
        sampler=Random(), baselines=(), bounds=(Bound("latency_ms", max=5.0),),
    )  # fmt: skip
    assert made.fingerprint != Experiment(
        space=ToySpace(), data=NoImages(), evaluator=Tabular(Synthetic(seed=1)), sampler=Random(),
        baselines=(),
    ).fingerprint  # fmt: skip
    with pytest.raises(UserError, match="27 steps"):
        Screen(Tabular(Synthetic()))
