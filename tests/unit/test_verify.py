"""Results measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.drivers import experiment_file, run_here

from raynas.core import UserError
from raynas.store import Provenance, RunFolder, Writer, read
from raynas.verify import verify


def test_what_was_measured_is_the_same_again(tmp_path: Path) -> None:
    run = run_here(experiment_file(tmp_path, trials=5, scheduler="ASHA(1, 2)"))
    before = read(run)
    found = list(verify(run.path, count=4))
    assert len(found) == 4
    assert [v.differs for v in found] == [()] * 4
    assert [v.steps for v in found] == [v.trial.step for v in found]
    assert read(run).equals(before)


def test_a_result_that_its_experiment_does_not_give_is_found(tmp_path: Path) -> None:
    run = run_here(experiment_file(tmp_path, trials=2))
    (row, *_) = [r for r in read(run).to_pylist() if r["step"] == 2]
    forged = {**row, "val_accuracy": row["val_accuracy"] + 1, "attempt": 9}
    for name in ("run", "experiment", "session", "host", "git", "versions", "time"):
        del forged[name]
    with Writer(RunFolder.open(run.path), 2, Provenance("", {}, "h", "p", 1)) as writer:
        writer.append([forged])
    (bad,) = [v for v in verify(run.path, count=9) if v.differs]
    assert bad.differs == ((2, "val_accuracy", row["val_accuracy"] + 1, row["val_accuracy"]),)
    assert all(not v.differs for v in verify(run.path, count=9, tolerance=0.1))


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    texts = {f"x={x},y={y},op={o}": "memory" for x in range(6) for y in range(6) for o in "abc"}
    run = run_here(experiment_file(tmp_path, trials=1, steps=2, fault=texts))
    with Writer(run, 2, Provenance("", {}, "h", "p", 1)):
        pass
    assert list(verify(run.path)) != []  # step 1 was measured before it failed
    for file in run.results.glob("*.parquet"):
        file.unlink()
    with pytest.raises(UserError, match="no results yet"):
        list(verify(run.path))
