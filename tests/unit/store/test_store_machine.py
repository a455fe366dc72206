"""The store and its reader against a list: any order of appends, merges, crashes and resumes."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raynas.core import Metric, UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read
from raynas.store.fragments import list_fragments, read_fragment
from raynas.store.history import check
from raynas.store.remote import RemoteFolder
from raynas.store.working_copies import fetch, working_copy

PROVENANCE = Provenance("", {}, "h", "p", 1)


def one(trial: int) -> dict[str, Any]:
    return {
        "stage": "search", "arm": "a", "trial": trial, "attempt": 0, "arch_id": "", "arch": "",
        "proposal": "", "seed": 0, "step": 1, "state": "COMPLETE", "seconds": 0.0, "device": "",
    }  # fmt: skip


class Store(RuleBasedStateMachine):
    """``expected``: the trials that must be there, in order; each has one row."""

    remote = False

    def __init__(self) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp(prefix="raynas-store-"))
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.object(os, "fsync", return_value=None))
        self.patches.enter_context(
            mock.patch.dict(os.environ, {"RAYNAS_CACHE": str(self.parent / "driver")})
        )
        self.expected: list[int] = []
        self.next = 0
        self.session = 1
        self.kept: dict[str, bytes] = {}
        self.open: Writer | None = None

    @initialize(merge_every=st.integers(2, 5))
    def create(self, merge_every: int) -> None:
        info = RunInfo("r", "r", "0", {}, "", {}, (Metric("loss", "", "min"),))
        self.merge_every = merge_every
        self.uri = (self.parent / "storage" / "run").as_uri() if self.remote else ""
        path = working_copy(self.uri) if self.remote else self.parent / "run"
        self.folder = RunFolder.create(path, info, "x = 1\n", self.uri)
        self.begin()

    def begin(self) -> Writer:
        if self.open is None:
            self.open = Writer(
                self.folder, self.session, PROVENANCE, merge_every=self.merge_every,
                lease_seconds=0.1,
            )  # fmt: skip
        return self.open

    def remember(self) -> None:
        """What lies there now may come back: as if a removal had not come to pass."""
        if not self.remote:
            self.kept |= {p.name: p.read_bytes() for p in self.folder.results.glob("*.parquet")}

    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        trials = list(range(self.next, self.next + count))
        self.next += count
        self.begin().append([one(trial) for trial in trials])
        self.expected += trials

    @rule()
    def compact(self) -> None:
        self.remember()
        self.begin().compact()

    @rule()
    def close(self) -> None:
        self.begin().close()
        self.open = None
        self.session += 1

    @rule()
    def crash(self) -> None:
        """Killed: the system gives its lock back; its claim stands until it has run out."""
        writer = self.begin()
        if writer._lease is not None:
            writer._lease._stop()
        writer._lock.release()
        self.open = None
        self.session += 1

    @precondition(lambda self: not self.remote and self.kept)
    @rule(data=st.data())
    def crash_before_removals(self, data: st.DataObject) -> None:
        self.crash()
        back = data.draw(st.lists(st.sampled_from(sorted(self.kept)), max_size=3, unique=True))
        for name in back:
            if not (self.folder.results / f"{name}.torn").exists():
                (self.folder.results / name).write_bytes(self.kept[name])

    @rule(name=st.sampled_from([".tmp-1-x", "notes.txt", "0001-00000099.parquet.bak"]))
    def foreign_file(self, name: str) -> None:
        (self.folder.results / name).write_bytes(b"something")

    @precondition(lambda self: not self.remote and self.expected)
    @rule(data=st.data())
    def torn(self, data: st.DataObject) -> None:
        """A fragment loses its end; the user takes it away, and its rows are gone."""
        self.crash()
        counted, _ = list_fragments(self.folder.results)
        path = data.draw(st.sampled_from([f.path for f in counted]))
        lost = read_fragment(path)["trial"].to_pylist()
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UserError, match="is torn"):
            read(self.folder)
        path.rename(f"{path}.torn")
        self.kept.clear()
        self.expected = [trial for trial in self.expected if trial not in lost]

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "folder"):
            return
        counted, _ = list_fragments(self.folder.results)
        stored = [t for f in counted for t in read_fragment(f.path)["trial"].to_pylist()]
        assert stored == self.expected
        assert read(self.folder)["trial"].to_pylist() == sorted(self.expected)
        assert check(self.folder) == []

    def teardown(self) -> None:
        if self.open is not None:
            self.open.close()
        self.patches.close()
        shutil.rmtree(self.parent)


class StoreElsewhere(Store):
    """The same for a run with a URI, and as another machine sees it."""

    remote = True

    @rule()
    def fetched(self) -> None:
        with mock.patch.dict(os.environ, {"RAYNAS_CACHE": str(self.parent / "reader")}):
            seen = RunFolder.open(fetch(self.uri))
        assert read(seen)["trial"].to_pylist() == self.expected
        assert check(seen) == []
        there = RemoteFolder(self.uri).names("results")
        counted = {f"results/{f.path.name}" for f in list_fragments(seen.results)[0]}
        assert counted <= there.keys()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim whose holder was crashed here is known to be dead."""
    monkeypatch.setattr("raynas.store.system.RealSystem.is_dead", lambda *_: True)


_SETTINGS = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
Store.TestCase.settings = _SETTINGS
StoreElsewhere.TestCase.settings = _SETTINGS
TestStore = Store.TestCase
TestStoreElsewhere = StoreElsewhere.TestCase
