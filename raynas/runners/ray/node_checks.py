"""This module describes each machine of a cluster, and tests an experiment's job on it."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raynas.core import Architecture, Job
from raynas.runners.base import pick_device, steps
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.shared_context import SharedContext
from raynas.search.context import EvaluationContext
from raynas.store.provenance import Provenance

import ray  # isort: skip - after the environment, which `nodes` has set

_PATIENCE = 120.0  # seconds for a machine to answer


@dataclass(frozen=True)
class NodeCheck:
    """A machine of a cluster, and how a test on it went.

    Attributes:
        host: The name of the machine.
        cpus: CPUs by Ray's count.
        gpus: GPUs by Ray's count.
        memory_gb: GB of main memory by Ray's count.
        python: The version of Python; empty if the machine did not answer.
        versions: Versions of packages, by name.
        devices: The models of the GPUs that torch sees.
        smoke: How one step of a job went; empty if none was tried, or it failed.
        fault: Why the machine or the job failed; empty if nothing did.
    """

    host: str
    cpus: float
    gpus: float
    memory_gb: float
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    smoke: str = ""
    fault: str = ""


def look_at_nodes(
    runner: ClusterRunner,
    payload: EvaluationContext | None = None,
    arch: Architecture | None = None,
) -> list[NodeCheck]:
    """Describe all machines of a cluster, and try one step of a job on each that has a CPU.

    Args:
        runner: The runner; its cluster is opened.
        payload: The space, the evaluator and the data view; None tries no job.
        arch: The architecture to evaluate.

    Returns:
        One entry for each machine. A machine that does not answer within two minutes has a fault.
    """
    runner.open()
    shared = runner.share(payload) if payload is not None else None
    asked = []
    for known in machines.alive():
        have = known["Resources"]
        place = machines.only_on(known["NodeID"])
        gpus = min(1.0, have.get("GPU", 0.0)) if shared is not None else 0.0
        look = ray.remote(_look).options(num_cpus=0, num_gpus=gpus, scheduling_strategy=place)
        job = (shared, arch, gpus) if have.get("CPU") else (None, None, 0.0)
        asked.append((known, look.remote(*job)))
    return [_answer(known, reference) for known, reference in asked]


def _answer(known: Mapping[str, Any], reference: Any) -> NodeCheck:
    have = known["Resources"]
    node = {
        "host": known["NodeManagerHostname"],
        "cpus": have.get("CPU", 0.0),
        "gpus": have.get("GPU", 0.0),
        "memory_gb": have.get("memory", 0.0) / 1e9,
    }
    try:
        return NodeCheck(**node, **ray.get(reference, timeout=_PATIENCE))
    except Exception as error:  # whatever is wrong with one machine, the others are shown
        return NodeCheck(
            **node, fault=f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        )


def _look(shared: SharedContext | None, arch: Architecture | None, gpus: float) -> dict[str, Any]:
    """Describe the machine that this runs on, and try the job."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": dict(Provenance.collect().versions),
        "devices": _devices(),
    }
    if shared is None or arch is None:
        return found
    shared.evaluator.setup(shared.space, ray.get(shared.view))
    job = Job(0, 0, max_step=1, device=pick_device(gpus))
    outcome = next(steps(shared.evaluator, arch, job), None)
    if outcome is None or outcome.measurement is None:
        found["fault"] = outcome.failure if outcome else "the evaluator said nothing"
    else:
        where = f"{outcome.device} of {socket.gethostname()}, process {os.getpid()}"
        found["smoke"] = f"one step in {outcome.measurement.seconds:.2f} s on {where}"
    return found


def _devices() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
