"""This module has the controller of a search: jobs go out, measurements come in and are stored.

A runner (this process, Ray Tune, actors) only carries jobs to workers, so the same experiment
gives the same table on each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import final

from raynas.core import (
    OUT_OF_MEMORY,
    Bound,
    Decision,
    Job,
    Measurement,
    Objective,
    Trial,
    TrialState,
    violations,
)
from raynas.core.prices import in_seconds
from raynas.schedulers.base import Scheduler, began
from raynas.search.checkpoints import CheckpointPolicy
from raynas.search.context import (
    BudgetMeter,
    EvaluationContext,
    SearchInterruption,
    SearchStatus,
    one_line,
)
from raynas.search.continuity import StepContinuity, hole_message, steps_of
from raynas.search.failures import FirstFailures
from raynas.search.incumbents import Incumbents
from raynas.search.job_source import JobSource
from raynas.search.ledger import TrialLedger
from raynas.search.proposers import Proposer
from raynas.search.rows import RowWriter
from raynas.search.screening import broken


@final
class SearchController(JobSource):
    """A job source that carries trials from their proposal to their end.

    :mod:`raynas.search.builder` makes it.

    Args:
        payload: Space, evaluator and data, which workers need.
        proposer: Source of new trials.
        scheduler: Decides which trials go on.
        ledger: The trials and their states.
        incumbents: The best trials.
        checkpoints: Decides which trials keep their checkpoints.
        rows: Writes the rows of the store.
        meter: Counts what was spent.
        interruption: The request to end the search early.
        objectives: Metrics that a measurement must have, finite.
        bounds: A trial that breaks them at its last step is INFEASIBLE.
        first_failures: Ends the search when its first trials all fail.
        threads: CPU threads of an evaluation.
        blind: Whether the objectives are measured at the last step only, and the best trial is
            not shown: test data are looked at once.
    """

    def __init__(
        self,
        payload: EvaluationContext,
        *,
        proposer: Proposer,
        scheduler: Scheduler,
        ledger: TrialLedger,
        incumbents: Incumbents,
        checkpoints: CheckpointPolicy,
        rows: RowWriter,
        meter: BudgetMeter,
        interruption: SearchInterruption,
        objectives: tuple[Objective, ...],
        bounds: tuple[Bound, ...],
        first_failures: FirstFailures,
        threads: int,
        blind: bool = False,
    ) -> None:
        self.payload, self.proposer, self.scheduler = payload, proposer, scheduler
        self.ledger, self.incumbents, self.checkpoints = ledger, incumbents, checkpoints
        self.rows, self.meter = rows, meter
        self.objectives, self.max_step = objectives, payload.evaluator.max_step
        self._interruption, self._bounds = interruption, bounds
        self._first_failures = first_failures
        self._threads, self._blind = threads, blind
        self._began = meter.clock()
        self._steps = StepContinuity()

    # -- jobs go out -------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Return a job of a waiting, paused or new trial.

        Returns:
            The job, or None: :attr:`done` says whether to wait or to end.
        """
        if self.interrupted:
            return None
        self.join()
        self._review()
        trial = self.ledger.waiting.popleft() if self.ledger.waiting else self._begin()
        if trial is None and not self.ledger.jobs and self.ledger.paused:
            trial = self._last()
        if trial is None:
            return None
        job = self._job(trial)
        self.ledger.assign(job)
        self.checkpoints.enforce()
        return job

    def _begin(self) -> Trial | None:
        """Begin a new trial; those that cannot be evaluated end at once."""
        while not self.interrupted and (trial := self.proposer.propose()) is not None:
            self.ledger.add(trial)
            self.scheduler.begin(trial)
            if not trial.failure:
                return trial
            state = TrialState.INFEASIBLE if trial.infeasible else TrialState.FAILED
            self._close(trial, state, trial.failure)
            self.settle()  # the sampler must have heard of it before the next proposal
        return None

    def _job(self, trial: Trial) -> Job:
        folders, ticket = self.checkpoints.folders, self.ledger.ticket()
        return Job(
            trial=trial.number,
            seed=trial.seed,
            max_step=self.max_step,
            workdir=folders.workdir(trial),
            threads=self._threads,
            attempt=trial.attempt,
            mirror=folders.mirror_uri(trial),
            pauses=tuple(self.scheduler.pauses()),
            more_memory=trial.oom_retries > 0,
            stored=trial.step,
            ticket=ticket,
            claim=folders.claim(ticket),
            held_out=self.payload.view.held_out_name,
        )

    def join(self) -> None:
        """Register the trials that have checkpoints with the retention."""
        self.checkpoints.join()

    # -- paused trials -----------------------------------------------------------------------------

    def _review(self) -> None:
        """Let paused trials go on or end, as the scheduler says."""
        if self.ledger.paused and not self.meter.past_deadline:
            self._judge_paused(last=False)

    def _judge_paused(self, *, last: bool) -> None:
        for number, decision in self.scheduler.review(last):
            if decision is Decision.CONTINUE:
                self.ledger.resume(number)
            else:
                self._rest(self.trials[number], "")

    def _last(self) -> Trial | None:
        """Return a paused trial to go on with when nothing runs and nothing is new, or end all."""
        if self.interrupted or self.proposer.has_room:
            return None
        while self.ledger.paused and not self.meter.past_deadline:
            before = len(self.ledger.paused)
            self._judge_paused(last=True)
            if self.ledger.waiting:
                return self.ledger.waiting.popleft()
            if len(self.ledger.paused) == before:
                break
        for number in sorted(self.ledger.paused):
            self._rest(self.trials[number], " when the search ended")
        return None

    def _rest(self, trial: Trial, when: str) -> None:
        """Stop a paused trial that will not go on."""
        message = f"{self.scheduler.name} at step {trial.step}{when}"
        self._close(trial, TrialState.STOPPED, message)

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
        bad = measurement.bad_values(self._required(trial, measurement))
        if bad:
            self._spoil(trial, measurement, bad, host, device)
            return Decision.STOP
        self._first_failures.one_works()
        trial.measurements.append(measurement)
        self.meter.pay(trial, measurement)
        decision = self._judge(trial)
        self.rows.write(trial, measurement, host, device)
        return decision

    def _required(self, trial: Trial, measurement: Measurement) -> list[str]:
        """Return the metrics that the measurement must have, finite."""
        if self._blind and measurement.step < self.max_step:
            return []
        return [o.metric for o in self.objectives if o.metric not in trial.costs]

    def _judge(self, trial: Trial) -> Decision:
        """Give the trial its state after its last measurement."""
        trial.violations = violations(self._bounds, trial.values())
        if trial.step >= self.max_step:
            message = broken(trial.violations)
            state = TrialState.INFEASIBLE if message else TrialState.COMPLETE
            self.ledger.move(trial, state, message)
            return Decision.STOP
        decision = self.scheduler.decide(trial)
        if decision is Decision.STOP:
            message = f"{self.scheduler.name} at step {trial.step}"
            self.ledger.move(trial, TrialState.STOPPED, message)
        elif decision is Decision.PAUSE:
            self.ledger.pause(trial.number)
        if (
            not trial.state.ended and not trial.oom_retries
        ):  # a resumed search needs this message of a trial that ran out of memory
            trial.message = ""
        return decision

    def _spoil(
        self, trial: Trial, measurement: Measurement, bad: list[str], host: str, device: str
    ) -> None:
        """Fail a trial whose measurement lacks an objective; its other values are stored."""
        shown = ", ".join(f"{n} is {measurement.values.get(n, 'missing')}" for n in bad)
        note = f": {measurement.note}" if measurement.note else ""
        trial.failure = one_line(f"{shown} at step {measurement.step}{note}")
        self.ledger.move(trial, TrialState.FAILED, trial.failure)
        finite = {n: v for n, v in measurement.values.items() if not measurement.bad_values([n])}
        if finite:
            measurement = replace(measurement, values=finite)
            trial.measurements.append(measurement)
            self.meter.pay(trial, measurement)
        self.rows.write(trial, measurement if finite else None, host, device)

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
        if not self.ledger.is_current(job):
            return
        trial = self.trials[job.trial]
        if failure := self._lacking(trial):
            self.fail(job, failure)
            return
        message = broken(trial.violations)
        state = TrialState.INFEASIBLE if message else TrialState.COMPLETE
        self._close(trial, state, message or early_message(trial.step, self.max_step))

    def _lacking(self, trial: Trial) -> str:
        """Return why a trial whose evaluator has ended early is invalid; empty if it is valid."""
        if trial.last is None or trial.step == 0:
            return "the evaluator ended without a measurement"
        wanted = [o.metric for o in self.objectives if o.metric not in trial.costs]
        missing = trial.last.bad_values(wanted)
        if missing:
            return f"the evaluator ended at step {trial.step} without {', '.join(missing)}"
        return ""

    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """End a trial as FAILED or INFEASIBLE.

        Args:
            job: The job of the worker.
            message: The reason; it is stored in one line.
            infeasible: Whether the trial does not fit, rather than crashed.
        """
        if not self.ledger.is_current(job):
            return
        trial = self.trials[job.trial]
        trial.failure = one_line(message)
        state = TrialState.INFEASIBLE if infeasible else TrialState.FAILED
        self._close(trial, state, trial.failure)

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
        message = memory_message(reason, room)
        if last or self.trials[job.trial].oom_retries:
            self.fail(job, message, infeasible=True)
            return
        self.note_memory(self.trials[job.trial], message)
        self.again(job)

    def note_memory(self, trial: Trial, message: str) -> None:
        """Store that a trial ran out of memory and is started once more.

        Args:
            trial: The trial.
            message: The stored message.
        """
        trial.oom_retries += 1
        trial.message = message
        self.rows.write(trial, None)

    def _close(self, trial: Trial, state: TrialState, message: str) -> None:
        self.ledger.move(trial, state, message)
        self.rows.write(trial, None)

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

    def settle(self) -> None:
        """Store what was reported so far within :meth:`together`, with its consequences."""
        self.rows.settle()

    def ended(self, trial: Trial) -> None:
        """Rank a stored trial that has ended, decide on its checkpoints, and tell the other parts.

        Args:
            trial: The trial.
        """
        self.incumbents.enter(trial)
        self.checkpoints.ended(trial)
        if began(trial):
            self.scheduler.end(trial)
        self.proposer.told(trial)
        self._first_failures.heard(trial)

    # -- what is asked -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """True if nothing runs and nothing more will be started."""
        return not self.ledger.jobs and (self.interrupted or not self._more())

    def _more(self) -> bool:
        """Return whether jobs may still come when nothing is running."""
        ledger, proposer = self.ledger, self.proposer
        return bool(ledger.waiting or ledger.paused) or proposer.has_ready or proposer.has_room

    def interrupt(self, error: BaseException | None = None) -> None:
        """Request the end of the search.

        Args:
            error: The error for the runner to raise, if any; the first one counts.
        """
        self._interruption.requested = True
        self._interruption.error = self._interruption.error or error

    @property
    def interrupted(self) -> bool:
        """True if the end of the search was requested."""
        return self._interruption.requested

    @property
    def error(self) -> BaseException | None:
        """The first error that the search was interrupted with.

        Returns:
            The error, or None.
        """
        return self._interruption.error

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
        objective, counts, limits = self.objectives[0], self.proposer.counts, self.meter.limits
        best = None if self._blind else self.incumbents.first
        return SearchStatus(
            stage=self.rows.stage,
            arm=self.rows.arm,
            counts={s: n for s, n in self.ledger.counts.items() if n},
            target=self.proposer.target,
            running=tuple(
                (t.number, t.arch.text, t.step, t.values().get(objective.metric))
                for t in (self.trials[number] for number in list(self.ledger.jobs))
            ),
            best=(best.number, best.arch.text, best.values()[objective.metric]) if best else None,
            objective=objective,
            rungs=self.scheduler.rungs(),
            rejected=counts.rejected,
            duplicates=counts.duplicates,
            screened_out=counts.screened_out,
            seconds=self.meter.paid,
            max_seconds=limits.seconds if limits.price is in_seconds else None,
            elapsed=self.meter.clock() - self._began,
            max_step=self.max_step,
            progress=self._progress(),
            waits_for=self.waits_for,
        )

    def _progress(self) -> float:
        """Return the paid share of the price, or the share of the only trial, from 0 to 1."""
        limit = self.meter.limits.seconds
        if limit:
            return self.meter.paid / limit
        if self.proposer.target != 1:
            return 0.0
        step = max((t.step for t in list(self.trials.values()) if not t.state.ended), default=0)
        return step / self.max_step


def memory_message(reason: str, room: str) -> str:
    """Return the message of a trial that ran out of memory.

    Args:
        reason: The error of the worker.
        room: The memory that it had, in words; empty if unknown.

    Returns:
        The message in one line.
    """
    return one_line(f"{OUT_OF_MEMORY}{f' with {room}' if room else ''}: {reason}")


def early_message(step: int, last: int) -> str:
    """Return the note on a trial whose evaluator ended it before the last step.

    Args:
        step: Its last measured step.
        last: Last step of a full evaluation.

    Returns:
        The note.

    Example:
        >>> early_message(7, 10)
        'its evaluator ended it at step 7 of 10'
    """
    return f"its evaluator ended it at step {step} of {last}"
