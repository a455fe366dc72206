"""The block space of Zen-NAS, with networks written as in the authors' code.

M. Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021,
https://arxiv.org/abs/2102.01063.

A network is a chain of blocks, and its text their concatenation:

* ``SuperConvK3BNRELU(in,out,stride,sublayers)``, and ``K1``: convolution, batch norm, ReLU;
* ``SuperResK3K3(in,out,stride,bottleneck,sublayers)``, and ``K5K5``, ``K7K7``: two convolutions;
* ``SuperResK1K3K1(...)``, and ``K1K5K1``, ``K1K7K1``: 1x1 to the bottleneck, k x k, 1x1;
* ``SuperResIDWE4K3(...)``, and expansions 1, 2, 6, kernels 5, 7: inverted, with a depthwise k x k.

``sublayers`` says how often the block's content is repeated; the stride is the first one's, and
the layers of a network are the sum of its blocks' sublayers. As in the authors' code one sublayer
is one convolution or one link of two convolutions, but *two* links of the other two sorts: the
inverted one goes from the block's input to the bottleneck, then from there to its output. The
first link of a block always has a projection (1x1 convolution, batch norm), later ones where
widths differ. Not taken over: blocks of six sublayers and more are not split in two, so that
every architecture has the same choices; and the projection has no bias, which its batch norm
would take away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raynas.core import Architecture, Choice, Costs, Graph, Option, UserError, one_of
from raynas.core.exact import remember
from raynas.core.fields import check_fields
from raynas.spaces.base import InputShape, SearchSpace

if TYPE_CHECKING:
    from raynas.spaces.zennas.network import ZenNet

KERNELS = (3, 5, 7)
EXPANSIONS = (1, 2, 4, 6)

PLAIN = ("SuperConvK1BNRELU", "SuperConvK3BNRELU")
RESIDUAL = tuple(f"SuperResK{k}K{k}" for k in KERNELS)
BOTTLENECK = tuple(f"SuperResK1K{k}K1" for k in KERNELS)
INVERTED = tuple(f"SuperResIDWE{e}K{k}" for k in KERNELS for e in EXPANSIONS)
KINDS = (*PLAIN, *RESIDUAL, *BOTTLENECK, *INVERTED)

CIFAR_START = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,32,2,16,1)"
    "SuperResK3K3(32,64,2,32,1)SuperResK3K3(64,64,2,32,1)SuperConvK1BNRELU(64,128,1,1)"
)
"""Where the authors' searches on CIFAR begin."""

_SCALES = (2.5, 2, 1.5, 1.25, 1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 2.5)
_DEPTHS = (-2, -1, 0, 1, 2)
_STEP = 8  # channels are multiples of it


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, same padding, then batch norm."""

    channels_in: int
    channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def weights(self) -> int:
        """Of the kernel; also the MACs of one output pixel."""
        return self.kernel**2 * (self.channels_in // self.groups) * self.channels


@dataclass(frozen=True)
class Link:
    """Convolutions with a ReLU after each; before the last ReLU the shortcut is added.

    ``projection``: the shortcut's convolution; a ``residual`` link without one adds its input.
    """

    convs: tuple[Conv, ...]
    residual: bool = True
    projection: Conv | None = None


@dataclass(frozen=True)
class Block:
    """One block; ``str`` is its text. ``bottleneck`` is 0 where the kind has none."""

    kind: str
    channels_in: int
    channels: int
    stride: int
    bottleneck: int
    sublayers: int

    def __str__(self) -> str:
        numbers = [self.channels_in, self.channels, self.stride, self.bottleneck, self.sublayers]
        if self.plain:
            del numbers[3]
        return f"{self.kind}({','.join(map(str, numbers))})"

    @property
    def plain(self) -> bool:
        """Convolutions without links."""
        return self.kind in PLAIN

    @property
    def kernel(self) -> int:
        """The side of the kernel that sees neighbours, if any does."""
        return _KERNEL[self.kind]

    def links(self) -> Iterator[Link]:
        """What the block consists of, in the order of the forward pass."""
        for number in range(self.sublayers):
            source, stride = (self.channels, 1) if number else (self.channels_in, self.stride)
            for place, convs in enumerate(self._sublayer(source, stride)):
                yield self._link(convs, first=number == place == 0)

    def _sublayer(self, source: int, stride: int) -> tuple[tuple[Conv, ...], ...]:
        """The convolutions of one sublayer from ``source`` channels, link by link."""
        k, inner, out = self.kernel, self.bottleneck, self.channels
        if self.plain:
            return ((Conv(source, out, k, stride),),)
        if self.kind in RESIDUAL:
            return ((Conv(source, inner, k, stride), Conv(inner, out, k)),)
        if self.kind in BOTTLENECK:
            return _between(source, inner, out, k, stride), _between(out, inner, out, k)
        wide, wider = (_EXPANSION[self.kind] * channels for channels in (inner, out))
        return (
            _between(source, wide, inner, k, stride, depthwise=True),
            _between(inner, wider, out, k, depthwise=True),
        )

    def _link(self, convs: tuple[Conv, ...], first: bool) -> Link:
        source, out = convs[0].channels_in, convs[-1].channels
        projects = first or source != out
        if self.plain or not projects:
            return Link(convs, residual=not self.plain)
        return Link(convs, projection=Conv(source, out, stride=self.stride if first else 1))


def _between(
    source: int, inner: int, out: int, kernel: int, stride: int = 1, depthwise: bool = False
) -> tuple[Conv, ...]:
    """1x1 to ``inner`` channels, k x k at ``stride``, 1x1 to ``out``."""
    groups = inner if depthwise else 1
    return Conv(source, inner), Conv(inner, inner, kernel, stride, groups), Conv(inner, out)


_KERNEL = {kind: max(int(side) for side in re.findall(r"K(\d)", kind)) for kind in KINDS}
_EXPANSION = {f"SuperResIDWE{e}K{k}": e for k in KERNELS for e in EXPANSIONS}
_BLOCK = re.compile(r"(\w+)\(([^()]*)\)")
_NUMBERS = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*")


def parse_blocks(text: str) -> tuple[Block, ...]:
    """The blocks of a network's text; joined, their texts are ``text``.

    Raises: UserError naming the faulty piece.
    """
    blocks = list[Block]()
    text, place = text.strip(), 0
    while place < len(text) or not blocks:
        match = _BLOCK.match(text, place)
        if match is None:
            raise _malformed(text[place:], "does not begin with KIND(numbers)")
        blocks.append(_parse_block(*match.group(0, 1, 2)))
        place = match.end()
    return tuple(blocks)


def _parse_block(text: str, kind: str, inside: str) -> Block:
    if kind not in KINDS:
        raise one_of("Zen-NAS block", kind, KINDS)
    names = ["in", "out", "stride", "bottleneck", "sublayers"]
    if kind in PLAIN:
        names.remove("bottleneck")
    numbers = [int(n) for n in inside.split(",")] if _NUMBERS.fullmatch(inside) else []
    if len(numbers) != len(names):
        raise _malformed(text, f"does not hold {len(names)} integers from 1: {', '.join(names)}")
    given = dict(zip(names, numbers, strict=True))
    return Block(
        kind, given["in"], given["out"], given["stride"], given.get("bottleneck", 0),
        given["sublayers"],
    )  # fmt: skip


def _malformed(piece: str, problem: str) -> UserError:
    shown = piece if len(piece) <= 60 else f"{piece[:60]}..."
    return UserError(
        f"malformed Zen-NAS network: {shown!r} {problem}",
        cure="write blocks like SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)",
    )


@dataclass(frozen=True)
class ZenNAS(SearchSpace):
    """The networks with the skeleton of ``start``: its number of blocks and their strides.

    A plain block has its output channels to choose, every other block its kind among ``kinds``,
    its output and bottleneck channels (multiples of 8 up to ``max_channels`` and
    ``max_bottleneck``) and its sublayers up to ``max_sublayers``. The default kinds are those of
    the authors' searches on CIFAR; ``INVERTED`` has those of their mobile networks.

    ``sample`` goes ``walk`` mutations from ``start``: almost all of the space is beyond any
    budget. The first block's input channels in the text are ``start``'s; a network is built for
    those of its images. ``Costs.layers`` is the sum of the sublayers.
    Raises: UserError for settings that make no space.
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
                raise one_of("kind of a Zen-NAS block", kind, KINDS[len(PLAIN) :])
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise UserError(f"ZenNAS kinds={self.kinds}", allowed="one or more, each once")
        for setting in ("max_channels", "max_bottleneck"):
            value = getattr(self, setting)
            if type(value) is not int or value < _STEP or value % _STEP:
                raise UserError(f"ZenNAS {setting}={value!r}", allowed=f"multiples of {_STEP}")
        for setting, least in (("max_sublayers", 1), ("walk", 0)):
            value = getattr(self, setting)
            if type(value) is not int or value < least:
                raise UserError(f"ZenNAS {setting}={value!r}", allowed=f"integers from {least}")
        self.parse(self.start)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Per block ``b2_kind``, ``b2_channels``, ``b2_bottleneck``, ``b2_sublayers``.

        Plain blocks have ``b1_channels`` only. All but the kinds are ordered.
        """
        return tuple(choice for block in _choices(self) for choice in block.values())

    def format(self, values: Mapping[str, Option]) -> str:
        """The concatenated blocks."""
        return "".join(map(str, self._blocks(values)))

    def parse(self, text: str) -> dict[str, Option]:
        """Options from the text. Raises: UserError naming the faulty block."""
        blocks, bones = parse_blocks(text), _skeleton(self.start)
        if len(blocks) != len(bones):
            raise UserError(
                f"a Zen-NAS network of {len(blocks)} blocks",
                allowed=f"{len(bones)}, as in the space's start",
            )
        channels, values = bones[0].channels_in, dict[str, Option]()
        for bone, choices, block in zip(bones, _choices(self), blocks, strict=True):
            for field, choice in choices.items():
                values[choice.name] = getattr(block, field)
                if values[choice.name] not in choice.options:
                    raise one_of(f"{field} in {block}:", values[choice.name], choice.options)
            wanted = bone if bone.plain else replace(block, stride=bone.stride)
            wanted = replace(wanted, channels_in=channels, channels=block.channels)
            if block != wanted:
                raise UserError(
                    f"{block} is out of place in the Zen-NAS network",
                    allowed=str(wanted),
                    cure="let channels follow from the block before, and strides from the start",
                )
            channels = block.channels
        return values

    def sample(self, rng: np.random.Generator) -> Architecture:
        """``walk`` mutations away from ``start``."""
        arch = self.architecture(self.start)
        for _ in range(self.walk):
            arch = self.mutate(arch, rng)
        return arch

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """``arch`` with one or two random blocks changed, as the paper does.

        All choices of the block are drawn anew and may stay: its kind is any, channels are
        scaled by 2.5, 2, 1.5, 1.25, 1 or an inverse of these, the depth moves by up to 2.
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

    def blocks(self, arch: Architecture, channels_in: int = 0) -> tuple[Block, ...]:
        """The blocks of ``arch``; ``channels_in``: of the images, if other than in the text."""
        first, *rest = self._blocks(dict(arch))
        return (replace(first, channels_in=channels_in or first.channels_in), *rest)

    def costs(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Costs:
        """Exact weights and MACs in closed form, and the layers as the paper counts them."""
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

    def graph(self, arch: Architecture) -> Graph:
        """The chain of blocks; an arrow's label is the number of channels that it carries."""
        blocks = self.blocks(arch)
        carried = [blocks[0].channels_in, *(block.channels for block in blocks)]
        return Graph(
            ("input", *map(_label, blocks), "output"),
            tuple((i, i + 1, str(channels)) for i, channels in enumerate(carried)),
        )

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> ZenNet:
        """The network; ``network.residual = False`` takes its links out, for the Zen-Score."""
        from raynas.spaces.zennas.network import ZenNet

        return ZenNet(self.blocks(arch, input_shape[0]), num_classes)

    def _blocks(self, values: Mapping[str, Option]) -> Iterator[Block]:
        bones = _skeleton(self.start)
        channels = bones[0].channels_in
        for bone, choices in zip(bones, _choices(self), strict=True):
            own: dict[str, Any] = {field: values[c.name] for field, c in choices.items()}
            block = replace(bone, channels_in=channels, **own)
            yield block
            channels = block.channels

    def _moves(self, field: str, value: Any) -> list[Option]:
        """Where a mutation may take ``value``, in order."""
        if field == "kind":
            return list(self.kinds)
        if field == "sublayers":
            return sorted({min(max(value + d, 1), self.max_sublayers) for d in _DEPTHS})
        most = self.max_channels if field == "channels" else self.max_bottleneck
        scaled = (max(round(value * scale / _STEP), 1) * _STEP for scale in _SCALES)
        return sorted({min(channels, most) for channels in scaled})


@lru_cache(maxsize=64)
def _skeleton(start: str) -> tuple[Block, ...]:
    return parse_blocks(start)


@remember(maxsize=64)
def _choices(space: ZenNAS) -> tuple[dict[str, Choice], ...]:
    """Per block: name of its field -> choice."""
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


def _label(block: Block) -> str:
    inner = f" ({block.bottleneck})" if block.bottleneck else ""
    repeated = f" x {block.sublayers}" if block.sublayers > 1 else ""
    stride = f" /{block.stride}" if block.stride > 1 else ""
    return f"{block.kind.removeprefix('Super')}{inner}{repeated}{stride}"
