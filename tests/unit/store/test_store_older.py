"""Runs that a raynas without manifests wrote: they are read, and go on.

``tests/fixtures/old_runs`` was written by the code of 28 November 2026: ``merged`` (two sessions,
closed), ``crashed_merge`` (killed between the merge and the last of its removals), ``storage`` and
``working_copy`` (a run on shared storage whose driver was killed; its claim is a ``.held`` file).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raynas.store import Provenance, RunFolder, Writer, next_session, read
from raynas.store.fragments import list_fragments
from raynas.store.lease import Lease, newest
from raynas.store.older import CountedFragments
from raynas.store.remote import RemoteFolder
from raynas.store.working_copies import URI_FILE, fetch, working_copy

OLD = Path(__file__).parents[2] / "fixtures" / "old_runs"


def trials_in(folder: RunFolder) -> list[int]:
    return list(read(folder)["trial"].to_pylist())


@pytest.mark.parametrize("name", ["merged", "crashed_merge"])
def test_a_local_run_is_read_and_goes_on(
    name: str, tmp_path: Path, provenance: Provenance, row: Any
) -> None:
    folder = RunFolder.open(shutil.copytree(OLD / name, tmp_path / name))
    assert trials_in(folder) == list(range(6))
    session = next_session(read(folder))
    with Writer(folder, session, provenance) as writer:
        assert trials_in(folder) == list(range(6))
        assert list_fragments(folder.results)[1] == []  # what the crash left is gone
        writer.append([row(6)])
        assert trials_in(folder) == list(range(7))
    assert trials_in(folder) == list(range(7))
    assert [p.name for p in folder.results.glob("*.parquet")] == [
        f"{session:04d}-00000001-00000007.parquet"
    ]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAYNAS_LEASE_SECONDS", "0.2")
    shutil.copytree(OLD / "storage", tmp_path / "storage" / "run")
    return f"file://{tmp_path}/storage/run"


@pytest.mark.parametrize("with_copy", [True, False])
def test_a_run_elsewhere_is_fetched_and_goes_on(
    uri: str, with_copy: bool, provenance: Provenance, row: Any
) -> None:
    if with_copy:
        copy = shutil.copytree(OLD / "working_copy", working_copy(uri))
        (copy / URI_FILE).write_text(uri)
    folder = RunFolder.open(fetch(uri))
    assert trials_in(folder) == list(range(6))
    with Writer(folder, next_session(read(folder)), provenance) as writer:
        assert writer.session == 3
        writer.append([row(6)])
    assert trials_in(RunFolder.open(fetch(uri))) == list(range(7))


def test_a_claim_that_is_renewed_the_old_way_is_seen_to_live(
    uri: str,
) -> None:
    remote = RemoteFolder(uri)
    claim = newest(remote)
    assert claim is not None
    assert (claim.epoch, claim.free, claim.ttl) == (2, False, 0.2)
    plain = remote.read(claim.name)
    told: list[str] = []

    def renewed(words: str) -> None:
        told.append(words)
        remote.write(claim.name, plain)

    with pytest.raises(Exception, match=r"is being written by process \d+ on"):
        Lease(remote, waiting=renewed)
    assert len(told) == 1
    assert Lease(remote).epoch == 3


def test_the_rule_of_names() -> None:
    def counted(*names: str) -> tuple[str, ...]:
        return CountedFragments.of([f"{n}.parquet" for n in names]).names

    merged = "0001-00000001-00000003"
    assert counted("0001-00000002", merged, "0001-00000003") == (f"{merged}.parquet",)
    late = ("0001-00000004", "0002-00000004")  # the first came after the second session had begun
    assert counted(merged, *late) == (f"{merged}.parquet", "0002-00000004.parquet")
    assert CountedFragments.of(["0001-00000001.parquet", "0001-00000003.parquet"]).gaps == ((1, 3),)
