"""The network of NAS-Bench-201 (Dong and Yang, ICLR 2020).

Modules are named as in the authors' code, so that weights published for the benchmark load with
``strict=True``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from raynas.spaces.nasbench201.operations import CONV_1X1, CONV_3X3, EDGES, NONE, POOL


def nasbench201_net(
    make_cell: Callable[[int], nn.Module],
    image_channels: int = 3,
    num_classes: int = 10,
    channels: int = 16,
    cells: int = 5,
) -> NASBench201Net:
    """The network with initial weights. ``make_cell``: number of channels -> a cell."""
    stem = nn.Sequential(
        nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    rows: list[nn.Module] = []
    width = channels
    for stage in range(3):
        if stage:
            rows.append(ResidualBlock(width, 2 * width))
            width *= 2
        rows.extend(make_cell(width) for _ in range(cells))
    lastact = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
    return NASBench201Net(stem, rows, lastact, nn.Linear(width, num_classes))


class NASBench201Net(nn.Module):
    """Stem, three stages of cells with a residual block of stride 2 between, BN, linear layer.

    Works for any image size; odd ones round up.
    """

    def __init__(
        self,
        stem: nn.Module,
        cells: Iterable[nn.Module],
        lastact: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.lastact = lastact
        self.classifier = classifier

    def features(self, x: Tensor) -> Tensor:
        """(n, image_channels, h, w) -> pooled features (n, 4 * channels)."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        pooled: Tensor = self.lastact(x).mean(dim=(2, 3))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """(n, image_channels, h, w) -> logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Cell(nn.Module):
    """(n, width, h, w) -> the same shape. All edges are computed, also those leading nowhere.

    ``operations``: the names of the six edges' operations, ``layers``: their modules.
    """

    def __init__(self, operations: Sequence[str], layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            terms = [
                layer(nodes[source])
                for (source, end), name, layer in zip(
                    EDGES, self.operations, self.layers, strict=True
                )
                if end == target and name != NONE
            ]
            # zero stays joined to the input, so that gradients are zero and not missing
            nodes.append(reduce(torch.add, terms) if terms else x * 0.0)
        return nodes[-1]


class ResidualBlock(nn.Module):
    """(n, width_in, h, w) -> (n, width_out, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv_a = relu_conv_bn(width_in, width_out, 3, stride=2)
        self.conv_b = relu_conv_bn(width_out, width_out, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True),
            nn.Conv2d(width_in, width_out, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


def relu_conv_bn(width_in: int, width_out: int, kernel: int, stride: int = 1) -> ReLUConvBN:
    """ReLU, convolution without bias, batch norm, with initial weights."""
    padding = kernel // 2
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=padding, bias=False)
    return ReLUConvBN(conv, nn.BatchNorm2d(width_out))


class ReLUConvBN(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), conv, bn)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


def operation(name: str, width: int) -> nn.Module:
    """The module of an edge. ``none`` is a placeholder, never called, that keeps the numbering."""
    if name in (CONV_1X1, CONV_3X3):
        return relu_conv_bn(width, width, 3 if name == CONV_3X3 else 1)
    if name == POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity()
