"""The two lanes on Ray: what trains goes through Ray Tune, what is quick through actors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from raynas.runners.placement import Learned
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.cluster import ClusterRunner
from raynas.search.job_source import JobSource


@dataclass
class RayRunner(ClusterRunner):
    """One cluster; each work takes the lane of its evaluator (``Evaluator.quick``).

    ``scratch``: see :class:`~raynas.runners.ray.tune.TuneRunner`.
    """

    name: ClassVar[str] = "ray"

    scratch: Path | None = None
    _learned: Learned = field(default_factory=Learned, init=False, repr=False)

    def run(self, work: JobSource) -> None:
        self.open()
        self._lane(work).run(work)

    def _lane(self, work: JobSource) -> ClusterRunner:
        """It works in the Ray that is open here, and ends with its work."""
        spare = int(work.timed)  # what is timed beside the trials shall not share a core with one
        if work.payload.evaluator.quick:
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
