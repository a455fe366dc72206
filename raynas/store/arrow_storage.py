"""This module has every other file system that pyarrow knows, as ``hdfs://``.

None of them can create a file in one step only if it does not exist. So ``create`` checks and then
moves: two drivers that claim a run within the same milliseconds may both get it there.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raynas.store.files import TEMP_PREFIX
from raynas.store.storage import Bytes, FileStat

if TYPE_CHECKING:
    from pyarrow import fs


@dataclass(frozen=True)
class ArrowStorage:
    """A storage on a file system of pyarrow; see :class:`~raynas.store.storage.Storage`.

    Attributes:
        system: The file system.
        base: The path on it that all names are relative to.
    """

    system: fs.FileSystem
    base: str

    def read(self, name: str) -> bytes:
        """Return the contents of a file; see :meth:`Storage.read`."""
        with self.system.open_input_stream(self._at(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, data: Bytes) -> None:
        """Write a temporary file, then move it to its name; see :meth:`Storage.write`."""
        self.system.move(self._put_beside(name, data), self._at(name))

    def create(self, name: str, data: Bytes) -> None:
        """Create a file that does not exist; see :meth:`Storage.create`.

        The check and the move are two steps.

        Args:
            name: The name of the file, with ``/``.
            data: Its contents.

        Raises:
            FileExistsError: A file with this name exists.
            OSError: The file system refuses.
        """
        from pyarrow import fs

        path = self._at(name)
        if self.system.get_file_info(path).type != fs.FileType.NotFound:
            raise FileExistsError(17, f"{name} already exists")
        self.system.move(self._put_beside(name, data), path)

    def _put_beside(self, name: str, data: Bytes) -> str:
        folder, _, last = self._at(name).rpartition("/")
        temp = f"{folder}/{TEMP_PREFIX}{os.getpid()}-{last}"
        self.system.create_dir(folder, recursive=True)
        with self.system.open_output_stream(temp) as stream:
            stream.write(data)
        return temp

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """List all files in a folder and below it; see :meth:`Storage.stats`."""
        from pyarrow import fs

        chosen = fs.FileSelector(self._at(folder), recursive=True, allow_not_found=True)
        start = len(self.base) + 1
        return {
            info.path[start:]: FileStat(
                info.size, f"{info.mtime_ns}-{info.size}", (info.mtime_ns or 0) / 1e9
            )
            for info in self.system.get_file_info(chosen)
            if info.is_file and not info.base_name.startswith(TEMP_PREFIX)
        }

    def remove(self, name: str) -> None:
        """Remove a file if it exists; see :meth:`Storage.remove`."""
        with contextlib.suppress(FileNotFoundError):
            self.system.delete_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder with its contents if it exists; see :meth:`Storage.remove_folder`."""
        with contextlib.suppress(FileNotFoundError):
            self.system.delete_dir(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base


def open_uri(uri: str) -> ArrowStorage:
    """Open a storage that pyarrow knows.

    Args:
        uri: The URI, for example ``hdfs://host:port/path``.

    Returns:
        The storage.

    Raises:
        ValueError: pyarrow does not know the scheme or an option.
        OSError: The file system cannot be reached.
        pyarrow.ArrowException: pyarrow refuses for another reason.
    """
    from pyarrow import fs

    system, base = fs.FileSystem.from_uri(uri)
    return ArrowStorage(system, base.rstrip("/"))
