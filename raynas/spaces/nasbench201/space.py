"""This module has the cell space of NAS-Bench-201: six edges, five operations, 15,625 cells.

X. Dong and Y. Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020. The same cells are the topology space of NATS-Bench (TPAMI 2021).

A cell has the nodes 0 (input), 1, 2, 3 (output). Every pair of nodes is joined by an edge with one
operation, and a node is the sum of its incoming edges. As text:
``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, node 1 first, the number is the edge's source.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import (
    Architecture,
    ArchitectureGraph,
    Choice,
    Costs,
    Option,
    UserError,
)
from raynas.core.fields import check_fields
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.nasbench201.operations import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    NAMES,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
)
from raynas.spaces.nasbench201.text import cell_of_text, text_of_cell

if TYPE_CHECKING:
    from raynas.spaces.nasbench201.network import NASBench201Net
    from raynas.spaces.supernet import Supernet

Cell = tuple[str, ...]
"""The six operations of a cell, in the order of ``EDGES``."""

_ROUTES = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The paths from input to output, as indices into ``EDGES``."""
_SEQUENCES = {
    path: place
    for place, path in enumerate(
        path
        for length in range(4)
        for path in itertools.product((CONV_1X1, CONV_3X3, POOL), repeat=length)
    )
}

_CHOICES = tuple(Choice(name, OPERATIONS) for name in NAMES)


@dataclass(frozen=True)
class NASBench201(SearchSpace):
    """The cell space of NAS-Bench-201: one of five operations on each of six edges.

    A network has three stages of ``cells`` equal cells with ``channels``, 2x and 4x ``channels``.
    The benchmark has ``channels=16, cells=5``; smaller numbers make it small enough for a CPU.

    Attributes:
        channels: The number of channels of the first stage, 1 or more.
        cells: The number of cells per stage, 1 or more.
        supernet_affine: True for weights and biases in the batch norms of the supernet's cells.

    Raises:
        UserError: ``channels`` or ``cells`` is below 1.

    Example:
        >>> space = NASBench201()
        >>> from raynas.spaces.nasbench201 import EXAMPLE
        >>> arch = space.architecture(EXAMPLE)
        >>> arch["op_0_1"], space.official_index(arch)
        ('nor_conv_3x3', 12415)
    """

    channels: int = 16
    cells: int = 5
    supernet_affine: bool = False

    name: ClassVar[str] = "nasbench201"
    isomorphism: ClassVar[bool] = True
    """Isomorphic cells have one canonical form."""

    def __post_init__(self) -> None:
        check_fields(self)
        for setting in ("channels", "cells"):
            value = getattr(self, setting)
            if type(value) is not int or value < 1:
                raise UserError(f"NASBench201 {setting}={value!r}", expected="integers from 1")

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The operations of the edges.

        Returns:
            Six unordered choices ``op_0_1, op_0_2, op_1_2, op_0_3, op_1_3, op_2_3``.
        """
        return _CHOICES

    def to_text(self, values: Mapping[str, Option]) -> str:
        """Return the benchmark's text of a cell.

        Args:
            values: Choice -> operation.

        Returns:
            Text as ``EXAMPLE``.
        """
        return text_of_cell([str(values[name]) for name in NAMES])

    def from_text(self, text: str) -> dict[str, Option]:
        """Return the operations of a cell's text.

        Args:
            text: The benchmark's text of a cell.

        Returns:
            Choice -> operation.

        Raises:
            UserError: The text is malformed; the message names the faulty part.
        """
        return _values(cell_of_text(text))

    def canonical_form(self, arch: Architecture) -> Architecture:
        """Return the representative of the 6,466 classes that the benchmark calls isomorphic.

        Two cells are isomorphic when their outputs are the same expression: ``none``, and any
        operation on a lone zero, is zero; a skip is its source; the terms of a sum are sorted. The
        representative has the fewest weights of its class, then the most ``none`` (edges that lead
        nowhere or come from nowhere), then the lowest official index.

        The benchmark's rule compares expressions, not weights: two edges with the same operation on
        the same input equal one such edge used twice, which has one set of weights for both. And a
        convolution of zero is zero only as long as its batch norm has no bias.

        Args:
            arch: An architecture of this space.

        Returns:
            The representative of its class; ``arch`` itself without ``isomorphism``.
        """
        if not self.isomorphism:
            return arch
        return self.architecture(_values(_representatives()[_cell(arch)]))

    def connected(self, arch: Architecture) -> bool:
        """Return True when the cell's input reaches its output.

        Args:
            arch: An architecture of this space.

        Returns:
            False for 341 cells of 15,625.
        """
        reached = {0}
        for (source, target), operation in zip(EDGES, _cell(arch), strict=True):
            if operation != NONE and source in reached:
                reached.add(target)
        return 3 in reached

    def draw_canonical(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical architecture, uniform over the 6,466 representatives.

        Args:
            rng: The source of randomness.

        Returns:
            A representative.
        """
        cells = _classes()
        return self.architecture(_values(cells[int(rng.integers(len(cells)))]))

    def smallest_and_largest(self) -> tuple[Architecture, Architecture]:
        """Return the smallest and the largest architecture.

        Returns:
            The cell with one skip from input to output, and the one with 3x3 convolutions on all
                edges.
        """
        smallest = [SKIP if edge == (0, 3) else NONE for edge in EDGES]
        return self.architecture(_values(smallest)), self.architecture(_values([CONV_3X3] * 6))

    def official_index(self, arch: Architecture) -> int:
        """Return the number of the cell in the benchmark's files.

        Args:
            arch: An architecture of this space.

        Returns:
            A number from 0 to 15624.
        """
        return _index_of()[_cell(arch)]

    def from_index(self, index: int) -> Architecture:
        """Return the cell with a number in the benchmark's files.

        Args:
            index: A number from 0 to 15624.

        Returns:
            The architecture.

        Raises:
            UserError: The number is outside its range.
        """
        cells = _official_order()
        if not 0 <= index < len(cells):
            raise UserError(f"NAS-Bench-201 has no cell {index}", expected=f"0..{len(cells) - 1}")
        return self.architecture(_values(cells[index]))

    def closed_form_costs(
        self, arch: Architecture, input_shape: InputShape, num_classes: int
    ) -> Costs:
        """Return exact weights and MACs in closed form, as the benchmark counts them.

        All edges are included, also those that lead nowhere.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            Trainable weights, and the multiply-adds of one image.
        """
        cell = _cell(arch)
        n3, n1 = cell.count(CONV_3X3), cell.count(CONV_1X1)
        image_channels, height, width = input_shape
        c = self.channels
        pixels = height * width
        params = 9 * image_channels * c + 2 * c
        macs = 9 * image_channels * c * pixels
        for stage in range(3):
            if stage:
                # the residual block: 3x3 at stride 2, 3x3, and a 1x1 shortcut without batch norm
                height, width, c = -(-height // 2), -(-width // 2), 2 * c
                pixels = height * width
                weights = 9 * (c // 2) * c + 9 * c * c + (c // 2) * c
                params += weights + 4 * c
                macs += weights * pixels
            weights = self.cells * (9 * n3 + n1) * c * c
            params += weights + self.cells * (n3 + n1) * 2 * c
            macs += weights * pixels
        head = c * num_classes + num_classes
        return Costs(params=params + 2 * c + head, macs=macs + head)

    def more_features(self, arch: Architecture) -> NDArray[np.float32]:
        """Return the counts of paths from input to output.

        A path is one of 40 sequences of up to three convolutions and poolings; skips are left out,
        since they change nothing.

        Args:
            arch: An architecture of this space.

        Returns:
            (40,) float32, one count per sequence.
        """
        paths = np.zeros(len(_SEQUENCES), dtype=np.float32)
        for path in _paths(_cell(arch)):
            paths[_SEQUENCES[path]] += 1
        return paths

    def diagram(self, arch: Architecture) -> ArchitectureGraph:
        """Return the four nodes and all edges but those with ``none``.

        Args:
            arch: An architecture of this space.

        Returns:
            A drawing; an arrow's label is its operation.
        """
        edges = ((s, t, op) for (s, t), op in zip(EDGES, _cell(arch), strict=True) if op != NONE)
        return ArchitectureGraph(("input", "1", "2", "output"), tuple(edges))

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> NASBench201Net:
        """Return the benchmark's network; parameters and buffers have the reference's names.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            A network (n, *input_shape) -> logits (n, num_classes).
        """
        from raynas.spaces.nasbench201.network import Cell, nasbench201_net, operation

        cell = _cell(arch)
        return nasbench201_net(
            lambda width: Cell(cell, [operation(name, width) for name in cell]),
            image_channels=input_shape[0],
            num_classes=num_classes,
            channels=self.channels,
            cells=self.cells,
        )

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        """Return the network with every operation on every edge of every cell.

        Args:
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            The supernet.
        """
        from raynas.spaces.nasbench201.supernet import ElasticNASBench201
        from raynas.spaces.supernet import Supernet

        body = ElasticNASBench201(
            input_shape[0], num_classes, self.channels, self.cells, self.supernet_affine
        )
        return Supernet(self, body, input_shape, num_classes)


@dataclass(frozen=True)
class NASBench201Cells(NASBench201):
    """The cell space of NAS-Bench-201 in which isomorphic cells count separately, 15,625 in all.

    It is for comparison with results that were published on the benchmark's table, where each of
    several isomorphic cells was trained and is a query.
    """

    name: ClassVar[str] = "nasbench201_cells"
    isomorphism: ClassVar[bool] = False


def _cell(arch: Architecture) -> Cell:
    return tuple(str(option) for option in arch.options)


def _values(cell: Sequence[str]) -> dict[str, Option]:
    return dict(zip(NAMES, cell, strict=True))


def _paths(cell: Cell) -> Iterator[Cell]:
    """Yield the operations, without skips, on each path from input to output without ``none``."""
    for route in _ROUTES:
        operations = [cell[edge] for edge in route]
        if NONE not in operations:
            yield tuple(operation for operation in operations if operation != SKIP)


def _expression(cell: Cell) -> str:
    """Return the output node as text, equal for cells that the benchmark calls isomorphic.

    ``0`` is the cell's input, ``#`` zero, ``(value)@operation`` an edge. The spelling matters: a
    sum that arrives by a skip is sorted as one piece of text, and a sum of zeros is not the lone
    zero. Other characters, or other algebra, make another number of classes than 6,466.
    """
    values = ["0"]
    operations = iter(cell)
    for target in (1, 2, 3):
        terms = [_term(next(operations), values[source]) for source in range(target)]
        values.append("+".join(sorted(terms)))
    return values[-1]


def _term(operation: str, value: str) -> str:
    if operation == NONE or value == "#":
        return "#"
    return value if operation == SKIP else f"({value})@{operation}"


@cache
def _official_order() -> tuple[Cell, ...]:
    """Return all cells in the benchmark's order, which is a seeded shuffle of the sorted ones."""
    cells = list(itertools.product(OPERATIONS, repeat=len(EDGES)))
    random.Random(88).shuffle(cells)
    return tuple(cells)


@cache
def _index_of() -> dict[Cell, int]:
    return {cell: index for index, cell in enumerate(_official_order())}


@cache
def _representatives() -> dict[Cell, Cell]:
    """Return cell -> representative of its class, for all cells; computed once in 0.1 s."""
    classes: dict[str, list[Cell]] = {}
    for cell in _official_order():
        classes.setdefault(_expression(cell), []).append(cell)
    # min takes the first of equals, and the classes are in the official order
    simplest = {expression: min(cells, key=_size) for expression, cells in classes.items()}
    return {cell: simplest[e] for e, cells in classes.items() for cell in cells}


@cache
def _classes() -> tuple[Cell, ...]:
    """Return the representatives in the official order."""
    chosen = set(_representatives().values())
    return tuple(cell for cell in _official_order() if cell in chosen)


def _size(cell: Cell) -> tuple[int, int]:
    """Return a sort key for cells of a class: weights at any number of channels, then edges."""
    return 9 * cell.count(CONV_3X3) + cell.count(CONV_1X1), -cell.count(NONE)
