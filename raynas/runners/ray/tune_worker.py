"""This module has the Ray Tune worker that trains one trial after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raynas.core import Job
from raynas.runners.base import JobOutcome, on_device, steps
from raynas.runners.gpus import worker_device
from raynas.runners.placement import ResourceRequest
from raynas.runners.ray import environment
from raynas.runners.ray.actor_worker import ready_evaluator
from raynas.runners.ray.memory import PeakMemory, watched
from raynas.runners.ray.shared_context import SharedContext

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402


class TrialActor(tune.Trainable):
    """A worker that trains one trial after the other.

    It keeps data and evaluator between trials; one ``step`` is one measurement.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], shared: SharedContext
    ) -> None:
        """Set up the evaluator, and begin the first trial.

        Args:
            config: The configuration of the trial, as :class:`WorkSearcher` suggests it.
            shared: The space, the evaluator and the data view.
        """
        self._space, self._evaluator = shared.space, ready_evaluator(shared)
        self._node = ray.get_runtime_context().get_node_id()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the last trial and begin another one.

        Args:
            new_config: The configuration of the next trial.

        Returns:
            True: the actor can be used again.
        """
        self._end()
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        job: Job = config["job"]
        arch = self._space.architecture(config["arch"])
        share: ResourceRequest = config["share"]
        device = worker_device(share.gpus)
        self._peak, self._patience = PeakMemory(device, share), config["patience"]
        self._outcomes = steps(self._evaluator, arch, on_device(job, device), share)

    def _end(self) -> None:
        self._outcomes.close()

    def step(self) -> dict[str, Any]:
        """Evaluate until the next measurement.

        Returns:
            The outcome, with the peak of memory, and Ray's id of the machine.
        """
        # "done" is never set: Tune would not show such a result to the scheduler
        with watched(self._patience):
            outcome = next(self._outcomes, JobOutcome())
        return {"outcome": replace(outcome, peak=self._peak.bytes()), "node": self._node}

    def cleanup(self) -> None:
        """End the evaluation."""
        self._end()
