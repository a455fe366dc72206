"""Which trials keep their checkpoints: a quota for the whole experiment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from raynas.core import Trial, UserError
from raynas.core.fields import check_fields


@dataclass(frozen=True)
class Checkpoints:
    """How many trials of an experiment may have checkpoints at a time, and whose go first.

    Trials that run or wait to go on, and the best, of which finalists are made, always keep theirs,
    if need be beyond the quota; so do the Pareto front and the ``top`` best of each rung. Others
    at rest keep theirs while there is room, those that got farthest, of equals the better; a trial
    that failed or does not fit keeps none.

    ``quota``: trials with checkpoints; None all. 0 keeps what is needed to go on, and the best:
    neither front nor rungs.
    """

    quota: int | None = 20
    top: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.quota is not None and self.quota < 0:
            raise UserError(
                f"checkpoints.quota={self.quota}",
                allowed=">= 0, or None",
                cure="0 keeps only what is needed to go on, and the best",
            )
        if self.top < 0:
            raise UserError(f"checkpoints.top={self.top}", allowed=">= 0")


class Owner(Protocol):
    """What a :class:`Retention` asks a work."""

    @property
    def best(self) -> tuple[Trial, ...]: ...

    @property
    def unfinished(self) -> int: ...

    def leaders(self, top: int) -> Collection[int]: ...

    def worth(self, trial: Trial) -> tuple[float, ...]: ...

    def discard(self, trial: Trial) -> None: ...


class Retention:
    """The books of who has checkpoints, over all works of an experiment."""

    def __init__(self, settings: Checkpoints) -> None:
        self._settings = settings
        self._owners: list[Owner] = []
        self._held: dict[int, tuple[Owner, Trial]] = {}  # at rest

    def join(self, owner: Owner, held: Iterable[Trial]) -> None:
        """A work begins; ``held``: its trials at rest that have checkpoints already."""
        self._owners.append(owner)
        self._held |= {trial.number: (owner, trial) for trial in held}
        self.enforce()

    def rests(self, owner: Owner, trial: Trial) -> None:
        """The trial has ended and left checkpoints."""
        self._held[trial.number] = owner, trial
        self.enforce()

    def enforce(self) -> None:
        """Discard what is beyond the quota."""
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
