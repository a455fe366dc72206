"""This module finds the GPUs of a cluster, by kind and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from raynas.runners.placement import DeviceKind
from raynas.runners.ray import nodes as machines

import ray  # isort: skip - after the environment, which `nodes` has set

_PATIENCE = 60.0  # seconds for a machine to answer; a full one may never answer
_KIND = "accelerator_type:"


def look_at_devices() -> tuple[DeviceKind, ...]:
    """Find the GPUs that torch can use, on the machines that answer within a minute.

    Returns:
        One entry for each kind, with the memory of its smallest GPU and the number of GPUs. The
        kind is empty if there is only one, or if machines do not name theirs.
    """
    nodes = [n["Resources"] | {"id": n["NodeID"]} for n in machines.alive()]
    asked = [(node, _ask(node)) for node in nodes if node.get("GPU", 0.0) >= 1]
    ray.wait([size for _, size in asked], num_returns=len(asked), timeout=_PATIENCE)
    sizes = [(node, _answer(reference)) for node, reference in asked]
    return _devices([(_kind(node), size, node["GPU"]) for node, size in sizes if size])


def _ask(node: Mapping[str, Any]) -> Any:
    place = machines.only_on(node["id"])
    options = {"num_cpus": 0, "num_gpus": 0.001, "scheduling_strategy": place}
    return ray.remote(_memory).options(**options).remote()


def _memory() -> int:
    """Return the bytes of a GPU of the machine that this runs on; 0 if torch sees none."""
    import torch

    usable = torch.cuda.is_available()
    return int(torch.cuda.get_device_properties(0).total_memory) if usable else 0


def _answer(reference: Any) -> int:
    try:
        return int(ray.get(reference, timeout=0))
    except Exception:  # the machine is full or gone: no trial is fitted to it
        ray.cancel(reference, force=True)
        return 0


def _kind(node: Mapping[str, Any]) -> str:
    return next((name.removeprefix(_KIND) for name in node if name.startswith(_KIND)), "")


def _devices(found: list[tuple[str, int, float]]) -> tuple[DeviceKind, ...]:
    """Merge the GPUs of the machines by kind.

    Of one kind the smallest memory counts; if kinds have no names, the smallest of all.

    Args:
        found: Kind, bytes and count of each machine.
    """
    if not all(kind for kind, _, _ in found):
        found = [("", size, count) for _, size, count in found]
    counts: Counter[str] = Counter()
    least: dict[str, int] = {}
    for kind, size, count in found:
        counts[kind] += int(count)
        least[kind] = min(size, least.get(kind, size))
    single = len(least) == 1
    return tuple(DeviceKind(least[k], counts[k], "" if single else k) for k in least)
