"""GPUs for trials: decided once a run, and never exchanged for CPUs unnoticed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from toys import Quick, ToyData, ToySpace
from unit.runners.ray.test_nodes import HEAD, Bare, fake, node

from raynas.core import UserError
from raynas.runners import base
from raynas.runners.base import Resources
from raynas.runners.gpus import PRETEND, GpuDecision, worker_device
from raynas.runners.placement import ResourceRequest
from raynas.runners.ray import actor_worker, cluster
from raynas.runners.ray.actor_worker import ActorWorker
from raynas.runners.ray.nodes import awaited
from raynas.runners.ray.runner import RayRunner
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tune_worker import TrialActor

SCALED = {**HEAD, "Labels": {"ray.io/node-group": "head"}}
CPU, GPU = node("cpu", CPU=4.0), node("gpu", CPU=8.0, GPU=2.0)


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes these the machines that are up, for an open Ray."""

    def machines(*nodes: dict[str, Any]) -> None:
        fake(monkeypatch, *nodes)
        kinds = {kind for one in nodes for kind in one["Resources"]}
        total = {kind: sum(n["Resources"].get(kind, 0.0) for n in nodes) for kind in kinds}
        ray = SimpleNamespace(is_initialized=lambda: True, cluster_resources=lambda: total)
        monkeypatch.setattr(cluster, "ray", ray)

    return machines


def test_a_run_that_began_on_gpus_finishes_on_gpus(see: Any) -> None:
    """Between two stages an autoscaler takes idle GPU machines away; CPU machines stay."""
    runner = RayRunner(Resources(), "auto")
    see(SCALED, CPU, GPU)
    runner.open()
    assert runner._gpus == 1.0
    see(SCALED, CPU)
    for quick in (True, False):
        work: Any = SimpleNamespace(timed=False, payload=SimpleNamespace(
            evaluator=SimpleNamespace(lightweight=quick)))  # fmt: skip
        lane = runner._lane(work)
        lane.open()
        assert lane._gpus == 1.0
        assert lane._bundle(1)["GPU"] == 1.0
        lane._check_gpus()
    runner.open()
    assert runner._gpus == 1.0


def test_no_machine_at_all_between_two_stages_is_no_reason_to_end(see: Any) -> None:
    runner = Bare(Resources(gpus="fit"), "auto")
    see(SCALED, GPU)
    runner.open()
    see(SCALED)
    runner.open()
    runner._check_gpus()
    assert runner._gpus == 1.0


def test_what_nobody_has_seen_is_not_decided(see: Any) -> None:
    runner = Bare(Resources(), "auto")
    see(SCALED)
    runner.open()
    assert runner._gpus == 0.0
    with pytest.raises(UserError, match="no machine is up yet that would show"):
        runner._check_gpus()
    see(SCALED, GPU)
    runner.open()
    assert runner._gpus == 1.0


def test_a_run_that_began_on_cpus_stays_there_and_another_run_decides_anew(see: Any) -> None:
    runner = Bare(Resources(), "auto")
    see(CPU)
    runner.open()
    see(CPU, GPU)
    runner.open()
    assert runner._gpus == 0.0
    other = Bare(Resources(), "auto")
    other.open()
    assert other._gpus == 1.0


@pytest.mark.parametrize("share", [0.0, 0.25, 2.0])
def test_a_number_in_the_resources_is_taken_as_it_is(see: Any, share: float) -> None:
    runner = Bare(Resources(gpus=share), "auto")
    for nodes in ((CPU, GPU), (CPU,)):
        see(*nodes)
        runner.open()
        assert runner._gpus == share
    assert GpuDecision().of(share, 0.0, known=False) == share


def test_a_stage_says_that_it_waits_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for nodes, gpus, told in (
        ((SCALED,), True, "waiting for a machine"),
        ((SCALED, CPU), True, "waiting for a machine with a GPU"),
        ((SCALED, CPU), False, "starting workers"),
        ((SCALED, CPU, GPU), True, "starting workers"),
    ):
        fake(monkeypatch, *nodes)
        assert awaited(gpus=gpus) == told


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose torch sees no GPU."""
    monkeypatch.delenv(PRETEND, raising=False)
    monkeypatch.setattr(base, "pick_device", lambda _: "cpu")
    monkeypatch.setattr("raynas.runners.gpus.pick_device", lambda _: "cpu")


@pytest.mark.usefixtures("blind")
def test_a_worker_without_the_gpu_that_it_was_given_does_not_train_on_its_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = ToyData().search_view(0)
    monkeypatch.setattr(actor_worker, "ray", SimpleNamespace(get=lambda kept: kept))
    shared = SharedContext(ToySpace(), Quick(), view)
    with pytest.raises(UserError, match=r"was given 0\.5 GPU, but torch sees none there"):
        ActorWorker(shared, gpus=0.5)
    assert ActorWorker(shared, gpus=0.0)._device == "cpu"
    actor = object.__new__(TrialActor)
    actor._space, actor._evaluator = ToySpace(), Quick()
    config = {"job": None, "arch": "x=0,y=0,op=a", "share": ResourceRequest(1.0), "patience": None}
    with pytest.raises(UserError, match="was given 1 GPU, but torch sees none there"):
        actor._begin(config)


@pytest.mark.usefixtures("blind")
def test_counted_gpus_may_be_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--set resources\.gpus=0"):
        worker_device(1.0)
    monkeypatch.setenv(PRETEND, "1")
    assert worker_device(1.0) == "cpu"
    monkeypatch.setattr("raynas.runners.gpus.pick_device", lambda _: "cuda")
    assert worker_device(1.0) == "cuda"
