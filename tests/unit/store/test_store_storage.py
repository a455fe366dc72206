"""Storages, URIs and their secrets, and the machine as the store sees it."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from raynas.core import UserError
from raynas.store import remote as remotes
from raynas.store.arrow_storage import ArrowStorage
from raynas.store.local_storage import LocalStorage
from raynas.store.object_storage import ObjectStorage
from raynas.store.remote import RemoteFolder
from raynas.store.storage import OPENERS, Storage, open_storage
from raynas.store.system import RealSystem, system
from raynas.store.uris import scrubbed, shown, taken_apart


@pytest.fixture(params=["local", "arrow", "objects"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "a")
    if request.param == "arrow":
        return ArrowStorage(fs.LocalFileSystem(), str(tmp_path / "a"))
    from obstore.store import MemoryStore

    return ObjectStorage(MemoryStore())


def test_every_storage_does_the_same(storage: Storage) -> None:
    assert storage.stats() == {}
    storage.write("b/c", b"1")
    storage.write("b/c", memoryview(b"22"))
    storage.create("b/d", b"333")
    with pytest.raises(FileExistsError):
        storage.create("b/d", b"4")
    assert storage.read("b/d") == b"333"
    first = storage.stats("b")
    assert {name: stat.size for name, stat in first.items()} == {"b/c": 2, "b/d": 3}
    storage.write("b/c", b"23")
    second = storage.stats()
    assert first["b/c"].tag != second["b/c"].tag
    assert first["b/d"].tag == second["b/d"].tag
    storage.remove("b/c")
    storage.remove("b/c")
    with pytest.raises(FileNotFoundError):
        storage.read("b/c")
    storage.remove_folder("b")
    storage.remove_folder("b")
    assert storage.stats() == {}


def test_of_many_that_create_a_file_one_does(tmp_path: Path) -> None:
    storage, won = LocalStorage(tmp_path), list[int]()

    def create(number: int) -> None:
        try:
            storage.create("x", b"%d" % number)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [storage.read("x")] == [b"%d" % number for number in won]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links_serves_too(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    storage = LocalStorage(tmp_path)
    storage.create("x", b"1")
    with pytest.raises(FileExistsError):
        storage.create("x", b"2")
    assert storage.read("x") == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


# -- creating through errors -------------------------------------------------------------------


class Flaky:
    """A storage whose creations take effect, and answer with an error."""

    def __init__(self, *errors: OSError) -> None:
        self.files: dict[str, bytes] = {}
        self.errors = list(errors)

    def read(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(2, name) from None

    def create(self, name: str, data: bytes) -> None:
        taken = name in self.files
        self.files.setdefault(name, data)
        if self.errors:
            raise self.errors.pop(0)
        if taken:
            raise FileExistsError(17, name)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    found = Flaky()
    monkeypatch.setitem(OPENERS, "flaky", lambda _: found)
    monkeypatch.setattr(remotes, "_FIRST_PAUSE", 0.0)
    return found


def test_what_was_created_before_the_answer_was_lost_is_ours(flaky: Flaky) -> None:
    flaky.errors = [OSError(5, "timed out"), OSError(5, "timed out")]
    RemoteFolder("flaky://x").create("a", b"mine")
    with pytest.raises(FileExistsError):
        RemoteFolder("flaky://x").create("a", b"other")
    flaky.files["b"] = b"other"
    flaky.errors = [OSError(5, "timed out")]
    with pytest.raises(FileExistsError):
        RemoteFolder("flaky://x").create("b", b"mine")


def test_a_conflict_of_two_requests_that_both_failed_is_tried_again(flaky: Flaky) -> None:
    """S3 answers 409 to one of them, though no object is there."""
    plain = flaky.create
    calls: list[str] = []

    def create(name: str, data: bytes) -> None:
        calls.append(name)
        if len(calls) == 1:
            raise FileExistsError(17, "409 Conflict")
        plain(name, data)

    flaky.create = create  # type: ignore[method-assign]
    RemoteFolder("flaky://x").create("a", b"mine")
    assert flaky.files == {"a": b"mine"}


# -- URIs --------------------------------------------------------------------------------------

SLASHED = "wJalr/XUtn+FEMI"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://me:secret@bucket/run?scheme=http", "s3://bucket/run"),
        (f"s3://me:{SLASHED}@bucket/run/x", "s3://bucket/run/x"),
        ("s3://me:wJalr%2FXUtn%2BFEMI@bucket/run", "s3://bucket/run"),
        ("s3://bucket/run@2", "s3://bucket/run@2"),
        ("hdfs://host:8020/a@b", "hdfs://host:8020/a@b"),
        ("hdfs://user@host:8020/a", "hdfs://host:8020/a"),
        ("abfs://box:word@acc.dfs.core.windows.net/p", "abfs://box@acc.dfs.core.windows.net/p"),
        ("file:///tmp/a%20b", "file:///tmp/a%20b"),
    ],
)
def test_credentials_and_options_are_not_shown(uri: str, place: str) -> None:
    assert shown(uri) == RemoteFolder(uri).shown == place
    assert repr(RemoteFolder(uri)) == f"Remote({place!r})"


@pytest.mark.parametrize("form", [SLASHED, "wJalr%2FXUtn%2BFEMI", "wJalr%2fXUtn%2bFEMI"])
def test_a_secret_with_a_slash_is_in_no_message(form: str) -> None:
    for written in (SLASHED, "wJalr%2FXUtn%2BFEMI"):
        uri = f"s3://me:{written}@bucket/run"
        told = scrubbed(f"cannot sign with {form} for {uri}: no", uri)
        assert told == "cannot sign with *** for s3://bucket/run: no"
        assert taken_apart(uri).password == SLASHED
    sas = "abfs://box@a.dfs.core.windows.net/p?client_secret=abc%2Fdef"
    assert scrubbed("abc/def abc%2Fdef", sas) == "*** ***"


def test_a_secret_is_in_no_error_of_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"s3://me:{SLASHED}@bucket/run?endpoint_override=127.0.0.1:1&scheme=http"
    monkeypatch.setattr(remotes, "_TRIES", 1)
    with pytest.raises(OSError, match="reading x") as refused:
        RemoteFolder(uri).read("x")
    with pytest.raises(UserError, match=r"option 'what'.*is not one of") as unknown:
        RemoteFolder(f"{uri}&what=1").read("x")

    def fails(_: str) -> Storage:
        raise OSError(f"library: {uri} with {SLASHED}")

    monkeypatch.setitem(OPENERS, "s3", fails)
    with pytest.raises(UserError, match=r"library: s3://bucket/run with \*\*\*") as other:
        RemoteFolder(uri).read("x")
    for error in (refused.value, unknown.value, other.value):
        assert "XUtn" not in f"{error}{error!r}{error.__cause__}"


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("s3://k:s@b/p/q?endpoint_override=127.0.0.1:9000&scheme=http", ("b", "p/q")),
        ("s3://b/p?region=eu-west-1&allow_bucket_creation=true", ("b", "p")),
        ("gs://anonymous@b/p?endpoint_override=localhost:1&scheme=http", ("b", "p")),
    ],
)
def test_pyarrows_uris_of_object_stores_are_understood(uri: str, names: tuple[str, str]) -> None:
    storage = open_storage(uri)
    assert isinstance(storage, ObjectStorage)
    assert f'bucket="{names[0]}"' in repr(storage.store)
    assert f'prefix="{names[1]}"' in repr(storage.store)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("abfs://box:pw@acc.dfs.core.windows.net/p/q", ("acc", "box", "p/q")),
        ("abfs://:pw@acc.blob.core.windows.net/box/p", ("acc", "box", "p")),
        ("abfs://acc:pw@box/p", ("acc", "box", "p")),
    ],
)
def test_the_forms_of_azures_uris(uri: str, parts: tuple[str, str, str]) -> None:
    place = taken_apart(uri)
    assert place.azure() == parts
    assert place.password == "pw"


def test_the_credentials_of_a_profile_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.store.object_storage import _s3_credentials

    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = A\naws_secret_access_key = B%C\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    found = {"access_key_id": "A", "secret_access_key": "B%C"}
    assert _s3_credentials(taken_apart("s3://b/p")) == found
    assert _s3_credentials(taken_apart("s3://anonymous@b/p")) == {"skip_signature": True}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "X")
    assert _s3_credentials(taken_apart("s3://b/p")) == {}


def test_a_file_uri_of_another_host_is_refused() -> None:
    with pytest.raises(UserError, match="host 'other'"):
        RemoteFolder("file://other/path").names()


# -- the machine -------------------------------------------------------------------------------


def test_a_dead_process_of_this_machine_is_known() -> None:
    here = system().identity()
    assert not system().is_dead(here)
    with subprocess.Popen(["sleep", "60"]) as process:
        child = {**here, "pid": process.pid, "started": _started(process.pid)}
        assert not system().is_dead(child)
        process.kill()
    assert system().is_dead(child)
    assert system().is_dead({**here, "started": "1"})  # its number went to another
    for other in ({"host": "x"}, {"boot": "x"}, {"namespace": "x"}, {"started": ""}):
        assert not system().is_dead({**child, **other})
    assert not system().is_dead({"pid": child["pid"], "host": here["host"]})  # of an older raynas


def _started(pid: int) -> str:
    from raynas.store.system import _started

    return _started(pid)


def test_what_is_done_every_so_often_ends() -> None:
    calls: list[int] = []
    done = threading.Event()

    def action() -> bool:
        calls.append(1)
        if len(calls) == 3:
            done.set()
        return len(calls) < 3

    RealSystem().every(0.001, action, "test")
    assert done.wait(10)
    stop = RealSystem().every(60, action, "test")
    stop()
    assert len(calls) == 3
