"""This module downloads one file of a publisher, and goes on where it was broken off."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raynas.core import UserError
from raynas.core.errors import first_line
from raynas.core.printable import printable
from raynas.data.source import PublishedFile

Told = Callable[[str, int, int], None]
"""A function that is called with a file name, the bytes received so far, and the bytes in all."""

TIMEOUT = 30.0
"""The longest time without an answer of the publisher, in seconds."""

_BLOCK = 1 << 16


def silent(name: str, done: int, total: int) -> None:
    """Show no progress.

    Args:
        name: Name of the file.
        done: Bytes received so far.
        total: Bytes in all.
    """


def fetch_file(file: PublishedFile, folder: Path, part: Path, told: Told = silent) -> Path:
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
    resumed = 0 < file_size(part) <= file.size
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
        if file_size(self.part) > self.file.size:
            self.part.unlink()
        while (before := file_size(self.part)) < self.file.size:
            broken = self._receive(before)
            if broken is not None and file_size(self.part) <= before:
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
        return (
            None
            if file_size(self.part) >= self.file.size
            else EOFError("the connection was closed")
        )

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
            raise UserError(f"{self.file.url} answers: {told}", hint=BY_HAND)
        if size is not None and size != self.file.size:
            raise _other_file(self.file, f"has {size:,} bytes")
        if answer.status_code == 206 and _first(answer) != start:
            raise UserError(
                f"{self.file.url} answers with other bytes than those requested",
                hint=f"remove {self.part} and try again",
            )

    def _broken_off(self, error: Exception) -> UserError:
        here = file_size(self.part)
        if not here:
            return UserError(f"cannot fetch {self.file.url}: {network_error(error)}", hint=BY_HAND)
        return UserError(
            f"{self.file.url} was interrupted after {here:,} of {self.file.size:,} bytes "
            f"({network_error(error)})",
            hint="the same command continues the download",
        )


BY_HAND = (
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


def file_size(path: Path) -> int:
    """Return the size of a file.

    Args:
        path: The file.

    Returns:
        Bytes; 0 where there is no such file.
    """
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


def network_error(error: BaseException) -> str:
    """Return the root cause of a network error.

    Args:
        error: The error, with its causes.

    Returns:
        One line.
    """
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
