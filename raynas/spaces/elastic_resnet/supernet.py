"""The supernet of the elastic residual space: its largest network, used in slices."""

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
    Part,
    Repeat,
    Sequential,
    Size,
    Sized,
)
from raynas.layers.base import plain_of, run, size, width_after
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
    """The largest network of an elastic ResNet space; random weights, drawn as for it alone."""

    def __init__(self, space: ResNetSettings, image_channels: int, num_classes: int) -> None:
        super().__init__()
        self.space, self.num_classes = space, num_classes
        self.stem = ElasticConvBN(image_channels, space.stem_width, 3)
        self.relu = nn.ReLU()
        self.stages = nn.ModuleList(_stages(space))
        self.classifier = ElasticLinear(max(space.widths[-1]), num_classes)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        x = self.relu(self.stem(resized(x, self.space.resolution(arch)), arch))
        for stage in self.stages:
            x = run(stage, x, arch)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)), arch)
        return logits

    def width_out(self, arch: Arch, width_in: int) -> int:
        return self.num_classes

    def plain(self, arch: Arch, width_in: int) -> ElasticResNetNet:
        twins = {p.name: plain_of(p.module, arch, p.width_in) for p in self.parts(arch, width_in)}
        stem, classifier = twins.pop("stem"), twins.pop("classifier")
        blocks = [block for stage in twins.values() for block in stage.children()]
        return ElasticResNetNet(stem, blocks, classifier, self.space.resolution(arch))

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        yield Part("stem", self.stem, width_in)
        width = self.space.stem_width
        for number, stage in enumerate(self.stages):
            yield Part(f"stages.{number}", stage, width)
            width = width_after(stage, arch, width)
        yield Part("classifier", self.classifier, width)

    def sort_channels(self) -> None:
        super().sort_channels()
        stages = [[cast(ElasticBottleneck, b) for b in cast(Repeat, s).steps] for s in self.stages]
        for number, blocks in enumerate(stages):
            after = stages[number + 1][0].readers() if number + 1 < len(stages) else None
            within = [reader for block in blocks[1:] for reader in block.readers()]
            writers = [writer for block in blocks for writer in block.writers()]
            sort_between(writers, within + (after or [self.classifier]))


class ElasticConvBN(Elastic):
    """Convolution without bias, batch norm."""

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
        out: Tensor = self.bn(self.conv(x, arch), arch)
        return out

    def width_out(self, arch: Arch, width_in: int) -> int:
        return self.conv.width_out(arch, width_in)

    def plain(self, arch: Arch, width_in: int) -> ConvBN:
        width = self.width_out(arch, width_in)
        return ConvBN(self.conv.plain(arch, width_in), self.bn.plain(arch, width))

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        yield Part("conv", self.conv, width_in)
        yield Part("bn", self.bn, self.width_out(arch, width_in))


class ElasticBottleneck(Elastic):
    """(n, in, h, w) -> (n, width, ceil(h / stride), ceil(w / stride)), as ``Bottleneck``.

    ``project``: whether the shortcut is a projection, else the identity.
    """

    def __init__(
        self,
        max_in: int,
        hidden: Size,
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
        hidden = self.relu(self.reduce(x, arch))
        hidden = self.relu(self.spatial(hidden, arch))
        out: Tensor = self.relu(self.expand(hidden, arch) + run(self.shortcut, x, arch))
        return out

    def width_out(self, arch: Arch, width_in: int) -> int:
        return self.expand.width_out(arch, width_in)

    def plain(self, arch: Arch, width_in: int) -> Bottleneck:
        parts = self.parts(arch, width_in)
        return Bottleneck(**{p.name: plain_of(p.module, arch, p.width_in) for p in parts})

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        hidden = self.reduce.width_out(arch, width_in)
        yield Part("reduce", self.reduce, width_in)
        yield Part("spatial", self.spatial, hidden)
        yield Part("expand", self.expand, hidden)
        yield Part("shortcut", self.shortcut, width_in)

    def sort_channels(self) -> None:
        sort_between([self.reduce.conv, self.reduce.bn], [self.spatial.conv])
        sort_between([self.spatial.conv, self.spatial.bn], [self.expand.conv])

    def readers(self) -> list[ElasticConv2d | ElasticLinear]:
        """The convolutions that take the block's input."""
        return [self.reduce.conv, *(p.conv for p in self._projection())]

    def writers(self) -> list[ElasticConv2d | ElasticBatchNorm2d]:
        """The layers that make the block's output."""
        return [part for p in (self.expand, *self._projection()) for part in (p.conv, p.bn)]

    def _projection(self) -> list[ElasticConvBN]:
        return [m for m in self.shortcut.modules() if isinstance(m, ElasticConvBN)]


@dataclass(frozen=True)
class _Hidden:
    """Hidden channels of one block: they follow from the stage's width and the expansion."""

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


def _hidden(space: ResNetSettings, stage: int, block: str, width: Choice) -> Size:
    options = {space.hidden(int(w), e) for w in width.options for e in space.expansions}
    return Size(tuple(sorted(options)), _Hidden(space, stage, block))
