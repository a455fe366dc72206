"""The contract of a scheduler: which trials go on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, Problem, Trial, TrialState, UserError


@dataclass(frozen=True)
class Rung:
    """One rung for display: its step, how many trials reached it, how many went on."""

    step: int
    reached: int
    promoted: int


class Scheduler(ABC):
    """Decides at every measurement. Depends on nothing but the measurements it was shown.

    A trial that it pauses keeps its checkpoint and gives its worker back; in the store it is
    RUNNING as before. ``review`` says later which paused trials go on. Those that still wait when
    the search ends are STOPPED then. A trial that was told to go on and was not measured since
    counts as paused after a resume, and is reviewed again.
    """

    name: ClassVar[str]

    @abstractmethod
    def setup(self, problem: Problem) -> None:
        """Start from nothing; called again, it forgets all. Raises: UserError for bad settings."""

    @abstractmethod
    def decide(self, trial: Trial) -> Decision:
        """The decision after ``trial.last``, whose objectives are finite (checked before)."""

    @abstractmethod
    def replay(self, trials: Iterable[Trial]) -> None:
        """Rebuild all state from stored trials after ``setup``."""

    def admits(self) -> bool:
        """Whether a new trial may start now; False only while some trial is going on."""
        return True

    def begin(self, trial: Trial) -> None:
        """A new trial is about to start. Once per trial, in the order of their starts."""

    def end(self, trial: Trial) -> None:
        """The trial is at rest. Once per trial that began."""

    def review(self, last: bool = False) -> Sequence[tuple[int, Decision]]:
        """Numbers of paused trials, and whether each shall CONTINUE now or STOP; the others wait.

        Asked whenever a worker is free. ``last``: nothing runs and nothing new will start, so what
        waits for more trials is to be decided with those that there are.
        """
        return ()

    def pauses(self) -> Sequence[int]:
        """The steps at which it may pause a trial, after ``setup``."""
        return ()

    def paused(self) -> Collection[int]:
        """Numbers of the trials that wait for a review."""
        return ()

    def leaders(self, top: int) -> Collection[int]:
        """Numbers of the ``top`` best trials of each rung."""
        return ()

    def rungs(self) -> tuple[Rung, ...]:
        """The rungs from low to high, for the live view and the report."""
        return ()


def require_integer(scheduler: str, setting: str, value: float, least: int) -> int:
    """Return ``value`` as an integer.

    Args:
        scheduler: Name of its class, for the message.
        setting: Name of the setting.
        value: What was given; a float such as 3.0 is allowed.
        least: The lowest value that is allowed.

    Raises:
        UserError: ``value`` is not an integer, or is below ``least``.
    """
    if not (math.isfinite(value) and value >= least and value == int(value)):
        raise UserError(f"{scheduler}: {setting} = {value}", allowed=f"integers from {least}")
    return int(value)


def began(trial: Trial) -> bool:
    """Whether a stored trial was started: it broke no bound beforehand and passed the screening."""
    if trial.state is TrialState.INFEASIBLE and not trial.measurements:
        return not any(violation > 0 for violation in trial.violations.values())
    return trial.state is not TrialState.STOPPED or trial.step > 0
