"""This module defines the contract of a scheduler, which decides which trials go on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, SearchProblem, Trial, TrialState, UserError


@dataclass(frozen=True)
class Rung:
    """A rung for display.

    Attributes:
        step: The step of the rung.
        reached: Number of trials that reached it.
        promoted: Number of trials that went on from it.
    """

    step: int
    reached: int
    promoted: int


class Scheduler(ABC):
    """A rule that decides after every measurement whether a trial goes on.

    It depends on nothing but the measurements it was shown.

    A paused trial keeps its checkpoint and frees its worker; in the store it is RUNNING as
    before. ``review`` says later which paused trials go on. Those that still wait when the search
    ends are STOPPED then. A trial that was told to go on and was not measured since counts as
    paused after a resume, and is reviewed again.

    Attributes:
        name: Name in the store and on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def setup(self, problem: SearchProblem) -> None:
        """Start without any history; a second call forgets everything.

        Args:
            problem: Objectives and last step of the search.

        Raises:
            UserError: A setting does not fit the problem.
        """

    @abstractmethod
    def decide(self, trial: Trial) -> Decision:
        """Decide on a trial after its last measurement.

        Args:
            trial: The trial; the objectives of ``trial.last`` are finite (checked before).

        Returns:
            CONTINUE, PAUSE or STOP.
        """

    @abstractmethod
    def replay(self, trials: Iterable[Trial]) -> None:
        """Rebuild all state from stored trials after ``setup``.

        Args:
            trials: Stored trials in the order of their numbers.
        """

    def admits(self) -> bool:
        """Return whether a new trial may start now.

        Returns:
            False only while some trial is going on.
        """
        return True

    def begin(self, trial: Trial) -> None:
        """Register a new trial that is about to start.

        It is called once per trial, in the order of their starts.

        Args:
            trial: The trial.
        """

    def end(self, trial: Trial) -> None:
        """Register that a trial has ended; called once per trial that began.

        Args:
            trial: The trial in its final state.
        """

    def review(self, last: bool = False) -> Sequence[tuple[int, Decision]]:
        """Decide on paused trials; asked whenever a worker is free.

        Args:
            last: Nothing runs and nothing new will start, so trials that wait for more trials must
                be decided on with those that there are.

        Returns:
            Pairs of a trial number and CONTINUE or STOP; trials that are not named go on waiting.
        """
        return ()

    def pauses(self) -> Sequence[int]:
        """Return the steps at which a trial may be paused, after ``setup``.

        Returns:
            Steps from low to high; empty where it never pauses.
        """
        return ()

    def paused(self) -> Collection[int]:
        """Return the trials that wait for a review.

        Returns:
            Their numbers.
        """
        return ()

    def leaders(self, top: int) -> Collection[int]:
        """Return the best trials of each rung.

        Args:
            top: Number of trials per rung.

        Returns:
            Their numbers.
        """
        return ()

    def rungs(self) -> tuple[Rung, ...]:
        """Return the rungs for the live view and the report.

        Returns:
            Rungs from low to high; empty without rungs.
        """
        return ()


def require_integer(scheduler: str, setting: str, value: float, least: int) -> int:
    """Return ``value`` as an integer.

    Args:
        scheduler: Name of its class, for the message.
        setting: Name of the setting.
        value: The given value; a float such as 3.0 is allowed.
        least: The lowest value that is allowed.

    Returns:
        The integer.

    Raises:
        UserError: ``value`` is not an integer, or is below ``least``.

    Example:
        >>> require_integer("ASHA", "factor", 3.0, least=2)
        3
    """
    if not (math.isfinite(value) and value >= least and value == int(value)):
        raise UserError(f"{scheduler}: {setting} = {value}", expected=f"integers from {least}")
    return int(value)


def began(trial: Trial) -> bool:
    """Return whether a stored trial was started.

    Args:
        trial: A stored trial.

    Returns:
        False if it broke a bound beforehand or did not pass the screening.
    """
    if trial.state is TrialState.INFEASIBLE and not trial.measurements:
        return not any(violation > 0 for violation in trial.violations.values())
    return trial.state is not TrialState.STOPPED or trial.step > 0
