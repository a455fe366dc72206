"""This module measures the time of a network's forward pass on this machine."""

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
from raynas.core.renamed import renamed_names

WARM_UP = 10
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LatencyMeasurement:
    """The times of the forward pass of one network, and the conditions of the measurement.

    Attributes:
        median_ms: The median of the passes, in milliseconds.
        iqr_ms: The interquartile range of the passes, in milliseconds.
        repeats: The number of timed passes.
        batch: The inputs per pass.
        dtype: The type of weights and inputs, such as "float32".
        device: "cpu" or the GPU's model.
        threads: The CPU threads of torch.
        clock: "processor" or "wall".
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
) -> LatencyMeasurement:
    """Measure the time of forward passes of a network.

    The network runs in eval mode and inference mode, after ten passes that do not count; a pass on
    a CUDA device ends when the device has finished. One thread on a CPU is timed by its processor
    time: on an idle machine it equals the wall time, and on a busy one other processes do not
    count. All other cases are timed by the wall clock, and their values are valid while nothing
    else runs there. Compare values of one device, dtype, batch and number of threads only. A copy
    of the network is timed; the network, torch's threads and its random state are left unchanged.

    Args:
        network: Any network.
        input_shape: The shape of one input without the batch, such as (channels, height, width).
        batch: The inputs per pass, 1 or more.
        device: The name of a torch device.
        repeats: The number of timed passes, 1 or more.
        threads: The CPU threads of torch during the measurement, 1 or more.
        dtype: One of ``DTYPES``.

    Returns:
        Median and interquartile range, and the conditions of the measurement.

    Raises:
        UserError: ``batch``, ``repeats`` or ``threads`` is below 1.
        UserError: ``dtype`` is not one of ``DTYPES``.

    Example:
        >>> latency = measure_latency(nn.Linear(8, 4), (8,), repeats=3)
        >>> latency.median_ms > 0, latency.repeats, latency.clock
        (True, 3, 'processor')
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
    return LatencyMeasurement(
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
    """Return the median of :func:`measure_latency`, which returns more details.

    Args:
        network: Any network.
        input_shape: The shape of one input without the batch.
        batch: The inputs per pass, 1 or more.
        device: The name of a torch device.
        repeats: The number of timed passes, 1 or more.
        threads: The CPU threads of torch during the measurement, 1 or more.

    Returns:
        Milliseconds per pass.

    Raises:
        UserError: ``batch``, ``repeats`` or ``threads`` is below 1.
    """
    return measure_latency(network, input_shape, batch, device, repeats, threads).median_ms


def passes_of(batch: int, repeats: int = 50) -> int:
    """Return the number of inputs that a measurement of latency passes forward, warm-up included.

    Args:
        batch: The inputs per pass.
        repeats: The number of timed passes.

    Returns:
        The number of inputs.
    """
    return batch * (WARM_UP + repeats)


def check_latency(*, dtype: str = "float32", **counts: int) -> None:
    """Check the settings of a measurement of latency.

    Args:
        dtype: The name of a type.
        counts: Setting -> value, such as ``batch`` and ``repeats``.

    Raises:
        UserError: ``dtype`` is not one of ``DTYPES``.
        UserError: A count is below 1.
    """
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"latency of a network: {name}={value}", expected="1 or more")
    if dtype not in DTYPES:
        raise UserError(f"latency of a network: dtype={brief(dtype)}", expected=", ".join(DTYPES))


def _seconds(network: nn.Module, images: torch.Tensor, clock: Callable[[], float]) -> float:
    began = clock()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return clock() - began


__getattr__ = renamed_names(__name__, Latency="LatencyMeasurement")
