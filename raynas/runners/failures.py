"""This module says why a worker died, and when its task is given up.

All runners use the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raynas.core import UserError

Machines = frozenset[str]

#: a task that has crashed so many workers, with no measurement between, is put in quarantine
QUARANTINE = 2

_KILLED = "it was killed (was memory short?), it crashed, or its machine is gone"


def cause(text: str) -> tuple[bool, str]:
    """Return the cause of a worker's death.

    Args:
        text: What Ray says of the death; may be empty.

    Returns:
        True if the worker died while it was set up, and the reason in one line.
    """
    text = text.strip()
    if machine_gone(text):
        return False, "its machine is gone"
    if "worker process has died" in text or "died unexpectedly" in text or not text:
        return False, _KILLED
    return "creation task" in text, text.splitlines()[-1]


def machine_gone(text: str) -> bool:
    """Return True if the whole machine was lost, by what Ray says of the worker's death.

    Args:
        text: What Ray says of the death.

    Returns:
        False also if only the worker's process died.
    """
    return "node has died" in text or "actor's node was" in text


@dataclass
class FailureTracker:
    """A count of the workers that died with one task since its last measurement.

    A machine that is taken away is a death, but no crash. What Ray says does not always tell the
    one from the other: until it gives a machine up, workers there are as silent as those whose
    process was killed.

    Attributes:
        times: The deaths of workers.
        crashed: Those of them that may be crashes.
        machines: The ids of the machines that were there at the first crash.
    """

    times: int = 0
    crashed: int = 0
    machines: Machines = frozenset()

    def count(self, text: str, machines: Callable[[], Machines]) -> None:
        """Count one death.

        Args:
            text: What Ray says of the death.
            machines: Returns the ids of the machines that Ray knows.
        """
        self.times += 1
        if not machine_gone(text):
            self.machines = self.machines if self.crashed else machines()
            self.crashed += 1

    def progress(self) -> None:
        """Start counting anew: the task was measured, further than ever before."""
        self.times = self.crashed = 0

    def verdict(self, retries: int, reason: str, machines: Callable[[], Machines]) -> str:
        """Return why the task is given up, if it is.

        Args:
            retries: How often a task is started again since its last measurement.
            reason: The cause of the last death.
            machines: Returns the ids of the machines that answer now. It is asked before a task is
                put in quarantine: for each machine lost meanwhile, one crash may have been its end.

        Returns:
            The message of the trial; empty if it is to be started again.

        Example:
            >>> deaths = FailureTracker()
            >>> deaths.count("", lambda: frozenset({"a"}))
            >>> deaths.verdict(0, "it crashed", lambda: frozenset({"a"}))
            'its worker died once: it crashed'
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
    """Return the message of a trial that is given up.

    Args:
        times: How often its worker died.
        reason: The cause of the last death.

    Returns:
        One line.

    Example:
        >>> died(2, "its machine is gone")
        'its worker died 2 times: its machine is gone'
    """
    return f"its worker died {'once' if times == 1 else f'{times} times'}: {reason}"


def no_measurement(seconds: float) -> str:
    """Return the reason for a worker that was ended because it hung.

    Args:
        seconds: How long it said nothing.

    Returns:
        A part of a message.
    """
    return f"no measurement for {seconds:g} s"


def no_setup(reason: str) -> UserError:
    """Return the error that says that workers cannot be set up.

    No trial is at fault: what ran stays RUNNING in the store, to be resumed.

    Args:
        reason: Why the last of them died.

    Returns:
        The error to raise.
    """
    return UserError(
        f"workers cannot be set up: {reason}",
        hint="check what differs between this process and the workers, then "
        "`raynas resume` goes on",
    )
