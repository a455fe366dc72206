"""The suite that every runner passes: the same search gives the same table."""

from __future__ import annotations

import pytest

from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.testing.runners import MakeRunner, RunnerTestCase

RAY = [pytest.param(name, marks=pytest.mark.ray) for name in ("tune", "actors")]


class TestRunners(RunnerTestCase):
    @pytest.fixture(params=["local", "virtual", *RAY])
    def make(self, request: pytest.FixtureRequest) -> MakeRunner:
        """Makes runners of one kind with these resources."""
        if request.param == "local":
            return lambda **resources: LocalRunner(Resources(**resources))
        if request.param == "virtual":
            return lambda **resources: VirtualRunner(SimulatedCluster(2), Resources(**resources))
        from raynas.runners.ray.actors import ActorRunner
        from raynas.runners.ray.tune import TuneRunner

        kind = {"tune": TuneRunner, "actors": ActorRunner}[request.param]
        modules = request.getfixturevalue("ray_session").modules
        return lambda **resources: kind(Resources(**resources), modules=modules)
