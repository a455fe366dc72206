"""Drawings of architectures: well-formed, inside their frame, nothing unescaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from raynas.core import ArchitectureGraph
from raynas.reports import drawings as graphs

CELL = ArchitectureGraph(
    ("input", "1", "2", "output"),
    (
        (0, 1, "conv"),
        (0, 2, "pool"),
        (1, 2, "conv"),
        (0, 3, "skip"),
        (1, 3, "conv"),
        (2, 3, "pool"),
    ),
)
CHAIN = ArchitectureGraph(
    tuple(f"node {i}" for i in range(14)), tuple((i, i + 1, "64") for i in range(13))
)


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]


def inside(svg: str) -> bool:
    root = ET.fromstring(svg)
    width = float(root.get("width", "0"))
    boxes = [e for e in root.iter() if e.tag.endswith("rect")]
    edges = [(float(b.get("x", "0")), float(b.get("width", "0"))) for b in boxes]
    return all(x >= 0 and x + w <= width for x, w in edges)


@pytest.mark.parametrize("graph", [CELL, CHAIN], ids=["cell", "chain"])
def test_every_node_and_label_is_written(graph):
    svg = graphs.draw(graph)
    assert sorted(texts(svg)) == sorted([*graph.nodes, *(name for _, _, name in graph.edges)])
    assert inside(svg)


def test_a_long_chain_wraps_at_the_width():
    svg = ET.fromstring(graphs.draw(CHAIN, width=300))
    assert float(svg.get("width", "0")) <= 300
    assert float(svg.get("height", "0")) > 100


def test_arcs_of_a_cell_do_not_cross():
    layer = [0, 1, 2, 3]
    heights = graphs._arcs(CELL, layer, 1)
    bows = {e[:2]: h for e, h in zip(CELL.edges, heights, strict=True)}
    assert [bows[e] for e in ((0, 1), (1, 2), (2, 3))] == [0, 0, 0]
    assert bows[0, 2] * bows[1, 3] < 0
    assert abs(bows[0, 3]) > abs(bows[0, 2])


def test_labels_are_escaped():
    svg = graphs.draw(ArchitectureGraph(("<script>", "&"), ((0, 1, '"><b>'),)))
    assert "<script>" not in svg
    assert texts(svg) == ["<script>", "&", '"><b>']


def test_one_label_has_one_colour():
    found = graphs.colours([CELL, CHAIN])
    assert set(found) == {"conv", "pool", "skip", "64"}
    assert len(set(found.values())) == 4


@some.composite
def any_graph(draw: some.DrawFn) -> ArchitectureGraph:
    n = draw(some.integers(1, 9))
    node = some.integers(0, n - 1)
    edges = draw(
        some.lists(some.tuples(node, node, some.sampled_from(["", "conv", "a<b"])), max_size=14)
    )
    return ArchitectureGraph(tuple(f"n{i}" for i in range(n)), tuple(edges))


@given(any_graph())
@settings(max_examples=80, deadline=None)
def test_any_graph_can_be_drawn(graph):
    svg = graphs.draw(graph)
    assert [t for t in texts(svg) if t.startswith("n")] == list(graph.nodes)
    assert inside(svg)


def test_nothing_to_draw():
    assert graphs.draw(ArchitectureGraph((), ())) == ""
