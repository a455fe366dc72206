"""Which trials keep their checkpoints: a quota for the whole experiment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from raynas.core import Trial, UserError


@dataclass(frozen=True)
class Checkpoints:
    """How many trials of an experiment may have checkpoints at a time, and whose go first.

    Trials that run or wait to go on, and the best, of which finalists are made, always keep theirs,
    if need be beyond the quota. Others at rest keep theirs while there is room; a trial that failed
    or does not fit keeps none. Beyond the quota first those go that are neither among the ``top``
    best of a rung nor on the Pareto front, and then, if that is not enough, these, too. Of either
    kind those that got least far go first, of equals the worse.

    ``quota``: trials with checkpoints; 0 keeps what is needed only, None all.
    """

    quota: int | None = 20
    top: int = 3

    def __post_init__(self) -> None:
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
        best = {trial.number for owner in self._owners for trial in owner.best}
        free = [entry for number, entry in self._held.items() if number not in best]
        if excess < len(free):
            leaders = {n for owner in self._owners for n in owner.leaders(self._settings.top)}
            free.sort(key=lambda entry: (entry[1].number in leaders, *entry[0].worth(entry[1])))
        for owner, trial in free[:excess]:
            del self._held[trial.number]
            owner.discard(trial)
