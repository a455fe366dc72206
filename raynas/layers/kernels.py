"""This module switches off kernels that are unsafe for some networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from raynas.layers.elastic import ElasticConv2d

#: a strided 1 x 1 convolution with fewer input channels is not safe
_FEWEST_CHANNELS = 8


def safe_kernels(
    network: nn.Module, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """Return a context in which the network's gradients can be computed.

    On CPUs with AVX2 and no AVX-512, oneDNN 3.12 (in torch 2.13) writes beyond its buffer when it
    computes the weight gradient of a 1 x 1 convolution with a stride and fewer than 8 input
    channels whose channels lie last in memory: the process aborts, or continues with overwritten
    memory. Such networks are computed without oneDNN.

    Args:
        network: The network whose gradients are computed.
        device: The device of the computation.

    Returns:
        A context manager; it has no effect for networks and devices that are not affected.
    """
    affected = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    if affected and any(_is_hit(module) for module in network.modules()):
        return _without_onednn()
    return contextlib.nullcontext()


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Switch oneDNN off; torch's own ``mkldnn.flags`` warns of settings that it does not change."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _is_hit(module: nn.Module) -> bool:
    if isinstance(module, ElasticConv2d):
        pointwise = 1 in module.kernel.options and module.stride > 1 and not module.depthwise
        return pointwise and module.least_in < _FEWEST_CHANNELS
    if not isinstance(module, nn.Conv2d):
        return False
    pointwise = module.kernel_size == (1, 1) and max(module.stride) > 1
    return pointwise and module.in_channels // module.groups < _FEWEST_CHANNELS
