"""The cell space of NAS-Bench-201: six edges, five operations, 15,625 cells.

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

from raynas.core import Architecture, Choice, Costs, Graph, Option, UserError, one_of
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

if TYPE_CHECKING:
    from raynas.spaces.nasbench201.network import NASBench201Net
    from raynas.spaces.supernet import Supernet

EXAMPLE = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"

Cell = tuple[str, ...]
"""The six operations of a cell, in the order of ``EDGES``."""

_ROUTES = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The paths from input to output, as places in ``EDGES``."""
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
    """Three stages of ``cells`` equal cells with ``channels``, 2x and 4x ``channels``.

    The benchmark has ``channels=16, cells=5``; fewer of both make it small enough for a CPU.
    ``supernet_affine``: whether batch norms in the supernet's cells have weights and biases.
    Raises: UserError for values below 1.
    """

    channels: int = 16
    cells: int = 5
    supernet_affine: bool = False

    name: ClassVar[str] = "nasbench201"

    def __post_init__(self) -> None:
        check_fields(self)
        for setting in ("channels", "cells"):
            value = getattr(self, setting)
            if type(value) is not int or value < 1:
                raise UserError(f"NASBench201 {setting}={value!r}", allowed="integers from 1")

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Six unordered choices ``op_0_1, op_0_2, op_1_2, op_0_3, op_1_3, op_2_3``."""
        return _CHOICES

    def format(self, values: Mapping[str, Option]) -> str:
        """The benchmark's text of the cell."""
        return _cell_text([str(values[name]) for name in NAMES])

    def parse(self, text: str) -> dict[str, Option]:
        """Operations from the benchmark's text. Raises: UserError naming the faulty part."""
        nodes = text.strip().split("+")
        if len(nodes) != 3:
            raise _malformed(text, f"{len(nodes)} nodes joined by '+' instead of 3")
        cell: list[str] = []
        for number, node in enumerate(nodes, start=1):
            cell.extend(_node_operations(text, number, node))
        return _values(cell)

    def canonical(self, arch: Architecture) -> Architecture:
        """The representative of the 6,466 classes that the benchmark calls isomorphic.

        Two cells are isomorphic when their outputs are the same expression: ``none``, and any
        operation on a lone zero, is zero; a skip is its source; the terms of a sum are sorted.
        The representative has the fewest weights of its class, then the most ``none`` (edges
        that lead nowhere or come from nowhere), then the lowest official index.

        The benchmark's rule compares expressions, not weights: two edges with the same operation
        on the same input equal one such edge used twice, which has one set of weights for both.
        And a convolution of zero is zero only as long as its batch norm has no bias.
        """
        return self.architecture(_values(_representatives()[_cell(arch)]))

    def connected(self, arch: Architecture) -> bool:
        """Whether the cell's input reaches its output; 341 cells of 15,625 are not connected."""
        reached = {0}
        for (source, target), operation in zip(EDGES, _cell(arch), strict=True):
            if operation != NONE and source in reached:
                reached.add(target)
        return 3 in reached

    def sample_canonical(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the 6,466 representatives."""
        cells = _classes()
        return self.architecture(_values(cells[int(rng.integers(len(cells)))]))

    def extremes(self) -> tuple[Architecture, Architecture]:
        """One skip from input to output, and 3x3 convolutions on all edges."""
        smallest = [SKIP if edge == (0, 3) else NONE for edge in EDGES]
        return self.architecture(_values(smallest)), self.architecture(_values([CONV_3X3] * 6))

    def official_index(self, arch: Architecture) -> int:
        """The number of the cell in the benchmark's files, 0..15624."""
        return _index_of()[_cell(arch)]

    def from_index(self, index: int) -> Architecture:
        """The cell with this number in the benchmark's files. Raises: UserError."""
        cells = _official_order()
        if not 0 <= index < len(cells):
            raise UserError(f"NAS-Bench-201 has no cell {index}", allowed=f"0..{len(cells) - 1}")
        return self.architecture(_values(cells[index]))

    def costs(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Costs:
        """Exact weights and MACs in closed form, all edges included, as the benchmark counts."""
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

    def features(self, arch: Architecture) -> NDArray[np.float32]:
        """The default ones, then how many paths from input to output are each of the 40 sequences
        of up to three convolutions and poolings: skips left out, as they change nothing."""
        paths = np.zeros(len(_SEQUENCES), dtype=np.float32)
        for path in _paths(_cell(arch)):
            paths[_SEQUENCES[path]] += 1
        return np.concatenate([super().features(arch), paths])

    def graph(self, arch: Architecture) -> Graph:
        """The four nodes and the edges that carry something."""
        edges = ((s, t, op) for (s, t), op in zip(EDGES, _cell(arch), strict=True) if op != NONE)
        return Graph(("input", "1", "2", "output"), tuple(edges))

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> NASBench201Net:
        """The benchmark's network; parameters and buffers bear the reference's names."""
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
        """All operations on all edges of every cell."""
        from raynas.spaces.nasbench201.supernet import ElasticNASBench201
        from raynas.spaces.supernet import Supernet

        body = ElasticNASBench201(
            input_shape[0], num_classes, self.channels, self.cells, self.supernet_affine
        )
        return Supernet(self, body, input_shape, num_classes)


@dataclass(frozen=True)
class NASBench201Cells(NASBench201):
    """The same space with isomorphic cells apart: all 15,625 stand for themselves.

    For comparison with what was published on the benchmark's table, where isomorphic cells were
    trained each, and each is a query of its own.
    """

    name: ClassVar[str] = "nasbench201_cells"

    def canonical(self, arch: Architecture) -> Architecture:
        return arch


def _cell(arch: Architecture) -> Cell:
    return tuple(str(option) for option in arch.options)


def _values(cell: Sequence[str]) -> dict[str, Option]:
    return dict(zip(NAMES, cell, strict=True))


def _paths(cell: Cell) -> Iterator[Cell]:
    """The operations on each path from input to output that carries something, less its skips."""
    for route in _ROUTES:
        operations = [cell[edge] for edge in route]
        if NONE not in operations:
            yield tuple(operation for operation in operations if operation != SKIP)


def _cell_text(cell: Sequence[str]) -> str:
    parts = [f"{op}~{source}|" for (source, _), op in zip(EDGES, cell, strict=True)]
    return f"|{parts[0]}+|{parts[1]}{parts[2]}+|{parts[3]}{parts[4]}{parts[5]}"


def _malformed(text: str, problem: str) -> UserError:
    return UserError(f"malformed NAS-Bench-201 cell {text!r}: {problem}", cure=f"write {EXAMPLE}")


def _node_operations(text: str, number: int, node: str) -> list[str]:
    """The operations of node ``number`` from ``|op~0|...|``."""
    if len(node) < 2 or node[0] != "|" or node[-1] != "|":
        raise _malformed(text, f"node {number} {node!r} does not stand between bars")
    edges = node[1:-1].split("|")
    if len(edges) != number:
        raise _malformed(text, f"node {number} has {len(edges)} edges instead of {number}")
    operations = []
    for source, edge in enumerate(edges):
        operation, tilde, origin = edge.partition("~")
        if not tilde or origin != str(source):
            raise _malformed(text, f"edge {edge!r} of node {number} does not end in '~{source}'")
        if operation not in OPERATIONS:
            raise one_of("NAS-Bench-201 operation", operation, OPERATIONS)
        operations.append(operation)
    return operations


def _expression(cell: Cell) -> str:
    """The output node as text, equal for isomorphic cells: the benchmark's own notion.

    ``0`` is the cell's input, ``#`` zero, ``(value)@operation`` an edge. The spelling matters: a
    sum that arrives by a skip is sorted as one piece of text, and a sum of zeros is not the lone
    zero. Other characters, or nicer algebra, make another number of classes than 6,466.
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
    """All cells in the benchmark's order, which is a seeded shuffle of the sorted ones."""
    cells = list(itertools.product(OPERATIONS, repeat=len(EDGES)))
    random.Random(88).shuffle(cells)
    return tuple(cells)


@cache
def _index_of() -> dict[Cell, int]:
    return {cell: index for index, cell in enumerate(_official_order())}


@cache
def _representatives() -> dict[Cell, Cell]:
    """Cell -> representative of its class, for all cells; made once in a tenth of a second."""
    classes: dict[str, list[Cell]] = {}
    for cell in _official_order():
        classes.setdefault(_expression(cell), []).append(cell)
    # min takes the first of equals, and the classes are in the official order
    simplest = {expression: min(cells, key=_size) for expression, cells in classes.items()}
    return {cell: simplest[e] for e, cells in classes.items() for cell in cells}


@cache
def _classes() -> tuple[Cell, ...]:
    """The representatives in the official order."""
    chosen = set(_representatives().values())
    return tuple(cell for cell in _official_order() if cell in chosen)


def _size(cell: Cell) -> tuple[int, int]:
    """Orders the cells of a class by weights, whatever the number of channels; then by edges."""
    return 9 * cell.count(CONV_3X3) + cell.count(CONV_1X1), -cell.count(NONE)
