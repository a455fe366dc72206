"""This module lets results take effect in a logical order, that of some equally fast workers.

The logical workers, the lanes, measure in step, one step per tick. A result that arrives before
its turn is kept until then. So proposals and decisions see the same results with one real worker
or with many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

from raynas.core import Job, Trial, UserError
from raynas.search.controller import SearchController
from raynas.search.stored_events import TrialEvent, stored_events, unbroken


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
class WorkerJobs:
    """The jobs of real workers, and the trials that need one.

    Attributes:
        current: Trial number -> job of the real worker that has the trial.
        wanted: Numbers of trials that need a worker, the most urgent first.
    """

    def __init__(self) -> None:
        self.current: dict[int, Job] = {}
        self.wanted: deque[int] = deque()
        self._tickets = 0

    def assign(self, job: Job) -> None:
        """Record the job of a worker.

        Args:
            job: The job.
        """
        self.current[job.trial] = job

    def ticket(self) -> int:
        """Return a ticket that no real job has had.

        Returns:
            A number from 1 up.
        """
        self._tickets += 1
        return self._tickets

    def is_current(self, job: Job) -> bool:
        """Return whether a job is the one that a worker has of its trial now.

        Args:
            job: The job.

        Returns:
            False for an earlier job of the trial.
        """
        now = self.current.get(job.trial)
        return now is not None and (now.ticket, now.attempt) == (job.ticket, job.attempt)

    def release(self, number: int) -> None:
        """Record that no worker has the trial any more.

        Args:
            number: Number of the trial.
        """
        del self.current[number]

    def request(self, number: int) -> None:
        """Request a worker for a trial that has none and does not wait for one.

        Args:
            number: Number of the trial.
        """
        if number not in self.current and number not in self.wanted:
            self.wanted.append(number)

    def withdraw(self, number: int) -> None:
        """Take back the request of a worker for a trial, if there is one.

        Args:
            number: Number of the trial.
        """
        if number in self.wanted:
            self.wanted.remove(number)


@final
class LogicalOrder:
    """The lanes of a search, and the results that are known before their turn.

    A resumed search is gone through once more with the stored trials, from the first proposal on,
    so sampler and scheduler reach the state they had.

    Args:
        controller: Controller of the search, which sees the lanes as its workers.
        lanes: Number of logical workers.
        past: The stored trials.
        workers: The jobs of real workers; trials whose next result nobody works on are requested.

    Attributes:
        discarded: Cost of the order so far.
    """

    def __init__(
        self,
        controller: SearchController,
        *,
        lanes: int,
        past: Iterable[Trial],
        workers: WorkerJobs,
    ) -> None:
        self._controller, self._workers = controller, workers
        self._stored = unbroken(past)
        self._lanes = [_Lane(i) for i in range(lanes)]
        self._known = {n: deque(stored_events(trial)) for n, trial in self._stored.items()}
        self._started: set[int] = set()  # trials that began in this session
        self.discarded = DiscardedWork()

    @property
    def lanes(self) -> int:
        """The number of logical workers.

        Returns:
            The number; more real workers find nothing to do.
        """
        return len(self._lanes)

    def add(self, number: int, event: TrialEvent) -> None:
        """Keep an event until its turn, and let all events take effect whose turn has come.

        Args:
            number: Number of the trial.
            event: The event.
        """
        self._known.setdefault(number, deque()).append(event)
        self.advance()

    def has_events(self, number: int) -> bool:
        """Return whether events of a trial wait for their turn.

        Args:
            number: Number of the trial.

        Returns:
            True if at least one does.
        """
        return bool(self._known.get(number))

    def advance(self) -> None:
        """Let all known results take effect, one after the other in their order."""
        while not self._controller.interrupted:
            lane = min(self._lanes, key=lambda lane: lane.turn)
            if not (self._start(lane) if lane.job is None else self._step(lane, lane.job)):
                break
        self._request_workers()

    def _start(self, lane: _Lane) -> bool:
        """Start a trial on an idle lane; without one the lane waits for the next result.

        Returns False when nothing will happen any more.
        """
        job = self._controller.next()
        if job is not None:
            lane.job = job
            self._meet(self._controller.trials[job.trial])
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
            self.rejoin(trial)

    def rejoin(self, trial: Trial) -> None:
        """Give the job of the trial's lane the present attempt of the trial.

        Args:
            trial: A trial that a lane has.
        """
        job = self._controller.jobs[trial.number]
        self._controller.restarted(replace(job, attempt=trial.attempt))
        for lane in self._lanes:
            if lane.job is not None and lane.job.trial == trial.number:
                lane.job = self._controller.jobs[trial.number]

    def _step(self, lane: _Lane, job: Job) -> bool:
        """Let the next result of a lane's trial take effect; return False while it is not known."""
        known = self._known.get(job.trial)
        if not known:
            return False
        lane.tick += 1
        self._apply(job, known.popleft())
        if job.trial not in self._controller.jobs:  # it ended, or is paused
            lane.job = None
            self._leave(job.trial)
        return True

    def _apply(self, job: Job, event: TrialEvent) -> None:
        controller = self._controller
        if event.measurement is not None:
            self.discarded.kept += event.measurement.seconds
            controller.report(job, event.measurement, host=event.host, device=event.device)
        elif event.failure is not None:
            controller.fail(job, event.failure, infeasible=event.infeasible)
        else:
            controller.complete(job)
        if controller.trials[job.trial].state.ended:
            controller.rows.settle()  # the sampler must have heard of it before the next proposal

    def _leave(self, number: int) -> None:
        """Free the worker of a trial that no lane has any more."""
        self._workers.withdraw(number)
        if self._controller.trials[number].state.ended:
            left = self._known.pop(number, deque())
            if number not in self._stored:
                seconds = sum(e.measurement.seconds for e in left if e.measurement)
                self.discarded.dropped += seconds

    def _request_workers(self) -> None:
        """Request workers for trials whose next result nobody is working on."""
        for lane in sorted(self._lanes, key=lambda lane: lane.turn):
            if lane.job is not None and not self._known.get(lane.job.trial):
                self._workers.request(lane.job.trial)

    def last_known(self, number: int) -> int:
        """Return the last known step of a trial, whether it has had its turn or not.

        Args:
            number: Number of the trial.

        Returns:
            The step; 0 if none is known.
        """
        return max(self.later_steps(number), default=self._controller.trials[number].step)

    def later_steps(self, number: int) -> Iterator[int]:
        """Return the known steps of a trial that have not had their turn.

        Args:
            number: Number of the trial.

        Returns:
            The steps from the first one up.
        """
        events = self._known.get(number, ())
        return (event.measurement.step for event in events if event.measurement is not None)
