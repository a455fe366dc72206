"""This module has the workers of a simulated cluster, and the trials that they work on."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from raynas.core import Job, rng_for
from raynas.runners.base import JobOutcome
from raynas.runners.simulated_cluster import SimulatedCluster

#: what the time of a worker goes into
USED_AS = ("starting", "useful", "lost", "down")


class SimulatedWorker:
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
        self.spent = dict.fromkeys(USED_AS, 0.0)
        self.failures = self.preemptions = 0
        self.gone_at = self.back_at = (
            0.0  # when it was taken away; when it is back, but not started yet
        )
        self.ready_at = cluster.startup_s
        self.running: RunningTrial | None = None
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


class RunningTrial:
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
