"""This module has the code of a Ray actor that evaluates chunks of jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from raynas.core import Architecture, Job, RaynasError, UserError
from raynas.evaluators.abilities import load_assets, weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.runners.base import JobOutcome, on_device, steps_of_many
from raynas.runners.gpus import worker_device
from raynas.runners.placement import ResourceRequest
from raynas.runners.ray import environment
from raynas.runners.ray.shared_context import SharedContext

environment.prepare()  # before Ray is imported

import ray  # noqa: E402

#: outcomes that arrive within so many seconds are sent (and stored) together
_STREAM_SECONDS = 0.05

Part = tuple[list[tuple[int, JobOutcome]], float]  # pairs (index in the chunk, outcome), seconds


class ActorWorker:
    """The code of an actor: it keeps data and evaluator, and evaluates chunks of jobs.

    Args:
        shared: The payload.
        gpus: The share of a GPU; 0 for the CPU.
    """

    def __init__(self, shared: SharedContext, gpus: float) -> None:
        self._device, self._share = worker_device(gpus), ResourceRequest(gpus)
        self._evaluators = {shared.version: ready_evaluator(shared)}
        self._first = shared.version

    def ready(self) -> int:
        """Return the id of the actor's process, once it is set up."""
        return os.getpid()

    @ray.method(num_returns="streaming")
    def evaluate(
        self, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None = None
    ) -> Iterator[Part]:
        """Evaluate a chunk of jobs.

        Only the outcomes of a job that is under way are ever split between two parts.

        Args:
            chunk: The architectures, each with its job.
            shared: The payload to evaluate with; None takes the one of the set-up.

        Yields:
            Parts: pairs of an index in the chunk and an outcome, and the seconds that they took.
        """
        evaluator = self._evaluator(shared)
        tasks = [(arch, on_device(job, self._device)) for arch, job in chunk]
        found: list[tuple[int, JobOutcome]] = []
        began = time.monotonic()
        for place, outcome in steps_of_many(evaluator, tasks, self._share):
            found.append((place, outcome))
            late = time.monotonic() - began >= _STREAM_SECONDS
            if late and not _last_step(outcome, tasks[place][1]):
                yield found, time.monotonic() - began
                found, began = [], time.monotonic()
        if found:
            yield found, time.monotonic() - began

    def _evaluator(self, shared: SharedContext | None) -> Evaluator:
        """Return the evaluator of a payload; those of the two last versions are kept."""
        if shared is None:
            return self._evaluators[self._first]
        evaluator = self._evaluators.pop(shared.version, None) or ready_evaluator(shared)
        self._evaluators[shared.version] = evaluator
        while len(self._evaluators) > 2:
            del self._evaluators[next(iter(self._evaluators))]
        return evaluator


def ready_evaluator(shared: SharedContext) -> Evaluator:
    """Set up an evaluator with data and assets, which need not lie on this machine's disk.

    If the object store has lost the assets, the evaluator reads them from their files.

    Args:
        shared: The payload.

    Returns:
        The evaluator, set up.

    Raises:
        RaynasError: If the files hold another version now.
    """
    evaluator = shared.evaluator
    if shared.assets is not None:
        try:
            load_assets(evaluator, ray.get(shared.assets))
        except ray.exceptions.ObjectLostError:
            if _version(evaluator) != shared.version:
                raise RaynasError(f"weights {shared.version} are lost") from None
    evaluator.setup(shared.space, ray.get(shared.view))
    return evaluator


def _version(evaluator: Evaluator) -> str | None:
    """Return the version of the weights that this machine sees, if any."""
    try:
        return weights_version_of(evaluator)
    except UserError:
        return None


def _last_step(outcome: JobOutcome, job: Job) -> bool:
    """Return True if the job is done after this outcome, so that it must not look as under way."""
    return outcome.measurement is not None and outcome.measurement.step >= job.max_step
