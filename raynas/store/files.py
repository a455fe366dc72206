"""This module writes files whole or not at all, and has the lock of a run's one writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from raynas.core import UserError
from raynas.store.system import system

TEMP_PREFIX = ".tmp-"


def sync_folder(folder: Path) -> None:
    """Flush the file names in a folder to the disk.

    Args:
        folder: The folder.

    Raises:
        OSError: The system refuses.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file such that readers, and a crash at any moment, see all of it or none of it.

    The temporary file lies beside it. Its name begins with a dot and has no suffix, so that no
    reader takes it for a result.

    Args:
        path: The file to write or replace.
        data: Its contents.

    Raises:
        OSError: The system refuses. The temporary file is removed, an older ``path`` is unchanged.
    """
    temp = _written_beside(path, data)
    try:
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file as :func:`write_whole` does, but only if it does not exist.

    On a file system without hard links, the check and the write are two steps.

    Args:
        path: The file to create.
        data: Its contents.

    Raises:
        FileExistsError: The file exists; it is unchanged.
        OSError: The system refuses.
    """
    temp = _written_beside(path, data)
    try:
        _link(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    sync_folder(path.parent)


_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _link(temp: Path, path: Path) -> None:
    try:
        os.link(temp, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temp.replace(path)


def _written_beside(path: Path, data: bytes | memoryview) -> Path:
    """A temporary file with ``data``, which is on the disk."""
    temp = path.with_name(f"{TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.stem}")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    return temp


def reason(error: OSError) -> str:
    """Return the system's words for an error, for instance ``No space left on device (ENOSPC)``.

    Args:
        error: The error of the system.

    Returns:
        The message and the name of the error number, in one line.
    """
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{error.strerror or error} ({name})"


def what_helps(error: OSError) -> str:
    """Return what a user can do after the system refused; the caller appends how to continue.

    Args:
        error: The error of the system.

    Returns:
        Advice in the imperative, without a full stop.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "allow more open files, as with `ulimit -n 4096`"
    return "make room or access"


LOCK_FILE = "writer.lock"


class FileLock:
    """An exclusive lock on a file, held until ``release`` or the end of the process.

    The system releases the lock together with the process, however it ends, so a stale lock cannot
    exist. The file remains; it names the holder.
    """

    def __init__(self, path: Path, patience: float = 0.3) -> None:
        """Take the lock.

        Args:
            path: The file to lock; it is created if it does not exist.
            patience: The longest time to wait for another holder, in seconds.

        Raises:
            UserError: Another process holds the lock.
            OSError: The file cannot be written.
        """
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(patience)
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BaseException:
            os.close(self._handle)
            self._handle = -1
            raise

    def _take(self, patience: float) -> None:
        deadline = system().monotonic() + patience
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if system().monotonic() >= deadline:
                    raise self._busy() from None
                system().sleep(0.02)

    def _busy(self) -> UserError:
        pid, _, host = _holder(self._path).partition(" ")
        return UserError(
            f"run folder {self._path.parent} is being written by process {pid or '?'}"
            f" on {host or '?'}",
            hint="wait for it or stop it, then try again",
        )

    def in_place(self) -> bool:
        """Return True if the locked file still is the file at its path.

        Returns:
            False if the file was removed, moved or replaced.

        Raises:
            OSError: The system does not say.
        """
        held = os.fstat(self._handle)
        try:
            there = os.stat(self._path)  # noqa: PTH116 - beside os.fstat
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def lock_holder(path: Path) -> int | None:
    """Return the process that holds a lock.

    Args:
        path: The locked file.

    Returns:
        The process id; None if no process holds the lock, -1 if the holder is not named.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _holder(path).partition(" ")[0]
        return int(pid) if pid.isdecimal() and len(pid) < 19 else -1
    finally:
        os.close(handle)
    return None


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: The file.

    Returns:
        The object; empty where the file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
