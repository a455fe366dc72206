"""Standard output that nobody reads, and that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pty
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from raynas.cli import streams


@contextlib.contextmanager
def opened(number: int) -> Iterator[io.TextIOWrapper]:
    """A stream to a descriptor, as the command line makes it."""
    with os.fdopen(number, "w") as own:
        yield streams._unbroken(own)


def test_what_a_closed_pipe_does_not_take_is_dropped() -> None:
    here, there = os.pipe()
    with opened(there) as stream:
        _closed_pipe(here, stream)


def _closed_pipe(here: int, stream: io.TextIOWrapper) -> None:
    print("first", file=stream, flush=True)
    assert os.read(here, 100) == b"first\n"
    os.close(here)
    for _ in range(3):
        print("more", file=stream, flush=True)


def test_what_a_closed_terminal_does_not_take_is_dropped() -> None:
    here, there = pty.openpty()
    with opened(there) as stream:
        _closed_terminal(here, there, stream)


def _closed_terminal(here: int, there: int, stream: io.TextIOWrapper) -> None:
    assert stream.isatty()
    os.close(here)
    with pytest.raises(OSError) as raised:
        os.write(there, b"more")
    assert raised.value.errno == errno.EIO
    for _ in range(3):
        print("more", file=stream, flush=True)
    assert stream.isatty()


def test_a_full_disk_is_an_error_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(os.open("/dev/full", os.O_WRONLY)) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("more")
        with pytest.raises(OSError, match="No space left on device"):
            streams.end_streams()
        streams.end_streams()  # as the interpreter does at its end


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_other_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch, stream: object) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    streams.prepare_streams()
    streams.end_streams()
    assert sys.stdout is stream


def test_a_warning_takes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    streams.prepare_streams()
    shown = warnings.formatwarning("old is now new", FutureWarning, str(tmp_path / "search.py"), 7)
    assert shown == "search.py, line 7: FutureWarning: old is now new\n"
