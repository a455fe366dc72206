"""Runs whose storage is a file system of pyarrow, here ``file://``."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raynas.core import UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, next_session, read, working_copies
from raynas.store import lease as leases
from raynas.store import remote as remotes
from raynas.store.checkpoint_mirror import CheckpointMirror
from raynas.store.files import FileLock
from raynas.store.lease import Lease, TakenOver, newest
from raynas.store.local_storage import LocalStorage
from raynas.store.remote import RemoteFolder, is_uri
from raynas.store.system import RealSystem, system
from raynas.store.working_copies import fetch, look, remote_of, working_copy


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return (tmp_path / "bucket" / "runs" / "digits").as_uri()


@pytest.fixture
def away(uri: str, info: RunInfo) -> RunFolder:
    """A run that lives at ``uri``."""
    return RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)


def test_uris_are_told_from_paths() -> None:
    assert all(map(is_uri, ("s3://b/x", "gs://b", "hdfs://h:1/x", "file:///tmp/x")))
    assert not any(map(is_uri, ("runs/x", "/tmp/x", "C:/x", "s3:/x", Path("s3://b/x"))))


def test_a_uri_that_nothing_opens_is_a_line() -> None:
    with pytest.raises(UserError, match=r"ftp://x/y.*s3://bucket"):
        RemoteFolder("ftp://x/y").names()


def test_credentials_are_not_shown() -> None:
    assert RemoteFolder("s3://me:secret@bucket/run?scheme=http").shown == "s3://bucket/run"


def test_files_are_whole_named_from_here_and_gone_when_removed(uri: str) -> None:
    remote = RemoteFolder(uri)
    assert remote.names() == {}
    remote.write("results/a.parquet", b"123")
    remote.write("run.json", b"{}")
    assert remote.names() == {"results/a.parquet": 3, "run.json": 2}
    assert remote.below("results").names() == {"a.parquet": 3}
    assert pickle.loads(pickle.dumps(remote)).read("results/a.parquet") == b"123"
    remote.remove("run.json")
    remote.remove("run.json")
    remote.remove_folder("results")
    remote.remove_folder("results")
    assert remote.names() == {}
    with pytest.raises(FileNotFoundError):
        remote.read("run.json")


def test_storage_that_fails_is_asked_again_but_not_for_ever(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotes, "_FIRST_PAUSE", 0.001)
    remote, failures = RemoteFolder(uri), [5]

    def action() -> str:
        if failures[0]:
            failures[0] -= 1
            raise OSError("503 Slow Down")
        return "done"

    assert remote._patiently(action, "writing x") == "done"
    failures[0] = 6
    with pytest.raises(OSError, match="writing x: 503 Slow Down"):
        remote._patiently(action, "writing x")
    failures[0] = 6
    monkeypatch.setattr(remotes, "_is_final", lambda _: True)
    with pytest.raises(OSError, match="503"):
        remote._patiently(action, "writing x")
    assert failures[0] == 5  # refused: not asked again


def test_a_run_is_written_here_and_there_and_read_from_anywhere(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path
) -> None:
    with Writer(away, 1, provenance, merge_every=4) as writer:
        for trial in range(6):
            writer.append([row(trial)])
            assert set(_fragments(away.path)) <= set(_there(uri))
    assert _fragments(away.path) == ["0001-00000001-00000006.parquet"]
    shutil.rmtree(tmp_path / "cache")  # another machine
    again = RunFolder.open(fetch(uri))
    assert remote_of(again.path) == RemoteFolder(uri)
    assert read(again)["trial"].to_pylist() == list(range(6))
    assert again.place == uri


def test_fetching_brings_what_is_new_and_drops_what_was_merged(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with Writer(away, 1, provenance) as writer:
        writer.append([row(0)])
        writer.append([row(1)])
        monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
        other = RunFolder.open(fetch(uri))
        assert len(_fragments(other.path)) == 2
        writer.compact()
        writer.append([row(2)])
    fetch(uri)
    assert _fragments(other.path) == ["0001-00000001-00000003.parquet"]
    assert read(other)["trial"].to_pylist() == [0, 1, 2]


def test_a_look_on_the_drivers_machine_takes_nothing_from_it(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(away, 1, provenance) as writer:
        writer.append([row(0)])
        with monkeypatch.context() as patch:
            patch.setattr(RemoteFolder, "stats", None)  # the storage is not even asked
            assert look(uri) == fetch(uri) == away.path
        writer.append([row(1)])
    assert read(away)["trial"].to_pylist() == [0, 1]


def test_who_drives_a_run_is_told_on_every_machine(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cache = os.environ["RAYNAS_CACHE"]
    with Writer(away, 1, provenance) as writer:
        writer.append([row(0)])
        assert away.driver() == f"process {os.getpid()}"
        monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
        other = RunFolder.open(look(uri))
        assert other.driver() == f"process {os.getpid()} on {socket.gethostname()}"
        with monkeypatch.context() as patch:
            later = system().monotonic() + 61
            patch.setattr(RealSystem, "monotonic", lambda _: later)
            assert other.driver() == ""  # its claim did not change meanwhile
        writer.append([row(1)])
        assert read(other)["trial"].to_pylist() == [0]
        assert read(other.refresh())["trial"].to_pylist() == [0, 1]
    assert other.driver() == ""
    monkeypatch.setenv("RAYNAS_CACHE", cache)
    assert away.driver() == ""


def test_a_place_that_is_taken_is_refused(away: RunFolder, info: RunInfo, uri: str) -> None:
    with pytest.raises(UserError, match=r"already holds a run.*raynas resume"):
        RunFolder.create(away.path.with_name("other"), info, "x = 2\n", uri=uri)


def test_of_two_creators_one_wins(
    uri: str, info: RunInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both have seen that nothing is there."""
    plain, other = RemoteFolder.names, list[RunFolder]()

    def meanwhile(remote: RemoteFolder, folder: str = "") -> dict[str, int]:
        found = plain(remote, folder)
        if not other:
            monkeypatch.setattr(RemoteFolder, "names", plain)
            mine = dataclasses.replace(info, run="another")
            other.append(RunFolder.create(tmp_path / "other", mine, "x = 2\n", uri=uri))
        return found

    monkeypatch.setattr(RemoteFolder, "names", meanwhile)
    with pytest.raises(UserError, match=r"already holds a run.*raynas resume"):
        RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)
    assert RunFolder.open(fetch(uri)).info.run == "another"
    assert (fetch(uri) / "experiment.py").read_text() == "x = 2\n"


class Killed(BaseException):
    """As by SIGKILL: nothing that would tidy up may act on the storage any more."""


@pytest.mark.parametrize("before", ["run.json", "experiment.py"])
def test_a_creation_that_was_killed_leaves_a_name_that_serves(
    uri: str, info: RunInfo, before: str, provenance: Provenance, row: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plain = LocalStorage._parent

    def dies(storage: LocalStorage, name: str) -> Path:
        if name == before:
            raise Killed
        return plain(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "_parent", dies)
        with pytest.raises(Killed):
            RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)
    if before == "run.json":  # nothing of it is there
        RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)
    folder = RunFolder.open(fetch(uri))
    assert folder.source.read_text() == "x = 1\n"
    with Writer(folder, 1, provenance) as writer:
        writer.append([row(0)])
    assert read(folder).num_rows == 1


def test_what_a_killed_creation_of_an_older_raynas_left_is_taken(uri: str, info: RunInfo) -> None:
    RemoteFolder(uri).write("experiment.py", b"x = 0\n")
    folder = RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)
    assert folder.source.read_text() == "x = 1\n"
    assert RemoteFolder(uri).read("experiment.py") == b"x = 1\n"


def test_a_resume_with_another_budget_keeps_the_source(away: RunFolder, uri: str) -> None:
    away.update(overrides={"trials": 64}, description={})
    RemoteFolder(uri).remove("experiment.py")
    away.source.unlink()
    assert RunFolder.open(fetch(uri)).info.overrides == {"trials": 64}
    assert away.source.read_text() == "x = 1\n"


def test_another_run_at_the_same_place_is_not_mixed_with_the_first(
    away: RunFolder, uri: str, info: RunInfo, provenance: Provenance, row: Any, tmp_path: Path
) -> None:
    with Writer(away, 1, provenance, merge_every=2) as writer:
        for trial in range(5):
            writer.append([row(trial)])
    shutil.rmtree(tmp_path / "bucket")
    again = RunFolder.create(tmp_path / "b", dataclasses.replace(info, run="n"), "", uri=uri)
    with Writer(again, 1, provenance) as writer:
        writer.append([row(9)])
    assert read(RunFolder.open(fetch(uri)))["trial"].to_pylist() == [9]


def test_a_refresh_fetches_only_what_changed(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    remote = RemoteFolder(uri)
    remote.write("supernet/weights.safetensors", b"w" * 1000)
    remote.write("best/model.pt", b"m" * 1000)
    with Writer(away, 1, provenance) as writer:
        writer.append([row(0)])
        monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
        other = RunFolder.open(fetch(uri))
        assert (other.supernet / "weights.safetensors").read_bytes() == b"w" * 1000
        asked: list[str] = []
        plain = RemoteFolder.read
        monkeypatch.setattr(RemoteFolder, "read", lambda r, n: asked.append(n) or plain(r, n))
        fetch(uri)
        assert [n for n in asked if not n.startswith("results/")] == []
        assert [n for n in asked if n.endswith("00000001.parquet")] == []
        remote.write("best/model.pt", b"n" * 1000)  # of the same size
        writer.append([row(1)])
        fetch(uri)
        assert [n for n in asked if not n.startswith("results/")] == ["best/model.pt"]
        assert (other.best / "model.pt").read_bytes() == b"n" * 1000
    assert read(other)["trial"].to_pylist() == [0, 1]


@pytest.mark.usefixtures("away")
def test_two_fetches_into_one_working_copy_take_turns(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
    copy = fetch(uri)
    first = FileLock(copy / working_copies.FETCH_LOCK)
    monkeypatch.setattr(working_copies, "_PATIENCE", 0.0)
    with pytest.raises(UserError, match="is being written by process"):
        fetch(uri)
    first.release()
    assert fetch(uri) == copy


def test_a_second_start_looks_before_it_claims(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with Writer(away, 1, provenance, lease_seconds=0.4) as writer:
        monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
        other = RunFolder.open(fetch(uri))
        made: list[str] = []
        plain = LocalStorage._parent
        root = Path(uri.removeprefix("file://"))

        def noted(storage: LocalStorage, name: str) -> Path:
            if storage.root == root:
                made.append(name)
            return plain(storage, name)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "_parent", noted)
            with pytest.raises(UserError, match="is being written by"):
                Writer(other, 2, provenance)
        assert set(made) <= {"lease/000001.json"}  # the holder's renewals
        writer.append([row(0)])
    assert read(other.refresh()).num_rows == 1


def test_a_keeper_goes_on_whatever_fails(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(RemoteFolder(uri), ttl=60)
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "_touch", lambda _: 1 / 0)
        assert lease._keep()
    before = newest(RemoteFolder(uri))
    assert lease._keep()
    after = newest(RemoteFolder(uri))
    assert before is not None
    assert after is not None
    assert before.mark != after.mark
    lease.release()
    assert not lease._keep()


def test_the_time_to_live_is_the_holders_own(uri: str) -> None:
    short = Lease(RemoteFolder(uri), ttl=0.2)
    short._stop()
    told: list[str] = []
    assert Lease(RemoteFolder(uri), ttl=3600, waiting=told.append).epoch == 2
    assert "waiting up to 0 s" in told[0]


def test_a_second_writer_is_refused_with_the_holders_name(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with Writer(away, 1, provenance, lease_seconds=0.4) as writer:
        writer.append([row(0)])
        monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
        other = RunFolder.open(fetch(uri))
        before, told = RemoteFolder(uri).names(), list[str]()
        with pytest.raises(UserError, match=r"is being written by process \d+ on"):
            Writer(other, 2, provenance, waiting=told.append)
        assert f"held by process {os.getpid()} on" in told[0]
        assert RemoteFolder(uri).names().keys() == before.keys()  # nothing of it is there
        writer.append([row(2)])
    with Writer(other, 2, provenance) as later:
        later.append([row(1)])
    assert read(other)["session"].to_pylist() == [1, 2, 1]


def test_a_writer_from_the_dead_is_stopped_and_fenced_off(
    away: RunFolder, uri: str, provenance: Provenance, row: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(leases.Lease, "_keep", lambda _: False)  # nobody renews its claim
    dead = Writer(away, 1, provenance, lease_seconds=0.2)
    dead.append([row(0)])
    assert dead._lease is not None
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "elsewhere"))
    other = RunFolder.open(fetch(uri))
    time.sleep(0.3)
    alive = Writer(other, next_session(read(other)), provenance, lease_seconds=0.2)
    # it was just about to write when it fell asleep: the lease was looked at before
    with monkeypatch.context() as patch:
        patch.setattr(dead._lease, "check", lambda **_: None)
        with pytest.raises(TakenOver, match=r"taken over by process \d+"):
            dead.append([row(5)])
    alive.append([row(1)])
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "third"))
    seen = RunFolder.open(fetch(uri))
    assert read(seen)["trial"].to_pylist() == [0, 1]
    # and by the ordinary way it hears that it is dead
    with pytest.raises(TakenOver, match=r"taken over by process \d+"):
        dead.append([row(6)])
    dead.close()
    alive.close()
    assert read(seen)["trial"].to_pylist() == [0, 1]


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_of_the_storage_that_was_put_back_keeps_no_dead_writer_alive(
    uri: str, hours: int
) -> None:
    dead = Lease(RemoteFolder(uri), ttl=0.1)
    dead._stop()  # killed: it renews nothing any more
    claim = newest(RemoteFolder(uri))
    assert claim is not None
    file, seen = Path(uri.removeprefix("file://")) / claim.name, time.time() + 3600 * hours
    os.utime(file, (seen, seen))
    heir = Lease(RemoteFolder(uri))
    assert heir.epoch == 2
    heir.release()


def test_a_torn_fragment_is_named_where_the_run_lives(
    away: RunFolder, uri: str, provenance: Provenance, row: Any
) -> None:
    with Writer(away, 1, provenance) as writer:
        writer.append([row(0)])
    remote = RemoteFolder(uri)
    (name,) = [n for n in remote.names("results") if "/0001-" in n]
    remote.write(name, remote.read(name)[:100])
    told = rf"fragment {uri}/{name} is torn.*move it away to \S+.torn and"
    with pytest.raises(UserError, match=told):
        read(RunFolder.open(fetch(uri)))
    remote.write(f"{name}.torn", remote.read(name))  # the hint
    remote.remove(name)
    assert read(RunFolder.open(fetch(uri))).num_rows == 0


def test_epochs_never_come_twice(uri: str) -> None:
    remote = RemoteFolder(uri)
    epochs = []
    for _ in range(3):
        lease = Lease(remote)
        epochs.append(lease.epoch)
        lease.release()
        lease.release()
    assert epochs == [1, 2, 3]
    claim = newest(remote)
    assert claim is not None
    assert claim.free
    assert Lease(remote, least=9).epoch == 9


def test_of_many_that_want_the_lease_at_once_one_gets_it(uri: str) -> None:
    got, refused = [], []

    def want() -> None:
        try:
            got.append(Lease(RemoteFolder(uri), ttl=0.4))
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 3
    for lease in got:
        lease.release()


def test_a_trials_folder_follows_its_worker(uri: str, tmp_path: Path) -> None:
    remote = RemoteFolder(uri).below("checkpoints/000003")
    first = CheckpointMirror(tmp_path / "one" / "000003", remote)
    first.pull()
    place = first.folder / "checkpoint-000001"
    place.mkdir(parents=True)
    (place / "weights.safetensors").write_bytes(b"w" * 10)
    (place / "state.json").write_bytes(b"{}")
    first.push()
    second = CheckpointMirror(tmp_path / "two" / "000003", remote)
    second.pull()
    assert (second.folder / "checkpoint-000001" / "weights.safetensors").read_bytes() == b"w" * 10
    shutil.rmtree(second.folder / "checkpoint-000001")
    second.push()
    assert remote.names() == {}


def test_a_pull_makes_the_folder_equal(uri: str, tmp_path: Path) -> None:
    remote = RemoteFolder(uri).below("checkpoints/000003")
    remote.write("checkpoint-000002/weights", b"22")
    remote.write("state.json", b"{}")
    mirror = CheckpointMirror(tmp_path / "w", remote)
    left = mirror.folder / "checkpoint-000009" / "weights"  # of another trial, or a later attempt
    left.parent.mkdir(parents=True)
    left.write_bytes(b"99")
    (mirror.folder / "checkpoint-000002").mkdir()
    (mirror.folder / "checkpoint-000002" / "weights").write_bytes(b"xx")  # of the same size
    mirror.pull()
    assert not left.parent.exists()
    assert (mirror.folder / "checkpoint-000002" / "weights").read_bytes() == b"22"
    remote.write("checkpoint-000002/weights", b"23")
    CheckpointMirror(mirror.folder, remote).pull()
    assert (mirror.folder / "checkpoint-000002" / "weights").read_bytes() == b"23"


def test_a_pull_fetches_nothing_twice(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteFolder(uri).below("checkpoints/000003")
    remote.write("weights", b"1" * 100)
    CheckpointMirror(tmp_path / "w", remote).pull()
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "read", None)
        CheckpointMirror(tmp_path / "w", remote).pull()
    assert (tmp_path / "w" / "weights").read_bytes() == b"1" * 100
    CheckpointMirror(tmp_path / "w", remote).push()
    assert list(remote.names()) == ["weights"]


def _there(uri: str) -> list[str]:
    return sorted(n.rpartition("/")[2] for n in RemoteFolder(uri).names("results"))


def _fragments(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "results").glob("*.parquet"))
