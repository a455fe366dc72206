"""What is said about a worker that died, and who is to blame. The same words for every lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raynas.core import UserError

Machines = frozenset[str]

#: so many workers that a task has crashed, with no measurement between, put it in quarantine
QUARANTINE = 2

_KILLED = "it was killed (was memory short?), it crashed, or its machine is gone"


def cause(text: str) -> tuple[bool, str]:
    """Whether the worker died while it was set up, and why, in one line.

    ``text``: what Ray says of the death, or nothing.
    """
    text = text.strip()
    if machine_gone(text):
        return False, "its machine is gone"
    if "worker process has died" in text or "died unexpectedly" in text or not text:
        return False, _KILLED
    return "creation task" in text, text.splitlines()[-1]


def machine_gone(text: str) -> bool:
    """Whether a death was that of the whole machine, by what Ray says of it."""
    return "node has died" in text or "actor's node was" in text


@dataclass
class Deaths:
    """Of the workers that had one task since it was measured last: all of them, and those that
    ``crashed``. A machine that is taken away is a death, and no crash.

    What Ray says does not always tell the one from the other: until it gives a machine up, workers
    there are as silent as those whose process was killed. ``machines``: that were there at the
    first crash.
    """

    times: int = 0
    crashed: int = 0
    machines: Machines = frozenset()

    def count(self, text: str, machines: Callable[[], Machines]) -> None:
        """``text``: what Ray says of the death; ``machines``: those that Ray knows."""
        self.times += 1
        if not machine_gone(text):
            self.machines = self.machines if self.crashed else machines()
            self.crashed += 1

    def progress(self) -> None:
        """The task was measured, further than ever before."""
        self.times = self.crashed = 0

    def verdict(self, retries: int, reason: str, machines: Callable[[], Machines]) -> str:
        """Why the task is given up; empty when it is to be started again.

        ``machines``: those that answer now, asked before a task is put in quarantine: as many as
        were lost meanwhile, so many crashes may have been their end.
        """
        if self.times > retries:
            return died(self.times, reason)
        if self.crashed >= QUARANTINE:
            there = machines()
            lost = len(self.machines - there)
            if not lost:
                return f"{died(self.times, reason)}; in quarantine, no third worker gets it"
            self.crashed, self.machines = max(self.crashed - lost, 0), there
        return ""


def died(times: int, reason: str) -> str:
    """The message of a trial that is given up."""
    return f"its worker died {'once' if times == 1 else f'{times} times'}: {reason}"


def no_measurement(seconds: float) -> str:
    """Of a worker that was ended because it hung."""
    return f"no measurement for {seconds:g} s"


def no_setup(reason: str) -> UserError:
    """No fault of a trial: what ran stays RUNNING, to be resumed."""
    return UserError(
        f"workers cannot be set up: {reason}",
        cure="look for what differs between this process and the workers, then "
        "`raynas resume` goes on",
    )
