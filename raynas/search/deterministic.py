"""This module makes a search whose table does not depend on the number or speed of workers.

Results take effect in a logical order (:mod:`raynas.search.logical_order`), whenever they arrive.
A trial that reaches a rung before its turn is paused with its checkpoint, so that no worker trains
what may be stopped, where that is possible;
:class:`~raynas.search.logical_order.DiscardedWork` counts the work that was still lost.

:class:`DeterministicOrder` wraps a :class:`~raynas.search.controller.SearchController`, which sees
the lanes of the order as its workers. The controller's job of a trial is held by a lane. A real
worker's job of the same trial has a ticket of its own, and may end later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import final

from raynas.core import Decision, Job, Measurement, Trial
from raynas.search.context import SearchStatus
from raynas.search.continuity import StepContinuity, hole_message, steps_of
from raynas.search.controller import SearchController
from raynas.search.job_source import JobSource
from raynas.search.logical_order import DiscardedWork, LogicalOrder, WorkerJobs
from raynas.search.outcomes import memory_message
from raynas.search.stored_events import TrialEvent


@final
class DeterministicOrder(JobSource):
    """A job source that lets results take effect in their logical order; see the module.

    Args:
        controller: Controller of the search, without any past; it writes through
            :class:`~raynas.search.rows.NewRows`.
        lanes: Number of logical workers; additional real ones find nothing to do.
        past: The stored trials.

    Attributes:
        controller: Controller of the search.
    """

    def __init__(
        self, controller: SearchController, *, lanes: int, past: Iterable[Trial] = ()
    ) -> None:
        self.controller, self.payload = controller, controller.payload
        self.interruption = controller.interruption
        self._workers = WorkerJobs()
        self._order = LogicalOrder(controller, lanes=lanes, past=past, workers=self._workers)
        self._steps = StepContinuity()

    # -- jobs go out -------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Return a job of a trial whose next result is needed.

        Returns:
            The job, or None: :attr:`done` says whether to wait or to end.
        """
        self._order.advance()
        if self.interrupted or not self._workers.wanted:
            return None
        job = self._worker_job(self.controller.jobs[self._workers.wanted.popleft()])
        self._workers.assign(job)
        return job

    def _worker_job(self, job: Job) -> Job:
        """Return the job of a real worker, which keeps a checkpoint at every rung."""
        trial, folders = self.trials[job.trial], self.controller.checkpoints.folders
        rungs = (rung.step for rung in self.controller.scheduler.rungs())
        ticket = self._workers.ticket()
        return replace(
            job,
            attempt=trial.attempt,
            pauses=tuple(sorted({*job.pauses, *rungs})) if job.workdir else (),
            more_memory=trial.oom_retries > 0,
            stored=self._order.last_known(job.trial),
            ticket=ticket,
            claim=folders.claim(ticket),
        )

    def join(self) -> None:
        """Register the trials that have checkpoints with the retention."""
        self.controller.join()

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
        """Keep a measurement until its turn, and let all results take effect whose turn has come.

        Args:
            job: The job of the worker that measured.
            measurement: The measurement.
            after: The step that the worker had measured before; 0 when it began from the start;
                None when it went on from a checkpoint of an earlier worker.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Whether the worker goes on; PAUSE at a rung that the trial reached before its turn.
        """
        number, trial = job.trial, self.trials[job.trial]
        if not self._workers.is_current(job):
            self.discarded.dropped += measurement.seconds
            return Decision.STOP
        if trial.state.ended:  # it ended at its turn; the worker does not know yet
            self.discarded.dropped += measurement.seconds
            self._workers.release(number)
            return Decision.STOP
        known = self._order.last_known(number)
        if measurement.step <= known:
            return Decision.CONTINUE
        before = chain(steps_of(trial), self._order.later_steps(number))
        if self._steps.broken(known, measurement.step, after, before):
            self._fill_hole(job, known, measurement)
            return Decision.STOP
        self._order.add(number, TrialEvent(measurement, host, device))
        return self._goes_on(job, measurement.step)

    def _goes_on(self, job: Job, step: int) -> Decision:
        """Return whether the worker measures the next step at once."""
        number = job.trial
        if not self._workers.is_current(job):
            return Decision.STOP
        if number not in self.controller.jobs:  # it ended, or is paused
            self._workers.release(number)
            ended = self.trials[number].state.ended
            return Decision.STOP if ended else Decision.PAUSE
        if self._order.has_events(number) and step in job.pauses and step < job.max_step:
            self._workers.release(number)
            self.discarded.aside += 1
            return Decision.PAUSE
        return Decision.CONTINUE

    def _fill_hole(self, job: Job, known: int, measurement: Measurement) -> None:
        if not self._steps.may_begin_anew(job.trial, known):
            self.fail(job, hole_message(measurement.step, known))
            return
        self.controller.checkpoints.discard(self.trials[job.trial])
        self.again(job)

    def complete(self, job: Job) -> None:
        """Keep the end of a trial until its turn.

        Args:
            job: The job of the worker.
        """
        measured = self._order.last_known(job.trial) > 0
        failure = None if measured else "the evaluator ended without a measurement"
        self._end(job, TrialEvent(failure=failure))

    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """Keep the failure of a trial until its turn.

        Args:
            job: The job of the worker.
            message: The reason.
            infeasible: Whether the trial does not fit, rather than crashed.
        """
        self._end(job, TrialEvent(failure=message, infeasible=infeasible))

    def _end(self, job: Job, event: TrialEvent) -> None:
        if not self._workers.is_current(job):
            return
        self._workers.release(job.trial)
        if not self.trials[job.trial].state.ended:
            self._order.add(job.trial, event)

    def no_memory(self, job: Job, reason: str, room: str = "", *, last: bool = False) -> None:
        """Start a trial once more with more memory, or fail it.

        The second start has no turn; only its result has.

        Args:
            job: The job of the worker.
            reason: The error of the worker.
            room: The memory that it had, in words.
            last: Whether there is no more memory.
        """
        if not self._workers.is_current(job):
            return
        trial = self.trials[job.trial]
        message = memory_message(reason, room)
        if trial.state.ended or last or trial.oom_retries:
            self.fail(job, message, infeasible=True)
            return
        self.controller.outcomes.ran_out_of_memory(trial, message)
        self.again(job)

    def again(self, job: Job) -> None:
        """Let the trial of a lost worker wait for another one.

        Args:
            job: The job of the lost worker.
        """
        if not self._workers.is_current(job):
            return
        self._workers.release(job.trial)
        trial = self.trials[job.trial]
        if trial.state.ended:
            return
        trial.attempt = job.attempt + 1
        if job.trial in self.controller.jobs:
            self._order.rejoin(trial)
            self._workers.wanted.appendleft(job.trial)

    def restarted(self, job: Job) -> None:
        """Take the new attempt of a job that the runner gave to another worker.

        Args:
            job: The job with its new attempt.
        """
        now = self._workers.current.get(job.trial)
        if now is not None and now.ticket == job.ticket:
            self._workers.assign(job)
            trial = self.trials[job.trial]
            trial.attempt = job.attempt
            if job.trial in self.controller.jobs:
                self._order.rejoin(trial)

    # -- what is asked -----------------------------------------------------------------------------

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Return a block whose reports are stored by one append.

        Returns:
            A context manager.
        """
        return self.controller.together()

    @property
    def done(self) -> bool:
        """True if nothing runs and nothing more will be started."""
        if self.interrupted:
            return not self._workers.current
        return self.controller.done

    @property
    def discarded(self) -> DiscardedWork:
        """The cost of the order so far."""
        return self._order.discarded

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that real workers have now.

        Returns:
            Trial number -> job, in the order of the numbers.
        """
        return dict(sorted(self._workers.current.items()))

    @property
    def trials(self) -> Mapping[int, Trial]:
        """The trials of the search, by number."""
        return self.controller.trials

    @property
    def breadth(self) -> int:
        """The largest number of workers that could be busy at once.

        Returns:
            At most the number of lanes.
        """
        return min(self.controller.breadth, self._order.lanes)

    @property
    def timed(self) -> bool:
        """True if something is timed while its trials run."""
        return self.controller.timed

    @property
    def folder(self) -> Path | None:
        """The folder that holds the trials' checkpoints.

        Returns:
            The folder, or None where nothing is kept.
        """
        return self.controller.folder

    def status(self) -> SearchStatus:
        """Return the state of the search for a live view, with the worker seconds that count."""
        now, spent = self.controller.status(), self.controller.meter.spent
        return replace(now, seconds=spent, waits_for=self.waits_for)
