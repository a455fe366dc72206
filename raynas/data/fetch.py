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
import socket
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raynas.core import UserError
from raynas.core.errors import first_line
from raynas.core.printable import printable
from raynas.data.files import expanded, own_roots
from raynas.data.source import DatasetDownload, DatasetSource, FoundFiles, PublishedFile, size_text

Told = Callable[[str, int, int], None]
"""A function that is called with a file name, the bytes received so far, and the bytes in all."""

TIMEOUT = 30.0
"""The longest time without an answer of the publisher, in seconds."""

_BLOCK = 1 << 16
_MEMBERS = 1000


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
                _fetch_all(source, download, work, target, told or _silent)
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
    return sum(_size(place / name) for place in places for name in names)


def _silent(name: str, done: int, total: int) -> None:
    pass


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
            _unpack(files, made, download)
            _check_unpacked(source, place)
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


def fetch_file(file: PublishedFile, folder: Path, part: Path, told: Told = _silent) -> Path:
    """Fetch one file, unless it is in the folder with the right sum.

    Args:
        file: The publisher's file.
        folder: The folder into which it is moved once it is complete and its sum is right.
        part: The partial file. Bytes that an earlier call left there are not fetched again.
        told: Called with the progress: file name, bytes received, bytes in all.

    Returns:
        The path of the file in ``folder``.

    Raises:
        UserError: The publisher cannot be reached, or the connection ended too early.
        UserError: The file has another size or MD5 sum than expected.
        requests.RequestException: Another failure of the request.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    resumed = 0 < _size(part) <= file.size
    download = _Resuming(file, part, told)
    for again in (True, False):
        try:
            return Path(pooch.retrieve(file.url, f"md5:{file.md5}", file.name, folder,
                                       downloader=download))  # fmt: skip
        except requests.RequestException:  # some are of the kind below
            raise
        except ValueError as error:  # the sum is wrong, and the file is gone
            if resumed and again:  # the publisher may have changed it in between
                continue
            raise _other_file(file, "has another MD5 sum") from error
    raise AssertionError("not reached")


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that goes on where an earlier one was broken off."""

    file: PublishedFile
    part: Path
    told: Told

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        if _size(self.part) > self.file.size:
            self.part.unlink()
        while (before := _size(self.part)) < self.file.size:
            broken = self._receive(before)
            if broken is not None and _size(self.part) <= before:
                raise self._broken_off(broken) from None
        self.part.replace(output_file)

    def _receive(self, start: int) -> Exception | None:
        """Append the bytes of one connection; return the error that ended it too early, or None."""
        import requests
        from urllib3.exceptions import HTTPError

        try:
            asked = {"Accept-Encoding": "identity"}
            if start:
                asked["Range"] = f"bytes={start}-"
            with requests.get(self.file.url, headers=asked, stream=True, timeout=TIMEOUT) as answer:
                self._expect_file(answer, start)
                goes_on = answer.status_code == requests.codes.partial_content
                blocks = answer.raw.stream(_BLOCK, decode_content=False)
                self._write(blocks, start if goes_on else 0)
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            return error
        return None if _size(self.part) >= self.file.size else EOFError("the connection was closed")

    def _write(self, blocks: Iterator[bytes], start: int) -> None:
        """Append blocks to the part. Raises: UserError if there are more bytes than expected."""
        with self.part.open("r+b" if start else "wb", buffering=0) as file:
            file.truncate(start)
            file.seek(start)
            self.told(self.file.name, start, self.file.size)
            for block in blocks:
                start += len(block)
                if start > self.file.size:
                    break
                _write_all(file, block)
                self.told(self.file.name, start, self.file.size)
        if start > self.file.size:
            self.part.unlink()
            raise _other_file(self.file, f"has more than {self.file.size:,} bytes")

    def _expect_file(self, answer: Any, start: int) -> None:
        """Check that the answer is the file, or the rest of it. Raises: UserError if not."""
        size = _total(answer)
        if answer.status_code == 416:  # what is here already is all that it has
            self.part.unlink()
            raise _other_file(self.file, f"has less than {start:,} bytes")
        if answer.status_code not in (200, 206):
            reason = printable(str(answer.reason or ""))[:80]
            told = " ".join(filter(None, (str(answer.status_code), reason)))
            raise UserError(f"{self.file.url} answers: {told}", hint=_BY_HAND)
        if size is not None and size != self.file.size:
            raise _other_file(self.file, f"has {size:,} bytes")
        if answer.status_code == 206 and _first(answer) != start:
            raise UserError(
                f"{self.file.url} answers with other bytes than those requested",
                hint=f"remove {self.part} and try again",
            )

    def _broken_off(self, error: Exception) -> UserError:
        here = _size(self.part)
        if not here:
            return UserError(f"cannot fetch {self.file.url}: {_reason(error)}", hint=_BY_HAND)
        return UserError(
            f"{self.file.url} was interrupted after {here:,} of {self.file.size:,} bytes "
            f"({_reason(error)})",
            hint="the same command continues the download",
        )


_BY_HAND = (
    "check the network and try again later; or fetch it with another program, unpack it, and give "
    "its folder: folder=... or $RAYNAS_DATA"
)


def _other_file(file: PublishedFile, how: str) -> UserError:
    return UserError(
        f"{file.url} is not the file that is known: it {how}; it is not kept",
        expected=f"{file.size:,} bytes with MD5 {file.md5}",
        hint="try again; if it stays so, the publisher has changed it, or a proxy answers instead",
    )


def _write_all(file: Any, block: bytes) -> None:
    """Write all of ``block``: an unbuffered file may accept only a part of it in one call."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _total(answer: Any) -> int | None:
    """Bytes of the whole file, as an answer says it; None where it does not."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code == 200:
        whole = answer.headers.get("Content-Length", "")
    return int(whole) if whole.isascii() and whole.isdigit() else None


def _first(answer: Any) -> int | None:
    """Return the index in the file of the first byte of an answer; None if it does not say."""
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else None


def _reason(error: BaseException) -> str:
    """Return the root cause of a network error in one line."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < 20:
        one = waiting.pop()
        seen.append(one)
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [e for e in inner if isinstance(e, BaseException) and e not in seen]
    for one in seen:
        if isinstance(one, TimeoutError) or "timeout" in type(one).__name__.lower():
            return f"no answer within {TIMEOUT:.0f} s"
        if isinstance(one, socket.gaierror):
            return "the name of its server cannot be resolved"
    for one in seen:
        if isinstance(one, OSError) and isinstance(one.strerror, str):
            return one.strerror
    return str(error) if isinstance(error, EOFError) else first_line(seen[-1])


# -- archives ------------------------------------------------------------------------------------


def _unpack(archives: list[Path], to: Path, download: DatasetDownload) -> None:
    """Regular files below ``download.folder`` of each archive, and nothing else.

    Raises: UserError for an archive that is damaged, or holds more than is known.
    """
    left = download.unpacked
    to.mkdir(parents=True)
    for path in archives:
        try:
            with tarfile.open(path) as archive:
                for count, member in enumerate(archive):
                    left -= member.size
                    if left < 0 or count >= _MEMBERS:
                        raise _strange(path.name, f"holds more than {size_text(download.unpacked)}")
                    if not _is_below(member, download.folder):
                        raise _strange(path.name, f"holds {printable(member.name)[:80]!r}")
                    archive.extract(member, to, **_FILTER)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # what is damaged may fail anywhere in the reader
            if isinstance(error, OSError) and error.errno is not None:  # of the system, not of gzip
                raise
            raise _strange(path.name, f"is damaged ({printable(first_line(error))})") from None


#: Python 3.11.0 to 3.11.3 have no filters; what gets here is a plain file or folder all the same
_FILTER: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _is_below(member: tarfile.TarInfo, folder: str) -> bool:
    parts = member.name.removeprefix("./").rstrip("/").split("/")
    regular = (member.isreg() and len(parts) > 1) or member.isdir()
    return regular and parts[0] == folder and ".." not in parts and "\0" not in member.name


def _strange(name: str, how: str) -> UserError:
    return UserError(f"the publisher's {name} {how}; nothing of it is kept")


def _check_unpacked(source: DatasetSource, place: Path) -> None:
    """Check that the data set can be read from the folder. Raises: UserError if not."""
    lacking = [layout.missing(place) for layout in source.layouts]
    if all(lacking):
        raise _strange(place.name, f"has no {lacking[0][0]}")
    layout = source.layouts[lacking.index(())]
    bad = layout.damaged(place)
    if bad is not None:
        raise _strange(place.name, f"has another {bad.name} than its publisher")


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
        raise UserError(f"cannot fetch {source.title}: {_reason(error)}", hint=_BY_HAND) from error
    except OSError as error:
        where = error.filename2 or error.filename or _target(source, folder)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise UserError(
            f"cannot use {where}: {error.strerror or first_line(error)}",
            hint=f"make room, then {source.command(folder)}, which continues the download"
            if full
            else "give another folder: --folder DIR",
        ) from error
