"""This module makes the jobs of the trials of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from raynas.core import Job, Trial
from raynas.schedulers.base import Scheduler
from raynas.search.checkpoints import CheckpointFolders
from raynas.search.context import EvaluationContext


@final
@dataclass(frozen=True)
class JobFactory:
    """A maker of jobs, which say how a worker evaluates a trial.

    Attributes:
        payload: Space, evaluator and data.
        folders: The folders of the trials' checkpoints.
        scheduler: Names the steps at which a trial may be paused.
        threads: CPU threads of an evaluation.
    """

    payload: EvaluationContext
    folders: CheckpointFolders
    scheduler: Scheduler
    threads: int

    def job(self, trial: Trial, ticket: int) -> Job:
        """Return the job of a trial.

        Args:
            trial: The trial.
            ticket: A ticket that no other job of the search has.

        Returns:
            The job, which goes on after the last stored step of the trial.
        """
        return Job(
            trial=trial.number,
            seed=trial.seed,
            max_step=self.payload.evaluator.max_step,
            workdir=self.folders.workdir(trial),
            threads=self.threads,
            attempt=trial.attempt,
            mirror=self.folders.mirror_uri(trial),
            pauses=tuple(self.scheduler.pauses()),
            more_memory=trial.oom_retries > 0,
            stored=trial.step,
            ticket=ticket,
            claim=self.folders.claim(ticket),
            held_out=self.payload.view.held_out_name,
        )
