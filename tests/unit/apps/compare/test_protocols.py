"""What a run is and what it gives, on a table whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.benchmarks.nb201_cells import columns, texts, write

from raynas.apps.compare import protocols, published, table_values
from raynas.apps.compare.methods import PUBLISHED, SAMPLERS, SCHEDULERS, SEVERAL
from raynas.apps.compare.protocols import ComparisonTask, answer, check, settings
from raynas.core import UserError
from raynas.core.pareto import hypervolume

COUNT = 15_625


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accuracy grows with the cell's number, the latency in the opposite order."""
    found = columns()
    found["hw_cifar10_edgegpu_latency"] = [1.0 + (COUNT - i) / 1000 for i in range(COUNT)]
    return str(write(tmp_path_factory.mktemp("table") / "nb201.parquet", found))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "TRAININGS", 30)
    monkeypatch.setattr(protocols, "AT", (5, 30))


def run(protocol: str, method: str, table: str, seed: int = 0, workers: int = 1):
    return answer(ComparisonTask(protocol, "cifar10", method, "", seed, workers), table)


@pytest.mark.parametrize("method", SAMPLERS)
def test_the_best_by_validation_only_gets_better(method: str, table: str) -> None:
    found = run("trainings", method, table)
    assert found["trainings"] == 30
    numbers, vals, tests = zip(*found["best"], strict=True)
    assert numbers[0] == 1
    assert list(numbers) == sorted(set(numbers))
    assert list(vals) == sorted(set(vals))
    np.testing.assert_allclose(np.array(tests) - vals, 10)  # of the very cell
    assert found["top"] == pytest.approx(30 + (COUNT - 1) / 1000)
    assert found["seconds"] > 30 * 200
    assert found["took"] >= 0


@pytest.mark.parametrize("method", ["random", "evolution", "guided"])
def test_a_bound_keeps_the_fast_half(method: str, table: str) -> None:
    found = run("bounded", method, table)
    assert found["limit"] == pytest.approx(1 + (COUNT + 1) / 2 / 1000)
    assert found["top"] == pytest.approx(30 + (COUNT - 1) / 1000)  # the best cells are the fastest
    assert found["trainings"] == 30
    assert all(val >= 20 + 7 for _, val, _ in found["best"])


@pytest.mark.parametrize("method", SEVERAL)
def test_the_share_of_the_hypervolume_grows_to_all_of_it(method: str, table: str) -> None:
    few, many = run("pareto", method, table)["volume"]
    assert 0 <= few <= many <= 100 + 1e-9


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As ``table``, but only every fifth cell has a latency."""
    found = columns()
    slow = [1.0 + (COUNT - i) / 1000 for i in range(COUNT)]
    found["hw_cifar10_edgegpu_latency"] = [v if i % 5 == 0 else None for i, v in enumerate(slow)]
    return str(write(tmp_path_factory.mktemp("table") / "holes.parquet", found))


def test_the_first_trainings_are_all_trainings_with_a_latency_or_not(
    holes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [7801, 8000, 12, 13, 14, 15_000, *range(9000, 9024)]
    names = texts()
    made = [("COMPLETE", names[i], 1.0) for i in order]
    monkeypatch.setattr(protocols, "_searched", lambda *_, **__: made)
    volumes = run("pareto", "random", holes)["volume"]
    low, slow = table_values.reference(holes, "cifar10")
    whole = table_values.whole_volume(holes, "cifar10")

    def share(cell: int) -> float:
        """Of the box below one cell."""
        return 100 * (20 + cell / 1000 - low) * (-1.0 - (COUNT - cell) / 1000 - slow) / whole

    assert volumes == pytest.approx([share(8000), share(15_000)])  # 15,000 is the sixth


@pytest.mark.parametrize("method", SEVERAL)
def test_searches_count_cells_without_a_latency(
    method: str, holes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[tuple[str, str, float]]] = []
    searched = protocols._searched

    def watched(*args, **more):
        made.append(searched(*args, **more))
        return made[-1]

    monkeypatch.setattr(protocols, "_searched", watched)
    found = run("pareto", method, holes)
    assert found["trainings"] == 30
    known, space = table_values.table(holes), protocols.NASBench201()
    points = []
    for _, arch, _ in made[0][:5]:
        latency = known.cost(space.architecture(arch), "cifar10", table_values.LATENCY)
        if latency is not None:
            points.append((table_values.accuracies(arch, "cifar10", holes)[0], -latency))
    zero = np.array(table_values.reference(holes, "cifar10"))
    assert len(points) < 5
    assert found["volume"][0] == pytest.approx(
        100 * hypervolume(np.array(points), zero) / table_values.whole_volume(holes, "cifar10")
    )


def test_of_all_cells_the_hypervolume_is_whole(table: str) -> None:
    known = table_values.cells(table, "cifar10")
    low, slow = table_values.reference(table, "cifar10")
    best = (known["val"].max() - low) * (-known["latency"].min() - slow)
    assert table_values.whole_volume(table, "cifar10") == pytest.approx(best)


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_budget_is_kept_and_all_three_are_tested(method: str, table: str) -> None:
    found = run("published", method, table)
    assert found["seconds"] <= 12_000
    assert found["trainings"] >= 10
    assert set(found["test"]) == {"cifar10", "cifar100", "imagenet16"}
    assert len(set(found["test"].values())) == 1  # one cell, and the same number for all


def test_bohb_pays_for_every_round_of_a_bracket(table: str) -> None:
    sampler = PUBLISHED["bohb"]()
    from raynas.core import Objective, SearchProblem
    from raynas.spaces import NASBench201

    sampler.setup(NASBench201(), SearchProblem((Objective(),), 12, 0, "x"))
    trained = published._halving(sampler, table_values.table(table, (12,)), 0)
    archs = [next(trained)[0] for _ in range(20)]
    assert len(set(archs[:9])) == 9
    assert set(archs[9:12]) < set(archs[:9])
    assert archs[12] in archs[9:12]
    assert set(archs[16:17]) < set(archs[13:16])
    values = [published._train(table_values.table(table, (12,)), a).values for a in archs[:13]]
    assert values[12] == max(values, key=lambda v: v["val_accuracy"])


@pytest.mark.parametrize("method", SCHEDULERS)
def test_a_cluster_stops_when_the_goal_is_trained(method: str, table: str) -> None:
    found = run("cluster", method, table, workers=20)
    assert found["hours"] > 0
    assert 0 < found["utilisation"] <= 1 + 1e-9
    assert found["worker_hours"] == pytest.approx(
        found["utilisation"] * 20 * found["hours"], rel=1e-6
    )
    again = run("cluster", method, table, workers=20)
    assert {**again, "took": 0} == {**found, "took": 0}


def test_who_stops_early_gets_there_sooner(table: str) -> None:
    """In this table the short training orders the cells as the long one does."""
    hours = {m: run("cluster", m, table, seed=1, workers=5)["hours"] for m in ("none", "asha")}
    assert hours["asha"] < hours["none"] / 2


def test_seeds_differ_and_repeat(table: str) -> None:
    one, other = (run("trainings", "random", table, seed=s)["best"] for s in (0, 1))
    assert one != other
    assert run("trainings", "random", table, seed=0)["best"] == one


@pytest.fixture(scope="module")
def untested(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As ``table``, without test accuracies of CIFAR-10."""
    found = columns()
    del found["cifar10_test"]
    found["hw_cifar10_edgegpu_latency"] = [1.0 + (COUNT - i) / 1000 for i in range(COUNT)]
    return str(write(tmp_path_factory.mktemp("table") / "untested.parquet", found))


@pytest.mark.parametrize("protocol", ["trainings", "bounded"])
def test_without_test_accuracies_validation_accuracies_are_shown(
    protocol: str, table: str, untested: str
) -> None:
    found, tested = run(protocol, "random", untested), run(protocol, "random", table)
    assert found["judged"] == "val"
    assert "judged" not in tested
    assert [(n, val) for n, val, _ in found["best"]] == [(n, val) for n, val, _ in tested["best"]]
    assert all(val == shown for _, val, shown in found["best"])
    assert found["top"] == pytest.approx(20 + (COUNT - 1) / 1000)


def test_searches_that_end_by_validation_need_no_test(table: str, untested: str) -> None:
    for protocol, method in (("pareto", "random"), ("cluster", "none")):
        one, other = (run(protocol, method, path, workers=20) for path in (table, untested))
        assert {**one, "took": 0} == {**other, "took": 0}


def test_results_by_another_accuracy_are_other_results() -> None:
    for protocol in ("trainings", "bounded"):
        assert settings(protocol, "random", "val") != settings(protocol, "random")
        assert settings(protocol, "random", "test") == settings(protocol, "random")
    assert settings("pareto", "random", "val") == settings("pareto", "random")


def test_settings_have_fingerprints() -> None:
    assert settings("trainings", "evolution") != settings("trainings", "random")
    assert settings("published", "evolution") != settings("trainings", "evolution")
    assert settings("cluster", "asha") != settings("cluster", "none")


def test_what_a_table_lacks_is_said_with_a_cure(tmp_path: Path) -> None:
    bare = columns()
    for dataset in ("cifar10", "cifar100", "imagenet16"):
        del bare[f"{dataset}_test"]
        del bare[f"{dataset}_valid_12ep"]
    path = str(write(tmp_path / "t.parquet", bare))
    check("trainings", "cifar10", path)
    with pytest.raises(UserError, match="no edgegpu_latency_ms of cifar10, which 'pareto' needs"):
        check("pareto", "cifar10", path)
    with pytest.raises(UserError, match="no accuracies after 12 epochs and no test accuracies of"):
        check("published", "cifar10", path)
    with pytest.raises(UserError, match="no accuracies after 12 epochs of cifar10, which 'clus"):
        check("cluster", "cifar10", path)
    with pytest.raises(UserError, match="no table"):
        check("trainings", "cifar10", str(tmp_path / "absent.parquet"))
