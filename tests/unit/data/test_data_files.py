from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fake_sets as fake
import numpy as np
import pytest

from raynas.core import UserError
from raynas.data import Images
from raynas.data.files import on_disk, once


class Reader:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Images:
        self.asked += 1
        return Images(*fake.images(10, seed=self.asked))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_read_once_until_the_file_changes(source: Path) -> None:
    read = Reader()
    one = once("set", [source], read)
    assert once("set", [source], read) is one
    once("another set", [source], read)
    source.write_bytes(b"other")
    assert once("set", [source], read) is not one
    assert read.asked == 3


def test_what_is_remembered_cannot_be_written(source: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        once("set", [source], Reader()).labels[0] = 1


def test_only_the_last_sets_are_kept_in_memory(source: Path) -> None:
    read = Reader()
    for name in "abcdea":
        once(name, [source], read)
    assert read.asked == 6


def test_unreadable_file_is_a_line(source: Path) -> None:
    def read() -> Images:
        raise PermissionError(13, "Permission denied", str(source))

    with pytest.raises(UserError, match=r"cannot read set: .*Permission denied"):
        once("set", [source], read)


def test_disk_keeps_what_was_read(source: Path, cache: Path) -> None:
    read = Reader()
    one, two = (on_disk("set", [source], read) for _ in range(2))
    assert read.asked == 1
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.labels, two.labels)
    assert [p.suffix for p in cache.iterdir()] == [".npz"]
    source.write_bytes(b"changed")
    on_disk("set", [source], read)
    assert read.asked == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "pickle"])
def test_damaged_cache_is_made_again(source: Path, cache: Path, damage: str) -> None:
    read = Reader()
    on_disk("set", [source], read)
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[300] ^= 255
    elif damage == "empty":
        content = bytearray()
    kept.write_bytes(content)
    if damage == "pickle":
        with kept.open("wb") as file:
            np.savez(file, pixels=np.array([None]), labels=np.array([None]))
    again = on_disk("set", [source], read)
    assert read.asked == 2
    assert np.array_equal(again.pixels, fake.images(10, seed=2)[0])
    on_disk("set", [source], read)
    assert read.asked == 2


def test_cache_folder_that_cannot_be_made(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(source / "below a file"))
    assert len(on_disk("set", [source], Reader())) == 10


def test_user_without_a_home(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", "~no-such-user/cache")
    assert len(on_disk("set", [source], Reader())) == 10


def test_full_disk_leaves_nothing_behind(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **arrays: object) -> None:
        assert set(arrays) == {"pixels", "labels"}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(on_disk("set", [source], Reader())) == 10
    assert list(cache.iterdir()) == []


def test_cache_can_be_off(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", "off")
    monkeypatch.setenv("HOME", str(tmp_path))
    on_disk("set", [source], Reader())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, raynas.data; "
        "print([m for m in ('sklearn', 'PIL', 'torch', 'pyarrow', 'ray', 'pooch', "
        "'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
