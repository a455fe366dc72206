"""A driver that wakes after another has taken its run over, and lets its worker go on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.drivers import experiment_file, quiet, rows_of, undisturbed
from integration.toy_runs import content

from raynas.experiment import load
from raynas.pipeline import launch
from raynas.runners.local import LocalRunner
from raynas.store import Provenance, RunFolder, Writer, next_session, read
from raynas.store import lease as leases
from raynas.store.lease import TakenOver
from raynas.store.working_copies import fetch

SETTINGS: dict[str, Any] = {"trials": 4, "steps": 4, "scheduler": "NoStopping()"}


def local(_loaded: Any, _folder: Path) -> LocalRunner:
    return LocalRunner()


def sleeps_before(
    row: tuple[int, int], file: Path, uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[None]:
    """The driver sleeps when about to write ``row`` (trial, step); another takes the run over.

    What comes back has an entry once that happened.
    """
    monkeypatch.setenv("RAYNAS_LEASE_SECONDS", "0.2")
    monkeypatch.setenv("RAYNAS_CACHE", str(folder / "one"))
    monkeypatch.setattr(leases.Lease, "_keep", lambda _: False)
    append, slept = Writer.append, list[None]()

    def asleep(writer: Writer, rows: Sequence[Mapping[str, Any]]) -> None:
        if slept or [(r["trial"], r["step"]) for r in rows] != [row]:
            append(writer, rows)
            return
        slept.append(time.sleep(0.3))
        with monkeypatch.context() as patch:
            patch.setenv("RAYNAS_CACHE", str(folder / "two"))
            other = RunFolder.open(fetch(uri))
            with Writer(other, next_session(read(other)), Provenance.collect(str(file))):
                pass  # it has the run, and has not come to this trial yet
        with monkeypatch.context() as patch:
            patch.setattr(writer._lease, "check", lambda **_: None)  # it had looked before
            append(writer, rows)

    monkeypatch.setattr(Writer, "append", asleep)
    return slept


def test_a_row_that_is_refused_leaves_no_hole_in_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is refused, so its worker goes no further; the other driver's goes on from there."""
    file, uri = experiment_file(tmp_path / "a", **SETTINGS), f"file://{tmp_path}/storage/run"
    trial, step = 1, 2
    slept = sleeps_before((trial, step), file, uri, tmp_path, monkeypatch)
    with pytest.raises(TakenOver):
        launch.start(load(file), uri, local, overrides={}, smoke=False, console=quiet())
    assert slept
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "two"))
    again = fetch(uri)
    stored = max(row["step"] for row in rows_of(again) if row["trial"] == trial)
    assert stored == step - 1
    kept = RunFolder.open(again).workdir(trial) / "step"
    assert int(kept.read_text()) == step - 1
    launch.resume(again, local, console=quiet())
    assert content(rows_of(again)) == undisturbed(tmp_path / "b", **SETTINGS)


def test_one_whose_last_row_does_not_count_reports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row follows whose writing would tell it, so it asks before it publishes."""
    file, uri = experiment_file(tmp_path / "a", **SETTINGS), f"file://{tmp_path}/storage/run"
    slept = sleeps_before((3, 4), file, uri, tmp_path, monkeypatch)
    with pytest.raises(TakenOver):
        launch.start(load(file), uri, local, overrides={}, smoke=False, console=quiet())
    assert slept
    assert not (tmp_path / "storage/run/report.html").exists()
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "two"))
    again = fetch(uri)
    assert len(rows_of(again)) == SETTINGS["trials"] * SETTINGS["steps"] - 1
    launch.resume(again, local, console=quiet())
    assert content(rows_of(again)) == undisturbed(tmp_path / "b", **SETTINGS)
