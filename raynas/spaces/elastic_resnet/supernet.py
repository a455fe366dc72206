"""This module has the supernet of the elastic ResNet space: its largest network, used in slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from raynas.core import Choice
from raynas.layers import (
    Arch,
    Elastic,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    ElasticPart,
    ElasticSize,
    Repeat,
    Sequential,
    Sized,
)
from raynas.layers.base import plain_of, run, size, sort_children, width_after
from raynas.layers.sorting import sort_between
from raynas.spaces.elastic_resnet.blocks import ResNetSettings
from raynas.spaces.elastic_resnet.network import (
    Bottleneck,
    ConvBN,
    ElasticResNetNet,
    pool_of,
    resized,
)


class ElasticResNetBody(Elastic):
    """The largest network of an elastic ResNet space, with initial weights.

    Args:
        space: The settings of the space.
        image_channels: The number of image channels.
        num_classes: The number of classes.
    """

    def __init__(self, space: ResNetSettings, image_channels: int, num_classes: int) -> None:
        super().__init__()
        self.space, self.num_classes = space, num_classes
        self.stem = ElasticConvBN(image_channels, space.stem_width, 3)
        self.relu = nn.ReLU()
        self.stages = nn.ModuleList(_stages(space))
        self.classifier = ElasticLinear(max(space.widths[-1]), num_classes)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the logits of the network of ``arch``.

        Args:
            x: (n, image_channels, h, w).
            arch: The architecture.

        Returns:
            (n, num_classes).
        """
        x = self.relu(self.stem(resized(x, self.space.resolution(arch)), arch))
        for stage in self.stages:
            x = run(stage, x, arch)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)), arch)
        return logits

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of classes."""
        return self.num_classes

    def plain(self, arch: Arch, width_in: int) -> ElasticResNetNet:
        """Return the plain network of ``arch`` with copies of the slices that it uses.

        Args:
            arch: The architecture.
            width_in: The number of image channels.

        Returns:
            A network without anything elastic in it.
        """
        twins = {p.name: plain_of(p.module, arch, p.width_in) for p in self.parts(arch, width_in)}
        stem, classifier = twins.pop("stem"), twins.pop("classifier")
        blocks = [block for stage in twins.values() for block in stage.children()]
        return ElasticResNetNet(stem, blocks, classifier, self.space.resolution(arch))

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the stem, the stages and the classifier.

        Yields:
            Parts in the order of the forward pass.
        """
        yield ElasticPart("stem", self.stem, width_in)
        width = self.space.stem_width
        for number, stage in enumerate(self.stages):
            yield ElasticPart(f"stages.{number}", stage, width)
            width = width_after(stage, arch, width)
        yield ElasticPart("classifier", self.classifier, width)

    def sort_own_channels(self) -> None:
        """Sort the channels within blocks and those between them by importance."""
        sort_children(self)
        stages = [[cast(ElasticBottleneck, b) for b in cast(Repeat, s).steps] for s in self.stages]
        for number, blocks in enumerate(stages):
            after = stages[number + 1][0].readers() if number + 1 < len(stages) else None
            within = [reader for block in blocks[1:] for reader in block.readers()]
            writers = [writer for block in blocks for writer in block.writers()]
            sort_between(writers, within + (after or [self.classifier]))


class ElasticConvBN(Elastic):
    """An elastic convolution without bias, followed by an elastic batch norm.

    Args:
        max_in: The largest number of input channels.
        out: The number of output channels.
        kernel: The side of the kernel, odd.
        stride: The stride.
        transforms: True for transformation matrices of small kernels.
    """

    def __init__(
        self,
        max_in: Sized,
        out: Sized,
        kernel: Sized,
        stride: int = 1,
        transforms: bool = False,
    ) -> None:
        super().__init__()
        self.conv = ElasticConv2d(max_in, out, kernel, stride, transforms=transforms)
        self.bn = ElasticBatchNorm2d(out)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the normalized output of the convolution.

        Args:
            x: (n, c, h, w).
            arch: The architecture.

        Returns:
            (n, out, ceil(h / stride), ceil(w / stride)).
        """
        out: Tensor = self.bn(self.conv(x, arch), arch)
        return out

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels of the convolution."""
        return self.conv.width_out(arch, width_in)

    def plain(self, arch: Arch, width_in: int) -> ConvBN:
        """Return plain convolution and batch norm with copies of the slices that ``arch`` uses."""
        width = self.width_out(arch, width_in)
        return ConvBN(self.conv.plain(arch, width_in), self.bn.plain(arch, width))

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the convolution and the batch norm.

        Yields:
            Two parts.
        """
        yield ElasticPart("conv", self.conv, width_in)
        yield ElasticPart("bn", self.bn, self.width_out(arch, width_in))


class ElasticBottleneck(Elastic):
    """An elastic bottleneck block: (n, in, h, w) -> (n, width, ceil(h / stride), ceil(w / stride)).

    Args:
        max_in: The largest number of input channels.
        hidden: The number of hidden channels.
        width: The number of output channels.
        kernel: The side of the middle kernel, odd.
        stride: The stride of the middle convolution.
        project: True for a projection as the shortcut, else the identity.
        transforms: True for transformation matrices of small kernels.
    """

    def __init__(
        self,
        max_in: int,
        hidden: ElasticSize,
        width: Sized,
        kernel: Sized,
        stride: int = 1,
        project: bool = False,
        transforms: bool = False,
    ) -> None:
        super().__init__()
        self.reduce = ElasticConvBN(max_in, hidden, 1)
        self.spatial = ElasticConvBN(hidden, hidden, kernel, stride, transforms)
        self.expand = ElasticConvBN(hidden, width, 1)
        projection = Sequential(pool_of(stride), ElasticConvBN(max_in, width, 1))
        self.shortcut = projection if project else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the output of the block.

        Args:
            x: (n, in, h, w).
            arch: The architecture.

        Returns:
            (n, width, ceil(h / stride), ceil(w / stride)).
        """
        hidden = self.relu(self.reduce(x, arch))
        hidden = self.relu(self.spatial(hidden, arch))
        out: Tensor = self.relu(self.expand(hidden, arch) + run(self.shortcut, x, arch))
        return out

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels of the last convolution."""
        return self.expand.width_out(arch, width_in)

    def plain(self, arch: Arch, width_in: int) -> Bottleneck:
        """Return a plain block with copies of the slices that ``arch`` uses."""
        parts = self.parts(arch, width_in)
        return Bottleneck(**{p.name: plain_of(p.module, arch, p.width_in) for p in parts})

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the three convolutions and the shortcut.

        Yields:
            Four parts, named as in :class:`Bottleneck`.
        """
        hidden = self.reduce.width_out(arch, width_in)
        yield ElasticPart("reduce", self.reduce, width_in)
        yield ElasticPart("spatial", self.spatial, hidden)
        yield ElasticPart("expand", self.expand, hidden)
        yield ElasticPart("shortcut", self.shortcut, width_in)

    def sort_own_channels(self) -> None:
        """Sort the hidden channels by importance."""
        sort_between([self.reduce.conv, self.reduce.bn], [self.spatial.conv])
        sort_between([self.spatial.conv, self.spatial.bn], [self.expand.conv])

    def readers(self) -> list[ElasticConv2d | ElasticLinear]:
        """Return the convolutions that take the block's input.

        Returns:
            The first convolution and that of the projection.
        """
        return [self.reduce.conv, *(p.conv for p in self._projection())]

    def writers(self) -> list[ElasticConv2d | ElasticBatchNorm2d]:
        """Return the layers that compute the block's output.

        Returns:
            The last convolution and that of the projection, each with its batch norm.
        """
        return [part for p in (self.expand, *self._projection()) for part in (p.conv, p.bn)]

    def _projection(self) -> list[ElasticConvBN]:
        return [m for m in self.shortcut.modules() if isinstance(m, ElasticConvBN)]


@dataclass(frozen=True)
class _Hidden:
    """The hidden channels of one block, computed from the stage's width and the expansion."""

    space: ResNetSettings
    stage: int
    block: str

    def __call__(self, arch: Arch) -> int:
        width, expansion = arch[f"s{self.stage}_width"], arch[f"{self.block}_expansion"]
        return self.space.hidden(int(width), float(expansion))


def _stages(space: ResNetSettings) -> Iterator[Repeat]:
    choices, max_in = {c.name: c for c in space.choices}, space.stem_width
    for stage, stride in enumerate(space.strides, start=1):
        width = choices[f"s{stage}_width"]
        blocks = []
        for number, name in enumerate(space.block_names(stage)):
            blocks.append(
                ElasticBottleneck(
                    max_in,
                    _hidden(space, stage, name, width),
                    width,
                    choices[f"{name}_kernel"],
                    stride=1 if number else stride,
                    project=number == 0,
                    transforms=space.kernel_transforms,
                )
            )
            max_in = size(width).most
        yield Repeat(choices[f"s{stage}_depth"], blocks)


def _hidden(space: ResNetSettings, stage: int, block: str, width: Choice) -> ElasticSize:
    options = {space.hidden(int(w), e) for w in width.options for e in space.expansions}
    return ElasticSize(tuple(sorted(options)), _Hidden(space, stage, block))
