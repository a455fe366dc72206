"""Runs that live on object stores and other file systems: S3, GCS, HDFS, a mounted disk.

A run at a URI has a working copy, an ordinary run folder on this machine, and the URI is the truth:
an append returns only when its fragment is there, too. Whoever opens the run elsewhere fetches
what is new. All file systems of ``pyarrow.fs`` serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from raynas.core import UserError
from raynas.store.files import LOCK_FILE, lock_holder, write_whole

if TYPE_CHECKING:
    from pyarrow import fs

T = TypeVar("T")

URI_FILE = "remote.uri"
"""In a working copy: where the run lives."""

#: whole objects appear at once there; elsewhere a file is written aside and moved
_WHOLE_OBJECTS = {"s3", "gcs", "abfs"}
_TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds


def is_uri(place: object) -> bool:
    """Whether a user's text names a place on a file system of pyarrow, as ``s3://bucket/run``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(place)) is not None


@dataclass(frozen=True)
class Remote:
    """The files below one URI, by names with ``/``. Calls are tried again for about 20 seconds.

    Every file is there as a whole or not at all. Pickled, it is its URI.
    """

    uri: str

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        from pyarrow import ArrowException, fs

        try:
            system, base = fs.FileSystem.from_uri(self.uri)
        except (ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"storage {self.shown!r} cannot be opened: {_first_line(error)}",
                allowed="file:///..., s3://bucket/..., gs://bucket/..., hdfs://host:port/...",
                cure="look at the scheme, the region and the credentials",
            ) from error
        return system, base.rstrip("/")

    @property
    def shown(self) -> str:
        """The URI for people: without credentials and options."""
        return re.sub(r"//[^/@]*@", "//", self.uri.partition("?")[0])

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    def below(self, name: str) -> Remote:
        """The files in a folder of this one."""
        path, question, query = self.uri.partition("?")
        return Remote(f"{path.rstrip('/')}/{name}{question}{query}")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """All of it or nothing, and an older file until then. Raises: OSError."""
        system, path = self._at(name)

        def put() -> None:
            if system.type_name in _WHOLE_OBJECTS:
                with system.open_output_stream(path) as stream:
                    stream.write(data)
                return
            temp = _beside(path)
            system.create_dir(path.rpartition("/")[0], recursive=True)
            with system.open_output_stream(temp) as stream:
                stream.write(data)
            system.move(temp, path)

        self._patiently(put, f"writing {name}")

    def read(self, name: str) -> bytes:
        """Raises: FileNotFoundError; OSError."""
        system, path = self._at(name)

        def get() -> bytes:
            with system.open_input_stream(path) as stream:
                return bytes(stream.read())

        return self._patiently(get, f"reading {name}")

    def names(self, folder: str = "") -> dict[str, int]:
        """Name (from here) -> size in bytes, of all files in ``folder`` and below it."""
        return {name: info.size for name, info in self._infos(folder).items()}

    def times(self, folder: str = "") -> dict[str, float]:
        """Name -> when it was written, in seconds of the storage's own clock."""
        return {name: info.mtime_ns / 1e9 for name, info in self._infos(folder).items()}

    def _infos(self, folder: str) -> dict[str, fs.FileInfo]:
        from pyarrow import fs

        system, path = self._at(folder)

        def look() -> dict[str, fs.FileInfo]:
            chosen = fs.FileSelector(path, recursive=True, allow_not_found=True)
            start = len(self._opened[1]) + 1
            return {
                info.path[start:]: info
                for info in system.get_file_info(chosen)
                if info.is_file and not info.base_name.startswith(".tmp-")
            }

        return self._patiently(look, f"listing {folder or 'all'}")

    def remove(self, name: str) -> None:
        """A file that is not there is no error."""
        system, path = self._at(name)

        def drop() -> None:
            with contextlib.suppress(FileNotFoundError):
                system.delete_file(path)

        self._patiently(drop, f"removing {name}")

    def remove_folder(self, name: str) -> None:
        """With all that is in it; one that is not there is no error."""
        system, path = self._at(name)

        def drop() -> None:
            with contextlib.suppress(FileNotFoundError):
                system.delete_dir(path)

        self._patiently(drop, f"removing {name}")

    def _at(self, name: str) -> tuple[fs.FileSystem, str]:
        system, base = self._opened
        return system, f"{base}/{name}" if name else base

    def _patiently(self, action: Callable[[], T], doing: str) -> T:
        """Storage that is slow or answers with errors of its own is asked again, ever later."""
        pause = _FIRST_PAUSE
        for rest in reversed(range(_TRIES)):
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                if rest == 0 or _is_final(error):
                    raise OSError(
                        error.errno or 5, f"{doing}: {_first_line(error)}", self.shown
                    ) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")


def _is_final(error: OSError) -> bool:
    """Refused, whoever asks again: no rights, no bucket, wrong credentials."""
    text = str(error)
    words = ("ACCESS_DENIED", "AccessDenied", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE")
    return isinstance(error, PermissionError) or any(word in text for word in words)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.tmp-{os.getpid()}-{name}"


# -- working copies ----------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where working copies lie: ``$RAYNAS_CACHE``, or ``~/.cache/raynas``."""
    named = os.environ.get("RAYNAS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "raynas"


def working_copy(uri: str) -> Path:
    """The folder on this machine that stands for the run at ``uri``; it may not exist yet."""
    plain = uri.partition("?")[0].rstrip("/")
    digest = hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()
    return cache_folder() / "runs" / f"{plain.rpartition('/')[2] or 'run'}-{digest}"


def fetch(uri: str) -> Path:
    """The working copy of the run at ``uri``, brought up to date; checkpoints come when needed.

    Raises: UserError when the storage cannot be read.
    """
    folder, remote = working_copy(uri), Remote(uri)
    try:
        before = set((folder / "results").glob("*.parquet"))
        there = remote.names()
        if "run.json" not in there:
            raise UserError(
                f"there is no run at {remote.shown}",
                cure=f"start one with: raynas run FILE.py --output {remote.shown}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / URI_FILE, uri.encode())
        _fetch_new(folder, remote, there, before)
    except OSError as error:
        raise UserError(
            f"the run at {remote.shown} cannot be read: {error.strerror or error}",
            cure="look at the storage and try again; nothing is lost",
        ) from error
    return folder


def look(uri: str) -> Path:
    """As ``fetch``, for who only reads: a working copy that a driver on this machine writes is left
    to it, being as new as the storage."""
    folder = working_copy(uri)
    return folder if lock_holder(folder / LOCK_FILE) is not None else fetch(uri)


def _fetch_new(folder: Path, remote: Remote, there: dict[str, int], before: set[Path]) -> None:
    """Fragments never change, so those that are here stay; the few other files are small.

    ``before``: fragments that were here when ``there`` was not listed yet: others may be what a
    driver on this machine has stored meanwhile.
    """
    wanted = {n: s for n, s in there.items() if not n.startswith("checkpoints/")}
    for name, size in wanted.items():
        place = folder / name
        fixed = name.startswith("results/") and place.exists() and place.stat().st_size == size
        if fixed:
            continue
        with contextlib.suppress(FileNotFoundError):  # merged away meanwhile: its successor comes
            data = remote.read(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, data)
    for place in before:
        if f"results/{place.name}" not in there:
            place.unlink(missing_ok=True)


def folder_name(trial: int) -> str:
    """Of a trial's folder among the checkpoints."""
    return f"{trial:06d}"


def remote_of(folder: Path) -> Remote | None:
    """Where the run with this working copy lives, or None when it lives here."""
    try:
        return Remote((folder / URI_FILE).read_text().strip())
    except (FileNotFoundError, NotADirectoryError):
        return None


# -- folders of trials -------------------------------------------------------------------------


class Mirror:
    """A trial's folder on a worker, kept equal to one of the run's storage.

    ``pull`` before work begins, ``push`` whenever files may have changed. A file named
    ``state.json`` is pushed after its neighbours, since it says that they are whole.
    """

    def __init__(self, folder: Path, remote: Remote) -> None:
        self.folder, self.remote = folder, remote
        self._pushed: dict[str, tuple[int, int]] = {}

    def pull(self) -> None:
        """Fetch what is not here. Raises: OSError."""
        for name, size in self.remote.names().items():
            place = self.folder / name
            if not (place.exists() and place.stat().st_size == size):
                data = self.remote.read(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, data)
        self._pushed = dict(self._here())

    def push(self) -> None:
        """Store what is new or changed, then forget what is gone here. Raises: OSError."""
        here = dict(self._here())
        changed = [name for name, mark in here.items() if self._pushed.get(name) != mark]
        for name in sorted(changed, key=lambda name: (name.endswith("state.json"), name)):
            self.remote.write(name, (self.folder / name).read_bytes())
        gone = sorted(set(self._pushed) - set(here), key=lambda n: not n.endswith("state.json"))
        for name in gone:
            self.remote.remove(name)
        self._pushed = here

    def _here(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for place in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if place.is_file() and not place.name.startswith(".tmp"):
                    stat = place.stat()
                    yield (
                        place.relative_to(self.folder).as_posix(),
                        (stat.st_size, stat.st_mtime_ns),
                    )
