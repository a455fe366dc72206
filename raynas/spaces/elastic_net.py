"""The plain network of one architecture of the elastic space."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from raynas.spaces.elastic import Block


class ElasticResNetNet(nn.Module):
    """Stem, bottleneck blocks, global average pool, linear layer.

    ``resolution``: the side to which images are resized first, or None. Any image size works;
    a stride rounds odd sizes up.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        image_channels: int = 3,
        num_classes: int = 10,
        stem_width: int = 16,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.stem = ConvBN(image_channels, stem_width, 3)
        self.relu = nn.ReLU()
        self.blocks = nn.ModuleList(Bottleneck(block) for block in blocks)
        self.classifier = nn.Linear(blocks[-1].width_out, num_classes)

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


class Bottleneck(nn.Module):
    """(n, width_in, h, w) -> (n, width_out, ceil(h / stride), ceil(w / stride))."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.reduce = ConvBN(block.width_in, block.hidden, 1)
        self.spatial = ConvBN(block.hidden, block.hidden, block.kernel, block.stride)
        self.expand = ConvBN(block.hidden, block.width_out, 1)
        self.shortcut = _shortcut(block)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu1(self.reduce(x))
        hidden = self.relu2(self.spatial(hidden))
        out: Tensor = self.relu3(self.expand(hidden) + self.shortcut(x))
        return out


class ConvBN(nn.Module):
    """Convolution without bias, batch norm."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width_out)

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
    return nn.Sequential(pool_of(block.stride), ConvBN(block.width_in, block.width_out, 1))
