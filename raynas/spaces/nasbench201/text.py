"""This module has the text of a cell as NAS-Bench-201 writes it.

``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: node 1 first, the number is the edge's source.
"""

from __future__ import annotations

from collections.abc import Sequence

from raynas.core import UserError, unknown_option
from raynas.spaces.nasbench201.operations import EDGES, OPERATIONS

EXAMPLE = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def text_of_cell(cell: Sequence[str]) -> str:
    """Return the benchmark's text of a cell.

    Args:
        cell: The six operations, in the order of ``EDGES``.

    Returns:
        Text as ``EXAMPLE``.
    """
    parts = [f"{op}~{source}|" for (source, _), op in zip(EDGES, cell, strict=True)]
    return f"|{parts[0]}+|{parts[1]}{parts[2]}+|{parts[3]}{parts[4]}{parts[5]}"


def cell_of_text(text: str) -> list[str]:
    """Return the operations of a cell's text.

    Args:
        text: The benchmark's text of a cell.

    Returns:
        The six operations, in the order of ``EDGES``.

    Raises:
        UserError: The text is malformed; the message names the faulty part.
    """
    nodes = text.strip().split("+")
    if len(nodes) != 3:
        raise _malformed(text, f"{len(nodes)} nodes joined by '+' instead of 3")
    cell: list[str] = []
    for number, node in enumerate(nodes, start=1):
        cell.extend(_node_operations(text, number, node))
    return cell


def _malformed(text: str, problem: str) -> UserError:
    return UserError(f"malformed NAS-Bench-201 cell {text!r}: {problem}", hint=f"write {EXAMPLE}")


def _node_operations(text: str, number: int, node: str) -> list[str]:
    """Return the operations of node ``number`` from ``|op~0|...|``."""
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
            raise unknown_option("NAS-Bench-201 operation", operation, OPERATIONS)
        operations.append(operation)
    return operations
