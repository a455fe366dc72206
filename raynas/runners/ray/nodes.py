"""Which machines a cluster has, which of them answer, and which are to go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from raynas.runners.ray import environment

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

T = TypeVar("T")
_GROUP = "ray.io/node-group"
#: a machine that takes no small task for so many seconds is taken for lost
_PATIENCE = 15.0


class Recent(Generic[T]):
    """What ``ask`` said, asked again every ``period`` seconds, since machines come and go."""

    def __init__(self, ask: Callable[[], T], period: float = 2.0) -> None:
        self._ask, self._period = ask, period
        self._due = -math.inf

    def __call__(self) -> T:
        if time.monotonic() >= self._due:
            self._known, self._due = self._ask(), time.monotonic() + self._period
        return self._known


def alive() -> list[dict[str, Any]]:
    """What Ray says of each that it takes for alive: one that is lost is among them for a while."""
    return [node for node in ray.nodes() if node["Alive"]]


def with_cpus() -> list[dict[str, Any]]:
    """Those where something may run: a head that does nothing but drive a search has no CPUs."""
    return [node for node in alive() if node["Resources"].get("CPU", 0.0) > 0]


def awaited(*, gpus: bool) -> str:
    """What a stage waits for before its first trial runs. ``gpus``: whether it trains on GPUs."""
    there = with_cpus()
    if there and gpus and not any(node["Resources"].get("GPU", 0.0) > 0 for node in there):
        return "waiting for a machine with a GPU"
    return "starting workers" if there else "waiting for a machine"


def known() -> frozenset[str]:
    """The ids of :func:`alive`."""
    return frozenset(node["NodeID"] for node in alive())


def managed() -> bool:
    """Whether an autoscaler may bring more: it (or KubeRay) names the group of each of its own."""
    return any(_GROUP in (node.get("Labels") or {}) for node in alive())


def only_on(node: str) -> NodeAffinitySchedulingStrategy:
    """For a task that is to run on this machine or not at all."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def near(node: str) -> NodeAffinitySchedulingStrategy:
    """For what is to run on this machine, or elsewhere if it is gone."""
    return NodeAffinitySchedulingStrategy(node, soft=True)


def answering() -> frozenset[str]:
    """Those that are really there; asking takes seconds where one is not."""
    there = known()
    if len(there) == 1:  # ours
        return there
    ask, asked = ray.remote(_here), {}
    for node in there:
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": only_on(node)}
        asked[ask.options(**options).remote()] = node
    ended, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE)
    return frozenset(asked[reference] for reference in ended if _is_there(reference))


def _here() -> None:
    """On the machine itself."""


def _is_there(answer: Any) -> bool:
    try:
        ray.get(answer)
    except ray.exceptions.RayError:
        return False
    return True


def leaving() -> frozenset[str]:
    """Those that are to go, of which Ray has notice: what autoscalers drain, and spot machines that
    are taken back."""
    return frozenset(ray._private.state.state.get_draining_nodes())


def freest(taken: Mapping[str, int], *, gpus: bool) -> str | None:
    """The machine for one more worker that books nothing; None where there is none yet.

    With as few of those that are ``taken`` (id -> workers) for each CPU as may be. One without GPUs
    where there are such, since others train there; with ``gpus`` one that has some. Never one
    without CPUs.
    """
    able = with_cpus()
    liked = [node for node in able if (node["Resources"].get("GPU", 0.0) > 0) == gpus] or able
    loads = [(taken.get(n["NodeID"], 0) / n["Resources"]["CPU"], n["NodeID"]) for n in liked]
    return min(loads)[1] if loads else None
