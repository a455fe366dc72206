"""This module simulates workers on a virtual clock: months of cluster time in seconds.

It uses the same search, sampler and scheduler objects as a cluster; only the waiting is left out.
A measurement arrives when its ``seconds`` have passed on the clock of the runner, so evaluators
whose seconds are simulated (tables) show what a search would find, and when.

The idea of replaying tabulated trainings asynchronously: D. Salinas et al., "Syne Tune: A Library
for Large Scale Hyperparameter Tuning and Reproducible Research", AutoML 2022.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from raynas.core import Architecture, Job, RaynasError
from raynas.core.describe import fresh
from raynas.core.renamed import renamed_names
from raynas.evaluators.base import Evaluator
from raynas.runners.base import JobOutcome, Resources, Runner, deliver, steps
from raynas.runners.failures import died
from raynas.runners.simulated_cluster import Kind, SimulatedCluster, WorkerSpan, WorkerUsage
from raynas.runners.simulated_workers import USED_AS, RunningTrial, SimulatedWorker
from raynas.search.context import EvaluationContext
from raynas.search.job_source import JobSource


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
    _workers: list[SimulatedWorker] = field(default_factory=list, init=False, repr=False)
    _ready: tuple[EvaluationContext, Evaluator] | None = field(default=None, init=False, repr=False)

    def clock(self) -> float:
        """Return the simulated seconds since the runner was made."""
        return self.now

    def remarks(self) -> tuple[str, ...]:
        """Return no remarks."""
        return ()

    def run(self, work: JobSource) -> None:
        """Simulate until ``work`` is done or interrupted.

        Args:
            work: The source of the jobs.

        Raises:
            RaynasError: If all workers wait and the search neither ends nor gives them work.
        """
        work.payload.evaluator.setup(work.payload.space, work.payload.view)
        if not self._workers:
            self._workers = [SimulatedWorker(i, self.cluster) for i in range(self._count())]
        _Replay(self, work, self._workers).go()

    def usage(self) -> WorkerUsage:
        """Return what the workers' time went into, for all searches up to now.

        Returns:
            The account in worker-seconds.
        """
        times = [worker.times(self.now) for worker in self._workers]
        # a worker may lose what another one did: their sum is never negative but for rounding
        spent = {kind: max(sum(one[kind] for one in times), 0.0) for kind in USED_AS}
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


class _Replay:
    """One search on the workers: a queue of the moments at which something happens."""

    def __init__(
        self, runner: VirtualRunner, work: JobSource, workers: list[SimulatedWorker]
    ) -> None:
        self.runner, self.work = runner, work
        self.every = runner.cluster.checkpoint_s
        self.evaluator = work.payload.evaluator
        self.queue: list[tuple[float, int, SimulatedWorker]] = []
        self.order = 0  # of two events at one moment, the one planned first comes first
        self.idle: deque[SimulatedWorker] = deque()
        self.orphans: deque[RunningTrial] = deque()  # trials whose worker is gone
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

    def _happens(self, moment: float, _: int, worker: SimulatedWorker) -> None:
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

    def _foresee(self, moment: float, worker: SimulatedWorker) -> None:
        self.order += 1
        heapq.heappush(self.queue, (moment, self.order, worker))

    def _wake(self) -> None:
        """Offer work to the idle workers, in the order in which they became idle."""
        while self.idle and not self.work.interrupted:
            worker = self.idle.popleft()
            if not self._employ(worker):
                self.idle.appendleft(self.idle.pop())  # it stays the first in the queue
                return

    def _employ(self, worker: SimulatedWorker) -> bool:
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
                running = RunningTrial(job, steps(self.evaluator, arch, job))
                if not self._advance(running):
                    continue
            self._start_piece(worker, running)
            return True

    def _advance(self, running: RunningTrial) -> bool:
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

    def _start_piece(self, worker: SimulatedWorker, running: RunningTrial) -> None:
        worker.running, worker.began = running, self.runner.now
        wanted = (running.due - running.done) / worker.speed
        self._foresee(self.runner.now + min(wanted, worker.fuse), worker)

    def _work_ends(self, worker: SimulatedWorker, running: RunningTrial, moment: float) -> None:
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

    def _break_down(self, worker: SimulatedWorker, running: RunningTrial, moment: float) -> None:
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
        self,
        worker: SimulatedWorker,
        kind: Kind,
        begin: float,
        end: float,
        trial: int | None = None,
    ) -> None:
        if self.runner.trace and end > begin:
            self.runner.spans.append(WorkerSpan(worker.number, kind, begin, end, trial))


__getattr__ = renamed_names(__name__, Cluster="SimulatedCluster")
