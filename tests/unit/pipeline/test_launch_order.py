"""Runs in deterministic order that are extended: nothing of before is written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import done, experiment_file

HEAD = "from raynas.schedulers import Hyperband, PromotionASHA"
SCHEDULERS = ("ASHA(1, 2)", "PromotionASHA(1, 2)", "Hyperband(factor=2)")


def rows(run: Path) -> list[dict[str, Any]]:
    return pq.read_table(run / "results").to_pylist()  # type: ignore[no-any-return]


def identities(found: list[dict[str, Any]]) -> dict[int, set[Any]]:
    owners: dict[int, set[Any]] = {}
    for row in found:
        who = (row["stage"], row["arm"], row["arch"], row["seed"])
        owners.setdefault(row["trial"], set()).add(who)
    return owners


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_extended_run_keeps_the_rows_of_finalists_and_baselines(
    scheduler: str, tmp_path: Path
) -> None:
    file = experiment_file(
        tmp_path / "toy.py",
        head=HEAD,
        scheduler=scheduler,
        sampler="RegularizedEvolution(population=3, sample=2)",
        baselines="(Random(),)",
        finalists="Finalists(top=2, seeds=2)",
        deterministic_workers="2",
    )
    run = tmp_path / "run"
    done("run", file, "--local", "--output", run)
    before = rows(run)
    assert {row["stage"] for row in before} == {"search", "final"}
    done("resume", run, "--local", "--trials", "+5")
    done("resume", run, "--local", "--trials", "+3")
    after = rows(run)
    assert all(len(who) == 1 for who in identities(after).values())
    kept = [tuple(row.items()) for row in after]
    assert all(tuple(row.items()) in kept for row in before)
    own = {row["trial"] for row in after if (row["stage"], row["arm"]) == ("search", "evolution")}
    assert len(own) == 6 + 5 + 3
