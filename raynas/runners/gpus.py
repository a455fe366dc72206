"""This module decides whether the trials of a run get GPUs.

The decision is made once, and kept by the driver and the workers.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Literal

from raynas.core import UserError
from raynas.runners.base import pick_device

#: if set to 1, a worker that is given a GPU which torch does not see uses the CPU; for tests of
#: clusters whose GPUs are only counted
PRETEND = "RAYNAS_PRETEND_GPUS"


@dataclass
class GpuDecision:
    """The share of a GPU for each trial of a run, decided once.

    If the choice is left to the machines (``resources.gpus`` None or "fit"), the first machines
    that are seen decide it for all stages. An autoscaler may take GPU machines away between two
    stages; they come back when trials wait for them, while trials that were moved to CPUs meanwhile
    would take days.

    Attributes:
        share: The share, as of ``resources.gpus``; None until it is decided.
    """

    share: float | None = None

    def of(self, wanted: float | Literal["fit"] | None, gpus: float, *, known: bool) -> float:
        """Return the share for the next stage.

        Args:
            wanted: ``resources.gpus``.
            gpus: How many GPUs Ray counts now.
            known: True if machines are up that show what the cluster has. Otherwise nothing is
                decided.

        Returns:
            The share of a GPU for a trial; 0.0 for the CPU, also while nothing is decided.

        Example:
            >>> decision = GpuDecision()
            >>> decision.of(None, gpus=2.0, known=True)
            1.0
            >>> decision.of(None, gpus=0.0, known=True)  # the first decision is kept
            1.0
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

    Returns:
        ``cuda`` or ``cpu``.

    Raises:
        UserError: If GPUs are asked for and torch sees none here, or fewer; training on the CPU, or
            on fewer, would go unnoticed.
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
            hint="install a CUDA build of torch and the driver, or ask for what there is: "
            f"--set resources.gpus={seen}",
        )
    return device


def worker_device(gpus: float) -> str:
    """Return the device of a worker that was given a share of a GPU, or none.

    Args:
        gpus: The share that the worker was given; 0 for none.

    Returns:
        ``cuda`` or ``cpu``.

    Raises:
        UserError: If it was given one and torch sees none there; training on its CPU instead would
            go unnoticed.
    """
    device = pick_device(gpus)
    if gpus > 0 and device == "cpu" and os.environ.get(PRETEND) != "1":
        raise UserError(
            f"a worker on {socket.gethostname()} was given {gpus:g} GPU, but torch sees none there",
            hint="install a CUDA build of torch and the driver on that machine, or train on CPUs: "
            "--set resources.gpus=0",
        )
    return device
