"""This module normalises by batch statistics, faster than torch on a CPU and as exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def is_slow_in_torch(x: Tensor) -> bool:
    """Return whether torch's own batch norm is slow and loses two digits of its statistics.

    Args:
        x: (n, channels, ...).

    Returns:
        True on a CPU for tensors with their channels last.
    """
    return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the statistics of channels; far faster than ``var``, and as exact.

    Args:
        x: (n, channels, ...).

    Returns:
        (channels,) mean and (channels,) biased variance.
    """
    channels = x.permute(0, *range(2, x.dim()), 1).flatten(0, -2)
    rows = max(1, _IN_CACHE // channels.shape[1])
    if x.device.type == "cpu" and len(channels) > rows:
        mean, square = _sums(channels, rows)
        variance = square - mean.square()
        # the difference of two large numbers is exact when it is not small compared with them
        if bool((variance * 8 >= mean.square()).all()):
            return mean.to(x.dtype), variance.to(x.dtype)
    mean = channels.mean(dim=0)
    return mean, (channels - mean).square_().mean(dim=0)


_IN_CACHE = 1 << 17
"""The number of values of a part that fits a core's own cache, with two sums of its size."""


def _sums(channels: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return (c,) float64 means of values and of squares of (m, c); each value is read once.

    Sums grow part by part, ``rows`` side by side, so each has few terms and keeps its digits.
    """
    sums = channels[:rows].clone()
    squares = sums.square()
    for part in torch.split(channels[rows:], rows):
        sums[: len(part)].add_(part)
        squares[: len(part)].addcmul_(part, part)
    return (
        sums.sum(dim=0, dtype=torch.float64) / len(channels),
        squares.sum(dim=0, dtype=torch.float64) / len(channels),
    )


def normalised(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Normalise channels, then scale and shift them.

    Args:
        x: (n, channels, h, w).
        mean: (channels,).
        variance: (channels,), above 0.
        weight: (channels,), or None for 1.
        bias: (channels,), or None for 0.

    Returns:
        (n, channels, h, w).
    """
    scale = variance.rsqrt() if weight is None else variance.rsqrt() * weight
    shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
    shape = (1, -1, 1, 1)
    return torch.addcmul(shift.view(shape), x, scale.view(shape))
