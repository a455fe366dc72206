"""This module has the supernet of NAS-Bench-201: every operation on every edge of every cell.

X. Ning et al., "Evaluating Efficient Performance Estimators of Neural Architectures", NeurIPS 2021,
advise leaving out the affine part of the cells' batch norms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn

from raynas.layers import Arch, Elastic, ElasticBatchNorm2d, ElasticConv2d, ElasticPart, OneOf
from raynas.layers.base import plain_of, run
from raynas.spaces.nasbench201.network import (
    Cell,
    NASBench201Net,
    ReLUConvBN,
    nasbench201_net,
    operation,
)
from raynas.spaces.nasbench201.operations import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    NAMES,
    NONE,
    OPERATIONS,
)


class ElasticNASBench201(Elastic):
    """The benchmark's network with elastic cells; stem, residual blocks and head are plain.

    Args:
        image_channels: The number of image channels.
        num_classes: The number of classes.
        channels: The number of channels of the first stage.
        cells: The number of cells per stage.
        affine: True for weights and biases in the batch norms of the cells.
    """

    def __init__(
        self, image_channels: int, num_classes: int, channels: int, cells: int, affine: bool
    ) -> None:
        super().__init__()
        self.width, self.num_classes = channels, num_classes
        frame = nasbench201_net(
            lambda width: ElasticCell(width, affine),
            image_channels=image_channels,
            num_classes=num_classes,
            channels=channels,
            cells=cells,
        )
        self.stem, self.cells, self.lastact = frame.stem, frame.cells, frame.lastact
        self.classifier = frame.classifier

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the logits of the network of ``arch``.

        Args:
            x: (n, image_channels, h, w).
            arch: The architecture.

        Returns:
            (n, num_classes).
        """
        x = self.stem(x)
        for cell in self.cells:
            x = run(cell, x, arch)
        logits: Tensor = self.classifier(self.lastact(x).mean(dim=(2, 3)))
        return logits

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of classes."""
        return self.num_classes

    def plain(self, arch: Arch, width_in: int) -> NASBench201Net:
        """Return the plain network of ``arch`` with copies of its weights.

        Args:
            arch: The architecture.
            width_in: The number of image channels.

        Returns:
            A network without anything elastic in it.
        """
        twins = {p.name: plain_of(p.module, arch, p.width_in) for p in self.parts(arch, width_in)}
        stem, lastact, classifier = (twins.pop(n) for n in ("stem", "lastact", "classifier"))
        return NASBench201Net(stem, twins.values(), lastact, classifier)

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the stem, the cells and residual blocks, and the head.

        Yields:
            Parts in the order of the forward pass.
        """
        yield ElasticPart("stem", self.stem, width_in)
        width = self.width
        for number, cell in enumerate(self.cells):
            yield ElasticPart(f"cells.{number}", cell, width)
            width = width if isinstance(cell, ElasticCell) else 2 * width
        yield ElasticPart("lastact", self.lastact, width)
        yield ElasticPart("classifier", self.classifier, width)


class ElasticCell(Elastic):
    """A cell with every operation on every edge: (n, width, h, w) -> the same shape.

    Edges that lead nowhere are not computed.

    Args:
        width: The number of channels.
        affine: True for weights and biases in the operations' batch norms.
    """

    def __init__(self, width: int, affine: bool = False) -> None:
        super().__init__()
        self.width = width
        self.edges = nn.ModuleDict(
            {
                name: OneOf(name, {op: _operation(op, width, affine) for op in OPERATIONS})
                for name in NAMES
            }
        )

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the output node of the cell of ``arch``.

        Args:
            x: (n, width, h, w).
            arch: The architecture.

        Returns:
            (n, width, h, w).
        """
        nodes, live = [x], set(live_edges(arch))
        for target in (1, 2, 3):
            terms = [
                run(self.edges[name], nodes[source], arch)
                for (source, end), name in zip(EDGES, NAMES, strict=True)
                if end == target and name in live
            ]
            # the zero depends on the input, so that gradients are zero and not missing
            nodes.append(reduce(torch.add, terms) if terms else x * 0.0)
        return nodes[-1]

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return ``width_in``, since a cell keeps its channels."""
        return width_in

    def plain(self, arch: Arch, width_in: int) -> Cell:
        """Return the plain cell of ``arch``, with the edges that lead nowhere."""
        # edges that lead nowhere, too: the plain cell has them and their weights
        layers = [plain_of(self.edges[name], arch, width_in) for name in NAMES]
        return Cell([str(arch[name]) for name in NAMES], layers)

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Return the edges that lead to the output."""
        return (
            ElasticPart(f"edges.{name}", self.edges[name], width_in) for name in live_edges(arch)
        )


def live_edges(arch: Arch) -> list[str]:
    """Return the names of the edges that are not ``none`` and lead to the output.

    Args:
        arch: An architecture of the space.

    Returns:
        Names in the order of ``NAMES``.
    """
    reaching, live = {3}, []
    for (source, target), name in reversed(list(zip(EDGES, NAMES, strict=True))):
        if target in reaching and arch[name] != NONE:
            reaching.add(source)
            live.append(name)
    return live[::-1]


class ElasticReLUConvBN(Elastic):
    """A chain of ReLU, convolution and batch norm with or without an affine part.

    Args:
        width: The number of channels.
        kernel: The side of the kernel, odd.
        affine: True for weights and biases in the batch norm.
    """

    def __init__(self, width: int, kernel: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = ElasticConv2d(width, width, kernel)
        self.bn = ElasticBatchNorm2d(width, affine)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the output of the chain.

        Args:
            x: (n, width, h, w).
            arch: The architecture; not used.

        Returns:
            (n, width, h, w).
        """
        out: Tensor = self.bn(self.conv(self.relu(x), arch), arch)
        return out

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return ``width_in``, since the chain keeps its channels."""
        return width_in

    def plain(self, arch: Arch, width_in: int) -> ReLUConvBN:
        """Return the plain chain with copies of its weights."""
        return ReLUConvBN(self.conv.plain(arch, width_in), self.bn.plain(arch, width_in))

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the convolution and the batch norm.

        Yields:
            Two parts.
        """
        yield ElasticPart("conv", self.conv, width_in)
        yield ElasticPart("bn", self.bn, width_in)


def _operation(name: str, width: int, affine: bool) -> nn.Module:
    if name in (CONV_1X1, CONV_3X3):
        return ElasticReLUConvBN(width, 3 if name == CONV_3X3 else 1, affine)
    return operation(name, width)
