"""The contract of a scheduler: which trials go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, Problem, Trial


@dataclass(frozen=True)
class Rung:
    """One rung for display: its step, how many trials reached it, how many went on."""

    step: int
    reached: int
    promoted: int


class Scheduler(ABC):
    """Decides at every measurement. Depends on nothing but the measurements it was shown."""

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

    def rungs(self) -> tuple[Rung, ...]:
        """The rungs from low to high, for the live view and the report."""
        return ()
