"""This module has the blocks of a Zen-NAS network and their text form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from raynas.core import UserError, unknown_option

KERNELS = (3, 5, 7)
EXPANSIONS = (1, 2, 4, 6)

PLAIN = ("SuperConvK1BNRELU", "SuperConvK3BNRELU")
RESIDUAL = tuple(f"SuperResK{k}K{k}" for k in KERNELS)
BOTTLENECK = tuple(f"SuperResK1K{k}K1" for k in KERNELS)
INVERTED = tuple(f"SuperResIDWE{e}K{k}" for k in KERNELS for e in EXPANSIONS)
KINDS = (*PLAIN, *RESIDUAL, *BOTTLENECK, *INVERTED)


@dataclass(frozen=True)
class ConvSpec:
    """A convolution without bias and with same padding, followed by batch norm.

    Attributes:
        channels_in: The number of input channels.
        channels: The number of output channels.
        kernel: The side of the kernel.
        stride: The stride.
        groups: The number of groups of channels.

    Example:
        >>> ConvSpec(16, 32, kernel=3).weights
        4608
    """

    channels_in: int
    channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def weights(self) -> int:
        """The number of weights of the kernel.

        Returns:
            Weights; also the MACs of one output pixel.
        """
        return self.kernel**2 * (self.channels_in // self.groups) * self.channels


@dataclass(frozen=True)
class ResidualLink:
    """A sequence of convolutions with a ReLU after each, and a shortcut before the last ReLU.

    Attributes:
        convs: The convolutions in the order of the forward pass.
        residual: True for a shortcut.
        projection: The convolution of the shortcut; a residual link without one adds its input.
    """

    convs: tuple[ConvSpec, ...]
    residual: bool = True
    projection: ConvSpec | None = None


@dataclass(frozen=True)
class ZenBlock:
    """A block of a network; ``str(block)`` is its text.

    Attributes:
        kind: One of ``KINDS``.
        channels_in: The number of input channels.
        channels: The number of output channels.
        stride: The stride of the first sublayer.
        bottleneck: The number of bottleneck channels; 0 where the kind has none.
        sublayers: The number of repetitions of the block's content.
    """

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
        """The absence of shortcuts as a flag.

        Returns:
            True for blocks of one convolution per sublayer.
        """
        return self.kind in PLAIN

    @property
    def kernel(self) -> int:
        """The side of the block's largest kernel.

        Returns:
            An odd number.
        """
        return _KERNEL[self.kind]

    def links(self) -> Iterator[ResidualLink]:
        """Yield the links of the block.

        Yields:
            Links in the order of the forward pass.
        """
        for number in range(self.sublayers):
            source, stride = (self.channels, 1) if number else (self.channels_in, self.stride)
            for place, convs in enumerate(self._sublayer(source, stride)):
                yield self._link(convs, first=number == place == 0)

    def _sublayer(self, source: int, stride: int) -> tuple[tuple[ConvSpec, ...], ...]:
        """Return the convolutions of one sublayer from ``source`` channels, link by link."""
        k, inner, out = self.kernel, self.bottleneck, self.channels
        if self.plain:
            return ((ConvSpec(source, out, k, stride),),)
        if self.kind in RESIDUAL:
            return ((ConvSpec(source, inner, k, stride), ConvSpec(inner, out, k)),)
        if self.kind in BOTTLENECK:
            return _between(source, inner, out, k, stride), _between(out, inner, out, k)
        wide, wider = (_EXPANSION[self.kind] * channels for channels in (inner, out))
        return (
            _between(source, wide, inner, k, stride, depthwise=True),
            _between(inner, wider, out, k, depthwise=True),
        )

    def _link(self, convs: tuple[ConvSpec, ...], first: bool) -> ResidualLink:
        source, out = convs[0].channels_in, convs[-1].channels
        projects = first or source != out
        if self.plain or not projects:
            return ResidualLink(convs, residual=not self.plain)
        return ResidualLink(
            convs, projection=ConvSpec(source, out, stride=self.stride if first else 1)
        )


def _between(
    source: int, inner: int, out: int, kernel: int, stride: int = 1, depthwise: bool = False
) -> tuple[ConvSpec, ...]:
    """Return convolutions: 1x1 to ``inner`` channels, k x k at ``stride``, 1x1 to ``out``."""
    groups = inner if depthwise else 1
    return (
        ConvSpec(source, inner),
        ConvSpec(inner, inner, kernel, stride, groups),
        ConvSpec(inner, out),
    )


_KERNEL = {kind: max(int(side) for side in re.findall(r"K(\d)", kind)) for kind in KINDS}
_EXPANSION = {f"SuperResIDWE{e}K{k}": e for k in KERNELS for e in EXPANSIONS}
_BLOCK = re.compile(r"(\w+)\(([^()]*)\)")
_NUMBERS = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*")


def parse_blocks(text: str) -> tuple[ZenBlock, ...]:
    """Return the blocks of a network's text; their joined texts are the text itself.

    Args:
        text: One block or more.

    Returns:
        Blocks in the order of the forward pass.

    Raises:
        UserError: The text is malformed; the message names the faulty piece.

    Example:
        >>> blocks = parse_blocks("SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)")
        >>> [block.channels for block in blocks]
        [8, 16]
    """
    blocks = list[ZenBlock]()
    text, place = text.strip(), 0
    while place < len(text) or not blocks:
        match = _BLOCK.match(text, place)
        if match is None:
            raise _malformed(text[place:], "does not begin with KIND(numbers)")
        blocks.append(_parse_block(*match.group(0, 1, 2)))
        place = match.end()
    return tuple(blocks)


def _parse_block(text: str, kind: str, inside: str) -> ZenBlock:
    if kind not in KINDS:
        raise unknown_option("Zen-NAS block", kind, KINDS)
    names = ["in", "out", "stride", "bottleneck", "sublayers"]
    if kind in PLAIN:
        names.remove("bottleneck")
    numbers = [int(n) for n in inside.split(",")] if _NUMBERS.fullmatch(inside) else []
    if len(numbers) != len(names):
        raise _malformed(text, f"does not hold {len(names)} integers from 1: {', '.join(names)}")
    given = dict(zip(names, numbers, strict=True))
    return ZenBlock(
        kind, given["in"], given["out"], given["stride"], given.get("bottleneck", 0),
        given["sublayers"],
    )  # fmt: skip


def _malformed(piece: str, problem: str) -> UserError:
    shown = piece if len(piece) <= 60 else f"{piece[:60]}..."
    return UserError(
        f"malformed Zen-NAS network: {shown!r} {problem}",
        hint="write blocks like SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)",
    )
