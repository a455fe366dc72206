"""This module says which machines a cluster has, which of them answer, and which will leave."""

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
#: a machine that does not carry out a small task in so many seconds is taken for lost
_PATIENCE = 15.0


class CachedQuery(Generic[T]):
    """A function whose result is kept for some seconds.

    It is for questions about machines, which come and go.

    Args:
        ask: The function.
        period: Seconds for which a result is kept.

    Example:
        >>> answers = iter([1, 2])
        >>> recent = CachedQuery(lambda: next(answers), period=60.0)
        >>> recent(), recent()
        (1, 1)
    """

    def __init__(self, ask: Callable[[], T], period: float = 2.0) -> None:
        self._ask, self._period = ask, period
        self._due = -math.inf

    def __call__(self) -> T:
        """Return the result of ``ask``; it is called again if the last result is too old."""
        if time.monotonic() >= self._due:
            self._known, self._due = self._ask(), time.monotonic() + self._period
        return self._known


def alive() -> list[dict[str, Any]]:
    """Return what Ray says of each machine that it takes for alive.

    A machine that is lost is among them for a while.

    Returns:
        Ray's entries, with ``NodeID``, ``Resources`` and ``Labels``.
    """
    return [node for node in ray.nodes() if node["Alive"]]


def with_cpus() -> list[dict[str, Any]]:
    """Return the living machines on which something may run.

    A head node that does nothing but drive a search has no CPUs.

    Returns:
        Ray's entries, as of :func:`alive`.
    """
    return [node for node in alive() if node["Resources"].get("CPU", 0.0) > 0]


def awaited(*, gpus: bool) -> str:
    """Return what a stage waits for before its first trial runs.

    Args:
        gpus: True if it trains on GPUs.

    Returns:
        Words for the live view.
    """
    there = with_cpus()
    if there and gpus and not any(node["Resources"].get("GPU", 0.0) > 0 for node in there):
        return "waiting for a machine with a GPU"
    return "starting workers" if there else "waiting for a machine"


def known() -> frozenset[str]:
    """Return the ids of the machines that Ray takes for alive.

    Returns:
        Ray's node ids.
    """
    return frozenset(node["NodeID"] for node in alive())


def managed() -> bool:
    """Return True if an autoscaler may bring more machines.

    It, or KubeRay, names the group of each machine that it brings.

    Returns:
        True if a living machine has a group.
    """
    return any(_GROUP in (node.get("Labels") or {}) for node in alive())


def only_on(node: str) -> NodeAffinitySchedulingStrategy:
    """Return a strategy for a task that must run on one machine or not at all.

    Args:
        node: Ray's id of the machine.

    Returns:
        A scheduling strategy of Ray.
    """
    return NodeAffinitySchedulingStrategy(node, soft=False)


def near(node: str) -> NodeAffinitySchedulingStrategy:
    """Return a strategy for what is to run on one machine, or elsewhere if that machine is gone.

    Args:
        node: Ray's id of the machine.

    Returns:
        A scheduling strategy of Ray.
    """
    return NodeAffinitySchedulingStrategy(node, soft=True)


def answering() -> frozenset[str]:
    """Return the machines that carry out a small task; it takes 15 seconds if one does not answer.

    A single machine is not asked.

    Returns:
        Ray's node ids.
    """
    there = known()
    if len(there) == 1:  # this machine
        return there
    ask, asked = ray.remote(_here), {}
    for node in there:
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": only_on(node)}
        asked[ask.options(**options).remote()] = node
    ended, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE)
    return frozenset(asked[reference] for reference in ended if _is_there(reference))


def _here() -> None:
    """Do nothing, on the machine that is asked."""


def _is_there(answer: Any) -> bool:
    try:
        ray.get(answer)
    except ray.exceptions.RayError:
        return False
    return True


def leaving() -> frozenset[str]:
    """Return the machines that Ray knows will leave.

    Autoscalers drain them, or they are spot machines that are taken back.

    Returns:
        Ray's node ids.
    """
    return frozenset(ray._private.state.state.get_draining_nodes())


def freest(taken: Mapping[str, int], *, gpus: bool) -> str | None:
    """Return the machine for one more worker that reserves nothing.

    It is the one with the fewest workers for each CPU. A worker without GPUs goes to a machine
    without GPUs if there is one, since others train on those with GPUs.

    Args:
        taken: How many workers each machine has, by Ray's node id.
        gpus: True if the worker uses a GPU: a machine with GPUs is preferred.

    Returns:
        Ray's node id; None if no machine with CPUs is there yet.
    """
    able = with_cpus()
    liked = [node for node in able if (node["Resources"].get("GPU", 0.0) > 0) == gpus] or able
    loads = [(taken.get(n["NodeID"], 0) / n["Resources"]["CPU"], n["NodeID"]) for n in liked]
    return min(loads)[1] if loads else None
