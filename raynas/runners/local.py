"""One trial after the other in this process: for debugging, tables and small searches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from raynas.runners.base import Outcome, Resources, Runner, deliver, on_device, pick_device, steps
from raynas.runners.work import Work


@dataclass
class LocalRunner(Runner):
    """Evaluates in this process, in the order of the proposals."""

    name: ClassVar[str] = "local"

    resources: Resources = field(default_factory=Resources)

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
