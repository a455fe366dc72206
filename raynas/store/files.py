"""Whole files or none, and the lock of the one writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from raynas.core import UserError

TEMP_PREFIX = ".tmp-"


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write ``path`` such that readers, and a crash at any moment, see all of it or nothing.

    The temporary file lies beside it, begins with a dot and has no suffix: no reader looks for it.
    Raises: OSError; the temporary file is gone then, an older ``path`` is as it was.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{os.getpid()}-{path.stem}")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def reason(error: OSError) -> str:
    """What the system says, for instance ``No space left on device (ENOSPC)``."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{error.strerror or error} ({name})"


LOCK_FILE = "writer.lock"


class Lock:
    """An exclusive lock on a file, held until ``release`` or the death of the process.

    The system drops the lock with the process, however it dies, so a stale one cannot exist.
    The file stays behind; it names the holder.
    """

    def __init__(self, path: Path, patience: float = 0.3) -> None:
        """Take the lock, waiting up to ``patience`` seconds.

        Raises: UserError when another writer is alive; OSError when the file cannot be written.
        """
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(patience)
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BaseException:
            os.close(self._handle)
            raise

    def _take(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._busy() from None
                time.sleep(0.02)

    def _busy(self) -> UserError:
        pid, _, host = _holder(self._path).partition(" ")
        return UserError(
            f"run folder {self._path.parent} is being written by process {pid or '?'}"
            f" on {host or '?'}",
            cure="wait for it or stop it, then try again",
        )

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def lock_holder(path: Path) -> int | None:
    """The process that holds the lock at ``path``, or None when nobody does; -1 if unnamed."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _holder(path).partition(" ")[0]
        return int(pid) if pid.isdigit() else -1
    finally:
        os.close(handle)
    return None


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""
