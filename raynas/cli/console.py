"""The console of the commands, and the progress that it shows."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from raynas.core.printable import DEGRADED
from raynas.pipeline.live import clock, shorten
from raynas.pipeline.printing import data_console

if TYPE_CHECKING:
    pass


def console() -> Console:
    """Return the console of the commands.

    All text is data, without markup, and the terminal may know ASCII only.

    Returns:
        A console on standard output.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "backslashreplace":
        sys.stdout.reconfigure(errors=DEGRADED)  # replaces the command line's own setting
    return data_console()


@contextlib.contextmanager
def downloading(out: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with size, speed and time left on a terminal; elsewhere show nothing.

    Args:
        out: The console.

    Yields:
        A function to call with the name of a file, the bytes that are here, and all its bytes.
    """
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(shorten(name, 28), total=total)
            bar.update(tasks[name], completed=done)

        yield told


def short_count(count: float) -> str:
    """``1234567`` -> ``1.23M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}" if count == count else "-"


@contextlib.contextmanager
def progress(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; elsewhere print a line every tenth.

    Args:
        out: The console.
        what: Name of the work.

    Yields:
        A function to call with the number that is done and the number of all.
    """
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not out.is_terminal and done * 10 // total > (done - 1) * 10 // total:
                out.print(f"{what}: {done} of {total}")

        yield told


@contextlib.contextmanager
def counted(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show counts with the time that is left on a terminal; elsewhere print a line every 10 s.

    Work that was done before the first call is not counted for the pace.

    Args:
        out: The console.
        what: Name of the work.

    Yields:
        A function to call with the number that is done and the number of all.
    """
    live = Live(console=out, transient=True, auto_refresh=False) if out.is_terminal else None
    began = shown = time.monotonic()
    before: int | None = None

    def told(done: int, total: int) -> None:
        nonlocal shown, before
        now = time.monotonic()
        before = done if before is None else before
        if now - shown < (0.25 if live else 10.0):
            return
        shown = now
        pace = (now - began) / (done - before) if done > before else None
        left = f", about {clock(pace * (total - done))} left" if pace is not None else ""
        line = Text(f"{what}: {done:,} of {total:,}{left}")
        if live is not None:
            live.update(line, refresh=True)
        else:
            out.print(line)

    with live or contextlib.nullcontext():
        yield told
