"""Files below a folder of this machine, or of a disk that it shares with others."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from raynas.store.files import TEMP_PREFIX, create_whole, write_whole
from raynas.store.storage import Bytes, Stat


@dataclass(frozen=True)
class LocalStorage:
    """A :class:`~raynas.store.storage.Storage` below ``root``; what it acknowledges is on the disk.

    ``create`` is exclusive where the file system has hard links.
    """

    root: Path

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: Bytes) -> None:
        write_whole(self._parent(name), data)

    def create(self, name: str, data: Bytes) -> None:
        create_whole(self._parent(name), data)

    def _parent(self, name: str) -> Path:
        path = self.root / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stats(self, folder: str = "") -> dict[str, Stat]:
        found: dict[str, Stat] = {}
        start = len(str(self.root)) + 1
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                if name.startswith(TEMP_PREFIX):
                    continue
                place = f"{parent}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    seen = os.stat(place)  # noqa: PTH116 - many names, no Path for each
                    tag = f"{seen.st_mtime_ns}-{seen.st_size}-{seen.st_ino}"
                    found[place[start:]] = Stat(seen.st_size, tag, seen.st_mtime_ns / 1e9)
        return found

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.root / name).unlink()

    def remove_folder(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(self.root / name)


def open_uri(uri: str) -> LocalStorage:
    """Open ``file:///path``. Raises: ValueError for another host's path."""
    host, slash, path = uri.partition("?")[0].partition("://")[2].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(f"file:// is followed by the host {host!r}, not by an absolute path")
    return LocalStorage(Path("/" + unquote(path).rstrip("/")))
