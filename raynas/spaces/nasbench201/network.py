"""This module has the network of NAS-Bench-201 (Dong and Yang, ICLR 2020).

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
    """Return the network with initial weights.

    Args:
        make_cell: Returns a cell for a number of channels.
        image_channels: The number of image channels.
        num_classes: The number of classes.
        channels: The number of channels of the first stage.
        cells: The number of cells per stage.

    Returns:
        The network.
    """
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
    """A network of stem, three stages of cells, batch norm and linear layer.

    A residual block of stride 2 is between the stages. Any image size works; odd sizes are rounded
    up.

    Args:
        stem: The first module.
        cells: The cells and residual blocks in the order of the forward pass.
        lastact: Batch norm and ReLU after the last cell.
        classifier: The last module.
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
        """Return the pooled features.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, 4 * channels).
        """
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        pooled: Tensor = self.lastact(x).mean(dim=(2, 3))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: (n, image_channels, h, w).

        Returns:
            (n, num_classes).
        """
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Cell(nn.Module):
    """A cell: (n, width, h, w) -> the same shape.

    Edges that lead nowhere are computed, too.

    Args:
        operations: The names of the six edges' operations.
        layers: The modules of the six edges.
    """

    def __init__(self, operations: Sequence[str], layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output node of the cell.

        Args:
            x: (n, width, h, w).

        Returns:
            (n, width, h, w).
        """
        nodes = [x]
        for target in (1, 2, 3):
            terms = [
                layer(nodes[source])
                for (source, end), name, layer in zip(
                    EDGES, self.operations, self.layers, strict=True
                )
                if end == target and name != NONE
            ]
            # the zero depends on the input, so that gradients are zero and not missing
            nodes.append(reduce(torch.add, terms) if terms else x * 0.0)
        return nodes[-1]


class ResidualBlock(nn.Module):
    """A residual block of stride 2.

    The shapes are (n, width_in, h, w) -> (n, width_out, ceil(h / 2), ceil(w / 2)).

    Args:
        width_in: The number of input channels.
        width_out: The number of output channels.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv_a = relu_conv_bn(width_in, width_out, 3, stride=2)
        self.conv_b = relu_conv_bn(width_out, width_out, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True),
            nn.Conv2d(width_in, width_out, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block.

        Args:
            x: (n, width_in, h, w).

        Returns:
            (n, width_out, ceil(h / 2), ceil(w / 2)).
        """
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


def relu_conv_bn(width_in: int, width_out: int, kernel: int, stride: int = 1) -> ReLUConvBN:
    """Return ReLU, convolution without bias and batch norm, with initial weights.

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
    return ReLUConvBN(conv, nn.BatchNorm2d(width_out))


class ReLUConvBN(nn.Module):
    """A chain of ReLU, convolution and batch norm.

    Args:
        conv: The convolution.
        bn: The batch norm.
    """

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), conv, bn)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the chain.

        Args:
            x: (n, width_in, h, w).

        Returns:
            (n, width_out, h', w').
        """
        out: Tensor = self.op(x)
        return out


def operation(name: str, width: int) -> nn.Module:
    """Return the module of an edge.

    Args:
        name: The name of an operation.
        width: The number of channels.

    Returns:
        A module that keeps the shape; for ``none`` a placeholder that is never called and keeps the
            numbering of modules.
    """
    if name in (CONV_1X1, CONV_3X3):
        return relu_conv_bn(width, width, 3 if name == CONV_3X3 else 1)
    if name == POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity()
