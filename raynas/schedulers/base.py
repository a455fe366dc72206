"""This module defines the contract of a scheduler, which decides which trials go on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from raynas.core import Decision, SearchProblem, Trial, TrialState, UserError
from raynas.core.ability import has


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


class RankedRung(Protocol):
    """A rung with the trials that reached it."""

    @property
    def step(self) -> int:
        """The step of the rung."""

    @property
    def entries(self) -> Mapping[int, object]:
        """The trials that reached the rung, by their numbers."""

    @property
    def promoted(self) -> int:
        """The number of trials that went on from the rung."""

    def best(self, count: int) -> list[int]:
        """Return the numbers of the best trials, best first.

        Args:
            count: Number of trials.
        """


@runtime_checkable
class ComparesInRungs(Protocol):
    """A scheduler that compares trials in rungs."""

    def ranked_rungs(self) -> Sequence[RankedRung]:
        """Return the rungs from low to high."""


@runtime_checkable
class PausesTrials(Protocol):
    """A scheduler that pauses trials, and says later which of them go on."""

    def pause_steps(self) -> Sequence[int]:
        """Return the steps at which a trial may be paused, from low to high, after ``setup``."""

    def waiting_trials(self) -> Collection[int]:
        """Return the numbers of the trials that wait for a review."""

    def decide_waiting(self, last: bool) -> Sequence[tuple[int, Decision]]:
        """Decide on paused trials; see :meth:`Scheduler.review`.

        Args:
            last: Nothing runs and nothing new will start.
        """


@runtime_checkable
class LimitsStarts(Protocol):
    """A scheduler that at times lets no new trial start."""

    def may_begin(self) -> bool:
        """Return whether a new trial may start now; False only while some trial is going on."""


class Scheduler(ABC):
    """A rule that decides after every measurement whether a trial goes on.

    It depends on nothing but the measurements it was shown. A subclass defines the methods that are
    abstract here, and ``begin`` and ``end`` where it must know of starts and ends. What else it may
    be is one that :class:`PausesTrials`, :class:`LimitsStarts` or :class:`ComparesInRungs`; the
    methods here ask for it. A subclass written for raynas 0.1, which replaces ``review``, ``rungs``
    and the like, works as before.

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
        return self.may_begin() if has(self, LimitsStarts) else True

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
        return self.decide_waiting(last) if has(self, PausesTrials) else ()

    def pauses(self) -> Sequence[int]:
        """Return the steps at which a trial may be paused, after ``setup``.

        Returns:
            Steps from low to high; empty where it never pauses.
        """
        return self.pause_steps() if has(self, PausesTrials) else ()

    def paused(self) -> Collection[int]:
        """Return the trials that wait for a review.

        Returns:
            Their numbers.
        """
        return self.waiting_trials() if has(self, PausesTrials) else ()

    def leaders(self, top: int) -> Collection[int]:
        """Return the best trials of each rung.

        Args:
            top: Number of trials per rung.

        Returns:
            Their numbers.
        """
        return {number for rung in self._ranked() for number in rung.best(top)}

    def rungs(self) -> tuple[Rung, ...]:
        """Return the rungs for the live view and the report.

        Returns:
            Rungs from low to high; empty without rungs.
        """
        return tuple(Rung(r.step, len(r.entries), r.promoted) for r in self._ranked())

    def _ranked(self) -> Sequence[RankedRung]:
        return self.ranked_rungs() if has(self, ComparesInRungs) else ()


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
