"""This module has the controller of a search: jobs go out, measurements come in and are stored.

A runner (this process, Ray Tune, actors) only carries jobs to workers, so the same experiment
gives the same table on each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import final

from raynas.core import Decision, Job, Measurement, Objective, Trial, TrialState
from raynas.schedulers.base import Scheduler, began
from raynas.search.checkpoints import CheckpointPolicy
from raynas.search.context import (
    BudgetMeter,
    EvaluationContext,
    SearchInterruption,
    SearchStatus,
)
from raynas.search.continuity import StepContinuity, hole_message, steps_of
from raynas.search.failures import FirstFailures
from raynas.search.incumbents import Incumbents
from raynas.search.job_factory import JobFactory
from raynas.search.job_source import JobSource
from raynas.search.ledger import TrialLedger
from raynas.search.outcomes import TrialOutcomes, memory_message
from raynas.search.pausing import PausedTrials
from raynas.search.progress import SearchProgress
from raynas.search.proposers import Proposer
from raynas.search.rows import RowWriter


@final
class SearchController(JobSource):
    """A job source that carries trials from their proposal to their end.

    :mod:`raynas.search.builder` makes it.

    Args:
        payload: Space, evaluator and data, which workers need.
        objectives: The objectives.
        proposer: Source of new trials.
        scheduler: Decides which trials go on.
        ledger: The trials and their states.
        factory: Makes the jobs of trials.
        outcomes: Gives trials their states after measurements and at their end.
        paused: Lets paused trials go on or end.
        incumbents: The best trials.
        checkpoints: Decides which trials keep their checkpoints.
        rows: Writes the rows of the store.
        meter: Counts what was spent.
        progress: Describes the search for a live view.
        interruption: The request to end the search early.
        first_failures: Ends the search when its first trials all fail.
    """

    def __init__(
        self,
        payload: EvaluationContext,
        objectives: tuple[Objective, ...],
        *,
        proposer: Proposer,
        scheduler: Scheduler,
        ledger: TrialLedger,
        factory: JobFactory,
        outcomes: TrialOutcomes,
        paused: PausedTrials,
        incumbents: Incumbents,
        checkpoints: CheckpointPolicy,
        rows: RowWriter,
        meter: BudgetMeter,
        progress: SearchProgress,
        interruption: SearchInterruption,
        first_failures: FirstFailures,
    ) -> None:
        self.payload, self.objectives, self.interruption = payload, objectives, interruption
        self.proposer, self.scheduler, self.ledger = proposer, scheduler, ledger
        self.factory, self.outcomes, self.paused = factory, outcomes, paused
        self.incumbents, self.checkpoints, self.rows = incumbents, checkpoints, rows
        self.meter, self.progress, self.first_failures = meter, progress, first_failures
        self._steps = StepContinuity()
        rows.on_end(self._ended)

    # -- jobs go out -------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Return a job of a waiting, paused or new trial.

        Returns:
            The job, or None: :attr:`done` says whether to wait or to end.
        """
        if self.interrupted:
            return None
        self.join()
        self.paused.review()
        trial = self.ledger.waiting.popleft() if self.ledger.waiting else self._begin()
        if trial is None and self._only_paused:
            trial = self.paused.last()
        if trial is None:
            return None
        job = self.factory.job(trial, self.ledger.ticket())
        self.ledger.assign(job)
        self.checkpoints.enforce()
        return job

    @property
    def _only_paused(self) -> bool:
        """True if paused trials are all that is left of the search."""
        if self.ledger.jobs or not self.ledger.paused or self.interrupted:
            return False
        return not self.proposer.has_room

    def _begin(self) -> Trial | None:
        """Begin a new trial; those that cannot be evaluated end at once."""
        while not self.interrupted and (trial := self.proposer.propose()) is not None:
            self.ledger.add(trial)
            self.scheduler.begin(trial)
            if not trial.failure:
                return trial
            state = TrialState.INFEASIBLE if trial.infeasible else TrialState.FAILED
            self.outcomes.close(trial, state, trial.failure)
            self.rows.settle()  # the sampler must have heard of it before the next proposal
        return None

    def join(self) -> None:
        """Register the trials that have checkpoints with the retention."""
        self.checkpoints.join()

    # -- measurements come in ----------------------------------------------------------------------

    def report(
        self,
        job: Job,
        measurement: Measurement,
        *,
        after: int | None = 0,
        host: str = "",
        device: str = "cpu",
    ) -> Decision:
        """Take a measurement, store it, decide.

        Args:
            job: The job of the worker that measured.
            measurement: The measurement.
            after: The step that the worker had measured before; 0 when it began from the start;
                None when it went on from a checkpoint of an earlier worker.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Whether the worker goes on.
        """
        if not self.ledger.is_current(job):
            return Decision.STOP
        trial = self.trials[job.trial]
        if measurement.step <= trial.step:
            return Decision.CONTINUE
        if self._steps.broken(trial.step, measurement.step, after, steps_of(trial)):
            self._fill_hole(job, trial, measurement)
            return Decision.STOP
        if bad := self.outcomes.bad_values(trial, measurement):
            self.outcomes.spoiled(trial, measurement, bad, host, device)
            return Decision.STOP
        self.first_failures.one_works()
        return self.outcomes.measured(trial, measurement, host, device)

    def _fill_hole(self, job: Job, trial: Trial, measurement: Measurement) -> None:
        """Start a trial with missing steps from the beginning, or fail it."""
        if not self._steps.may_begin_anew(trial.number, trial.step):
            self.fail(job, hole_message(measurement.step, trial.step))
            return
        self.checkpoints.discard(trial)
        self.again(job)

    def complete(self, job: Job) -> None:
        """End a trial whose evaluator is done; without a valid last measurement it is FAILED.

        Args:
            job: The job of the worker.
        """
        if self.ledger.is_current(job):
            self.outcomes.completed(self.trials[job.trial])

    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """End a trial as FAILED or INFEASIBLE.

        Args:
            job: The job of the worker.
            message: The reason; it is stored in one line.
            infeasible: Whether the trial does not fit, rather than crashed.
        """
        if self.ledger.is_current(job):
            self.outcomes.failed(self.trials[job.trial], message, infeasible=infeasible)

    def no_memory(self, job: Job, reason: str, room: str = "", *, last: bool = False) -> None:
        """Start a trial once more with more memory, or end it as INFEASIBLE.

        Args:
            job: The job of the worker.
            reason: The error of the worker.
            room: The memory that it had, in words.
            last: Whether there is no more memory.
        """
        if not self.ledger.is_current(job):
            return
        trial, message = self.trials[job.trial], memory_message(reason, room)
        if last or trial.oom_retries:
            self.fail(job, message, infeasible=True)
            return
        self.outcomes.ran_out_of_memory(trial, message)
        self.again(job)

    def again(self, job: Job) -> None:
        """Let the trial of a lost worker wait for another one.

        Args:
            job: The job of the lost worker.
        """
        if self.ledger.is_current(job):
            self.ledger.requeue(job)

    def restarted(self, job: Job) -> None:
        """Take the new attempt of a job that the runner gave to another worker.

        Args:
            job: The job with its new attempt.
        """
        self.ledger.restarted(job)

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Return a block whose reports are stored by one append.

        Returns:
            A context manager.
        """
        return self.rows.together()

    def _ended(self, trial: Trial) -> None:
        """Rank a stored trial that has ended, decide on its checkpoints, tell the other parts."""
        self.incumbents.enter(trial)
        self.checkpoints.ended(trial)
        if began(trial):
            self.scheduler.end(trial)
        self.proposer.told(trial)
        self.first_failures.heard(trial)

    # -- what is asked -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """True if nothing runs and nothing more will be started."""
        ledger, proposer = self.ledger, self.proposer
        if ledger.jobs or self.interrupted:
            return not ledger.jobs
        return not (ledger.waiting or ledger.paused or proposer.has_ready or proposer.has_room)

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that workers have now, by trial number."""
        return self.ledger.jobs

    @property
    def trials(self) -> Mapping[int, Trial]:
        """The trials of the search, by number."""
        return self.ledger.trials

    @property
    def best(self) -> tuple[Trial, ...]:
        """The best COMPLETE trials.

        Returns:
            The trials, best first.
        """
        return self.incumbents.best

    @property
    def note(self) -> str:
        """The reason why the search ended early.

        Returns:
            A sentence; empty if it did not end early.
        """
        return self.proposer.note

    @property
    def breadth(self) -> int:
        """The largest number of workers that could be busy at once."""
        target = self.proposer.target
        trials = self.payload.space.size if target is None else target
        return max(trials - self.status().ended, 0)

    @property
    def timed(self) -> bool:
        """True if something is timed while its trials run."""
        return self.proposer.timed

    @property
    def folder(self) -> Path | None:
        """The folder that holds the trials' checkpoints.

        Returns:
            The folder, or None where nothing is kept.
        """
        return self.checkpoints.folders.folder

    def status(self) -> SearchStatus:
        """Return the state of the search for a live view."""
        return self.progress.status(self.waits_for)
