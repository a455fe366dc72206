"""The clock, the threads and the identity of this process, as the store uses them.

All of the store's waiting and timing goes through one object, so that a simulation can replace it.
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


class System(Protocol):
    """What the store needs of the machine that it runs on."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and counts while the machine is suspended."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def uniform(self, low: float, high: float) -> float:
        """Draw a number, for pauses that are not in step with those of others."""

    def mutex(self) -> AbstractContextManager[Any]:
        """Make a lock for the threads of this process."""

    def every(self, seconds: float, action: Callable[[], bool], name: str) -> Callable[[], None]:
        """Call ``action`` every so many seconds, in the background, until it returns False.

        Returns:
            A function that ends it; it does not wait for a call that is under way.
        """

    def identity(self) -> Holder:
        """Describe this process, with a token of its own in every call."""

    def is_dead(self, holder: Holder) -> bool:
        """Whether ``holder`` was a process of this machine that has ended; False when unknown."""


class RealSystem:
    """The machine itself."""

    def monotonic(self) -> float:
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if clock is None else time.clock_gettime(clock)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)

    def mutex(self) -> AbstractContextManager[Any]:
        return threading.Lock()

    def every(self, seconds: float, action: Callable[[], bool], name: str) -> Callable[[], None]:
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(seconds) and action():
                pass

        threading.Thread(target=keep, name=name, daemon=True).start()
        return ended.set

    def identity(self) -> Holder:
        pid = os.getpid()
        return {**_machine(), "pid": pid, "started": _started(pid), "token": secrets.token_hex(8)}

    def is_dead(self, holder: Holder) -> bool:
        here, pid = _machine(), holder.get("pid")
        if not isinstance(pid, int) or not all(here.values()):
            return False
        if any(holder.get(key) != value for key, value in here.items()):
            return False  # of another machine or container: its processes are not seen here
        return bool(holder.get("started")) and _started(pid) != holder["started"]


@cache
def _machine() -> dict[str, str]:
    """What two processes have in common that see each other; empty texts where unknown."""
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
    """When the process was started, in ticks since boot; empty when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


_REAL = RealSystem()
SYSTEM: ContextVar[System] = ContextVar("raynas_system", default=_REAL)


def system() -> System:
    """The system in whose name the calling code runs."""
    return SYSTEM.get()
