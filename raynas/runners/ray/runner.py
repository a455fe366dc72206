"""This module holds the runner for clusters.

It carries out trainings by Ray Tune, and lightweight evaluations by actors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from raynas.runners.placement import MemoryModel
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.cluster import ClusterRunner
from raynas.search.job_source import JobSource


@dataclass
class RayRunner(ClusterRunner):
    """A runner on one Ray cluster; each search takes the backend of its evaluator.

    Evaluators with ``Evaluator.lightweight`` use actors, all others Ray Tune.

    Attributes:
        scratch: See :class:`~raynas.runners.ray.tune.TuneRunner`.
    """

    name: ClassVar[str] = "ray"

    scratch: Path | None = None
    _learned: MemoryModel = field(default_factory=MemoryModel, init=False, repr=False)

    def run(self, work: JobSource) -> None:
        """Carry out jobs by Ray Tune, or by actors if the evaluator is lightweight.

        Args:
            work: The source of the jobs.

        Raises:
            UserError: If Ray cannot be reached, or workers cannot be set up.
            RaynasError: If Ray does not work any more.
        """
        self.open()
        self._lane(work).run(work)

    def _lane(self, work: JobSource) -> ClusterRunner:
        """Return the backend of the search's evaluator; it uses the Ray that is open here."""
        spare = int(work.timed)  # timed evaluations beside the trials need a core of their own
        if work.payload.evaluator.lightweight:
            return ActorRunner(
                self.resources,
                self.address,
                self.modules,
                spare=spare,
                decision=self.decision,
                losses=self.losses,
            )
        from raynas.runners.ray.tune import TuneRunner  # Ray Tune takes a second to import

        return TuneRunner(
            self.resources, self.address, self.modules, self.scratch, self._learned, spare=spare,
            decision=self.decision, losses=self.losses,
        )  # fmt: skip
