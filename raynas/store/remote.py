"""This module has runs that live elsewhere: on S3, GCS, Azure, HDFS or a mounted disk.

A run at a URI has a working copy, an ordinary run folder on this machine. The URI is the authority:
an append returns only when its fragment is stored there, too. A process that opens the run on
another machine fetches what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from raynas.core import UserError
from raynas.core.printable import brief
from raynas.store.files import LOCK_FILE, TEMP_PREFIX, FileLock, lock_holder, write_whole
from raynas.store.manifest import FOLDER as RESULTS
from raynas.store.manifest import (
    TORN,
    Snapshot,
    attempts,
    manifest_name,
    snapshot,
    unsettled,
    version_of,
)
from raynas.store.storage import Bytes, FileStat, Storage, StorageRefused, open_storage, scheme_of
from raynas.store.system import system
from raynas.store.uris import scrubbed, shown, without_secrets

T = TypeVar("T")

URI_FILE = "remote.uri"
"""The file of a working copy that names the run's URI, without its secrets."""

_WHOLE: dict[str, str] = {}
"""A URI without secrets -> the URI as the user gave it to this process."""

_TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds


def is_uri(place: object) -> bool:
    """Return True if a user's text names a location by a scheme, as ``s3://bucket/run``.

    Args:
        place: The text, or a path.

    Returns:
        False for a path.

    Example:
        >>> is_uri("s3://bucket/run"), is_uri("runs/first")
        (True, False)
    """
    return bool(scheme_of(str(place)))


@dataclass(frozen=True)
class RemoteFolder:
    """The files below one URI, by names with ``/``.

    Calls that fail are repeated for about 20 seconds. Every file is there as a whole or not at all.
    The pickled form is the URI. No error message contains a secret of the URI.

    Attributes:
        uri: The URI, possibly with secrets.
    """

    uri: str = field(repr=False)

    def __repr__(self) -> str:
        return f"Remote({self.shown!r})"

    @cached_property
    def _storage(self) -> Storage:
        from pyarrow import ArrowException

        try:
            return open_storage(self.uri)
        except (ArrowException, OSError, ValueError, KeyError) as error:
            raise self._unopened(error) from None
        except Exception as error:
            if type(error).__module__.startswith("obstore"):
                raise self._unopened(error) from None
            raise

    def _unopened(self, error: BaseException) -> UserError:
        return UserError(
            f"storage {self.shown!r} cannot be opened: {self._line(error)}",
            expected="file:///..., s3://bucket/..., gs://bucket/..., abfs://..., hdfs://host:port/...",
            hint="look at the scheme, the region and the credentials",
        )

    @property
    def shown(self) -> str:
        """The URI for messages.

        Returns:
            The URI without credentials and options.
        """
        return shown(self.uri)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    def below(self, name: str) -> RemoteFolder:
        """Return the files in a folder of this one.

        Args:
            name: The name of the folder, with ``/``.

        Returns:
            A remote whose names are relative to that folder.
        """
        path, question, query = self.uri.partition("?")
        return RemoteFolder(f"{path.rstrip('/')}/{name}{question}{query}")

    def write(self, name: str, data: Bytes) -> None:
        """Write or replace a file, whole or not at all; until then readers see the older one.

        Args:
            name: The name of the file, with ``/``.
            data: Its contents.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened.
        """
        self._patiently(lambda: self._storage.write(name, data), f"writing {name}")

    def create(self, name: str, data: Bytes) -> None:
        """Create a file that does not exist; a file that already holds ``data`` is not an error.

        Args:
            name: The name of the file, with ``/``.
            data: Its contents.

        Raises:
            FileExistsError: A file with other contents exists.
            OSError: The storage refuses. The file may exist, or appear later.
            UserError: The storage cannot be opened.
        """

        def put() -> None:
            try:
                self._storage.create(name, data)
            except FileExistsError:
                if not self._holds(name, data):
                    raise

        self._patiently(put, f"creating {name}")

    def _holds(self, name: str, data: Bytes) -> bool:
        """Return True if the file has these contents, as after a request that seemed to fail."""
        try:
            return self._storage.read(name) == data
        except FileNotFoundError:  # two requests met, and neither was carried out
            raise OSError(5, f"{name} is there and is not") from None

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Args:
            name: The name of the file, with ``/``.

        Returns:
            The contents.

        Raises:
            FileNotFoundError: The file does not exist.
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened.
        """
        return self._patiently(lambda: self._storage.read(name), f"reading {name}")

    def names(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of all files in a folder and below it.

        Args:
            folder: The name of the folder; empty for all files.

        Returns:
            Sizes in bytes, by name relative to this remote.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened, or lists a name that is not below it.
        """
        return {name: stat.size for name, stat in self.stats(folder).items()}

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """Return size, tag and time of all files in a folder and below it.

        Args:
            folder: The name of the folder; empty for all files.

        Returns:
            Stats by name relative to this remote.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened, or lists a name that is not below it.
        """
        found = self._patiently(lambda: self._storage.stats(folder), f"listing {folder or 'all'}")
        for name in found:
            if not is_below(name):
                raise UserError(
                    f"storage {self.shown} lists a file with the name {brief(name)}",
                    expected="names below the run's own folder, without '..'",
                    hint="remove that file; raynas did not write it",
                )
        return found

    def remove(self, name: str) -> None:
        """Remove a file; a missing file is not an error.

        Args:
            name: The name of the file, with ``/``.

        Raises:
            OSError: The storage still refuses after all tries.
        """
        self._patiently(lambda: self._storage.remove(name), f"removing {name}")

    def remove_folder(self, name: str) -> None:
        """Remove a folder with its contents; a missing folder is not an error.

        Args:
            name: The name of the folder, with ``/``.

        Raises:
            OSError: The storage still refuses after all tries.
        """
        self._patiently(lambda: self._storage.remove_folder(name), f"removing {name}")

    def _patiently(self, action: Callable[[], T], doing: str) -> T:
        """Return the result of ``action``, repeated with growing pauses while the storage fails."""
        pause = _FIRST_PAUSE
        for rest in reversed(range(_TRIES)):
            try:
                return action()
            except (FileNotFoundError, FileExistsError) as error:
                raise type(error)(
                    error.errno or 5, f"{doing}: {self._line(error)}", self.shown
                ) from None
            except OSError as error:
                if rest == 0 or _is_final(error):
                    text = f"{doing}: {self._line(error)}"
                    raise OSError(error.errno or 5, text, self.shown) from None
            system().sleep(pause * system().uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")

    def _line(self, error: BaseException) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return scrubbed(text, self.uri)[:300]


def _is_final(error: OSError) -> bool:
    """Return True for an error that repeating does not change: no rights, no bucket, wrong keys."""
    text = str(error)
    words = ("ACCESS_DENIED", "AccessDenied", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE")
    return isinstance(error, PermissionError | StorageRefused) or any(
        word in text for word in words
    )


# -- working copies ----------------------------------------------------------------------------

FETCH_LOCK = "fetch.lock"
FETCHED = ".fetched.json"
_NOTFETCHED = ("checkpoints/", "lease/", f"{RESULTS}/")
_PATIENCE = 120.0
"""The longest time that a fetch waits for another into the same working copy, in seconds."""


def cache_folder() -> Path:
    """Return the cache folder of raynas, in which the working copies lie.

    Returns:
        ``$RAYNAS_CACHE``, or ``~/.cache/raynas``.
    """
    named = os.environ.get("RAYNAS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "raynas"


def working_copy(uri: str) -> Path:
    """Return the folder on this machine for the working copy of a run.

    Args:
        uri: The URI of the run. Its secrets and options do not matter.

    Returns:
        The folder, which may not exist yet.
    """
    plain = without_secrets(uri).partition("?")[0].rstrip("/")
    digest = hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()
    return cache_folder() / "runs" / f"{plain.rpartition('/')[2] or 'run'}-{digest}"


def fetch(uri: str) -> Path:
    """Bring the working copy of a run up to date; checkpoints are fetched when they are needed.

    A working copy that a driver on this machine is writing is left to that driver, if it holds
    ``run.json``.

    Args:
        uri: The URI of the run.

    Returns:
        The folder of the working copy.

    Raises:
        UserError: The storage cannot be read, or holds no run.
    """
    folder = working_copy(uri)
    _remember(uri)
    if lock_holder(folder / LOCK_FILE) is not None and (folder / "run.json").exists():
        return folder
    return fetch_into(folder, uri)


def look(uri: str) -> Path:
    """Return a working copy for a process that only reads.

    A working copy that a driver on this machine is writing is as new as the storage, and left to
    that driver. Any other is brought up to date as by :func:`fetch`.

    Args:
        uri: The URI of the run.

    Returns:
        The folder of the working copy.

    Raises:
        UserError: The storage cannot be read, or holds no run.
    """
    folder = working_copy(uri)
    _remember(uri)
    return folder if lock_holder(folder / LOCK_FILE) is not None else fetch(uri)


def fetch_into(folder: Path, uri: str) -> Path:
    """Bring a folder up to date with a run, even if another process holds its lock.

    Args:
        folder: The folder on this machine; it is made if it does not exist.
        uri: The URI of the run.

    Returns:
        ``folder``.

    Raises:
        UserError: The storage cannot be read, or holds no run.
        UserError: Another process fetches into the folder for more than 120 seconds.
    """
    remote = RemoteFolder(uri)
    with _refused_in_words(remote):
        listed = remote.stats()
        if "run.json" not in listed:
            raise UserError(
                f"there is no run at {remote.shown}",
                hint=f"start one with: raynas run FILE.py --output {remote.shown}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / FETCH_LOCK, _PATIENCE)
        try:
            note_uri(folder, uri)
            _fetch_files(folder, remote, listed)
            _fetch_results(folder, remote, listed)
        finally:
            lock.release()
    return folder


@contextlib.contextmanager
def _refused_in_words(remote: RemoteFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the run at {remote.shown} cannot be read: {error.strerror or error}",
            hint="look at the storage and try again; nothing is lost",
        ) from None


def _fetch_files(folder: Path, remote: RemoteFolder, listed: Mapping[str, FileStat]) -> None:
    """Fetch changed files, except those of results, checkpoints and lease."""
    record = _record(folder / FETCHED)
    known = dict(record)
    for name, stat in listed.items():
        if name.startswith(_NOTFETCHED):
            continue
        place, mark = folder / name, [stat.size, stat.tag]
        if known.get(name) == mark and place.exists():
            continue
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            data = remote.read(name)
            if name == "run.json":
                _begin_anew(folder, data)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, data)
            known[name] = mark
    _restore_source(folder)
    if known != record:
        write_whole(folder / FETCHED, json.dumps(known).encode())


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _begin_anew(folder: Path, run_file: bytes) -> None:
    """Remove the local results if the storage now holds another run at this URI."""
    before, now = _record(folder / "run.json").get("run"), None
    with contextlib.suppress(ValueError, AttributeError):
        now = json.loads(run_file).get("run")
    if before is not None and before != now:
        for place in (folder / RESULTS).glob("*"):
            place.unlink(missing_ok=True)


def _restore_source(folder: Path) -> None:
    """Write ``experiment.py`` from ``run.json``, in case its creator stopped between the two."""
    source, place = _record(folder / "run.json").get("source"), folder / "experiment.py"
    if isinstance(source, str) and not (place.exists() and place.read_bytes() == source.encode()):
        write_whole(place, source.encode())


def _fetch_results(
    folder: Path, remote: RemoteFolder, listed: Mapping[str, FileStat] | None
) -> None:
    """Copy the fragments that count, and remove all others."""
    for _ in attempts():
        seen = snapshot(remote, listed)
        listed = None
        try:
            copy_results(folder, remote, seen)
        except FileNotFoundError:  # merged away meanwhile: its successor comes
            continue
        return
    raise unsettled("they change faster than they can be fetched")


def copy_results(folder: Path, remote: RemoteFolder, seen: Snapshot) -> None:
    """Make the results in a folder equal to a snapshot of the run's storage.

    Another reader of the folder sees either the fragments that counted before, or those that count
    now: fragments that a manifest names are written before it, and the slots that it opens after
    it.

    Args:
        folder: The run's folder on this machine.
        remote: The run's storage.
        seen: The snapshot of it.

    Raises:
        FileNotFoundError: A fragment has been removed from the storage meanwhile.
        OSError: The storage or the disk refuses.
    """
    results = folder / RESULTS
    results.mkdir(parents=True, exist_ok=True)
    here = {p.name: p.stat().st_size for p in _files(results)}
    torn = [n for n in seen.listed if n.endswith(TORN)]
    named = set(seen.manifest.fragments) if seen.manifest else set(seen.names)
    for name in sorted(torn):
        if name not in here:
            write_whole(results / name, b"")
    _copy(results, remote, seen, here, [n for n in seen.names if n in named])
    if seen.manifest:
        name = manifest_name(seen.manifest.version)
        if name not in here:
            write_whole(results / name, seen.manifest.to_json())
        for other in here:
            if (version_of(other) or seen.manifest.version) != seen.manifest.version:
                (results / other).unlink(missing_ok=True)
    _copy(results, remote, seen, here, [n for n in seen.names if n not in named])
    for name in here:
        if name.endswith(".parquet") and name not in seen.names:
            (results / name).unlink(missing_ok=True)


def _copy(
    results: Path, remote: RemoteFolder, seen: Snapshot, here: Mapping[str, int], names: list[str]
) -> None:
    """Copy fragments. They never change, so those that are complete here are kept."""
    for name in names:
        stat, size = seen.listed.get(name), here.get(name)
        if size is not None and (stat is None or stat.size == size):
            continue
        data = seen.found.get(name)
        write_whole(results / name, remote.read(f"{RESULTS}/{name}") if data is None else data)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.iterdir() if p.is_file() and not p.name.startswith(TEMP_PREFIX))


def folder_name(trial: int) -> str:
    """Return the name of a trial's folder among the checkpoints.

    Args:
        trial: The number of the trial.

    Returns:
        The number with at least six digits.
    """
    return f"{trial:06d}"


def note_uri(folder: Path, uri: str) -> None:
    """Write the URI of a run, without its secrets, into the run's working copy.

    Args:
        folder: The working copy.
        uri: The URI of the run. Its secrets are remembered by this process only.

    Raises:
        OSError: The disk refuses.
    """
    _remember(uri)
    write_whole(folder / URI_FILE, without_secrets(uri).encode())


def _remember(uri: str) -> None:
    _WHOLE[without_secrets(uri)] = uri


def remotes_forgotten() -> None:
    """Forget the secrets of the URIs that this process was given, as if it were a new process."""
    _WHOLE.clear()


def remote_of(folder: Path) -> RemoteFolder | None:
    """Return the storage of the run that a folder is the working copy of.

    Secrets are those of the URI that this process was given, or of the environment.

    Args:
        folder: A run's folder on this machine.

    Returns:
        The storage, or None for a run that lives in the folder itself.

    Raises:
        UserError: The file with the URI cannot be read.
    """
    file = folder / URI_FILE
    try:
        uri = file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read: {error}", hint="name the run by its URI, as s3://BUCKET/NAME"
        ) from None
    if without_secrets(uri) != uri:  # an earlier raynas wrote keys down
        with contextlib.suppress(OSError):
            file.chmod(0o600)
    return RemoteFolder(_WHOLE.get(without_secrets(uri), uri))


def is_working_copy(folder: Path, remote: RemoteFolder) -> bool:
    """Return True if a folder is this user's own working copy of a run, in their cache.

    Args:
        folder: A run's folder on this machine, as an absolute path.
        remote: The run's storage.

    Returns:
        False for any other folder, for example a copy of a working copy.
    """
    return folder == Path(os.path.abspath(working_copy(remote.uri)))  # noqa: PTH100 - as folders are


def is_below(name: str) -> bool:
    """Return True if the name of a stored file stays below the folder that it is put into.

    Args:
        name: The name of the file, with ``/``.

    Returns:
        False for a name with ``..``, a backslash, a null character or an empty part.

    Example:
        >>> is_below("checkpoints/000001/state.json"), is_below("../run.json")
        (True, False)
    """
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in name or "\0" in name)


# -- folders of trials -------------------------------------------------------------------------

_MIRRORED = f"{TEMP_PREFIX}mirror.json"
Mark = tuple[int, int]
"""Size (bytes) and modification time (ns) of a local file; they change when it is rewritten."""


class CheckpointMirror:
    """A trial's folder on a worker, kept equal to a folder of the run's storage.

    Call ``pull`` before work begins, and ``push`` whenever files may have changed. A file named
    ``state.json`` is transferred after its neighbours, since it says that they are complete.
    """

    def __init__(self, folder: Path, remote: RemoteFolder) -> None:
        self.folder, self.remote = folder, remote
        self._pushed: dict[str, Mark] = {}

    def pull(self) -> None:
        """Make the folder equal to the storage: fetch changed files, remove those not stored.

        Raises:
            OSError: The storage or the disk refuses.
        """
        record = _record(self.folder / _MIRRORED)
        here, there = dict(self._here()), self.remote.stats()
        for name in sorted(set(here) - set(there), key=_state_first):
            (self.folder / name).unlink(missing_ok=True)
        known: dict[str, list[Any]] = {}
        for name in sorted(there, key=_state_last):
            stat, place = there[name], self.folder / name
            if name not in here or record.get(name) != [stat.size, stat.tag, *here[name]]:
                data = self.remote.read(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, data)
            known[name] = [stat.size, stat.tag, *_mark(place)]
        self._drop_empty()
        if known:
            write_whole(self.folder / _MIRRORED, json.dumps(known).encode())
        self._pushed = dict(self._here())

    def _drop_empty(self) -> None:
        """Remove empty folders, which a storage does not have."""
        folders = [p for p in self.folder.rglob("*") if p.is_dir()]
        for place in sorted(folders, key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(OSError):
                place.rmdir()

    def push(self) -> None:
        """Store new and changed files, then remove from the storage what was removed here.

        Raises:
            OSError: The storage or the disk refuses.
        """
        here = dict(self._here())
        changed = [name for name, mark in here.items() if self._pushed.get(name) != mark]
        for name in sorted(changed, key=_state_last):
            self.remote.write(name, (self.folder / name).read_bytes())
        for name in sorted(set(self._pushed) - set(here), key=_state_first):
            self.remote.remove(name)
        self._pushed = here

    def _here(self) -> Iterator[tuple[str, Mark]]:
        for place in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if place.is_file() and not place.name.startswith(".tmp"):
                    yield place.relative_to(self.folder).as_posix(), _mark(place)


def _state_last(name: str) -> tuple[bool, str]:
    return name.endswith("state.json"), name


def _state_first(name: str) -> tuple[bool, str]:
    return not name.endswith("state.json"), name


def _mark(place: Path) -> Mark:
    stat = place.stat()
    return stat.st_size, stat.st_mtime_ns
