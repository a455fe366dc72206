"""Standard output and error of the command line."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

#: nobody reads any more: the other end of a pipe or socket is closed, the terminal is gone
_UNREAD = {errno.EPIPE, errno.ECONNRESET, errno.ENXIO}


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor; once nobody reads there, what is written is dropped.

    So a search goes on when ``| head`` has seen enough or a terminal is closed, and every other
    command ends as if it had been read to the end.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._terminal = os.isatty(number)
        self._unread = False

    def give_up(self) -> None:
        """Drop all that comes."""
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
                # a terminal that is gone answers EIO, and so does a broken disk
                if error.errno not in _UNREAD and not (self._terminal and error.errno == errno.EIO):
                    raise
                self._unread = True
        return memoryview(data).nbytes


def prepare_streams() -> None:
    """Make standard output and error safe to write to, whatever reads them.

    What the encoding of a terminal lacks is spelled in ASCII instead of raising an error, and what
    nobody reads is dropped. Streams that are not the interpreter's own are only degraded.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _unbroken(stream))


def end_streams() -> None:
    """Write what is left to standard output, or give it up: the interpreter's end is silent then.

    Raises: OSError when it cannot be written, as on a full disk.
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
