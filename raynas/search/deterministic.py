"""This module makes a search whose table does not depend on the number or speed of workers.

Results take effect in a logical order: as if some equally fast logical workers, the lanes,
measured in step, one step per tick. A result that arrives before its turn is kept until then. So
proposals and decisions see the same results with one worker or with many. A trial that reaches a
rung before its turn is paused with its checkpoint, so that no worker trains what may be stopped,
where that is possible; :class:`DiscardedWork` counts the work that was still lost.

:class:`DeterministicOrder` wraps a :class:`~raynas.search.controller.SearchController`, which sees
the lanes as its workers. The controller's job of a trial is held by a lane. A real worker's job of
the same trial has a ticket of its own, and may end later.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import final

from raynas.core import Decision, Job, Measurement, Trial, TrialState, UserError
from raynas.search.context import SearchStatus
from raynas.search.continuity import StepContinuity, hole_message, steps_of
from raynas.search.controller import SearchController, memory_message
from raynas.search.job_source import JobSource
from raynas.search.ledger import recall_failure


@dataclass
class _Lane:
    """A logical worker with its tick and the controller's job that it has."""

    index: int
    tick: int = 0
    job: Job | None = None

    @property
    def turn(self) -> tuple[int, bool, int]:
        """A sort key of what happens first: results, then starts; of equals the lower lane."""
        idle = self.job is None
        return self.tick + (not idle), idle, self.index


@dataclass(frozen=True)
class _Event:
    """A fact about a trial that is known before its turn: a measurement, or how it ended."""

    measurement: Measurement | None = None
    host: str = ""
    device: str = "cpu"
    failure: str | None = None
    infeasible: bool = False


@dataclass
class DiscardedWork:
    """The cost of the deterministic order.

    Attributes:
        kept: Seconds of workers whose results count.
        dropped: Seconds of workers whose results were not needed in the end.
        aside: Number of times a trial waited for its turn without a worker.
    """

    kept: float = 0.0
    dropped: float = 0.0
    aside: int = 0

    def __str__(self) -> str:
        share = self.dropped / max(self.kept + self.dropped, 1e-9)
        return (
            f"in order: {share:.1%} of the workers' time for results that were not wanted in the "
            f"end; trials laid aside {self.aside} times"
        )


@final
class DeterministicOrder(JobSource):
    """A job source that lets results take effect in their logical order; see the module.

    A resumed search is gone through once more with the stored trials, from the first proposal on,
    so sampler and scheduler reach the state they had.

    Args:
        controller: Controller of the search, without any past; it writes through
            :class:`~raynas.search.rows.NewRows`.
        lanes: Number of logical workers; additional real ones find nothing to do.
        past: The stored trials.

    Attributes:
        controller: Controller of the search.
        discarded: Cost of the order so far.
    """

    def __init__(
        self, controller: SearchController, *, lanes: int, past: Iterable[Trial] = ()
    ) -> None:
        self.controller, self.payload = controller, controller.payload
        self._stored = unbroken(past)
        self._lanes = [_Lane(i) for i in range(lanes)]
        self._known = {number: deque(_events(trial)) for number, trial in self._stored.items()}
        self._workers: dict[int, Job] = {}  # jobs of real workers, by trial
        self._wanted: deque[int] = deque()  # trials that need a worker
        self._started: set[int] = set()  # trials that began in this session
        self._steps = StepContinuity()
        self._tickets = 0
        self.discarded = DiscardedWork()

    # -- jobs go out -------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Return a job of a trial whose next result is needed.

        Returns:
            The job, or None: :attr:`done` says whether to wait or to end.
        """
        self._advance()
        if self.interrupted or not self._wanted:
            return None
        number = self._wanted.popleft()
        self._workers[number] = self._physical(self.controller.jobs[number])
        return self._workers[number]

    def _physical(self, job: Job) -> Job:
        """Return the job of a real worker, which keeps a checkpoint at every rung."""
        trial, folders = self.trials[job.trial], self.controller.checkpoints.folders
        rungs = (rung.step for rung in self.controller.scheduler.rungs())
        self._tickets += 1
        return replace(
            job,
            attempt=trial.attempt,
            pauses=tuple(sorted({*job.pauses, *rungs})) if job.workdir else (),
            more_memory=trial.oom_retries > 0,
            stored=self._last_known(job.trial),
            ticket=self._tickets,
            claim=folders.claim(self._tickets),
        )

    def join(self) -> None:
        """Register the trials that have checkpoints with the retention."""
        self.controller.join()

    # -- the order ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Let all known results take effect, one after the other in their order."""
        while not self.interrupted:
            lane = min(self._lanes, key=lambda lane: lane.turn)
            if not (self._start(lane) if lane.job is None else self._step(lane, lane.job)):
                break
        self._request_workers()

    def _start(self, lane: _Lane) -> bool:
        """Start a trial on an idle lane; without one the lane waits for the next result.

        Returns False when nothing will happen any more.
        """
        job = self.controller.next()
        if job is not None:
            lane.job = job
            self._meet(self.trials[job.trial])
            return True
        busy = [other.tick + 1 for other in self._lanes if other.job is not None]
        if not busy:
            return False
        lane.tick = min(busy)
        return True

    def _meet(self, trial: Trial) -> None:
        """Continue a trial that an earlier session left, in a new attempt.

        Raises:
            UserError: The resumed search proposes something else than the stored one.
        """
        stored = self._stored.get(trial.number)
        if stored is None or trial.number in self._started:
            self._started.add(trial.number)
            return
        self._started.add(trial.number)
        never_began = bool(stored.failure) and not stored.measurements  # the cause may be fixed now
        if stored.arch != trial.arch and not never_began:
            raise UserError(
                f"trial {trial.number} was {stored.arch.text}, and is {trial.arch.text} in this "
                "session",
                hint="proposals depend on package versions: resume with those of the first session",
            )
        if not stored.state.ended:
            trial.attempt = stored.attempt + 1
            trial.oom_retries = stored.oom_retries
            trial.message = stored.message if stored.oom_retries else ""
            self._rejoin(trial)

    def _rejoin(self, trial: Trial) -> None:
        """Give the lane's job the present attempt of its trial."""
        job = self.controller.jobs[trial.number]
        self.controller.restarted(replace(job, attempt=trial.attempt))
        for lane in self._lanes:
            if lane.job is not None and lane.job.trial == trial.number:
                lane.job = self.controller.jobs[trial.number]

    def _step(self, lane: _Lane, job: Job) -> bool:
        """Let the next result of a lane's trial take effect; return False while it is not known."""
        known = self._known.get(job.trial)
        if not known:
            return False
        lane.tick += 1
        self._apply(job, known.popleft())
        if job.trial not in self.controller.jobs:  # it ended, or is paused
            lane.job = None
            self._leave(job.trial)
        return True

    def _apply(self, job: Job, event: _Event) -> None:
        controller = self.controller
        if event.measurement is not None:
            self.discarded.kept += event.measurement.seconds
            controller.report(job, event.measurement, host=event.host, device=event.device)
        elif event.failure is not None:
            controller.fail(job, event.failure, infeasible=event.infeasible)
        else:
            controller.complete(job)
        if self.trials[job.trial].state.ended:
            controller.settle()  # the sampler must have heard of it before the next proposal

    def _leave(self, number: int) -> None:
        """Free the worker of a trial that no lane has any more."""
        if number in self._wanted:
            self._wanted.remove(number)
        if self.trials[number].state.ended:
            left = self._known.pop(number, deque())
            if number not in self._stored:
                seconds = sum(e.measurement.seconds for e in left if e.measurement)
                self.discarded.dropped += seconds

    def _request_workers(self) -> None:
        """Request workers for trials whose next result nobody is working on."""
        for lane in sorted(self._lanes, key=lambda lane: lane.turn):
            if lane.job is None or self._known.get(lane.job.trial):
                continue
            if lane.job.trial not in self._workers and lane.job.trial not in self._wanted:
                self._wanted.append(lane.job.trial)

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
        if not self._is_current(job):
            self.discarded.dropped += measurement.seconds
            return Decision.STOP
        number, known = job.trial, self._last_known(job.trial)
        if self.trials[number].state.ended:  # it ended at its turn; the worker does not know yet
            self.discarded.dropped += measurement.seconds
            del self._workers[number]
            return Decision.STOP
        if measurement.step <= known:
            return Decision.CONTINUE
        before = chain(steps_of(self.trials[number]), self._later_steps(number))
        if self._steps.broken(known, measurement.step, after, before):
            self._fill_hole(job, known, measurement)
            return Decision.STOP
        event = _Event(measurement, host, device)
        self._known.setdefault(number, deque()).append(event)
        self._advance()
        return self._goes_on(job, measurement.step)

    def _goes_on(self, job: Job, step: int) -> Decision:
        """Return whether the worker measures the next step at once."""
        number = job.trial
        if not self._is_current(job):
            return Decision.STOP
        if number not in self.controller.jobs:  # it ended, or is paused
            del self._workers[number]
            ended = self.trials[number].state.ended
            return Decision.STOP if ended else Decision.PAUSE
        if self._known[number] and step in job.pauses and step < job.max_step:
            del self._workers[number]
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
        failure = (
            None if self._last_known(job.trial) else "the evaluator ended without a measurement"
        )
        self._end(job, _Event(failure=failure))

    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """Keep the failure of a trial until its turn.

        Args:
            job: The job of the worker.
            message: The reason.
            infeasible: Whether the trial does not fit, rather than crashed.
        """
        self._end(job, _Event(failure=message, infeasible=infeasible))

    def _end(self, job: Job, event: _Event) -> None:
        if not self._is_current(job):
            return
        del self._workers[job.trial]
        if not self.trials[job.trial].state.ended:
            self._known.setdefault(job.trial, deque()).append(event)
            self._advance()

    def no_memory(self, job: Job, reason: str, room: str = "", *, last: bool = False) -> None:
        """Start a trial once more with more memory, or fail it.

        The second start has no turn; only its result has.

        Args:
            job: The job of the worker.
            reason: The error of the worker.
            room: The memory that it had, in words.
            last: Whether there is no more memory.
        """
        if not self._is_current(job):
            return
        trial = self.trials[job.trial]
        message = memory_message(reason, room)
        if trial.state.ended or last or trial.oom_retries:
            self.fail(job, message, infeasible=True)
            return
        self.controller.note_memory(trial, message)
        self.again(job)

    def again(self, job: Job) -> None:
        """Let the trial of a lost worker wait for another one.

        Args:
            job: The job of the lost worker.
        """
        if not self._is_current(job):
            return
        del self._workers[job.trial]
        trial = self.trials[job.trial]
        if trial.state.ended:
            return
        trial.attempt = job.attempt + 1
        if job.trial in self.controller.jobs:
            self._rejoin(trial)
            self._wanted.appendleft(job.trial)

    def restarted(self, job: Job) -> None:
        """Take the new attempt of a job that the runner gave to another worker.

        Args:
            job: The job with its new attempt.
        """
        now = self._workers.get(job.trial)
        if now is not None and now.ticket == job.ticket:
            self._workers[job.trial] = job
            trial = self.trials[job.trial]
            trial.attempt = job.attempt
            if job.trial in self.controller.jobs:
                self._rejoin(trial)

    def _is_current(self, job: Job) -> bool:
        now = self._workers.get(job.trial)
        return now is not None and (now.ticket, now.attempt) == (job.ticket, job.attempt)

    def _last_known(self, number: int) -> int:
        """Return the last known step of a trial, whether it has had its turn or not."""
        return max(self._later_steps(number), default=self.trials[number].step)

    def _later_steps(self, number: int) -> Iterator[int]:
        """Return the known steps of a trial that have not had their turn."""
        events = self._known.get(number, ())
        return (event.measurement.step for event in events if event.measurement is not None)

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
            return not self._workers
        return self.controller.done

    def interrupt(self, error: BaseException | None = None) -> None:
        """Request the end of the search.

        Args:
            error: The error for the runner to raise, if any; the first one counts.
        """
        self.controller.interrupt(error)

    @property
    def interrupted(self) -> bool:
        """True if the end of the search was requested."""
        return self.controller.interrupted

    @property
    def error(self) -> BaseException | None:
        """The first error that the search was interrupted with.

        Returns:
            The error, or None.
        """
        return self.controller.error

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that real workers have now.

        Returns:
            Trial number -> job, in the order of the numbers.
        """
        return dict(sorted(self._workers.items()))

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
        return min(self.controller.breadth, len(self._lanes))

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


def unbroken(past: Iterable[Trial]) -> dict[int, Trial]:
    """Return stored trials by number, none with a hole in its curve.

    A trial may lack a step that others have, because its fragment was damaged. It keeps the steps
    before the hole and goes on from there, as decisions need all of a curve.

    Args:
        past: Stored trials.

    Returns:
        Number -> trial.
    """
    found = {trial.number: trial for trial in past}
    steps = sorted({m.step for trial in found.values() for m in trial.measurements})
    for number, trial in found.items():
        recall_failure(trial)
        have = [m.step for m in trial.measurements]
        first = next((s for s in steps if 0 < s < trial.step and s not in have), None)
        if first is not None:
            before = [m for m in trial.measurements if m.step < first]
            found[number] = replace(
                trial, measurements=before, state=TrialState.RUNNING, message=""
            )
    return found


def _events(trial: Trial) -> list[_Event]:
    """Return the stored events of a trial in their order."""
    found = [_Event(m) for m in trial.measurements if m.step > 0]
    if trial.state in (TrialState.FAILED, TrialState.INFEASIBLE):
        infeasible = trial.state is TrialState.INFEASIBLE
        found.append(_Event(failure=trial.message, infeasible=infeasible))
    elif trial.state is TrialState.COMPLETE:
        found.append(_Event())
    return found
