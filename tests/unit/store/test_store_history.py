"""The checker of a run's stored rows: it passes what is right, and names what is not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from raynas.core import TrialState
from raynas.store import Provenance, RunFolder, Writer
from raynas.store.fragments import name_for, read_fragment
from raynas.store.history import check

OLD = Path(__file__).parents[2] / "fixtures" / "old_runs"


def test_a_history_with_resumes_retries_and_merges_holds(
    folder: RunFolder, provenance: Provenance, row: Any
) -> None:
    assert check(folder) == []
    with Writer(folder, 1, provenance, merge_every=2) as writer:
        writer.append([row(0, 0), row(1, 1)])  # step 0: a screening
        writer.append([row(0, 1), row(1, 2)])
        writer.append([row(0, None, state="RUNNING", message="out of memory")])
        writer.append([row(0, 2, attempt=1), row(1, 3, state="COMPLETE")])
        writer.append([row(2, 1), row(2, None, state="STOPPED")])
    with Writer(folder, 2, provenance) as writer:
        writer.append([row(0, 2, attempt=0), row(0, 3, state="COMPLETE")])  # from a checkpoint
        writer.append([row(2, 2, state="COMPLETE")])
    assert check(folder) == []


@pytest.mark.parametrize("name", ["merged", "crashed_merge"])
def test_older_runs_hold(name: str, tmp_path: Path) -> None:
    assert check(RunFolder.open(shutil.copytree(OLD / name, tmp_path / name))) == []


#: whose steps show what an evaluator of this stage measures
OTHER = [{"trial": 1, "step": step} for step in (1, 2, 3)]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"arch": "a"}, {"arch": "b", "step": 2}], "trial 0: its arch is 'a' and 'b'"),
        ([{"seed": 1}, {"seed": 2, "step": 2}], "trial 0: its seed is 1 and 2"),
        ([{"stage": "final"}, {"step": 2}], "trial 0: its stage is 'final' and 'search'"),
        ([{"arm": "x"}, {"step": 2}], "trial 0: its arm is 'random' and 'x'"),
        ([*OTHER, {}, {"step": 3}], "trial 0: step 2 is missing, and step 3 is there"),
        ([*OTHER, {"step": 2}], "trial 0: step 1 is missing"),
        ([{}, {"step": 2}, {"step": 2}], "follows step 2"),
        ([{"attempt": 1}, {"attempt": 0, "step": 2}], "attempt 0 in .* follows attempt 1"),
        ([{"state": "COMPLETE"}, {"step": 2}], r"a row \(RUNNING, step 2\) in .* follows its end"),
        ([{"session": 2}, {"trial": 1, "session": 1}], "a row of session 1 in .* follows"),
    ],
)
def test_what_is_wrong_is_named(
    folder: RunFolder, writer: Writer, row: Any, rows: list[dict[str, Any]], told: str
) -> None:
    for given in rows:
        writer.append([row(**{"trial": 0, **given})])
    assert any(re.search(told, line) for line in check(folder)), check(folder)
    writer.compact()
    assert any(re.search(told, line) for line in check(folder))


def test_an_end_may_be_told_after_the_last_step(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1, state="STOPPED"), row(0, None, state=TrialState.STOPPED)])
    assert check(folder) == []


def test_fragments_that_overlap_or_lie_in_the_wrong_place_are_named(
    folder: RunFolder, provenance: Provenance, row: Any
) -> None:
    with Writer(folder, 1, provenance) as writer:
        for trial in range(3):
            writer.append([row(trial)])
        first = folder.results / name_for(1, 1)
        kept = first.read_bytes()
    assert read_fragment(folder.results / name_for(1, 1, 3)).num_rows == 3
    (file,) = folder.results.glob("_manifest*")
    manifest = json.loads(file.read_bytes())
    first.write_bytes(kept)
    manifest["fragments"].append(first.name)
    file.write_text(json.dumps(manifest))
    told = check(folder)
    assert f"{name_for(1, 1, 3)} and {first.name} hold the same appends" in "\n".join(told)
    manifest |= {"first": 2, "epoch": 0}
    file.write_text(json.dumps(manifest))
    assert "behind its first slot 2" in "\n".join(check(folder))
    assert "epoch 0 names" in "\n".join(check(folder))


def test_an_evaluator_that_measures_some_steps_only_leaves_no_hole(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    for trial in range(3):
        writer.append([row(trial=trial, step=step) for step in (4, 12)])
    assert check(folder) == []
