"""This module has the scheduler that stops nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, SearchProblem, Trial
from raynas.schedulers.base import Scheduler


@dataclass
class NoStopping(Scheduler):
    """A scheduler that lets every trial run to its last step.

    Example:
        >>> NoStopping().rungs()
        ()
    """

    name: ClassVar[str] = "none"

    def setup(self, problem: SearchProblem) -> None:
        """Do nothing: there is nothing to prepare."""

    def decide(self, trial: Trial) -> Decision:
        """Return CONTINUE for every trial.

        Args:
            trial: The trial, not used.

        Returns:
            CONTINUE.
        """
        return Decision.CONTINUE

    def replay(self, trials: Iterable[Trial]) -> None:
        """Do nothing: there is no state to rebuild."""
