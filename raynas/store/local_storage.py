"""This module stores files below a local folder, which may be on a shared disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from raynas.store.files import TEMP_PREFIX, create_whole, write_whole
from raynas.store.storage import Bytes, FileStat


@dataclass(frozen=True)
class LocalStorage:
    """A storage below a local folder; what it acknowledges is on the disk.

    ``create`` is exclusive where the file system has hard links. See
    :class:`~raynas.store.storage.Storage`.

    Attributes:
        root: The folder that all names are relative to.
    """

    root: Path

    def read(self, name: str) -> bytes:
        """Return the contents of a file; see :meth:`Storage.read`."""
        return (self.root / name).read_bytes()

    def write(self, name: str, data: Bytes) -> None:
        """Write or replace a file, whole or not at all; see :meth:`Storage.write`."""
        write_whole(self._parent(name), data)

    def create(self, name: str, data: Bytes) -> None:
        """Create a file that does not exist; see :meth:`Storage.create`."""
        create_whole(self._parent(name), data)

    def _parent(self, name: str) -> Path:
        path = self.root / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """List all files in a folder and below it; see :meth:`Storage.stats`."""
        found: dict[str, FileStat] = {}
        start = len(str(self.root)) + 1
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                if name.startswith(TEMP_PREFIX):
                    continue
                place = f"{parent}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    seen = os.stat(place)  # noqa: PTH116 - many names, no Path for each
                    tag = f"{seen.st_mtime_ns}-{seen.st_size}-{seen.st_ino}"
                    found[place[start:]] = FileStat(seen.st_size, tag, seen.st_mtime_ns / 1e9)
        return found

    def remove(self, name: str) -> None:
        """Remove a file if it exists; see :meth:`Storage.remove`."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.root / name).unlink()

    def remove_folder(self, name: str) -> None:
        """Remove a folder with its contents if it exists; see :meth:`Storage.remove_folder`."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(self.root / name)


def open_uri(uri: str) -> LocalStorage:
    """Open the storage of a ``file:///path`` URI.

    Args:
        uri: The URI; its host is empty or ``localhost``.

    Returns:
        The storage.

    Raises:
        ValueError: The URI names another host, or no absolute path.

    Example:
        >>> open_uri("file:///data/my%20run").root.as_posix()
        '/data/my run'
    """
    host, slash, path = uri.partition("?")[0].partition("://")[2].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(f"file:// is followed by the host {host!r}, not by an absolute path")
    return LocalStorage(Path("/" + unquote(path).rstrip("/")))
