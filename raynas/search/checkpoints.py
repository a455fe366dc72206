"""Where the trials of a search keep their checkpoints, and which of them stay."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from raynas.core import Trial, TrialState
from raynas.schedulers.base import Scheduler
from raynas.search.incumbents import Incumbents
from raynas.search.ledger import TrialLedger
from raynas.search.retention import Retention
from raynas.store.remote import Remote, folder_name


@dataclass(frozen=True)
class CheckpointFolders:
    """The folders of a search's trials. ``folder/000012`` is that of trial 12.

    Attributes:
        folder: Holds them; None where nothing is kept, since evaluations are quick, for instance:
            what may run ahead of the store must not leave traces.
        mirror: Where on shared storage they are kept, or None where all machines see ``folder``.
        session: The number of this start of the run; folders of earlier starts are never written.
    """

    folder: Path | None = None
    mirror: Remote | None = None
    session: int = 1

    def workdir(self, trial: Trial) -> Path | None:
        """Return the folder of a trial, or None where nothing is kept."""
        return None if self.folder is None else self.folder / folder_name(trial.number)

    def mirror_uri(self, trial: Trial) -> str:
        """Return where on shared storage the trial's folder is kept, or nothing."""
        if self.mirror is None or self.folder is None:
            return ""
        return self.mirror.below(folder_name(trial.number)).uri

    def claim(self, ticket: int) -> str:
        """Return the name of what belongs to one job alone, in the folder of its trial."""
        return "" if self.folder is None else f"{self.session:04d}-{ticket:06d}"

    def names(self) -> set[str]:
        """Return the names of the folders that there are."""
        if self.folder is None:
            return set()
        if self.mirror is not None:
            with contextlib.suppress(OSError):  # then they only cost room
                return {name.partition("/")[0] for name in self.mirror.names()}
            return set()
        return {place.name for place in self.folder.iterdir()} if self.folder.is_dir() else set()

    def exists(self, trial: Trial) -> bool:
        """Whether the trial has a folder.

        On shared storage it is taken for granted: a look there costs as much as removing it.
        """
        workdir = self.workdir(trial)
        return workdir is not None and (self.mirror is not None or workdir.is_dir())

    def remove(self, trial: Trial) -> None:
        """Remove the trial's folder."""
        workdir = self.workdir(trial)
        if workdir is None:
            return
        shutil.rmtree(workdir, ignore_errors=True)
        if self.mirror is not None:
            with contextlib.suppress(OSError):  # it only costs room
                self.mirror.remove_folder(workdir.name)


class CheckpointPolicy:
    """Decides which trials of a search keep their checkpoints, under a quota of the whole run.

    Args:
        folders: Where they are.
        retention: The quota, shared by all searches of a run.
        ledger: The search's trials.
        incumbents: Its best trials, which always keep theirs.
        scheduler: Names the best of each rung.
        keeps_all: Whether others that were measured may keep theirs, too, as in a search; without
            it the best alone do, as among finalists.
    """

    def __init__(
        self,
        folders: CheckpointFolders,
        retention: Retention,
        *,
        ledger: TrialLedger,
        incumbents: Incumbents,
        scheduler: Scheduler,
        keeps_all: bool,
    ) -> None:
        self.folders, self._retention = folders, retention
        self._ledger, self._incumbents = ledger, incumbents
        self._scheduler, self._keeps_all = scheduler, keeps_all
        self._joined = False

    def join(self) -> None:
        """Tell the retention who has checkpoints, once."""
        if self._joined:
            return
        self._joined = True
        kept = self.folders.names()
        ended = (t for t in self._ledger.trials.values() if self._may_keep(t))
        self._retention.join(self, [t for t in ended if folder_name(t.number) in kept])

    def enforce(self) -> None:
        """Discard what is beyond the quota."""
        self._retention.enforce()

    def ended(self, trial: Trial) -> None:
        """The trial is at rest: its checkpoints stay while there is room, or go at once."""
        if self._may_keep(trial) and self.folders.exists(trial):
            self._retention.rests(self, trial)
        else:
            self.discard(trial)

    def _may_keep(self, trial: Trial) -> bool:
        if self._keeps_all:
            return trial.state in (TrialState.COMPLETE, TrialState.STOPPED)
        return any(trial is best for best in self._incumbents.best)

    # -- what the retention asks -------------------------------------------------------------------

    @property
    def best(self) -> tuple[Trial, ...]:
        """The trials that keep theirs whatever the quota says."""
        return self._incumbents.best

    @property
    def unfinished(self) -> int:
        """How many trials are not at rest, as far as they keep anything."""
        return 0 if self.folders.folder is None else self._ledger.running

    def leaders(self, top: int) -> Collection[int]:
        """Return the numbers of trials whose checkpoints are worth more than those of others."""
        if not self._keeps_all:
            return ()
        return {*self._incumbents.front, *self._scheduler.leaders(top)}

    def worth(self, trial: Trial) -> tuple[float, ...]:
        """Return what a trial's checkpoints are worth beside others at rest; higher is better."""
        return trial.step, *self._incumbents.score(trial), -trial.number

    def discard(self, trial: Trial) -> None:
        """Remove the folder of a trial that will not be continued or exported."""
        self.folders.remove(trial)
