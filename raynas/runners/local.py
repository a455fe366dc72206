"""One trial after the other in this process: for debugging, tables and small searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, Job
from raynas.core.describe import fresh
from raynas.evaluators.base import Evaluator
from raynas.runners.base import Outcome, Resources, Runner, deliver, on_device, pick_device, steps
from raynas.runners.work import Payload, Work


@dataclass
class LocalRunner(Runner):
    """Evaluates in this process, in the order of the proposals."""

    name: ClassVar[str] = "local"

    resources: Resources = field(default_factory=Resources)
    _ready: tuple[Payload, Evaluator] | None = field(default=None, init=False, repr=False)

    def run(self, work: Work) -> None:
        evaluator = work.payload.evaluator
        evaluator.setup(work.payload.space, work.payload.view)
        device = pick_device(self.resources.gpus)
        while not work.done:
            job = work.next()
            if job is None:
                continue
            outcomes = steps(evaluator, work.arch(job.trial), on_device(job, device))
            for outcome in outcomes:
                if not deliver(work, job.trial, outcome) or work.interrupted:
                    break
            else:
                deliver(work, job.trial, Outcome())
            if work.interrupted:
                return

    def evaluate(
        self, payload: Payload, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[Outcome]]:
        if self._ready is None or self._ready[0] is not payload:
            evaluator = fresh(payload.evaluator)
            evaluator.setup(payload.space, payload.view)
            self._ready = payload, evaluator
        device = pick_device(self.resources.gpus)
        return [list(steps(self._ready[1], arch, on_device(job, device))) for arch, job in jobs]
