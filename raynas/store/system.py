"""This module has the clock, the threads and the identity of this process, as the store uses them.

All waiting and timing of the store goes through one object, so that a simulation can replace it.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Protocol

Holder = Mapping[str, Any]
"""What identifies a process: pid, host, boot, namespace, started, token."""


class HostSystem(Protocol):
    """The functions of the machine that the store needs."""

    def monotonic(self) -> float:
        """Read a clock that never goes back, and that counts while the machine is suspended.

        Returns:
            Seconds since an arbitrary moment.
        """

    def sleep(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: The time to wait.
        """

    def uniform(self, low: float, high: float) -> float:
        """Draw a number, so that the pauses of several processes differ.

        Args:
            low: The smallest number.
            high: The largest number.

        Returns:
            A number between ``low`` and ``high``.
        """

    def mutex(self) -> AbstractContextManager[Any]:
        """Make a lock for the threads of this process.

        Returns:
            A context manager that holds the lock.
        """

    def every(self, seconds: float, action: Callable[[], bool], name: str) -> Callable[[], None]:
        """Call a function at regular intervals in the background, until it returns False.

        Args:
            seconds: The interval.
            action: The function.
            name: The name of the thread.

        Returns:
            A function that ends it. It does not wait for a call that is under way.
        """

    def identity(self) -> Holder:
        """Describe this process, with a new token in every call.

        Returns:
            The entries pid, host, boot, namespace, started and token.
        """

    def is_dead(self, holder: Holder) -> bool:
        """Return True if a process was on this machine and has ended.

        Args:
            holder: The process, as :meth:`identity` described it.

        Returns:
            False if the process is alive, or if that is not known.
        """


class RealSystem:
    """The functions of the real machine; see :class:`HostSystem`."""

    def monotonic(self) -> float:
        """Read the boot-time clock, or the monotonic clock where there is none."""
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if clock is None else time.clock_gettime(clock)

    def sleep(self, seconds: float) -> None:
        """Wait for a time in seconds."""
        time.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number from Python's global generator."""
        return random.uniform(low, high)

    def mutex(self) -> AbstractContextManager[Any]:
        """Make a lock of the ``threading`` module."""
        return threading.Lock()

    def every(self, seconds: float, action: Callable[[], bool], name: str) -> Callable[[], None]:
        """Call a function at regular intervals in a daemon thread; see :meth:`HostSystem.every`."""
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(seconds) and action():
                pass

        threading.Thread(target=keep, name=name, daemon=True).start()
        return ended.set

    def identity(self) -> Holder:
        """Describe this process by host, boot and start time; see :meth:`HostSystem.identity`."""
        pid = os.getpid()
        return {**_machine(), "pid": pid, "started": _started(pid), "token": secrets.token_hex(8)}

    def is_dead(self, holder: Holder) -> bool:
        """Compare a process with those of ``/proc``; see :meth:`HostSystem.is_dead`."""
        here, pid = _machine(), holder.get("pid")
        if not isinstance(pid, int) or not all(here.values()):
            return False
        if any(holder.get(key) != value for key, value in here.items()):
            return False  # of another machine or container: its processes are not seen here
        return bool(holder.get("started")) and _started(pid) != holder["started"]


@cache
def _machine() -> dict[str, str]:
    """Return the values that processes which see each other share; empty texts where unknown."""
    return {"host": socket.gethostname(), "boot": _boot(), "namespace": _namespace()}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of a process in ticks since boot; empty if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


_REAL = RealSystem()
SYSTEM: ContextVar[HostSystem] = ContextVar("raynas_system", default=_REAL)


def system() -> HostSystem:
    """Return the system that the calling code is to use.

    Returns:
        The real machine, or the simulated one of the current context.
    """
    return SYSTEM.get()
