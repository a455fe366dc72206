"""This module has the plain network of one architecture of the elastic ResNet space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from raynas.spaces.elastic_resnet.blocks import ResNetBlock


def elastic_resnet(
    blocks: Sequence[ResNetBlock],
    image_channels: int = 3,
    num_classes: int = 10,
    stem_width: int = 16,
    resolution: int | None = None,
) -> ElasticResNetNet:
    """Return the network of ``blocks`` with initial weights.

    Args:
        blocks: The blocks in the order of the forward pass.
        image_channels: The number of image channels.
        num_classes: The number of classes.
        stem_width: The number of channels of the stem.
        resolution: The side to which images are resized first, in pixels; None for no resizing.

    Returns:
        The network.
    """
    stem = conv_bn(image_channels, stem_width, 3)
    modules = [bottleneck(block) for block in blocks]
    classifier = nn.Linear(blocks[-1].width_out, num_classes)
    return ElasticResNetNet(stem, modules, classifier, resolution)


class ElasticResNetNet(nn.Module):
    """A network of stem, bottleneck blocks, global average pool and linear layer.

    Any image size works; a stride rounds odd sizes up.

    Args:
        stem: The first module.
        blocks: The blocks in the order of the forward pass.
        classifier: The last module.
        resolution: The side to which images are resized first, in pixels; None for no resizing.
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
        """Return the pooled features.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, width of the last stage).
        """
        x = self.relu(self.stem(resized(x, self.resolution)))
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, num_classes).
        """
        logits: Tensor = self.classifier(self.features(x))
        return logits


def bottleneck(block: ResNetBlock) -> Bottleneck:
    """Return the module of a block with initial weights.

    Args:
        block: The description of the block.

    Returns:
        A bottleneck block.
    """
    return Bottleneck(
        reduce=conv_bn(block.width_in, block.hidden, 1),
        spatial=conv_bn(block.hidden, block.hidden, block.kernel, block.stride),
        expand=conv_bn(block.hidden, block.width_out, 1),
        shortcut=_shortcut(block),
    )


class Bottleneck(nn.Module):
    """A residual block of three convolutions.

    The shapes are (n, width_in, h, w) -> (n, width_out, ceil(h / stride), ceil(w / stride)).

    Args:
        reduce: The first convolution, to the hidden channels.
        spatial: The second convolution, with the stride.
        expand: The third convolution, to the output channels.
        shortcut: The shortcut, with the shape of the output.
    """

    def __init__(
        self, reduce: nn.Module, spatial: nn.Module, expand: nn.Module, shortcut: nn.Module
    ) -> None:
        super().__init__()
        self.reduce, self.spatial, self.expand = reduce, spatial, expand
        self.shortcut = shortcut
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block.

        Args:
            x: (n, width_in, h, w).

        Returns:
            (n, width_out, ceil(h / stride), ceil(w / stride)).
        """
        hidden = self.relu1(self.reduce(x))
        hidden = self.relu2(self.spatial(hidden))
        out: Tensor = self.relu3(self.expand(hidden) + self.shortcut(x))
        return out


def conv_bn(width_in: int, width_out: int, kernel: int, stride: int = 1) -> ConvBN:
    """Return a convolution without bias and a batch norm, with initial weights.

    Args:
        width_in: The number of input channels.
        width_out: The number of output channels.
        kernel: The side of the kernel, odd.
        stride: The stride.

    Returns:
        A module (n, width_in, h, w) -> (n, width_out, ceil(h / stride), ceil(w / stride)).
    """
    padding = kernel // 2
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=padding, bias=False)
    return ConvBN(conv, nn.BatchNorm2d(width_out))


class ConvBN(nn.Module):
    """A convolution followed by a batch norm.

    Args:
        conv: The convolution.
        bn: The batch norm.
    """

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn = conv, bn

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized output of the convolution.

        Args:
            x: (n, width_in, h, w).

        Returns:
            (n, width_out, h', w').
        """
        out: Tensor = self.bn(self.conv(x))
        return out


def resized(x: Tensor, side: int | None) -> Tensor:
    """Resize images by bilinear interpolation.

    Args:
        x: (n, c, h, w).
        side: The side in pixels; None leaves images as they are.

    Returns:
        (n, c, side, side).
    """
    if side and x.shape[-2:] != (side, side):
        x = functional.interpolate(x, size=(side, side), mode="bilinear")
    return x


def pool_of(stride: int) -> nn.Module:
    """Return the pooling of a shortcut for a stride.

    Args:
        stride: The stride.

    Returns:
        An average pool, which rounds odd sizes up; the identity for a stride of 1.
    """
    return nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()


def _shortcut(block: ResNetBlock) -> nn.Module:
    """Return the identity, or average pool for the stride and a 1x1 convolution for the width."""
    if not block.project:
        return nn.Identity()
    return nn.Sequential(pool_of(block.stride), conv_bn(block.width_in, block.width_out, 1))
