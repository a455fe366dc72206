"""Whether the trials of a run get GPUs: decided once, and kept by driver and workers."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Literal

from raynas.core import UserError
from raynas.runners.base import pick_device

#: set to 1, workers that are given a GPU which torch does not see work on the CPU: for tests of
#: clusters, whose GPUs are only counted
PRETEND = "RAYNAS_PRETEND_GPUS"


@dataclass
class GpuDecision:
    """The share of a GPU for each trial of a run.

    What is left to the machines (``resources.gpus`` None or "fit") is decided by the first machines
    that are seen, and kept for all stages: GPU machines that an autoscaler has taken away between
    two stages come back when their trials are waiting, while trials that were put on CPUs meanwhile
    would take days. ``share``: None until it is decided.
    """

    share: float | None = None

    def of(self, wanted: float | Literal["fit"] | None, gpus: float, *, known: bool) -> float:
        """Return the share for the next stage.

        Args:
            wanted: ``resources.gpus``.
            gpus: How many GPUs Ray counts now.
            known: Whether machines are up that show what the cluster has. Else nothing is decided.
        """
        if wanted is not None and wanted != "fit":
            return float(wanted)
        if self.share is None and known:
            self.share = 1.0 if gpus >= 1.0 else 0.0
        return self.share or 0.0


def local_device(gpus: float | Literal["fit"] | None) -> str:
    """Return the device of trials in this process.

    Args:
        gpus: ``resources.gpus``.

    Raises:
        UserError: When GPUs are asked for and torch sees none here, or fewer; training on the CPU,
            or on fewer, would go unnoticed.
    """
    device = pick_device(gpus)
    if gpus is None or gpus == "fit" or gpus == 0:
        return device
    import torch

    seen = torch.cuda.device_count() if device != "cpu" else 0
    if gpus > seen:
        found = f"sees {seen}" if seen else "sees none"
        raise UserError(
            f"resources.gpus={gpus:g} in this process, but torch {found} on {socket.gethostname()}",
            cure="install a CUDA build of torch and the driver, or ask for what there is: "
            f"--set resources.gpus={seen}",
        )
    return device


def worker_device(gpus: float) -> str:
    """Return the device of a worker that was given a share of a GPU, or none.

    Raises:
        UserError: When it was given one and torch sees none there; training on its CPU instead
            would go unnoticed.
    """
    device = pick_device(gpus)
    if gpus > 0 and device == "cpu" and os.environ.get(PRETEND) != "1":
        raise UserError(
            f"a worker on {socket.gethostname()} was given {gpus:g} GPU, but torch sees none there",
            cure="install a CUDA build of torch and the driver on that machine, or train on CPUs: "
            "--set resources.gpus=0",
        )
    return device
