from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from raynas.core import UserError
from raynas.store.files import FileLock, lock_holder, reason, what_helps, write_whole


def test_contents_reach_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def rename(self: Path, target: Path) -> Any:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    write_whole(tmp_path / "a.json", b"new")
    assert calls == ["file", "rename", "folder"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "a", b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_lock_is_one_mans_and_names_him(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    lock = FileLock(path)
    assert lock_holder(path) == os.getpid()
    with pytest.raises(UserError, match=f"process {os.getpid()} on "):
        FileLock(path, patience=0)
    path.write_text("")
    assert lock_holder(path) == -1
    lock.release()
    lock.release()
    assert lock_holder(path) is None
    FileLock(path, patience=0).release()


def test_a_lock_knows_whether_its_file_is_still_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    lock = FileLock(folder / "lock")
    assert lock.in_place()
    folder.rename(tmp_path / "away")
    assert not lock.in_place()
    folder.write_text("")  # a file is in the place of the folder
    assert not lock.in_place()
    folder.unlink()
    folder.mkdir()
    (folder / "lock").touch()
    assert not lock.in_place()
    shutil.rmtree(folder)
    (tmp_path / "away").rename(folder)
    assert lock.in_place()
    lock.release()


def test_what_helps_fits_what_is_refused() -> None:
    assert "ulimit -n" in what_helps(OSError(24, "Too many open files"))
    assert what_helps(OSError(28, "No space left on device")) == "make room or access"


def test_a_reason_has_the_systems_words_and_code() -> None:
    assert reason(OSError(28, "No space left on device")) == "No space left on device (ENOSPC)"
    assert reason(OSError("odd")) == "odd (OSError)"
