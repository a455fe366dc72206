"""This module ends a run in order when the user or a signal asks for it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from raynas.search.job_source import JobSource

if TYPE_CHECKING:
    from rich.console import Console


class RunInterrupted(Exception):
    """The interruption of a run by Ctrl-C or a signal; what is stored is kept.

    Its text is the command that goes on with the run.
    """


#: signals that end a run in order: Ctrl-C, `kill` (`ray job stop`), a terminal that is closed
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """Return the signals of ``ENDINGS`` that this process was not told to ignore.

    ``nohup`` tells a process to ignore SIGHUP.

    Returns:
        The signals to handle.
    """
    return [s for s in ENDINGS if signal.getsignal(s) is not signal.SIG_IGN]


@contextlib.contextmanager
def interrupts(work: JobSource, console: Console) -> Iterator[None]:
    """End the search in order at the first signal of ``ENDINGS``, and at once at the second.

    A closed terminal sends SIGHUP more than once: that never ends it at once.

    Args:
        work: The search.
        console: Where the interruption is announced.

    Yields:
        None.

    Raises:
        KeyboardInterrupt: At the second signal.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if work.interrupted:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        work.interrupt()
        with contextlib.suppress(OSError, RuntimeError):  # this thread may just be printing
            console.print("stopping: results are stored; press Ctrl-C again to stop at once")

    try:
        old = {s: signal.signal(s, stop) for s in heeded()}
    except ValueError:  # not in the main thread, which handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
