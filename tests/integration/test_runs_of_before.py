"""Runs that raynas 0.1 stored are opened, reported, exported and resumed by this code.

The runs are in tests/fixtures/runs_0_1, where a README says how each came about. The tests work on
copies, by the command line only, so that they hold for users, too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import done

OLD = Path(__file__).parents[1] / "fixtures" / "runs_0_1"
#: their experiments use names that are now old
pytestmark = pytest.mark.filterwarnings("ignore:.*the old name ends:FutureWarning")
RUNS = ("table_asha", "digits_screened", "supernet_race")


@pytest.fixture
def copy(tmp_path: Path) -> Any:
    def make(name: str) -> Path:
        return Path(shutil.copytree(OLD / name, tmp_path / name))

    return make


def rows(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / "results").to_pylist()
    return found


def of_stage(found: list[dict[str, Any]], stage: str, arm: str) -> dict[int, list[dict[str, Any]]]:
    """The rows of each trial."""
    trials: dict[int, list[dict[str, Any]]] = {}
    for row in found:
        if (row["stage"], row["arm"]) == (stage, arm):
            trials.setdefault(row["trial"], []).append(row)
    return trials


def kept(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    """Whether all rows of before are there as they were."""
    left = [tuple(row.items()) for row in after]
    return all(tuple(row.items()) in left for row in before)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("table_asha", ("tpe", "random", "92.73", "95.46")),
        ("digits_screened", ("evolution", "16", "6/6")),
        ("supernet_race", ("random", "23.08", "19.23")),
    ],
)
def test_the_status_is_told(name: str, says: tuple[str, ...], copy: Any) -> None:
    shown = done("status", copy(name))
    assert [word for word in (name, *says) if word not in shown] == []


@pytest.mark.parametrize("name", RUNS)
def test_a_report_is_made(name: str, copy: Any) -> None:
    run = copy(name)
    done("report", run)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert len(text) > 10_000
    assert json.loads((run / "run.json").read_text())["run"] in text


def test_a_finished_table_search_is_extended(copy: Any) -> None:
    run = copy("table_asha")
    before = rows(run)
    done("resume", run, "--local", "--trials", "+4")
    after = rows(run)
    assert kept(before, after)
    assert len(of_stage(before, "search", "tpe")) == 12
    assert len(of_stage(after, "search", "tpe")) == 16
    assert {row["session"] for row in after} == {1, 2}
    assert json.loads((run / "run.json").read_text())["overrides"] == {"budget.trials": 16}


def test_unfinished_trainings_go_on_from_their_checkpoints(copy: Any) -> None:
    run = copy("digits_screened")
    before = rows(run)
    assert {row["state"] for row in before} == {"RUNNING", "STOPPED"}
    done("resume", run, "--local", "--trials", "+2")
    after = rows(run)
    assert kept(before, after)
    trials = of_stage(after, "search", "evolution")
    trained = {n: t for n, t in trials.items() if any(row["step"] for row in t)}
    assert len(trained) == 6 + 2
    steps = {n: [row["step"] for row in t if row["step"] is not None] for n, t in trials.items()}
    assert all(len(set(s)) == len(s) for s in steps.values()), "a stored step was made again"
    assert steps[2] == [0, 1, 2, 3, 4]  # its first two by raynas 0.1
    assert [row["session"] for row in trials[2]][:5] == [1, 1, 1, 2, 2]
    assert trials[2][-1]["state"] == "COMPLETE"
    assert of_stage(after, "final", "evolution")
    assert (run / "best" / "network.safetensors").exists()


def test_subnets_go_on_inheriting_the_stored_weights(copy: Any) -> None:
    run = copy("supernet_race")
    before, weights = rows(run), (run / "supernet" / "weights.safetensors").read_bytes()
    done("resume", run, "--local", "--trials", "+4")
    after = rows(run)
    assert kept(before, after)
    searched = of_stage(after, "search", "random")
    assert len(searched) == 8 + 4
    assert len({row["weights"] for trial in searched.values() for row in trial}) == 1
    assert len(of_stage(after, "supernet", "train_supernet")) == 1  # not trained again
    assert (run / "supernet" / "weights.safetensors").read_bytes() == weights


def test_the_best_network_is_exported(copy: Any, tmp_path: Path) -> None:
    run = copy("supernet_race")
    done("export", run, "--to", tmp_path / "exported")
    old = json.loads((run / "best" / "architecture.json").read_text())
    new = json.loads((tmp_path / "exported" / "architecture.json").read_text())
    assert (new["arch"], new["found"], new["trained"]) == (
        old["arch"],
        old["found"],
        old["trained"],
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_study_for_optuna_is_written(name: str, copy: Any, tmp_path: Path) -> None:
    done("export-study", copy(name), tmp_path / "study.db")
    assert (tmp_path / "study.db").stat().st_size > 10_000


@pytest.mark.parametrize("name", RUNS)
def test_the_stored_rows_are_a_history(name: str, copy: Any) -> None:
    done("verify", copy(name), "--history")
