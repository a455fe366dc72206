from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from raynas.core import Metric, UserError
from raynas.store import RunFolder, RunInfo, Writer, new_run_id, runs_in
from raynas.store import run as run_module


def test_create_then_open_gives_the_same_run(folder: RunFolder, info: RunInfo) -> None:
    again = RunFolder.open(folder.path)
    assert again == folder
    assert again.info == info
    assert again.source.read_text() == "x = 1\n"
    assert [p.is_dir() for p in (again.results, again.best, again.checkpoints, again.figures)]


def test_infinite_settings_survive(tmp_path: Path, info: RunInfo) -> None:
    info = dataclasses.replace(info, description={"min": -math.inf}, smoke=True)
    RunFolder.create(tmp_path / "a", info, "")
    assert RunFolder.open(tmp_path / "a").info == info


def test_paths_are_absolute_whatever_was_given(
    tmp_path: Path, info: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create("runs/a", info, "")
    monkeypatch.chdir("/")
    assert folder.results == tmp_path / "runs" / "a" / "results"
    assert folder.results.is_dir()


def test_an_empty_folder_and_an_unfinished_creation_are_taken(
    tmp_path: Path, info: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()

    def crash(_: RunInfo) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunInfo, "to_json", crash)
        with pytest.raises(KeyboardInterrupt):
            RunFolder.create(tmp_path / "a", info, "old")
    with pytest.raises(UserError, match="not a run folder"):
        RunFolder.open(tmp_path / "a")
    assert RunFolder.create(tmp_path / "a", info, "new").source.read_text() == "new"


@pytest.mark.parametrize("name", ["notes.txt", "experiment.py", "results/0001-00000001.parquet"])
def test_a_folder_with_other_things_is_refused_and_left_alone(
    tmp_path: Path, info: RunInfo, name: str
) -> None:
    file = tmp_path / "a" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UserError, match=r"holds other files.*--output"):
        RunFolder.create(tmp_path / "a", info, "yours")
    assert file.read_text() == "mine"
    assert len(list((tmp_path / "a").rglob("*"))) == len(Path(name).parts)


def test_an_existing_run_is_refused_and_the_cure_is_resume(
    folder: RunFolder, info: RunInfo
) -> None:
    with pytest.raises(UserError, match=f"already exists; go on with: raynas resume {folder.path}"):
        RunFolder.create(folder.path, info, "")


def test_a_file_in_the_way(tmp_path: Path, info: RunInfo) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="a file has its path"):
        RunFolder.create(tmp_path / "a", info, "")
    with pytest.raises(UserError, match=r"ENOTDIR|has its path"):
        RunFolder.create(tmp_path / "a" / "b", info, "")


def test_an_unwritable_folder(
    tmp_path: Path, info: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run_module, "write_whole", refuse)
    with pytest.raises(UserError, match=r"cannot be written: Permission denied \(EACCES\)") as e:
        RunFolder.create(tmp_path / "a", info, "")
    assert "\n" not in str(e.value)


def test_a_missing_run_names_the_runs_beside_it(folder: RunFolder) -> None:
    with pytest.raises(UserError, match=r"digitz does not exist; the runs in .* are digits"):
        RunFolder.open(folder.path.with_name("digitz"))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run folder \(no run.json\).*raynas run"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"run": 1}', "null", "\xff"],
)
def test_an_unreadable_run_file(folder: RunFolder, text: str) -> None:
    folder.run_file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"run\.json cannot be read: .+; restore it"):
        RunFolder.open(folder.path)


LATER = {"stand_in"}


@pytest.mark.parametrize("field", sorted({f.name for f in dataclasses.fields(RunInfo)} - LATER))
def test_a_run_file_that_lacks_a_field(folder: RunFolder, field: str) -> None:
    data = json.loads(folder.run_file.read_text())
    del data[field]
    folder.run_file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=f"lacks {field}"):
        RunFolder.open(folder.path)


def test_a_run_file_of_before_lacks_a_field_that_came_later(folder: RunFolder) -> None:
    data = json.loads(folder.run_file.read_text())
    assert data.pop("stand_in") is False
    folder.run_file.write_text(json.dumps(data))
    assert RunFolder.open(folder.path).info.stand_in is False
    folder.run_file.write_text(json.dumps({**data, "stand_in": True}))
    assert RunFolder.open(folder.path).info.stand_in is True
    folder.run_file.write_text(json.dumps({**data, "stand_in": "yes"}))
    with pytest.raises(UserError, match="stand_in is not of type bool"):
        RunFolder.open(folder.path)


def test_a_newer_schema_asks_for_an_upgrade_whatever_else_changed(folder: RunFolder) -> None:
    folder.run_file.write_text('{"schema_version": 99, "all": "new"}')
    with pytest.raises(UserError, match=r"version 99; expected: up to 1; .*upgrade raynas"):
        RunFolder.open(folder.path)


def test_another_experiment_is_refused_and_the_change_shown(folder: RunFolder) -> None:
    folder.expect("0123456789ab")
    changed = {"trials": 64, "sampler": {"class": "TPE", "seed": 2}, "bounds": [1, 2]}
    with pytest.raises(UserError, match=r"trials: 32 -> 64, sampler.seed: 1 -> 2\); undo") as e:
        folder.expect("ffffffffffff", changed)
    assert "bounds" not in str(e.value)
    with pytest.raises(UserError, match="not ffffffffffff; undo"):
        folder.expect("ffffffffffff")


def test_runs_in_lists_runs_only(folder: RunFolder) -> None:
    (folder.path.parent / "other").mkdir()
    assert runs_in(folder.path.parent) == [folder.path]
    assert runs_in(folder.path.parent / "missing") == []


def test_run_ids_differ() -> None:
    assert len({new_run_id("a") for _ in range(20)}) == 20


def test_live_writer_is_known_while_it_lives(folder: RunFolder, writer: Writer) -> None:
    assert folder.live_writer() == os.getpid()
    writer.close()
    assert folder.live_writer() is None


def test_metrics_are_checked_before_anything_is_made(tmp_path: Path, info: RunInfo) -> None:
    info = dataclasses.replace(info, metrics=(Metric("trial", "", "max"),))
    with pytest.raises(UserError, match="rename"):
        RunFolder.create(tmp_path / "a", info, "")
    assert not (tmp_path / "a").exists()
