"""This module has the space of residual networks with elastic depth, width, kernel and expansion.

The resolution is elastic, too, if options are given. The elastic dimensions are those of
Once-for-All (H. Cai et al., ICLR 2020) for bottleneck blocks (K. He et al., CVPR 2016): every
smaller option is a slice of the largest network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeVar

from raynas.core import (
    Architecture,
    ArchitectureGraph,
    Choice,
    Costs,
    Option,
    UserError,
    unknown_option,
)
from raynas.core.fields import check_fields
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.elastic_resnet.blocks import ResNetBlock

if TYPE_CHECKING:
    from raynas.spaces.elastic_resnet.network import ElasticResNetNet
    from raynas.spaces.supernet import Supernet


T = TypeVar("T")


@dataclass(frozen=True)
class ElasticResNet(SearchSpace):
    """The space of bottleneck ResNets with elastic depth, width, kernel size and expansion.

    A network has a stem, stages of bottleneck blocks, average pool and linear layer. The default
    has 24 choices and suits 32 x 32 images. All options are in ascending order.

    Attributes:
        widths: The options of the channels, per stage.
        strides: The stride of the first block, per stage.
        depths: The options of the number of blocks in a stage.
        kernels: The options of a block's kernel, odd.
        expansions: The options of a block's hidden channels divided by the stage's width.
        resolutions: The options of the side to which images are resized in the forward pass, in
            pixels; empty for no resizing.
        stem_width: The number of channels of the stem.
        divisor: The number of which hidden channels are a multiple.
        kernel_transforms: True for transformation matrices of small kernels in the supernet.

    Raises:
        UserError: The settings describe no network.

    Example:
        >>> space = ElasticResNet(widths=((8, 16),), strides=(1,), depths=(1, 2), kernels=(3,))
        >>> smallest, largest = space.extremes()
        >>> str(smallest), space.costs(smallest).params
        ('w8d1-k3e0.25', 1514)
    """

    widths: tuple[tuple[int, ...], ...] = ((16, 24, 32), (32, 48, 64), (64, 96, 128))
    strides: tuple[int, ...] = (1, 2, 2)
    depths: tuple[int, ...] = (1, 2, 3)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[float, ...] = (0.25, 0.5, 1.0)
    resolutions: tuple[int, ...] = ()
    stem_width: int = 16
    divisor: int = 8
    kernel_transforms: bool = False

    name: ClassVar[str] = "elastic_resnet"

    def __post_init__(self) -> None:
        check_fields(self)
        _as_tuples(self)
        _check(self)

    @property
    def max_depth(self) -> int:
        """The number of blocks of a stage that have choices of their own, used or not.

        Returns:
            The largest option of ``depths``.
        """
        return max(self.depths)

    @cached_property
    def choices(
        self,
    ) -> tuple[Choice, ...]:  # cached per object, since a space with 1 equals one with 1.0
        """The choices of the networks.

        Returns:
            ``resolution`` (if elastic); per stage ``s1_width``, ``s1_depth``; per block
                ``s1_b1_kernel``, ``s1_b1_expansion``. All are ordered.
        """
        return _choices(self)

    def to_text(self, values: Mapping[str, Option]) -> str:
        """Return the text of an architecture, such as ``r32_w16d2-k3e0.5-k5e1.0_w...``.

        It has the resolution (if elastic), then for each stage its width, depth and blocks.

        Unused blocks at the end of a stage are left out when they have the first options.

        Args:
            values: Choice -> option.

        Returns:
            The text of the architecture.
        """
        parts = [f"r{values['resolution']}"] if self.resolutions else []
        first = self._first_block
        for stage in range(1, len(self.widths) + 1):
            depth = values[f"s{stage}_depth"]
            blocks = [_block_text(values, name) for name in self.block_names(stage)]
            while len(blocks) > int(depth) and blocks[-1] == first:
                blocks.pop()
            parts.append("-".join([f"w{values[f's{stage}_width']}d{depth}", *blocks]))
        return "_".join(parts)

    def from_text(self, text: str) -> dict[str, Option]:
        """Return the options of an architecture's text form.

        Args:
            text: The text, as :meth:`to_text` returns it.

        Returns:
            Choice -> option.

        Raises:
            UserError: The text is malformed; the message names the faulty part.
        """
        parts = text.strip().split("_")
        expected = len(self.widths) + bool(self.resolutions)
        if len(parts) != expected:
            raise self._malformed(text, f"{len(parts)} parts joined by '_' instead of {expected}")
        values: dict[str, Option] = {}
        if self.resolutions:
            sides = {f"r{side}": side for side in self.resolutions}
            values["resolution"] = _look_up("resolution", parts.pop(0), sides)
        for stage, part in enumerate(parts, start=1):
            values.update(self._parse_stage(text, stage, part))
        return values

    def canonical_form(self, arch: Architecture) -> Architecture:
        """Return the architecture with the first of all equivalent options.

        Unused blocks have the first options. If several expansions round to the same hidden width,
        a block has the first of them.

        Args:
            arch: An architecture of this space.

        Returns:
            The representative of all architectures with the same network.
        """
        values = dict(arch)
        for stage in range(1, len(self.widths) + 1):
            width, depth = int(arch[f"s{stage}_width"]), int(arch[f"s{stage}_depth"])
            for number, name in enumerate(self.block_names(stage), start=1):
                if number > depth:
                    values[f"{name}_kernel"] = self.kernels[0]
                    values[f"{name}_expansion"] = self.expansions[0]
                else:
                    hidden = self.hidden(width, float(arch[f"{name}_expansion"]))
                    same = (e for e in self.expansions if self.hidden(width, e) == hidden)
                    values[f"{name}_expansion"] = next(same)
        return self.architecture(values)

    def hidden(self, width: int, expansion: float) -> int:
        """Return the hidden channels of a block.

        Args:
            width: The channels of the stage.
            expansion: The hidden channels divided by ``width``.

        Returns:
            The nearest multiple of ``divisor``, halves rounded up, at least ``divisor``.
        """
        return max(int(width * expansion / self.divisor + 0.5), 1) * self.divisor

    def resolution(self, arch: Mapping[str, Option]) -> int | None:
        """Return the side to which images are resized.

        Args:
            arch: An architecture of this space.

        Returns:
            Pixels; None where images are not resized.
        """
        return int(arch["resolution"]) if self.resolutions else None

    def blocks(self, arch: Architecture) -> tuple[ResNetBlock, ...]:
        """Return the blocks of an architecture.

        Args:
            arch: An architecture of this space.

        Returns:
            Blocks in the order of the forward pass.
        """
        return tuple(self._blocks(arch))

    def closed_form_costs(
        self, arch: Architecture, input_shape: InputShape, num_classes: int
    ) -> Costs:
        """Return exact weights and MACs in closed form.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            Trainable weights, and the multiply-adds of one image.
        """
        channels, height, width = input_shape
        side = self.resolution(arch)
        height, width = (side, side) if side else (height, width)
        weights = 9 * channels * self.stem_width
        params, macs = weights + 2 * self.stem_width, weights * height * width
        for block in self._blocks(arch):
            first = block.width_in * block.hidden
            rest = block.kernel**2 * block.hidden**2 + block.hidden * block.width_out
            normalised = 2 * block.hidden + block.width_out
            if block.project:
                rest += block.width_in * block.width_out
                normalised += block.width_out
            macs += first * height * width
            height, width = -(-height // block.stride), -(-width // block.stride)
            macs += rest * height * width
            params += first + rest + 2 * normalised
            out = block.width_out
        head = out * num_classes + num_classes
        return Costs(params=params + head, macs=macs + head)

    def diagram(self, arch: Architecture) -> ArchitectureGraph:
        """Return the chain of blocks.

        Args:
            arch: An architecture of this space.

        Returns:
            A drawing; an arrow's label is the number of channels that it carries.
        """
        side = self.resolution(arch)
        nodes = [f"input {side} x {side}" if side else "input", "stem"]
        edges = [(0, 1, "")]
        for block in self._blocks(arch):
            stride = f" /{block.stride}" if block.stride > 1 else ""
            edges.append((len(nodes) - 1, len(nodes), str(block.width_in)))
            nodes.append(f"{block.kernel}x{block.kernel} {block.hidden}{stride}")
        edges.append((len(nodes) - 1, len(nodes), str(block.width_out)))
        return ArchitectureGraph((*nodes, "output"), tuple(edges))

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> ElasticResNetNet:
        """Return a plain network, without anything elastic in it.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            A network (n, *input_shape) -> logits (n, num_classes).
        """
        from raynas.spaces.elastic_resnet.network import elastic_resnet

        return elastic_resnet(
            self.blocks(arch),
            image_channels=input_shape[0],
            num_classes=num_classes,
            stem_width=self.stem_width,
            resolution=self.resolution(arch),
        )

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        """Return the largest network; smaller ones are slices of it.

        Smaller networks use leading channels, the centers of kernels and the first blocks.
        ``sort_channels`` of the supernet moves important channels to the front.

        Args:
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            The supernet.
        """
        from raynas.spaces.elastic_resnet.supernet import ElasticResNetBody
        from raynas.spaces.supernet import Supernet

        body = ElasticResNetBody(self, input_shape[0], num_classes)
        return Supernet(self, body, input_shape, num_classes)

    @property
    def _first_block(self) -> str:
        return f"k{self.kernels[0]}e{self.expansions[0]}"

    def block_names(self, stage: int) -> list[str]:
        """Return the names of the blocks of a stage, with which their choices' names begin.

        Args:
            stage: The number of the stage, from 1.

        Returns:
            One name per block of the largest depth, such as "s1_b1".
        """
        return [f"s{stage}_b{number}" for number in range(1, self.max_depth + 1)]

    def _blocks(self, arch: Architecture) -> Iterator[ResNetBlock]:
        width_in = self.stem_width
        options = dict(arch)
        for stage, stride in enumerate(self.strides, start=1):
            width, depth = int(options[f"s{stage}_width"]), int(options[f"s{stage}_depth"])
            for number, name in enumerate(self.block_names(stage)[:depth]):
                yield ResNetBlock(
                    width_in=width_in,
                    hidden=self.hidden(width, float(options[f"{name}_expansion"])),
                    width_out=width,
                    kernel=int(options[f"{name}_kernel"]),
                    stride=1 if number else stride,
                    project=number == 0,
                )
                width_in = width

    def _parse_stage(self, text: str, stage: int, part: str) -> dict[str, Option]:
        head, *blocks = part.split("-")
        heads = {
            f"w{width}d{depth}": (width, depth)
            for width in self.widths[stage - 1]
            for depth in self.depths
        }
        width, depth = _look_up(f"width and depth of stage {stage}", head, heads)
        if not depth <= len(blocks) <= self.max_depth:
            problem = f"stage {stage} has {len(blocks)} blocks, not {depth} to {self.max_depth}"
            raise self._malformed(text, problem)
        known = {
            f"k{k}e{spelled}": (k, e)
            for k in self.kernels
            for e in self.expansions
            for spelled in (f"{e:g}", str(e))  # e1: the former spelling of whole numbers
        }
        values: dict[str, Option] = {f"s{stage}_width": width, f"s{stage}_depth": depth}
        blocks += [self._first_block] * (self.max_depth - len(blocks))
        for name, block in zip(self.block_names(stage), blocks, strict=True):
            kernel, expansion = _look_up(f"block of stage {stage}", block, known)
            values[f"{name}_kernel"], values[f"{name}_expansion"] = kernel, expansion
        return values

    def _malformed(self, text: str, problem: str) -> UserError:
        example = self.format({c.name: c.options[0] for c in self.choices})
        return UserError(
            f"malformed architecture {text!r} of space {self.name!r}: {problem}",
            hint=f"write for instance {example}",
        )


def _block_text(values: Mapping[str, Option], name: str) -> str:
    return f"k{values[f'{name}_kernel']}e{values[f'{name}_expansion']}"


def _look_up(kind: str, word: str, known: Mapping[str, T]) -> T:
    if word not in known:
        raise unknown_option(kind, word, known)
    return known[word]


def _choices(space: ElasticResNet) -> tuple[Choice, ...]:
    found = [Choice("resolution", space.resolutions, ordered=True)] if space.resolutions else []
    for stage, widths in enumerate(space.widths, start=1):
        found.append(Choice(f"s{stage}_width", widths, ordered=True))
        found.append(Choice(f"s{stage}_depth", space.depths, ordered=True))
        for block in space.block_names(stage):
            found.append(Choice(f"{block}_kernel", space.kernels, ordered=True))
            found.append(Choice(f"{block}_expansion", space.expansions, ordered=True))
    return tuple(found)


def _as_tuples(space: ElasticResNet) -> None:
    """Turn lists from a command line into tuples, and whole expansions into floats.

    So spaces stay hashable, and equal spaces have equal architectures.
    """
    for setting in ("strides", "depths", "kernels", "expansions", "resolutions"):
        object.__setattr__(space, setting, tuple(getattr(space, setting)))
    object.__setattr__(space, "widths", tuple(tuple(stage) for stage in space.widths))
    expansions = (float(e) if type(e) is int else e for e in space.expansions)
    object.__setattr__(space, "expansions", tuple(expansions))


def _check(space: ElasticResNet) -> None:
    if not space.widths or len(space.strides) != len(space.widths):
        raise UserError(
            f"ElasticResNet has {len(space.widths)} stages in widths and {len(space.strides)} in "
            "strides",
            hint="give one stride and one tuple of widths per stage",
        )
    for number, stage in enumerate(space.widths, start=1):
        _check_options(f"widths of stage {number}", stage)
    _check_options("depths", space.depths)
    _check_options("kernels", space.kernels)
    _check_options("expansions", space.expansions)
    if space.resolutions:
        _check_options("resolutions", space.resolutions)
    if any(kernel % 2 == 0 for kernel in space.kernels):
        raise UserError(f"ElasticResNet kernels={space.kernels}", expected="odd integers")
    for value in (*space.strides, space.stem_width, space.divisor):
        if type(value) is not int or value < 1:
            raise UserError(
                f"ElasticResNet strides={space.strides}, stem_width={space.stem_width}, "
                f"divisor={space.divisor}: {value} does not give a network",
                expected="integers from 1",
            )


def _check_options(setting: str, options: tuple[float, ...]) -> None:
    """Check that options ascend and differ; they are whole numbers except for expansions."""
    kinds, least = ((int, float), 0.01) if setting == "expansions" else ((int,), 1)
    if any(type(o) not in kinds or not least <= o < math.inf for o in options):
        allowed = f"{'numbers' if setting == 'expansions' else 'integers'} from {least}"
        raise UserError(f"ElasticResNet {setting}={options}", expected=allowed)
    if not options or list(options) != sorted(set(options)):
        raise UserError(
            f"ElasticResNet {setting}={options}", expected="one or more options in ascending order"
        )
