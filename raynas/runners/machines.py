"""Which machines a cluster has, which of them answer, and which are to go."""

from __future__ import annotations

import os
from typing import Any

from raynas.runners import environment

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

#: a machine that takes no small task for so many seconds is taken for lost
_PATIENCE = 15.0


def alive() -> list[dict[str, Any]]:
    """What Ray says of each that it takes for alive: one that is lost is among them for a while."""
    return [node for node in ray.nodes() if node["Alive"]]


def known() -> frozenset[str]:
    """The ids of :func:`alive`."""
    return frozenset(node["NodeID"] for node in alive())


def only_on(node: str) -> NodeAffinitySchedulingStrategy:
    """For a task that is to run on this machine or not at all."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def answering() -> frozenset[str]:
    """Those that are really there; asking takes seconds where one is not."""
    there = known()
    if len(there) == 1:  # ours
        return there
    ask = ray.remote(os.getpid).options(num_cpus=0, max_retries=0)
    asked = {}
    for node in there:
        asked[ask.options(scheduling_strategy=only_on(node)).remote()] = node
    ended, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE)
    return frozenset(asked[reference] for reference in ended if _is_there(reference))


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
