"""How long a forward pass takes on this machine."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import nn

from raynas.core import UserError

_WARM_UP = 5


def latency_ms(
    network: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    device: str = "cpu",
    repeats: int = 20,
    threads: int = 1,
) -> float:
    """Median milliseconds of a forward pass of ``batch`` inputs of ``input_shape``, in float32.

    In eval mode, without gradients, after five passes that are not timed; on CUDA devices until
    the device has finished. ``threads``: torch's CPU threads meanwhile. A copy is timed: the
    network, torch's threads and its random state stay as they were. Only figures of one device,
    batch and number of threads can be compared, and only while nothing else runs there.
    Raises: UserError when ``batch``, ``repeats`` or ``threads`` is below 1.
    """
    for name, value in (("batch", batch), ("repeats", repeats), ("threads", threads)):
        if value < 1:
            raise UserError(f"latency of a network: {name}={value}", allowed="1 or more")
    timed = copy.deepcopy(network).to(device).eval()
    images = torch.ones(batch, *input_shape, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            times = [_seconds(timed, images) for _ in range(_WARM_UP + repeats)]
    finally:
        torch.set_num_threads(before)
    return 1000 * statistics.median(times[_WARM_UP:])


def _seconds(network: nn.Module, images: torch.Tensor) -> float:
    began = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - began
