"""Working copies of runs that live at a URI, and how they are brought up to date."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from raynas.core import UserError
from raynas.store.files import (
    LOCK_FILE,
    TEMP_PREFIX,
    FileLock,
    lock_holder,
    read_object,
    write_whole,
)
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
from raynas.store.remote import RemoteFolder
from raynas.store.storage import FileStat
from raynas.store.uris import without_secrets

URI_FILE = "remote.uri"
"""The file of a working copy that names the run's URI, without its secrets."""
_WHOLE: dict[str, str] = {}
"""A URI without secrets -> the URI as the user gave it to this process."""
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
            hint="check the storage and try again; nothing is lost",
        ) from None


def _fetch_files(folder: Path, remote: RemoteFolder, listed: Mapping[str, FileStat]) -> None:
    """Fetch changed files, except those of results, checkpoints and lease."""
    record = read_object(folder / FETCHED)
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


def _begin_anew(folder: Path, run_file: bytes) -> None:
    """Remove the local results if the storage now holds another run at this URI."""
    before, now = read_object(folder / "run.json").get("run"), None
    with contextlib.suppress(ValueError, AttributeError):
        now = json.loads(run_file).get("run")
    if before is not None and before != now:
        for place in (folder / RESULTS).glob("*"):
            place.unlink(missing_ok=True)


def _restore_source(folder: Path) -> None:
    """Write ``experiment.py`` from ``run.json``, in case its creator stopped between the two."""
    source, place = read_object(folder / "run.json").get("source"), folder / "experiment.py"
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
