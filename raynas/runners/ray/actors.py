"""This module carries out lightweight evaluations in chunks by persistent Ray actors.

Such evaluations are zero-cost proxies, subnets of a supernet, and tables.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from raynas.runners.base import JobOutcome, deliver
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.tasks import ActorTask, TaskSource
from raynas.search.job_source import JobSource


@dataclass
class ActorRunner(ClusterRunner):
    """A runner for lightweight evaluations: as many actors as ``resources`` allow.

    Each actor keeps space, data and evaluator. A share of a GPU (``resources.gpus=0.1``) puts
    several actors on one GPU: a small network alone cannot use all of it. Evaluations are not
    stopped in the middle: what is measured after the scheduler's STOP is dropped. Each actor has up
    to two chunks of proposals ahead; with ``resources.concurrent=1`` none, so that every proposal
    knows of all results before it.
    """

    name: ClassVar[str] = "actors"

    def run(self, work: JobSource) -> None:
        """Carry out jobs by a pool of actors, which ends with the search.

        Args:
            work: The source of the jobs.

        Raises:
            UserError: If workers cannot be set up.
        """
        self.open()
        ahead = self.resources.concurrent != 1
        crew = self.hire(work.payload, ahead=ahead, patience=self.resources.patience)
        try:
            crew.carry_out(_Jobs(work))
        finally:
            crew.dismiss()


class _Jobs(TaskSource):
    """The jobs of a search."""

    def __init__(self, work: JobSource) -> None:
        self._work = work

    @property
    def over(self) -> bool:
        return self._work.done or self._work.interrupted

    def next(self) -> ActorTask | None:
        job = self._work.next()
        return ActorTask(self._work.arch(job.trial), job) if job else None

    def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
        with self._work.together():
            for task, outcome in found:
                if not task.closed:  # what a stopped or paused trial's worker says later
                    task.closed = not deliver(self._work, task.job, outcome)

    @property
    def left(self) -> int:
        return self._work.breadth

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def share(self, workers: int) -> int | None:
        return None

    def again(self, task: ActorTask) -> None:
        self._work.restarted(task.job)

    def lose(self, task: ActorTask, message: str) -> None:
        self._work.fail(task.job, message)
