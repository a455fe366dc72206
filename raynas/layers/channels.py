"""This module finds the layers that share channels, by following channels through composites.

It allows sorting channels by importance (Once-for-All, section 3.3) in any network made of the
layers of this package. Channels that cannot be followed keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raynas.layers.base import Elastic
from raynas.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear

_PLAIN = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU,
    nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
"""Modules that treat every channel in the same way and keep the order of channels."""


@dataclass(eq=False)
class _Channels:
    """A group of channels that have one order.

    Attributes:
        fixed: True when the order must stay.
        writers: Layers that output the channels.
        readers: Layers that take the channels, with their number of consecutive inputs per channel.
        passing: Layers that have one weight or filter per channel and output the same channels.
    """

    fixed: bool = False
    writers: list[ElasticConv2d | ElasticLinear] = field(default_factory=list)
    readers: list[tuple[ElasticConv2d | ElasticLinear, int]] = field(default_factory=list)
    passing: list[ElasticConv2d | ElasticBatchNorm2d] = field(default_factory=list)
    _joined: _Channels | None = None

    def root(self) -> _Channels:
        """Return the group that this one has been joined to."""
        return self if self._joined is None else self._joined.root()

    def join(self, other: _Channels) -> None:
        """Make both groups one."""
        mine, its = self.root(), other.root()
        if mine is its:
            return
        mine.fixed |= its.fixed
        mine.writers += its.writers
        mine.readers += its.readers
        mine.passing += its.passing
        its._joined = mine


@dataclass(frozen=True)
class ChannelFlow:
    """The channels that go from a layer to the next.

    Attributes:
        channels: The group of channels.
        positions: The numbers per channel, one after the other.
        row: True when the channels are the last dimension, as linear layers take them.
    """

    channels: _Channels
    positions: int = 1
    row: bool = False

    def fix(self) -> None:
        """Keep the order of the channels."""
        self.channels.root().fixed = True


def sort_within(module: Elastic) -> None:
    """Sort all channels between layers inside ``module``, the most important ones to the front.

    Input and output channels of ``module`` keep their order. The output of the largest network
    stays the same, except for the order in which floating point numbers are added.

    Args:
        module: A composite of this package; changed in place. Layers of other kinds inside it sort
            their own channels by their ``sort_channels``.
    """
    tracer = ChannelTracer()
    tracer.follow(module, ChannelFlow(_Channels(fixed=True))).fix()
    for channels in {id(c.root()): c.root() for c in tracer.all}.values():
        _sort(channels)
    for other in tracer.others:
        other.sort_channels()


Follow = Callable[["ChannelTracer", Any, ChannelFlow], ChannelFlow]
"""Follows channels through a module of one type: (tracer, module, input) -> output."""

_FOLLOWED: dict[type[nn.Module], Follow] = {}


def follow_by(*kinds: type[nn.Module]) -> Callable[[Follow], Follow]:
    """Register a function that follows channels through modules of exactly these types.

    Args:
        kinds: Types of composites. Subclasses are not followed: their forward pass may differ.

    Returns:
        A decorator for the function that follows them.
    """

    def register(follow: Follow) -> Follow:
        _FOLLOWED.update(dict.fromkeys(kinds, follow))
        return follow

    return register


class ChannelTracer:
    """A tracer that follows channels through a network and collects groups of one order.

    Attributes:
        all: The groups of channels.
        others: Elastic modules of unknown types, which sort their own channels.
    """

    def __init__(self) -> None:
        self.all: list[_Channels] = []
        self.others: list[Elastic] = []
        self._known: dict[int, list[_Channels]] = {}

    def follow(self, module: nn.Module, at: ChannelFlow) -> ChannelFlow:
        """Follow channels through a module.

        Args:
            module: An elastic or a plain module.
            at: The channels that go in.

        Returns:
            The channels that come out.
        """
        if isinstance(module, ElasticConv2d | ElasticLinear | ElasticBatchNorm2d):
            return self._layer(module, at)
        if (follow := _FOLLOWED.get(type(module))) is not None:
            return follow(self, module, at)
        if type(module) is nn.Sequential:
            for step in module:
                at = self.follow(step, at)
            return at
        if type(module) in _PLAIN:
            return at
        return self._unknown(module, at)

    def _layer(
        self, module: ElasticConv2d | ElasticLinear | ElasticBatchNorm2d, at: ChannelFlow
    ) -> ChannelFlow:
        linear = isinstance(module, ElasticLinear)
        if id(module) in self._known or at.row != linear:
            # the layer is used twice, for channels of two orders, or not along the channels
            for channels in self._known.get(id(module), ()):
                channels.root().fixed = True
            return self._unknown(module, at)
        channels = at.channels.root()
        self._known[id(module)] = [channels]
        if isinstance(module, ElasticBatchNorm2d) or (not linear and module.depthwise):
            channels.passing.append(module)  # type: ignore[arg-type]
            return at
        channels.readers.append((module, at.positions))
        made = self._new()
        made.writers.append(module)
        self._known[id(module)].append(made)
        return ChannelFlow(made, row=linear)

    def join(self, flows: list[ChannelFlow]) -> ChannelFlow:
        """Join the flows of several branches that meet, where channels have one order.

        Args:
            flows: One flow per branch, at least one.

        Returns:
            The joined flow.
        """
        first = flows[0]
        for other in flows[1:]:
            first.channels.join(other.channels)
            if (first.positions, first.row) != (other.positions, other.row):
                first.fix()
        return first

    def _unknown(self, module: nn.Module, at: ChannelFlow) -> ChannelFlow:
        at.fix()
        layers = ElasticConv2d | ElasticLinear | ElasticBatchNorm2d
        if isinstance(module, Elastic) and not isinstance(module, layers):
            self.others.append(module)
        made = self._new()
        made.fixed = True
        return ChannelFlow(made, row=at.row)

    def _new(self) -> _Channels:
        self.all.append(_Channels())
        return self.all[-1]


@torch.no_grad()
def _sort(channels: _Channels) -> None:
    elastic = any(len(writer.out.options) > 1 for writer in channels.writers)
    if channels.fixed or not elastic or not channels.readers:
        return
    count = channels.writers[0].out.most
    if {*_sizes(channels)} != {count}:
        return
    total = sum((_reads(layer, per) for layer, per in channels.readers), torch.zeros(()))
    order = total.argsort(descending=True, stable=True)
    for layer, per in channels.readers:
        columns = torch.arange(count * per, device=order.device).view(count, per)[order].flatten()
        layer.weight.copy_(layer.weight[:, columns])
    for module in (*channels.writers, *channels.passing):
        for tensor in _by_channel(module):
            tensor.copy_(tensor[order])


def _sizes(channels: _Channels) -> Iterable[int]:
    """Yield the largest number of channels of each layer."""
    yield from (writer.out.most for writer in channels.writers)
    yield from (layer.max_in // per for layer, per in channels.readers)
    for layer in channels.passing:
        yield layer.most if isinstance(layer, ElasticBatchNorm2d) else layer.max_in


def _reads(layer: ElasticConv2d | ElasticLinear, per: int) -> Tensor:
    """Return the L1 norm of the weights on each channel, (channels,)."""
    weight = layer.weight.detach().abs()
    return weight.reshape(len(weight), weight.shape[1] // per, -1).sum(dim=(0, 2))


def _by_channel(layer: ElasticConv2d | ElasticLinear | ElasticBatchNorm2d) -> list[Tensor]:
    tensors = [layer.weight, layer.bias]
    if isinstance(layer, ElasticBatchNorm2d):
        tensors += [layer.running_mean, layer.running_var]
    return [tensor for tensor in tensors if tensor is not None]
