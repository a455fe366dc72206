"""This module has the block space of Zen-NAS, with networks written as in the authors' code.

M. Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021,
https://arxiv.org/abs/2102.01063.

A network is a chain of blocks, and its text their concatenation:

* ``SuperConvK3BNRELU(in,out,stride,sublayers)``, and ``K1``: convolution, batch norm, ReLU;
* ``SuperResK3K3(in,out,stride,bottleneck,sublayers)``, and ``K5K5``, ``K7K7``: two convolutions;
* ``SuperResK1K3K1(...)``, and ``K1K5K1``, ``K1K7K1``: 1x1 to the bottleneck, k x k, 1x1;
* ``SuperResIDWE4K3(...)``, and expansions 1, 2, 6, kernels 5, 7: inverted, with a depthwise k x k.

``sublayers`` is the number of repetitions of the block's content; the stride belongs to the first
one, and the layers of a network are the sum of its blocks' sublayers. As in the authors' code one
sublayer is one convolution or one link of two convolutions, but *two* links of the other two kinds:
the inverted one goes from the block's input to the bottleneck, then from there to its output. The
first link of a block always has a projection (1x1 convolution, batch norm), later ones where widths
differ.

Two details differ from the authors' code: blocks of six sublayers and more are not split in two, so
that every architecture has the same choices; and the projection has no bias, which its batch norm
would cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raynas.core import (
    Architecture,
    ArchitectureGraph,
    Choice,
    Costs,
    Option,
    UserError,
    unknown_option,
)
from raynas.core.exact import remember
from raynas.core.fields import check_fields
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.zennas.blocks import (
    BOTTLENECK,
    KINDS,
    PLAIN,
    RESIDUAL,
    ZenBlock,
    parse_blocks,
)

if TYPE_CHECKING:
    from raynas.spaces.zennas.network import ZenNet

CIFAR_START = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,32,2,16,1)"
    "SuperResK3K3(32,64,2,32,1)SuperResK3K3(64,64,2,32,1)SuperConvK1BNRELU(64,128,1,1)"
)
"""The network from which the authors' searches on CIFAR start."""

_SCALES = (2.5, 2, 1.5, 1.25, 1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 2.5)
_DEPTHS = (-2, -1, 0, 1, 2)
_STEP = 8  # channels are multiples of this number


@dataclass(frozen=True)
class ZenNAS(SearchSpace):
    """The block space of Zen-NAS: chains of convolution blocks with variable kind, width and depth.

    The networks have the number of blocks and the strides of ``start``. A plain block has a choice
    of its output channels, every other block choices of its kind, its output and bottleneck
    channels (multiples of 8) and its sublayers. The default kinds are those of the authors'
    searches on CIFAR; ``INVERTED`` has those of their mobile networks.

    ``sample`` makes ``walk`` mutations from ``start``, since almost all of the space is beyond any
    budget. The first block's input channels in the text are those of ``start``; a network is built
    for the channels of its images. ``Costs.layers`` is the sum of the sublayers.

    Attributes:
        start: The text of the network from which samples start.
        kinds: The kinds of blocks that are not plain, each once.
        max_channels: The largest number of output channels of a block, a multiple of 8.
        max_bottleneck: The largest number of bottleneck channels, a multiple of 8.
        max_sublayers: The largest number of sublayers of a block, 1 or more.
        walk: The number of mutations of a sample, 0 or more.

    Raises:
        UserError: A setting is outside its range, or ``start`` is not in the space.

    Example:
        >>> space = ZenNAS(max_channels=256, max_sublayers=4)
        >>> costs = space.costs(space.architecture(space.start))
        >>> costs.params, costs.layers
        (90786, 6)
    """

    start: str = CIFAR_START
    kinds: tuple[str, ...] = (*RESIDUAL, *BOTTLENECK)
    max_channels: int = 2048
    max_bottleneck: int = 2048
    max_sublayers: int = 16
    walk: int = 8

    name: ClassVar[str] = "zen"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for kind in self.kinds:
            if kind not in KINDS or kind in PLAIN:
                raise unknown_option("kind of a Zen-NAS block", kind, KINDS[len(PLAIN) :])
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise UserError(f"ZenNAS kinds={self.kinds}", expected="one or more, each once")
        for setting in ("max_channels", "max_bottleneck"):
            value = getattr(self, setting)
            if type(value) is not int or value < _STEP or value % _STEP:
                raise UserError(f"ZenNAS {setting}={value!r}", expected=f"multiples of {_STEP}")
        for setting, least in (("max_sublayers", 1), ("walk", 0)):
            value = getattr(self, setting)
            if type(value) is not int or value < least:
                raise UserError(f"ZenNAS {setting}={value!r}", expected=f"integers from {least}")
        self.from_text(self.start)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices per block: ``b2_kind``, ``b2_channels``, ``b2_bottleneck``, ``b2_sublayers``.

        Returns:
            The choices of all blocks. Plain blocks have ``b1_channels`` only. All but the kinds are
                ordered.
        """
        return tuple(choice for block in _choices(self) for choice in block.values())

    def to_text(self, values: Mapping[str, Option]) -> str:
        """Return the concatenated texts of the blocks.

        Args:
            values: Choice -> option.

        Returns:
            The text of the network.
        """
        return "".join(map(str, self._blocks(values)))

    def from_text(self, text: str) -> dict[str, Option]:
        """Return the options of a network's text.

        Args:
            text: The concatenated texts of the blocks.

        Returns:
            Choice -> option.

        Raises:
            UserError: The text is malformed or is not in the space; the message names the faulty
                block.
        """
        blocks, bones = parse_blocks(text), _skeleton(self.start)
        if len(blocks) != len(bones):
            raise UserError(
                f"a Zen-NAS network of {len(blocks)} blocks",
                expected=f"{len(bones)}, as in the space's start",
            )
        channels, values = bones[0].channels_in, dict[str, Option]()
        for bone, choices, block in zip(bones, _choices(self), blocks, strict=True):
            for field, choice in choices.items():
                values[choice.name] = getattr(block, field)
                if values[choice.name] not in choice.options:
                    raise unknown_option(
                        f"{field} in {block}:", values[choice.name], choice.options
                    )
            wanted = bone if bone.plain else replace(block, stride=bone.stride)
            wanted = replace(wanted, channels_in=channels, channels=block.channels)
            if block != wanted:
                raise UserError(
                    f"{block} is out of place in the Zen-NAS network",
                    expected=str(wanted),
                    hint="let channels follow from the block before, and strides from the start",
                )
            channels = block.channels
        return values

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture by ``walk`` mutations from ``start``.

        Args:
            rng: The source of randomness.

        Returns:
            An architecture.
        """
        arch = self.architecture(self.start)
        for _ in range(self.walk):
            arch = self.mutate(arch, rng)
        return arch

    def mutant(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Return an architecture with one or two random blocks changed, as the paper does.

        All choices of the block are drawn again and may keep their options: its kind is any,
        channels are scaled by 2.5, 2, 1.5, 1.25, 1 or an inverse of these, the depth changes by up
        to 2.

        Args:
            arch: An architecture of this space.
            rng: The source of randomness.

        Returns:
            A different architecture, where the space has more than one.
        """
        blocks = _choices(self)
        child = arch
        while child == arch and any(len(choice) > 1 for choice in self.choices):
            values = dict(arch)
            for place in {int(p) for p in rng.integers(len(blocks), size=2)}:
                for field, choice in blocks[place].items():
                    options = self._moves(field, values[choice.name])
                    values[choice.name] = options[int(rng.integers(len(options)))]
            child = self.architecture(values)
        return child

    def blocks(self, arch: Architecture, channels_in: int = 0) -> tuple[ZenBlock, ...]:
        """Return the blocks of an architecture.

        Args:
            arch: An architecture of this space.
            channels_in: The image channels; 0 for those in the text.

        Returns:
            Blocks in the order of the forward pass.
        """
        first, *rest = self._blocks(dict(arch))
        return (replace(first, channels_in=channels_in or first.channels_in), *rest)

    def closed_form_costs(
        self, arch: Architecture, input_shape: InputShape, num_classes: int
    ) -> Costs:
        """Return exact weights and MACs in closed form, and the layers as the paper counts them.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            Trainable weights, the multiply-adds of one image, and the sum of the sublayers.
        """
        channels, height, width = input_shape
        params = macs = 0
        blocks = self.blocks(arch, channels)
        for link in (link for block in blocks for link in block.links()):
            for conv in link.convs:
                height, width = -(-height // conv.stride), -(-width // conv.stride)
                params += conv.weights + 2 * conv.channels
                macs += conv.weights * height * width
            if link.projection:
                params += link.projection.weights + 2 * link.projection.channels
                macs += link.projection.weights * height * width
        head = blocks[-1].channels * num_classes + num_classes
        return Costs(params + head, macs + head, sum(block.sublayers for block in blocks))

    def diagram(self, arch: Architecture) -> ArchitectureGraph:
        """Return the chain of blocks.

        Args:
            arch: An architecture of this space.

        Returns:
            A drawing; an arrow's label is the number of channels that it carries.
        """
        blocks = self.blocks(arch)
        carried = [blocks[0].channels_in, *(block.channels for block in blocks)]
        return ArchitectureGraph(
            ("input", *map(_label, blocks), "output"),
            tuple((i, i + 1, str(channels)) for i, channels in enumerate(carried)),
        )

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> ZenNet:
        """Return the network of an architecture.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            A network (n, *input_shape) -> logits (n, num_classes); ``network.residual = False``
                switches its shortcuts off, for the Zen-Score.
        """
        from raynas.spaces.zennas.network import ZenNet

        return ZenNet(self.blocks(arch, input_shape[0]), num_classes)

    def _blocks(self, values: Mapping[str, Option]) -> Iterator[ZenBlock]:
        bones = _skeleton(self.start)
        channels = bones[0].channels_in
        for bone, choices in zip(bones, _choices(self), strict=True):
            own: dict[str, Any] = {field: values[c.name] for field, c in choices.items()}
            block = replace(bone, channels_in=channels, **own)
            yield block
            channels = block.channels

    def _moves(self, field: str, value: Any) -> list[Option]:
        """Return the options that a mutation may give a field, in order."""
        if field == "kind":
            return list(self.kinds)
        if field == "sublayers":
            return sorted({min(max(value + d, 1), self.max_sublayers) for d in _DEPTHS})
        most = self.max_channels if field == "channels" else self.max_bottleneck
        scaled = (max(round(value * scale / _STEP), 1) * _STEP for scale in _SCALES)
        return sorted({min(channels, most) for channels in scaled})


@lru_cache(maxsize=64)
def _skeleton(start: str) -> tuple[ZenBlock, ...]:
    return parse_blocks(start)


@remember(maxsize=64)
def _choices(space: ZenNAS) -> tuple[dict[str, Choice], ...]:
    """Return for each block: name of a field -> choice."""
    options: dict[str, tuple[Option, ...]] = {
        "kind": space.kinds,
        "channels": tuple(range(_STEP, space.max_channels + 1, _STEP)),
        "bottleneck": tuple(range(_STEP, space.max_bottleneck + 1, _STEP)),
        "sublayers": tuple(range(1, space.max_sublayers + 1)),
    }
    return tuple(
        {
            field: Choice(f"b{number}_{field}", options[field], ordered=field != "kind")
            for field in (("channels",) if bone.plain else options)
        }
        for number, bone in enumerate(_skeleton(space.start), start=1)
    )


def _label(block: ZenBlock) -> str:
    inner = f" ({block.bottleneck})" if block.bottleneck else ""
    repeated = f" x {block.sublayers}" if block.sublayers > 1 else ""
    stride = f" /{block.stride}" if block.stride > 1 else ""
    return f"{block.kind.removeprefix('Super')}{inner}{repeated}{stride}"
