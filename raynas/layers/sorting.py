"""This module sorts channels by importance, so that leading slices keep the important ones.

The importance of a channel is the L1 norm of the weights that read it (Once-for-All, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raynas.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear

Reader = ElasticConv2d | ElasticLinear
Writer = ElasticConv2d | ElasticBatchNorm2d


@torch.no_grad()
def sort_between(writers: Sequence[Writer], readers: Sequence[Reader]) -> None:
    """Reorder the channels between layers, the most important ones to the front.

    All layers must have the same number of channels there. The output of the largest network stays
    the same, except for the order in which floating point numbers are added.

    Args:
        writers: Layers that output the channels; changed in place.
        readers: Layers that take the channels; changed in place.
    """
    order = importance(readers).argsort(descending=True, stable=True)
    for reader in readers:
        reader.weight.copy_(reader.weight[:, order])
    for writer in writers:
        for tensor in _by_output(writer):
            tensor.copy_(tensor[order])


def importance(readers: Sequence[Reader]) -> Tensor:
    """Return the importance of channels: the L1 norm of the weights of all ``readers``.

    Args:
        readers: Layers that take the channels, each with the same number of them.

    Returns:
        (channels,) sums of absolute weights.

    Example:
        >>> layer = ElasticLinear(2, 1)
        >>> with torch.no_grad():
        ...     weight = layer.weight.copy_(torch.tensor([[-3.0, 1.0]]))
        >>> importance([layer])
        tensor([3., 1.])
    """
    norms = [
        reader.weight.detach().abs().flatten(2).sum(dim=(0, 2))
        if reader.weight.ndim > 2
        else reader.weight.detach().abs().sum(dim=0)
        for reader in readers
    ]
    return torch.stack(norms).sum(dim=0)


def _by_output(writer: Writer) -> list[Tensor]:
    """Return the tensors whose first dimension is the output channel."""
    tensors = [writer.weight, writer.bias]
    if isinstance(writer, ElasticBatchNorm2d):
        tensors += [writer.running_mean, writer.running_var]
    return [tensor for tensor in tensors if tensor is not None]
