"""The command: which runs there are, and that they are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import done, raynas
from unit.benchmarks.nb201_cells import columns, write

from raynas.apps.compare.compare import PAGE, RESULTS, ComparisonPlan, _answerable
from raynas.apps.compare.methods import PUBLISHED, SAMPLERS, SCHEDULERS, SEVERAL
from raynas.core import UserError

pytestmark = pytest.mark.usefixtures("undrawn")


def methods(plan: ComparisonPlan, protocol: str) -> set[str]:
    return {t.method for t in plan.tasks() if t.protocol == protocol}


def test_every_protocol_takes_the_methods_that_it_has() -> None:
    plan = ComparisonPlan(seeds=2, published_seeds=3)
    assert methods(plan, "trainings") == methods(plan, "bounded") == set(SAMPLERS)
    assert methods(plan, "pareto") == set(SEVERAL)
    assert methods(plan, "published") == set(PUBLISHED)
    assert methods(plan, "cluster") == set(SCHEDULERS)
    some = ComparisonPlan(methods=("tpe", "asha"), seeds=1)
    assert methods(some, "trainings") == {"tpe"}
    assert methods(some, "cluster") == {"asha"}
    assert methods(some, "published") == set()


def test_tasks_are_unlike_and_go_seed_by_seed() -> None:
    tasks = ComparisonPlan(seeds=3, published_seeds=5).tasks()
    assert len(set(tasks)) == len(tasks)
    trainings = [t for t in tasks if t.protocol == "trainings"]
    assert [t.seed for t in trainings] == sorted(t.seed for t in trainings)
    published = [t for t in tasks if t.protocol == "published"]
    assert {t.dataset for t in published} == {"cifar10"}
    assert max(t.seed for t in published) == 4
    assert {t.workers for t in tasks if t.protocol == "cluster"} == {1, 10, 100, 500}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"methods": ("tpee",)}, "method 'tpee'.*'tpe'"),
        ({"protocols": ("cluste",)}, "protocol 'cluste'"),
        ({"datasets": ("cifar",)}, "data set 'cifar'"),
        ({"seeds": 0}, "0 seeds"),
    ],
)
def test_what_there_is_not_is_named(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ComparisonPlan(**settings)


def test_the_command_prints_tables_and_does_nothing_twice(tmp_path: Path) -> None:
    table = write(tmp_path / "nb201.parquet", columns())
    arguments = (
        "bench", "nb201", "--protocols", "published,trainings", "--methods", "random,evolution",
        "--datasets", "cifar100", "--seeds", "2", "--published-seeds", "2", "--jobs", "1",
        "--table", str(table), "--output", str(tmp_path / "out"),
    )  # fmt: skip
    text = done(*arguments)
    assert "…" not in text
    assert "After n trainings: CIFAR-100" in text
    assert "The published protocol: 12,000 simulated seconds" in text
    assert "93.92 (0.30)" in text
    stored = (tmp_path / "out" / RESULTS).read_bytes()
    assert stored.count(b"\n") == 8
    assert (tmp_path / "out" / PAGE).is_file()
    assert done(*arguments).splitlines()[-5:] == text.splitlines()[-5:]
    assert (tmp_path / "out" / RESULTS).read_bytes() == stored


def bare(path: Path) -> Path:
    """As the package has it: validation accuracies after 200 epochs, and times."""
    found = columns()
    kept = [name for name in found if name.endswith(("arch", "_valid", "200ep_s"))]
    return write(path, {name: found[name] for name in kept})


def test_without_test_accuracies_the_command_shows_and_names_validation(tmp_path: Path) -> None:
    table, output = bare(tmp_path / "bare.parquet"), tmp_path / "out"
    arguments = (
        "bench", "nb201", "--methods", "random", "--datasets", "cifar10", "--seeds", "2",
        "--published-seeds", "2", "--jobs", "1", "--output", str(output),
    )  # fmt: skip
    text = done(*arguments, "--table", str(table))
    assert text.splitlines()[:2] == [
        f"table of NAS-Bench-201: {table}; it has no test accuracies, no trainings of 12 epochs, "
        "no latencies",
        "left out: bounded, pareto (the table has no edgegpu_latency_ms); published (the table has "
        "no accuracies after 12 epochs and no test accuracies)",
    ]
    assert "After n trainings: CIFAR-10, validation accuracy" in text
    assert "val, n = 200" in text
    assert "Test accuracy" not in text
    page = (output / PAGE).read_text()
    assert "After n trainings: CIFAR-10, validation accuracy" in page
    stored = (output / RESULTS).read_text()
    assert stored.count('"judged":"val"') == stored.count("\n") == 2
    # results on another table are not taken for these
    whole = done(*arguments, "--protocols", "trainings", "--table",
                 str(write(tmp_path / "nb201.parquet", columns())))  # fmt: skip
    assert whole.splitlines()[0] == f"table of NAS-Bench-201: {tmp_path}/nb201.parquet"
    assert "Test accuracy (%)" in whole
    assert "val, n" not in whole
    assert (output / RESULTS).read_text().count("\n") == 4


def test_a_protocol_that_is_named_is_refused_and_so_is_having_none(tmp_path: Path) -> None:
    table = bare(tmp_path / "bare.parquet")
    for more in (("--protocols", "trainings,pareto"), ("--methods", "asha")):
        called = raynas("bench", "nb201", "--table", str(table), *more)
        assert called.code == 2
        assert "which 'pareto' needs" in called.err or "which 'cluster' needs" in called.err


def test_what_is_left_out_of_some_data_sets_names_them(tmp_path: Path) -> None:
    found = columns()
    found["hw_cifar10_edgegpu_latency"] = [1.0 + i for i in range(len(found["arch"]))]
    table, said = write(tmp_path / "some.parquet", found), list[str]()
    plan = ComparisonPlan(methods=("nsga2",), seeds=1)
    left = _answerable(plan, plan.tasks(), str(table), said.append)
    assert {(t.protocol, t.dataset) for t in left if t.protocol == "pareto"} == {
        ("pareto", "cifar10")
    }
    assert said == [
        "left out: bounded of cifar100, bounded of imagenet16, pareto of cifar100, pareto of "
        "imagenet16 (the table has no edgegpu_latency_ms)"
    ]


def test_without_a_table_it_says_where_to_get_one(tmp_path: Path) -> None:
    called = raynas("bench", "nb201", "--table", str(tmp_path / "no.parquet"))
    assert called.code == 2
    assert "no table" in called.err
