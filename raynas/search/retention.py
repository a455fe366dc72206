"""This module applies the experiment's quota of checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from raynas.core import Trial, UserError
from raynas.core.fields import check_fields


@dataclass(frozen=True)
class Checkpoints:
    """The number of trials of an experiment that may have checkpoints at a time.

    Trials that run or wait to go on always keep theirs, if need be beyond the quota. So do the
    best, of which finalists are made, the Pareto front, and the ``top`` best of each rung. Other
    ended trials keep theirs while there is room: those that got farthest, of equals the better. A
    trial that failed or does not fit keeps none.

    Attributes:
        quota: Number of trials with checkpoints; None for all. 0 keeps what is needed to go on,
            and the best, but neither front nor rungs.
        top: Number of trials per rung that keep their checkpoints.

    Raises:
        UserError: A setting is negative.

    Example:
        >>> Checkpoints(quota=5)
        Checkpoints(quota=5, top=3)
    """

    quota: int | None = 20
    top: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.quota is not None and self.quota < 0:
            raise UserError(
                f"checkpoints.quota={self.quota}",
                expected=">= 0, or None",
                hint="0 keeps only what is needed to continue, and the best",
            )
        if self.top < 0:
            raise UserError(f"checkpoints.top={self.top}", expected=">= 0")


class CheckpointOwner(Protocol):
    """A search, as :class:`CheckpointRetention` needs it."""

    @property
    def best(self) -> tuple[Trial, ...]:
        """The trials that keep their checkpoints whatever the quota is.

        Returns:
            The best trials, best first.
        """

    @property
    def unfinished(self) -> int:
        """The number of trials that have not ended and keep files."""

    def leaders(self, top: int) -> Collection[int]:
        """Return the trials whose checkpoints are discarded after those of others.

        Args:
            top: Number of trials per rung.

        Returns:
            Their numbers.
        """

    def worth(self, trial: Trial) -> tuple[float, ...]:
        """Return how much a trial's checkpoints are worth.

        Args:
            trial: A trial that has ended.

        Returns:
            A sort key, higher is better.
        """

    def discard(self, trial: Trial) -> None:
        """Remove the checkpoints of a trial.

        Args:
            trial: The trial.
        """


class CheckpointRetention:
    """The trials with checkpoints, over all searches of an experiment.

    Args:
        settings: The quota.
    """

    def __init__(self, settings: Checkpoints) -> None:
        self._settings = settings
        self._owners: list[CheckpointOwner] = []
        self._held: dict[int, tuple[CheckpointOwner, Trial]] = {}  # of ended trials

    def join(self, owner: CheckpointOwner, held: Iterable[Trial]) -> None:
        """Register a search that begins.

        Args:
            owner: The search.
            held: Its ended trials that have checkpoints already.
        """
        self._owners.append(owner)
        self._held |= {trial.number: (owner, trial) for trial in held}
        self.enforce()

    def rests(self, owner: CheckpointOwner, trial: Trial) -> None:
        """Register a trial that has ended and left checkpoints.

        Args:
            owner: Its search.
            trial: The trial.
        """
        self._held[trial.number] = owner, trial
        self.enforce()

    def enforce(self) -> None:
        """Discard the checkpoints beyond the quota, the least valuable first."""
        quota = self._settings.quota
        if quota is None:
            return
        excess = sum(owner.unfinished for owner in self._owners) + len(self._held) - quota
        if excess <= 0:
            return
        kept = {trial.number for owner in self._owners for trial in owner.best}
        if quota:
            kept |= {n for owner in self._owners for n in owner.leaders(self._settings.top)}
        free = [entry for number, entry in self._held.items() if number not in kept]
        free.sort(key=lambda entry: entry[0].worth(entry[1]))
        for owner, trial in free[:excess]:
            del self._held[trial.number]
            owner.discard(trial)
