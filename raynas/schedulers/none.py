"""The scheduler that stops nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, Problem, Trial
from raynas.schedulers.base import Scheduler


@dataclass
class NoStopping(Scheduler):
    """Every trial is measured to its last step."""

    name: ClassVar[str] = "none"

    def setup(self, problem: Problem) -> None:
        """Nothing to prepare."""

    def decide(self, trial: Trial) -> Decision:
        return Decision.CONTINUE

    def replay(self, trials: Iterable[Trial]) -> None:
        """Nothing to rebuild."""
