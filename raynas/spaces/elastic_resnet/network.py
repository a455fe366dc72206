"""The plain network of one architecture of the elastic space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from raynas.spaces.elastic_resnet.blocks import Block


def elastic_resnet(
    blocks: Sequence[Block],
    image_channels: int = 3,
    num_classes: int = 10,
    stem_width: int = 16,
    resolution: int | None = None,
) -> ElasticResNetNet:
    """The network of ``blocks`` with initial weights."""
    stem = conv_bn(image_channels, stem_width, 3)
    modules = [bottleneck(block) for block in blocks]
    classifier = nn.Linear(blocks[-1].width_out, num_classes)
    return ElasticResNetNet(stem, modules, classifier, resolution)


class ElasticResNetNet(nn.Module):
    """Stem, bottleneck blocks, global average pool, linear layer.

    ``resolution``: the side to which images are resized first, or None. Any image size works;
    a stride rounds odd sizes up.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Iterable[nn.Module],
        classifier: nn.Module,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.stem = stem
        self.relu = nn.ReLU()
        self.blocks = nn.ModuleList(blocks)
        self.classifier = classifier

    def features(self, x: Tensor) -> Tensor:
        """(n, image_channels, h, w) -> pooled features (n, width of the last stage)."""
        x = self.relu(self.stem(resized(x, self.resolution)))
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(n, image_channels, h, w) -> logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def bottleneck(block: Block) -> Bottleneck:
    """``block`` with initial weights."""
    return Bottleneck(
        reduce=conv_bn(block.width_in, block.hidden, 1),
        spatial=conv_bn(block.hidden, block.hidden, block.kernel, block.stride),
        expand=conv_bn(block.hidden, block.width_out, 1),
        shortcut=_shortcut(block),
    )


class Bottleneck(nn.Module):
    """(n, width_in, h, w) -> (n, width_out, ceil(h / stride), ceil(w / stride))."""

    def __init__(
        self, reduce: nn.Module, spatial: nn.Module, expand: nn.Module, shortcut: nn.Module
    ) -> None:
        super().__init__()
        self.reduce, self.spatial, self.expand = reduce, spatial, expand
        self.shortcut = shortcut
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu1(self.reduce(x))
        hidden = self.relu2(self.spatial(hidden))
        out: Tensor = self.relu3(self.expand(hidden) + self.shortcut(x))
        return out


def conv_bn(width_in: int, width_out: int, kernel: int, stride: int = 1) -> ConvBN:
    """Convolution without bias, batch norm, with initial weights."""
    padding = kernel // 2
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=padding, bias=False)
    return ConvBN(conv, nn.BatchNorm2d(width_out))


class ConvBN(nn.Module):
    """Convolution, batch norm."""

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn = conv, bn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


def resized(x: Tensor, side: int | None) -> Tensor:
    """(n, c, h, w) -> (n, c, side, side), bilinear; None leaves images as they are."""
    if side and x.shape[-2:] != (side, side):
        x = functional.interpolate(x, size=(side, side), mode="bilinear")
    return x


def pool_of(stride: int) -> nn.Module:
    """What a shortcut does for ``stride``; odd sizes round up."""
    return nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()


def _shortcut(block: Block) -> nn.Module:
    """Identity, or average pool for the stride and a 1x1 convolution for the width."""
    if not block.project:
        return nn.Identity()
    return nn.Sequential(pool_of(block.stride), conv_bn(block.width_in, block.width_out, 1))
