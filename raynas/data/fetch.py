"""This module fetches a data set from its publisher, complete and with the right sums.

Only ``raynas data get`` calls it. Partial files are kept under ``.raynas-NAME.part`` in the data
folder. The next call continues there after an interruption.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raynas.core import UserError
from raynas.core.errors import first_line
from raynas.data.archives import check_unpacked, unpack
from raynas.data.download import BY_HAND, Told, fetch_file, file_size, network_error, silent
from raynas.data.files import expanded, own_roots
from raynas.data.source import DatasetDownload, DatasetSource, FoundFiles, PublishedFile, size_text


@dataclass(frozen=True)
class FetchedDataset:
    """The folder of a data set, and the information if this call fetched it.

    Attributes:
        found: The folder, with the complete set.
        fetched: The set was fetched by this call; False if it was there already.
    """

    found: FoundFiles
    fetched: bool


def get(
    source: DatasetSource,
    folder: str | Path | None = None,
    told: Told | None = None,
    waiting: Callable[[], None] | None = None,
) -> FetchedDataset:
    """Fetch a data set unless it is there.

    A set that is there is compared with the publisher's sums. Files that are missing or damaged in
    the target folder are replaced, file by file.

    Args:
        source: The source of the data set.
        folder: The data folder to look into and to fetch into. None takes the first of the user's
            own: $RAYNAS_DATA, or a folder of raynas.
        told: Called with the progress: file name, bytes received, bytes in all.
        waiting: Called when another process is fetching the same set into the folder.

    Returns:
        The folder of the complete set.

    Raises:
        UserError: The set cannot be fetched: no network, another file than expected, no download.
        UserError: The set cannot be written: no folder, no room, no rights.
        UserError: A damaged copy lies in a folder into which raynas does not fetch.
    """
    with _lines(source, folder):
        found = _whole(source, folder)
        if found is not None:
            return FetchedDataset(found, fetched=False)
        download, target = _download(source), _target(source, folder)
        _expect_folder(target / download.folder)
        work = _work(source, target)
        _expect_space(download, target, work)
        with _alone(work, waiting):
            found = _whole(source, folder)  # another process may have been quicker
            if found is None:
                _fetch_all(source, download, work, target, told or silent)
            shutil.rmtree(work, ignore_errors=True)
        return FetchedDataset(found or source.require(folder), fetched=found is None)


def begun(source: DatasetSource) -> int:
    """Return the number of bytes that an interrupted call has fetched and the next one keeps.

    Args:
        source: The source of the data set.

    Returns:
        Bytes in the user's first data folder; 0 if there are none.
    """
    roots = own_roots()
    if source.download is None or not roots:
        return 0
    return _here(source.download, _work(source, roots[0]))


def _work(source: DatasetSource, target: Path) -> Path:
    return target / f".raynas-{source.name}.part"


def _here(download: DatasetDownload, work: Path) -> int:
    """Bytes of files, whole or not, in the folder in which they grow."""
    places = (work, work / "whole" / download.folder)
    names = [name for file in download.files for name in (file.name, _part(file))]
    return sum(file_size(place / name) for place in places for name in names)


def _target(source: DatasetSource, folder: str | Path | None) -> Path:
    """The data folder that gets the set. Raises: UserError where there is none."""
    places = own_roots() if folder is None else [expanded(folder)]
    if not places:
        raise UserError(
            "no folder for data: $RAYNAS_DATA is not set, and no cache folder is used",
            hint=f"{source.command()} --folder DIR",
        )
    return places[0]


def _download(source: DatasetSource) -> DatasetDownload:
    if source.download is None:
        raise UserError(
            f"{source.title} was not found, and raynas cannot download it", hint=source.otherwise
        )
    return source.download


def _whole(source: DatasetSource, folder: str | Path | None) -> FoundFiles | None:
    """The set where it is there. Raises: UserError where one that is damaged is in the way."""
    found = source.find(folder)
    if found is None or found.missing:
        return None
    bad = found.layout.damaged(found.place)
    if bad is None:
        return found
    download = source.download
    if download is None or found.place != _target(source, folder) / download.folder:
        raise UserError(
            f"{bad} differs from the file that the publisher of {source.title} gives out: it has "
            "another MD5 sum",
            hint=f"move it away, then {source.command(folder)}",
        )
    return None


def _expect_folder(place: Path) -> None:
    """Check that the name of the target folder is not taken. Raises: UserError if it is."""
    if os.path.lexists(place) and not place.is_dir():
        raise UserError(
            f"{place} is not a folder", hint="move it away, or give another folder: --folder DIR"
        )


def _expect_space(download: DatasetDownload, target: Path, work: Path) -> None:
    """Check that the disk has room for the files, packed and unpacked. Raises: UserError if not."""
    there = next(place for place in (target, *target.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    needed = download.size - _here(download, work) + download.unpacked
    if free < needed:
        raise UserError(
            f"{target} has {size_text(free)} free, but {size_text(needed)} are needed",
            hint="free space, or give another folder: --folder DIR",
        )


# -- one process at a time -----------------------------------------------------------------------


@contextlib.contextmanager
def _alone(work: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold the folder ``work``, which is made, while no other process does.

    The system drops the lock with its process. Where a file system has no locks, checksums alone
    keep two processes from harm.
    """
    while True:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work, os.O_RDONLY)
        try:
            _wait_for(handle, waiting)
            if _is_at(handle, work):  # and was not removed by the one that was waited for
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):  # where there is something to go on with
                        work.rmdir()
                return
        finally:
            os.close(handle)


def _wait_for(handle: int, waiting: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is not None:
            waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


# -- files ---------------------------------------------------------------------------------------


def _fetch_all(
    source: DatasetSource, download: DatasetDownload, work: Path, target: Path, told: Told
) -> None:
    """Fetch and check all files, then move the finished folder into ``target``."""
    made = work / "whole"
    place = made / download.folder
    to = work if download.unpacked else place
    files = [fetch_file(file, to, work / _part(file), told) for file in download.files]
    if download.unpacked:
        shutil.rmtree(made, ignore_errors=True)
        try:
            unpack(files, made, download)
            check_unpacked(source, place)
        except UserError:  # the sums were right: another try gives the same
            shutil.rmtree(work, ignore_errors=True)
            raise
    else:
        names = {file.name for file in download.files}
        for other in [path for path in place.iterdir() if path.name not in names]:
            other.unlink()  # of a process that was killed
    _put(place, target / download.folder)


def _part(file: PublishedFile) -> str:
    return f"{file.name}.part"


def _put(made: Path, place: Path) -> None:
    """Move a folder to its final name; if that exists, move each file into it.

    Files of others in the folder stay as they are.
    """
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        for path in [p for p in made.rglob("*") if p.is_file()]:
            to = place / path.relative_to(made)
            to.parent.mkdir(parents=True, exist_ok=True)
            path.replace(to)


# -- what the system refuses ---------------------------------------------------------------------


@contextlib.contextmanager
def _lines(source: DatasetSource, folder: str | Path | None) -> Iterator[None]:
    """Errors of the system in one line each."""
    import requests

    try:
        yield
    except requests.RequestException as error:  # before OSError, which it is
        raise UserError(
            f"cannot fetch {source.title}: {network_error(error)}", hint=BY_HAND
        ) from error
    except OSError as error:
        where = error.filename2 or error.filename or _target(source, folder)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise UserError(
            f"cannot use {where}: {error.strerror or first_line(error)}",
            hint=f"make room, then {source.command(folder)}, which continues the download"
            if full
            else "give another folder: --folder DIR",
        ) from error
