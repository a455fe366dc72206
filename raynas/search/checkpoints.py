"""This module has the folders of checkpoints, and the choice of trials that keep them."""

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
from raynas.search.retention import CheckpointRetention
from raynas.store.checkpoint_mirror import folder_name
from raynas.store.remote import RemoteFolder


@dataclass(frozen=True)
class CheckpointFolders:
    """The folders of a search's trials; ``folder/000012`` is that of trial 12.

    Attributes:
        folder: Holds them; None where nothing is kept, for instance because evaluations are
            quick: these may run ahead of the store, and must not leave files.
        mirror: Folder on shared storage where they are kept, or None where all machines see
            ``folder``.
        session: Number of this start of the run; folders of earlier starts are never written.
    """

    folder: Path | None = None
    mirror: RemoteFolder | None = None
    session: int = 1

    def workdir(self, trial: Trial) -> Path | None:
        """Return the folder of a trial.

        Args:
            trial: The trial.

        Returns:
            The folder, or None where nothing is kept.
        """
        return None if self.folder is None else self.folder / folder_name(trial.number)

    def mirror_uri(self, trial: Trial) -> str:
        """Return the URI of the trial's folder on shared storage.

        Args:
            trial: The trial.

        Returns:
            The URI; empty where there is none.
        """
        if self.mirror is None or self.folder is None:
            return ""
        return self.mirror.below(folder_name(trial.number)).uri

    def claim(self, ticket: int) -> str:
        """Return the name of the files of one job, in the folder of its trial.

        Args:
            ticket: Ticket of the job.

        Returns:
            A name that no other job has; empty where nothing is kept.

        Example:
            >>> CheckpointFolders(Path("checkpoints"), session=2).claim(7)
            '0002-000007'
        """
        return "" if self.folder is None else f"{self.session:04d}-{ticket:06d}"

    def names(self) -> set[str]:
        """Return the names of the existing folders.

        Returns:
            The names; none where shared storage cannot be read.
        """
        if self.folder is None:
            return set()
        if self.mirror is not None:
            with contextlib.suppress(OSError):  # the folders are left and only take space
                return {name.partition("/")[0] for name in self.mirror.names()}
            return set()
        return {place.name for place in self.folder.iterdir()} if self.folder.is_dir() else set()

    def exists(self, trial: Trial) -> bool:
        """Return whether the trial has a folder.

        On shared storage the answer is always True: to look there costs as much as to remove it.

        Args:
            trial: The trial.

        Returns:
            False where there is no folder, or nothing is kept.
        """
        workdir = self.workdir(trial)
        return workdir is not None and (self.mirror is not None or workdir.is_dir())

    def remove(self, trial: Trial) -> None:
        """Remove the trial's folder, also on shared storage.

        Args:
            trial: The trial.
        """
        workdir = self.workdir(trial)
        if workdir is None:
            return
        shutil.rmtree(workdir, ignore_errors=True)
        if self.mirror is not None:
            with contextlib.suppress(OSError):  # a folder that stays only takes space
                self.mirror.remove_folder(workdir.name)


class CheckpointPolicy:
    """A rule that decides which trials of a search keep their checkpoints, under the run's quota.

    Args:
        folders: The folders of checkpoints.
        retention: The quota, shared by all searches of a run.
        ledger: The search's trials.
        incumbents: Its best trials, which always keep theirs.
        scheduler: Names the best of each rung.
        keeps_all: Whether other measured trials may keep theirs too, as in a search. If not, only
            the best do, as among finalists.

    Attributes:
        folders: The folders of checkpoints.
    """

    def __init__(
        self,
        folders: CheckpointFolders,
        retention: CheckpointRetention,
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
        """Register the trials that have checkpoints with the retention, once."""
        if self._joined:
            return
        self._joined = True
        kept = self.folders.names()
        ended = (t for t in self._ledger.trials.values() if self._may_keep(t))
        self._retention.join(self, [t for t in ended if folder_name(t.number) in kept])

    def enforce(self) -> None:
        """Discard the checkpoints beyond the quota."""
        self._retention.enforce()

    def ended(self, trial: Trial) -> None:
        """Keep the checkpoints of a trial that has ended while the quota allows it, or remove them.

        Args:
            trial: A trial that has ended.
        """
        if self._may_keep(trial) and self.folders.exists(trial):
            self._retention.rests(self, trial)
        else:
            self.discard(trial)

    def _may_keep(self, trial: Trial) -> bool:
        if self._keeps_all:
            return trial.state in (TrialState.COMPLETE, TrialState.STOPPED)
        return any(trial is best for best in self._incumbents.best)

    # -- interface of the owner --------------------------------------------------------------------

    @property
    def best(self) -> tuple[Trial, ...]:
        """The trials that keep theirs whatever the quota is.

        Returns:
            The best trials, best first.
        """
        return self._incumbents.best

    @property
    def unfinished(self) -> int:
        """The number of trials that have not ended and keep files.

        Returns:
            The number; 0 where nothing is kept.
        """
        return 0 if self.folders.folder is None else self._ledger.running

    def leaders(self, top: int) -> Collection[int]:
        """Return the trials whose checkpoints are discarded after those of others.

        Args:
            top: Number of trials per rung.

        Returns:
            Their numbers: the Pareto front and the best of each rung.
        """
        if not self._keeps_all:
            return ()
        return {*self._incumbents.front, *self._scheduler.leaders(top)}

    def worth(self, trial: Trial) -> tuple[float, ...]:
        """Return how much a trial's checkpoints are worth beside those of other ended trials.

        Args:
            trial: A trial that has ended.

        Returns:
            A sort key, higher is better: step, objectives, then the lower number.
        """
        return trial.step, *self._incumbents.score(trial), -trial.number

    def discard(self, trial: Trial) -> None:
        """Remove the folder of a trial that will not be continued or exported.

        Args:
            trial: The trial.
        """
        self.folders.remove(trial)
