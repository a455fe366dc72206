"""This module simulates workers on a virtual clock: months of cluster time in seconds.

It uses the same search, sampler and scheduler objects as a cluster; only the waiting is left out.
A measurement arrives when its ``seconds`` have passed on the clock of the runner, so evaluators
whose seconds are simulated (tables) show what a search would find, and when.

The idea of replaying tabulated trainings asynchronously: D. Salinas et al., "Syne Tune: A Library
for Large Scale Hyperparameter Tuning and Reproducible Research", AutoML 2022.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from raynas.core import Architecture, Job, RaynasError, UserError, rng_for
from raynas.core.describe import fresh
from raynas.core.renamed import renamed_names
from raynas.evaluators.base import Evaluator
from raynas.runners.base import JobOutcome, Resources, Runner, deliver, steps
from raynas.runners.failures import died
from raynas.search.context import EvaluationContext
from raynas.search.job_source import JobSource

Kind = Literal["starting", "working", "down"]


@dataclass(frozen=True)
class SimulatedCluster:
    """The settings of a simulated cluster.

    Rates are events per hour in which a worker computes. Whatever ends a worker, its trial goes on
    from its last checkpoint on the first worker that is free. This counts against
    ``resources.retries`` until the trial is measured again, as on Ray.

    Attributes:
        workers: The number of workers.
        startup_s: Seconds before a worker's first job, and again each time that it comes back.
        failure_rate: Failures per hour: the worker's process dies, and starts again at once.
        preempt_rate: Preemptions per hour: the worker's machine is taken away; another one comes
            after ``replace_s``.
        replace_s: Seconds until a machine that was taken away is replaced.
        checkpoint_s: Seconds of work between two checkpoints. 0 loses nothing, ``inf`` loses all
            work of a trial.
        spread: Standard deviation of the logarithm of the workers' speeds (0.2: most are within
            20 % of the evaluator's seconds); 0: all workers are equally fast.
        seed: The seed of failures, preemptions and speeds.

    Raises:
        UserError: If ``workers`` is < 1, another value is negative, or one that must be finite is
            not.

    Example:
        >>> SimulatedCluster(workers=8, preempt_rate=0.5).replace_s
        300.0
    """

    workers: int = 1
    startup_s: float = 0.0
    failure_rate: float = 0.0
    preempt_rate: float = 0.0
    replace_s: float = 300.0
    checkpoint_s: float = 0.0
    spread: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"a cluster of {self.workers} workers", expected="1 or more")
        for name in ("startup_s", "failure_rate", "preempt_rate", "replace_s", "spread"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"cluster's {name}={getattr(self, name)}", expected="0 or more")
        if not self.checkpoint_s >= 0:
            raise UserError(
                f"cluster's checkpoint_s={self.checkpoint_s}", expected="0 or more, inf"
            )


@dataclass(frozen=True)
class WorkerUsage:
    """An account of the workers' time, in worker-seconds.

    ``starting``, ``useful``, ``lost``, ``down`` and ``idle`` add up to ``workers * seconds``.

    Attributes:
        workers: The number of workers.
        seconds: Seconds on the virtual clock.
        starting: Worker-seconds in which workers started.
        useful: Worker-seconds of work that counted.
        lost: Worker-seconds of work after a trial's last checkpoint, which it had to do again.
        down: Worker-seconds in which a machine was away.
        idle: Worker-seconds without work.
        failures: How many worker processes died.
        preemptions: How many machines were taken away.

    Example:
        >>> WorkerUsage(2, 10.0, 1.0, 15.0, 2.0, 0.0, 2.0, failures=1, preemptions=0).utilisation
        0.75
    """

    workers: int
    seconds: float
    starting: float
    useful: float
    lost: float
    down: float
    idle: float
    failures: int
    preemptions: int

    @property
    def total(self) -> float:
        """The time of all workers.

        Returns:
            Worker-seconds.
        """
        return self.workers * self.seconds

    @property
    def utilisation(self) -> float:
        """The share of the workers' time in which they did work that counted.

        Returns:
            A number from 0 to 1; 0 before any time has passed.
        """
        return max(self.useful, 0.0) / self.total if self.total else 0.0  # rounded below 0 at times


@dataclass(frozen=True)
class WorkerSpan:
    """A period in which a simulated worker did one thing.

    Attributes:
        worker: The number of the worker, from 0.
        kind: ``starting``, ``working`` or ``down``.
        begin: Seconds on the virtual clock.
        end: Seconds on the virtual clock.
        trial: The number of the trial that it worked on; None if it did not work.
    """

    worker: int
    kind: Kind
    begin: float
    end: float
    trial: int | None = None


class TimedRows(list[dict[str, Any]]):
    """Stored rows in memory, each with the time at which it was stored.

    The time is ``clock_s``, seconds on the clock of the runner.

    Args:
        runner: The runner whose clock counts.
    """

    def __init__(self, runner: VirtualRunner) -> None:
        super().__init__()
        self._runner = runner

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        """Add rows with the present time of the runner's clock.

        Args:
            rows: Rows as for the store; they are copied.
        """
        now = self._runner.clock()
        self.extend({**row, "clock_s": now} for row in rows)


@dataclass
class VirtualRunner(Runner):
    """A runner that simulates the workers of a cluster in this process.

    It is deterministic for the seed of ``cluster``. Give ``runner.clock`` to the search, so that
    its deadlines are on this clock. Workers that have started serve the next search too.

    Attributes:
        cluster: The simulated machines.
        resources: Only ``concurrent`` and ``retries`` count.
        trace: True keeps a :class:`WorkerSpan` for everything that workers do.
        spans: The spans kept so far.
        now: Seconds on the virtual clock.
    """

    name: ClassVar[str] = "virtual"

    cluster: SimulatedCluster = field(default_factory=SimulatedCluster)
    resources: Resources = field(default_factory=Resources)
    trace: bool = False
    spans: list[WorkerSpan] = field(default_factory=list, init=False, repr=False)
    now: float = field(default=0.0, init=False)
    _workers: list[_Worker] = field(default_factory=list, init=False, repr=False)
    _ready: tuple[EvaluationContext, Evaluator] | None = field(default=None, init=False, repr=False)

    def clock(self) -> float:
        """Return the simulated seconds since the runner was made."""
        return self.now

    def run(self, work: JobSource) -> None:
        """Simulate until ``work`` is done or interrupted.

        Args:
            work: The source of the jobs.

        Raises:
            RaynasError: If all workers wait and the search neither ends nor gives them work.
        """
        work.payload.evaluator.setup(work.payload.space, work.payload.view)
        if not self._workers:
            self._workers = [_Worker(i, self.cluster) for i in range(self._count())]
        _Replay(self, work, self._workers).go()

    def usage(self) -> WorkerUsage:
        """Return what the workers' time went into, for all searches up to now.

        Returns:
            The account in worker-seconds.
        """
        times = [worker.times(self.now) for worker in self._workers]
        # a worker may lose what another one did: their sum is never negative but for rounding
        spent = {kind: max(sum(one[kind] for one in times), 0.0) for kind in _KINDS}
        total = self._count() * self.now
        return WorkerUsage(
            workers=self._count(),
            seconds=self.now,
            **spent,
            idle=max(total - sum(spent.values()), 0.0),
            failures=sum(w.failures for w in self._workers),
            preemptions=sum(w.preemptions for w in self._workers),
        )

    def evaluate(
        self, payload: EvaluationContext, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[JobOutcome]]:
        """Evaluate jobs now and advance the clock by their time, shared by all workers."""
        if self._ready is None or self._ready[0] is not payload:
            evaluator = fresh(payload.evaluator)
            evaluator.setup(payload.space, payload.view)
            self._ready = payload, evaluator
        found = [list(steps(self._ready[1], arch, job)) for arch, job in jobs]
        seconds = sum(o.measurement.seconds for one in found for o in one if o.measurement)
        self.now += seconds / self._count()
        return found

    def _count(self) -> int:
        return min(self.cluster.workers, self.resources.concurrent or self.cluster.workers)


_KINDS = ("starting", "useful", "lost", "down")


class _Worker:
    """A simulated worker, with an account of its time."""

    def __init__(self, number: int, cluster: SimulatedCluster) -> None:
        self.number, self.name = number, f"worker-{number}"
        self._cluster, self._rate = cluster, cluster.failure_rate + cluster.preempt_rate
        self._rng = rng_for(cluster.seed, "worker", number) if self._rate else None
        self.fuse = self._draw(self._rng)
        self.speed = 1.0
        if cluster.spread:
            pace = rng_for(cluster.seed, "speed", number).normal()
            self.speed = math.exp(cluster.spread * float(pace))
        self.spent = dict.fromkeys(_KINDS, 0.0)
        self.failures = self.preemptions = 0
        self.gone_at = self.back_at = (
            0.0  # when it was taken away; when it is back, but not started yet
        )
        self.ready_at = cluster.startup_s
        self.running: _Running | None = None
        self.began = 0.0  # when its present piece of work began

    def _draw(self, rng: np.random.Generator | None) -> float:
        """Seconds of work until its next failure or preemption."""
        return math.inf if rng is None else float(rng.exponential(3600 / self._rate))

    def break_down(self, now: float) -> str:
        """End the worker until it comes back.

        Returns:
            The reason, for messages.
        """
        assert self._rng is not None
        self.fuse, self.gone_at, self.back_at = self._draw(self._rng), now, now
        if self._rng.random() * self._rate < self._cluster.failure_rate:
            self.failures += 1
            reason = "a simulated failure"
        else:
            self.preemptions += 1
            self.back_at += self._cluster.replace_s
            reason = "a simulated preemption"
        self.ready_at = self.back_at + self._cluster.startup_s
        return reason

    @property
    def returns(self) -> bool:
        """True while the worker is away or starts."""
        return self.ready_at > self.gone_at

    def returned(self) -> None:
        """Book the time that the worker was away and started; it is ready for work."""
        self.spent = self.times(self.ready_at)
        self.gone_at = self.back_at = self.ready_at

    def stops(self, moment: float, lost: float = 0.0) -> None:
        """End the worker's piece of work.

        Args:
            moment: Seconds on the virtual clock.
            lost: Seconds of the trial's work that are to be done again.
        """
        self.spent["useful"] += moment - self.began - lost
        self.spent["lost"] += lost
        self.running = None

    def times(self, now: float) -> dict[str, float]:
        """Return the seconds by what they went into up to ``now``, the present work included."""
        spent = dict(self.spent)
        if self.returns:
            spent["down"] += min(now, self.back_at) - self.gone_at
            spent["starting"] += max(min(now, self.ready_at) - self.back_at, 0.0)
        elif self.running is not None:
            spent["useful"] += now - self.began
        return spent


class _Running:
    """A trial between its start and its end; ``done`` and ``due`` are its evaluator's seconds."""

    __slots__ = (
        "at_risk", "checkpoint", "deaths", "done", "due", "in_a_row", "job", "outcome", "outcomes",
    )  # fmt: skip

    def __init__(self, job: Job, outcomes: Generator[JobOutcome, None, None]) -> None:
        self.job, self.outcomes = job, outcomes
        self.outcome = JobOutcome()  # what comes when ``due`` is reached
        self.done = self.due = self.checkpoint = 0.0
        self.at_risk = 0.0  # workers' time since the checkpoint
        self.deaths = self.in_a_row = 0  # of workers: all, and since its last measurement

    def advance(self, to: float, took: float, every: float) -> None:
        """Book that the work has reached ``to`` seconds, after ``took`` seconds of a worker's time.

        A checkpoint is written when ``every`` seconds of work are done; 0 means at any moment.
        """
        speed = (to - self.done) / took if took else 1.0
        self.done, before = to, self.checkpoint
        if every == 0:
            self.checkpoint = to
        elif every < math.inf:
            self.checkpoint = max(before, math.floor(to / every) * every)
        if self.checkpoint > before:
            self.at_risk = (to - self.checkpoint) / speed
        else:
            self.at_risk += took

    def fall_back(self) -> float:
        """Go back to the checkpoint.

        Returns:
            The worker-seconds that are lost.
        """
        lost, self.at_risk = self.at_risk, 0.0
        self.done = self.checkpoint
        self.deaths += 1
        self.in_a_row += 1
        return lost


class _Replay:
    """One search on the workers: a queue of the moments at which something happens."""

    def __init__(self, runner: VirtualRunner, work: JobSource, workers: list[_Worker]) -> None:
        self.runner, self.work = runner, work
        self.every = runner.cluster.checkpoint_s
        self.evaluator = work.payload.evaluator
        self.queue: list[tuple[float, int, _Worker]] = []
        self.order = 0  # of two events at one moment, the one planned first comes first
        self.idle: deque[_Worker] = deque()
        self.orphans: deque[_Running] = deque()  # trials whose worker is gone
        self.workers = workers
        for worker in workers:
            self._foresee(max(worker.ready_at, runner.now), worker)

    def go(self) -> None:
        """Process events until the search is done or interrupted."""
        try:
            while not self.work.done and not self.work.interrupted:
                if not self.queue:
                    raise RaynasError("all workers wait, but the search neither ends nor has work")
                self._happens(*heapq.heappop(self.queue))
                self._wake()
        finally:
            for worker in self.workers:
                if worker.running is not None:  # interrupted
                    worker.stops(self.runner.now)

    def _happens(self, moment: float, _: int, worker: _Worker) -> None:
        # a worker that waits for a screening gets the events of that time after it
        self.runner.now = max(self.runner.now, moment)
        if worker.running is not None:
            self._work_ends(worker, worker.running, moment)
            return
        if worker.returns:
            self._note(worker, "down", worker.gone_at, worker.back_at)
            self._note(worker, "starting", worker.back_at, worker.ready_at)
            worker.returned()
        self._employ(worker)

    def _foresee(self, moment: float, worker: _Worker) -> None:
        self.order += 1
        heapq.heappush(self.queue, (moment, self.order, worker))

    def _wake(self) -> None:
        """Offer work to the idle workers, in the order in which they became idle."""
        while self.idle and not self.work.interrupted:
            worker = self.idle.popleft()
            if not self._employ(worker):
                self.idle.appendleft(self.idle.pop())  # it stays the first in the queue
                return

    def _employ(self, worker: _Worker) -> bool:
        """Give the worker a trial; if there is none, put it among the idle ones."""
        while True:
            if self.orphans:
                running = self.orphans.popleft()
            else:
                job = self.work.next()
                if job is None:
                    self.idle.append(worker)
                    return False
                arch = self.work.arch(job.trial)
                running = _Running(job, steps(self.evaluator, arch, job))
                if not self._advance(running):
                    continue
            self._start_piece(worker, running)
            return True

    def _advance(self, running: _Running) -> bool:
        """Go to the trial's next measurement.

        Returns:
            False if the trial ends before it takes any time.
        """
        work, job = self.work, running.job
        known = work.trials[job.trial].step
        for outcome in running.outcomes:
            found = outcome.measurement
            if found is None:
                deliver(work, job, outcome)
                return False
            running.due += found.seconds
            if found.step > known:
                running.outcome = outcome
                return True
            running.done = running.checkpoint = running.due  # from an earlier run's checkpoint
        deliver(work, job, JobOutcome())
        return False

    def _start_piece(self, worker: _Worker, running: _Running) -> None:
        worker.running, worker.began = running, self.runner.now
        wanted = (running.due - running.done) / worker.speed
        self._foresee(self.runner.now + min(wanted, worker.fuse), worker)

    def _work_ends(self, worker: _Worker, running: _Running, moment: float) -> None:
        """A step is measured, or the worker breaks down before."""
        self._note(worker, "working", worker.began, moment, running.job.trial)
        left = (running.due - running.done) / worker.speed
        if worker.fuse < left:
            self._break_down(worker, running, moment)
            return
        worker.stops(moment)
        worker.fuse -= left
        running.advance(running.due, left, self.every)
        running.in_a_row = 0
        outcome = replace(running.outcome, host=worker.name)
        if deliver(self.work, running.job, outcome) and self._advance(running):
            self._start_piece(worker, running)
            return
        running.outcomes.close()
        self._employ(worker)

    def _break_down(self, worker: _Worker, running: _Running, moment: float) -> None:
        """The trial falls back to its last checkpoint; whoever is free takes it up."""
        took = worker.fuse
        running.advance(running.done + took * worker.speed, took, self.every)
        worker.stops(moment, lost=running.fall_back())
        reason = worker.break_down(moment)
        self._foresee(worker.ready_at, worker)
        if running.in_a_row > self.runner.resources.retries:
            running.outcomes.close()
            self.work.fail(running.job, died(running.in_a_row, reason))
        else:
            running.job = replace(running.job, attempt=running.job.attempt + 1)
            self.work.restarted(running.job)
            self.orphans.append(running)

    def _note(
        self, worker: _Worker, kind: Kind, begin: float, end: float, trial: int | None = None
    ) -> None:
        if self.runner.trace and end > begin:
            self.runner.spans.append(WorkerSpan(worker.number, kind, begin, end, trial))


__getattr__ = renamed_names(__name__, Cluster="SimulatedCluster")
