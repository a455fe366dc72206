"""Standard output and error of the command line."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

#: errors of output without a reader: a closed pipe or socket, a closed terminal
_UNREAD = {errno.EPIPE, errno.ECONNRESET, errno.ENXIO}


class _Descriptor(io.RawIOBase):
    """A raw stream that writes to a descriptor, and drops output once there is no reader.

    So a search goes on when ``| head`` has seen enough or a terminal is closed, and every other
    command ends as if its output had been read to the end.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._terminal = os.isatty(number)
        self._unread = False

    def give_up(self) -> None:
        """Drop all further output."""
        self._unread = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return self._terminal

    def write(self, data: Any) -> int | None:
        if not self._unread:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                return None
            except OSError as error:
                # a closed terminal raises EIO, and so does a broken disk
                if error.errno not in _UNREAD and not (self._terminal and error.errno == errno.EIO):
                    raise
                self._unread = True
        return memoryview(data).nbytes


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning as one line, without the line of code that caused it."""
    del line
    return f"{Path(filename).name}, line {lineno}: {category.__name__}: {message}\n"


def prepare_streams() -> None:
    """Make standard output and error safe to write to, whatever reads them.

    Letters that the encoding of a terminal lacks are spelled in ASCII instead of raising an error,
    and output without a reader is dropped. Streams that are not the interpreter's own only get the
    spelling in ASCII. Warnings take one line each.
    """
    warnings.formatwarning = _one_line
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _unbroken(stream))


def end_streams() -> None:
    """Write the rest of standard output, or drop it, so that the interpreter ends without an error.

    Raises:
        OSError: It cannot be written, as on a full disk.
    """
    stream = sys.stdout
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, _Descriptor):
            raw.give_up()
        raise


def _unbroken(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno())),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
