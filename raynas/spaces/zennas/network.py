"""This module has the network of one architecture of the Zen-NAS space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from raynas.spaces.zennas.blocks import ConvSpec, ResidualLink, ZenBlock


class ZenNet(nn.Module):
    """A network of links, global average pool and linear layer.

    Any image size works; a stride rounds odd sizes up.

    Args:
        blocks: The blocks in the order of the forward pass.
        num_classes: The number of classes.

    Attributes:
        residual: True when links add their shortcuts; the Zen-Score is defined without them.
    """

    def __init__(self, blocks: Sequence[ZenBlock], num_classes: int = 10) -> None:
        super().__init__()
        self.residual = True
        self.links = nn.ModuleList(LinkNet(link) for block in blocks for link in block.links())
        self.classifier = nn.Linear(blocks[-1].channels, num_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the features before pooling.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, channels of the last block, h', w').
        """
        for link in self.links:
            x = link(x, self.residual)
        return x

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled features.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, channels of the last block).
        """
        return self.feature_map(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, num_classes).
        """
        logits: Tensor = self.classifier(self.features(x))
        return logits


class LinkNet(nn.Module):
    """A module of one link: (n, c, h, w) -> (n, c', ceil(h / stride), ceil(w / stride)).

    Args:
        link: The description of the link.
    """

    def __init__(self, link: ResidualLink) -> None:
        super().__init__()
        body = [layer for conv in link.convs for layer in (*_conv_bn(conv), nn.ReLU())]
        self.body = nn.Sequential(*body[:-1])  # the last ReLU comes after the shortcut
        self.shortcut = _shortcut(link) if link.residual else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, residual: bool = True) -> Tensor:
        """Return the output of the link.

        Args:
            x: (n, c, h, w).
            residual: True to add the shortcut.

        Returns:
            (n, c', ceil(h / stride), ceil(w / stride)).
        """
        out: Tensor = self.body(x)
        if residual and self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: Tensor = self.relu(out)
        return activated


def _shortcut(link: ResidualLink) -> nn.Module:
    return nn.Sequential(*_conv_bn(link.projection)) if link.projection else nn.Identity()


def _conv_bn(conv: ConvSpec) -> Iterator[nn.Module]:
    yield nn.Conv2d(
        conv.channels_in, conv.channels, conv.kernel, conv.stride, conv.kernel // 2,
        groups=conv.groups, bias=False,
    )  # fmt: skip
    yield nn.BatchNorm2d(conv.channels, eps=1e-3)  # the authors' epsilon
