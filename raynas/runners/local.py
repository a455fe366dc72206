"""This module evaluates trials in this process, for debugging, tables and small searches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, Job
from raynas.core.describe import fresh
from raynas.evaluators.base import Evaluator
from raynas.runners.base import (
    JobOutcome,
    Resources,
    Runner,
    deliver,
    on_device,
    steps,
    steps_of_many,
)
from raynas.runners.gpus import local_device
from raynas.search.context import EvaluationContext
from raynas.search.job_source import JobSource


@dataclass
class LocalRunner(Runner):
    """A runner that evaluates in this process, in the order of the proposals.

    Evaluators that prefer to evaluate many architectures together get as many proposals at a time,
    unless ``resources.concurrent`` says fewer.

    Attributes:
        resources: Only ``cpus``, ``gpus`` and ``concurrent`` count.

    Raises:
        UserError: If ``resources`` ask for more GPUs than there are in this machine.
    """

    name: ClassVar[str] = "local"

    resources: Resources = field(default_factory=Resources)
    _ready: tuple[EvaluationContext, Evaluator] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.resources.gpus not in (None, "fit"):
            local_device(self.resources.gpus)

    def clock(self) -> float:
        """Return the seconds of this machine's monotonic clock."""
        return time.monotonic()

    def remarks(self) -> tuple[str, ...]:
        """Name the settings that have no effect without separate workers."""
        plain = Resources()
        names = ("memory", "patience", "retries")
        unused = [n for n in names if getattr(self.resources, n) != getattr(plain, n)]
        if not unused:
            return ()
        shown = ", ".join(f"resources.{n}={getattr(self.resources, n)}" for n in unused)
        return (f"{shown}: not used in a local run, which has one process and no workers",)

    def run(self, work: JobSource) -> None:
        """Evaluate one proposal, or one batch of proposals, after the other.

        Args:
            work: The source of the jobs.

        Raises:
            UserError: If torch does not see the GPUs that are asked for, or files cannot be
                written.
        """
        evaluator = work.payload.evaluator
        evaluator.setup(work.payload.space, work.payload.view)
        device = local_device(self.resources.gpus)
        together = min(
            evaluator.preferred_batch, self.resources.concurrent or evaluator.preferred_batch
        )
        while not work.done:
            if together > 1:
                self._many(work, evaluator, together, device)
                if work.interrupted:
                    return
                continue
            job = work.next()
            if job is None:
                continue
            outcomes = steps(evaluator, work.arch(job.trial), on_device(job, device))
            for outcome in outcomes:
                if not deliver(work, job, outcome) or work.interrupted:
                    break
            else:
                deliver(work, job, JobOutcome())
            if work.interrupted:
                return

    @staticmethod
    def _many(work: JobSource, evaluator: Evaluator, together: int, device: str) -> None:
        """Evaluate the next proposals, up to ``together``, together."""
        jobs: list[Job] = []
        while len(jobs) < together and (job := work.next()) is not None:
            jobs.append(on_device(job, device))
            if job.more_memory:  # it is evaluated alone
                break
        if not jobs:
            return
        tasks = [(work.arch(job.trial), job) for job in jobs]
        for place, outcome in steps_of_many(evaluator, tasks):
            deliver(work, jobs[place], outcome)

    def evaluate(
        self, payload: EvaluationContext, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[JobOutcome]]:
        """Evaluate jobs in this process, as many together as the evaluator prefers."""
        if self._ready is None or self._ready[0] is not payload:
            evaluator = fresh(payload.evaluator)
            evaluator.setup(payload.space, payload.view)
            self._ready = payload, evaluator
        device, evaluator = local_device(self.resources.gpus), self._ready[1]
        found: list[list[JobOutcome]] = [[] for _ in jobs]
        for start in range(0, len(jobs), evaluator.preferred_batch):
            some = [
                (a, on_device(j, device))
                for a, j in jobs[start : start + evaluator.preferred_batch]
            ]
            for place, outcome in steps_of_many(evaluator, some):
                if outcome.measurement is not None or outcome.failure:
                    found[start + place].append(outcome)
        return found
