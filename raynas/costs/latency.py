"""How long a forward pass takes on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raynas.core import UserError
from raynas.core.fields import brief

WARM_UP = 10
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Latency:
    """Times of the forward pass of one network, and under what they were taken.

    ``median_ms``, ``iqr_ms``: median and interquartile range of ``repeats`` passes of ``batch``
    inputs; ``device``: ``cpu`` or the GPU's model; ``threads``: of torch on the CPU. ``clock``:
    ``processor`` or ``wall``.
    """

    median_ms: float
    iqr_ms: float
    repeats: int
    batch: int
    dtype: str
    device: str
    threads: int
    clock: str

    def __str__(self) -> str:
        under = f"batch {self.batch}, {self.dtype}, {self.device}, threads {self.threads}"
        return f"{self.median_ms:.3g} ms (IQR {self.iqr_ms:.2g}; {under}, {self.clock} time)"


def measure_latency(
    network: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    device: str = "cpu",
    repeats: int = 50,
    threads: int = 1,
    dtype: str = "float32",
) -> Latency:
    """Time ``repeats`` forward passes of ``batch`` inputs of ``input_shape``.

    In eval mode and inference mode, after ten passes that do not count; on CUDA devices each
    until the device has finished. ``threads``: torch's CPU threads meanwhile. One thread on a CPU
    is timed by its processor time: on an idle machine that is the time on the clock, and on a busy
    one the turns of others do not count. Everything else is timed by the clock, and figures are
    good while nothing else runs there. Compare those of one device, dtype, batch and number of
    threads only. A copy is timed: the network, torch's threads and its random state stay.
    Raises: UserError when ``batch``, ``repeats`` or ``threads`` is below 1, or for other dtypes.
    """
    check_latency(batch=batch, repeats=repeats, threads=threads, dtype=dtype)
    kind: torch.dtype = getattr(torch, dtype)
    timed = copy.deepcopy(network).to(device, kind).eval()
    images = torch.ones(batch, *input_shape, device=device, dtype=kind)
    alone = images.device.type == "cpu" and threads == 1
    clock = time.thread_time if alone else time.perf_counter
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            times = [_seconds(timed, images, clock) for _ in range(WARM_UP + repeats)]
    finally:
        torch.set_num_threads(before)
    low, median, high = 1000 * np.percentile(times[WARM_UP:], (25, 50, 75))
    name = torch.cuda.get_device_name(images.device) if images.is_cuda else images.device.type
    return Latency(
        median_ms=float(median),
        iqr_ms=float(high - low),
        repeats=repeats,
        batch=batch,
        dtype=dtype,
        device=name,
        threads=threads,
        clock="processor" if alone else "wall",
    )


def latency_ms(
    network: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    device: str = "cpu",
    repeats: int = 50,
    threads: int = 1,
) -> float:
    """The median milliseconds of :func:`measure_latency`, which says more."""
    return measure_latency(network, input_shape, batch, device, repeats, threads).median_ms


def passes_of(batch: int, repeats: int = 50) -> int:
    """Return how many images a measurement of latency passes forward, warming up included."""
    return batch * (WARM_UP + repeats)


def check_latency(*, dtype: str = "float32", **counts: int) -> None:
    """Raises: UserError for a dtype that is not in ``DTYPES``, and for counts below 1."""
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"latency of a network: {name}={value}", allowed="1 or more")
    if dtype not in DTYPES:
        raise UserError(f"latency of a network: dtype={brief(dtype)}", allowed=", ".join(DTYPES))


def _seconds(network: nn.Module, images: torch.Tensor, clock: Callable[[], float]) -> float:
    began = clock()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return clock() - began
