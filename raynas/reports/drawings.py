"""Architectures as small inline SVG drawings: layers from left to right, long edges as arcs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from raynas.core import ArchitectureGraph

# Okabe and Ito's colours, dark enough for small text on white.
PALETTE = ("#0064a8", "#b04a00", "#007a58", "#9c4a80", "#8a6d00", "#3a7ca5", "#5b5b5b")
INK, SOFT, FAINT, PAPER = "#1f2933", "#616e7c", "#9aa5b1", "#ffffff"
FONT, CHAR, HEIGHT = 11.0, 6.3, 24.0
_FEW = 5


def colours(graphs: Iterable[ArchitectureGraph]) -> dict[str, str]:
    """Choose one colour per edge label, the same in every drawing of a report.

    Args:
        graphs: All graphs that are drawn.

    Returns:
        Edge label -> colour as "#rrggbb".
    """
    labels = sorted({name for g in graphs for _, _, name in g.edges if name})
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(labels)}


def draw(
    graph: ArchitectureGraph, colour: Mapping[str, str] | None = None, width: float = 400.0
) -> str:
    """Draw ``graph`` as an ``<svg>`` element.

    Args:
        graph: What is drawn.
        colour: Edge label -> colour; None chooses them for this graph alone.
        width: Width in pixels at which a plain chain wraps.

    Returns:
        The element, in which every label is escaped; empty for a graph without nodes.

    Example:
        >>> from raynas.core import ArchitectureGraph
        >>> draw(ArchitectureGraph(nodes=("in", "out"), edges=((0, 1, "conv"),)))[:4]
        '<svg'
    """
    if not graph.nodes:
        return ""
    if len(graph.nodes) > _FEW and _is_chain(graph):
        return _chain(graph, width)
    return _layered(graph, colour or colours([graph]))


def _is_chain(graph: ArchitectureGraph) -> bool:
    return sorted(e[:2] for e in graph.edges) == [(i, i + 1) for i in range(len(graph.nodes) - 1)]


def _size(text: str) -> float:
    return max(len(text) * CHAR + 16, HEIGHT)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    arrow = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="6.5" '
        'markerHeight="6.5" orient="auto"><path d="M0 0.8 8 4 0 7.2z" fill="#7b8794"/>'
        "</marker></defs>"
    )
    return (
        f'<svg class="net" role="img" aria-label="{escape(label)}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-size="{FONT:g}">{arrow}{"".join(parts)}</svg>'
    )


def _node(x: float, y: float, text: str, end: bool) -> str:
    """A box centred on (x, y); the ends of the network are dark."""
    w = _size(text)
    fill, ink = (INK, PAPER) if end else ("#eef2f6", INK)
    return (
        f'<rect x="{x - w / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{w:.1f}" height="{HEIGHT:g}" '
        f'rx="6" fill="{fill}"/><text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" '
        f'fill="{ink}">{escape(text)}</text>'
    )


def _path(d: str, colour: str = FAINT) -> str:
    return (
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="1.4" marker-end="url(#tip)"/>'
    )


def _label(x: float, y: float, text: str, colour: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{FONT - 1:g}" '
        f'fill="{colour}" stroke="{PAPER}" stroke-width="3.5" paint-order="stroke">'
        f"{escape(text)}</text>"
    )


def _chain(graph: ArchitectureGraph, width: float) -> str:
    """Boxes in rows that are read like text; a row ends where the next box does not fit."""
    labels = {b: name for _, b, name in graph.edges}
    raised = 8 if any(labels.values()) else 0
    pitch = HEIGHT + 14 + raised
    x, y, widest = 2.0, HEIGHT / 2 + 2 + raised, 0.0
    lines: list[str] = []
    boxes: list[str] = []
    for i, text in enumerate(graph.nodes):
        w, label = _size(text), labels.get(i, "")
        gap = max(20.0, len(label) * (CHAR - 0.6) + 12) if i else 0.0
        if i and x + gap + w > width - 11:
            turn = y + pitch / 2 - raised / 2
            lines.append(_path(f"M{x:.1f} {y:.1f}h7V{turn:.1f}H14V{y + pitch - HEIGHT / 2:.1f}"))
            if label:
                boxes.append(_label(x / 2 + 8, turn + 3.5, label, SOFT))
            widest, x, y = max(widest, x + 8), 2.0, y + pitch
        elif i:
            lines.append(_path(f"M{x:.1f} {y:.1f}h{gap:.1f}"))
            if label:
                boxes.append(_label(x + gap / 2 - 2, y - 5, label, SOFT))
            x += gap
        boxes.append(_node(x + w / 2, y, text, i in (0, len(graph.nodes) - 1)))
        x += w
        widest = max(widest, x)
    spoken = " → ".join(graph.nodes)
    return _svg(widest + 3, y + HEIGHT / 2 + 2, spoken, [*lines, *boxes])


def _layers(graph: ArchitectureGraph) -> list[int]:
    """Longest path from a source, per node; what a cycle holds stays where it is.

    The few nodes of a cell stand in one line in any case, so that cells can be compared.
    """
    if len(graph.nodes) <= _FEW and all(a < b for a, b, _ in graph.edges):
        return list(range(len(graph.nodes)))
    layer = [0] * len(graph.nodes)
    for _ in graph.nodes:
        moved = False
        for a, b, _name in graph.edges:
            if a != b and layer[b] < layer[a] + 1 < len(graph.nodes):
                layer[b], moved = layer[a] + 1, True
        if not moved:
            break
    used = sorted(set(layer))  # a cycle may leave gaps
    return [used.index(at) for at in layer]


def _columns(graph: ArchitectureGraph, layer: Sequence[int]) -> list[float]:
    """The centre of every layer: far enough apart for the labels between them."""
    count = max(layer) + 1
    half = [max((_size(n) for n, at in zip(graph.nodes, layer, strict=True) if at == k), default=0)
            / 2 for k in range(count)]  # fmt: skip
    gaps = [34.0] * count
    for a, b, name in graph.edges:
        if layer[b] == layer[a] + 1:
            gaps[layer[a]] = max(gaps[layer[a]], len(name) * (CHAR - 0.6) + 26)
    centres = [half[0] + 2]
    for k in range(1, count):
        centres.append(centres[-1] + half[k - 1] + gaps[k - 1] + half[k])
    return centres


def _layered(graph: ArchitectureGraph, colour: Mapping[str, str]) -> str:
    layer = _layers(graph)
    centres = _columns(graph, layer)
    rows: dict[int, list[int]] = {}
    for node, at in enumerate(layer):
        rows.setdefault(at, []).append(node)
    x = [centres[at] for at in layer]
    y = [0.0] * len(graph.nodes)
    for members in rows.values():
        for k, node in enumerate(members):
            y[node] = (k - (len(members) - 1) / 2) * (HEIGHT + 22)
    heights = _arcs(graph, layer, max(len(m) for m in rows.values()))
    lines, texts = [], []
    for (a, b, name), h in zip(graph.edges, heights, strict=True):
        line, text = _edge((x[a], y[a], graph.nodes[a]), (x[b], y[b], graph.nodes[b]), h, name,
                           colour.get(name, INK))  # fmt: skip
        lines.append(line)
        texts.append(text)
    top = min([*(v - HEIGHT / 2 for v in y), *(h - 16 for h in heights if h < 0)])
    bottom = max([*(v + HEIGHT / 2 for v in y), *(h + 16 for h in heights if h > 0)])
    ends = {rows[0][0], rows[max(rows)][-1]}
    boxes = [_node(x[i], y[i], n, i in ends) for i, n in enumerate(graph.nodes)]
    width = max(x[i] + _size(n) / 2 for i, n in enumerate(graph.nodes)) + 4
    spoken = "; ".join(f"{graph.nodes[a]} → {graph.nodes[b]}: {n}" for a, b, n in graph.edges)
    moved = f'<g transform="translate(0 {2 - top:.1f})">{"".join([*lines, *boxes, *texts])}</g>'
    return _svg(width, bottom - top + 4, spoken, [moved])


def _arcs(graph: ArchitectureGraph, layer: Sequence[int], tallest: int) -> list[float]:
    """Per edge the height of its bow: 0 for a straight line, < 0 above, > 0 below.

    Edges over several layers go, the shorter first, to the side where they cross fewer others,
    outside of those that they enclose. A second edge between the same nodes bows, too.
    """
    heights = [0.0] * len(graph.edges)
    placed: list[tuple[int, int, int, int]] = []
    straight: set[tuple[int, int]] = set()
    order = sorted(range(len(graph.edges)), key=lambda i: _span(graph.edges[i], layer))
    for i in order:
        a, b, _name = graph.edges[i]
        if _span(graph.edges[i], layer) == 1 and (a, b) not in straight:
            straight.add((a, b))
            continue
        low, high = sorted((layer[a], layer[b]))
        options = []
        for side in (-1, 1):
            others = [p for p in placed if p[0] == side]
            crossed = sum(lo < low < hi < high or low < lo < high < hi for _, lo, hi, _ in others)
            level = 1 + max((v for _, lo, hi, v in others if lo < high and low < hi), default=0)
            options.append((crossed, level, side))
        _, level, side = min(options)
        placed.append((side, low, high, level))
        heights[i] = side * (8 + 24.0 * level + (tallest - 1) * (HEIGHT + 22) / 2)
    return heights


def _span(edge: tuple[int, int, str], layer: Sequence[int]) -> int:
    return abs(layer[edge[1]] - layer[edge[0]])


def _edge(
    start: tuple[float, float, str], end: tuple[float, float, str], h: float, name: str, ink: str
) -> tuple[str, str]:
    """The line and the label of one edge."""
    (xa, ya, a), (xb, yb, b) = start, end
    if h == 0:
        xa, xb = xa + _size(a) / 2, xb - _size(b) / 2
        label = _label((xa + xb) / 2 - 2, (ya + yb) / 2 - 5, name, ink) if name else ""
        return _path(f"M{xa:.1f} {ya:.1f}L{xb:.1f} {yb:.1f}"), label
    side = -1 if h < 0 else 1
    ya, yb = ya + side * HEIGHT / 2, yb + side * HEIGHT / 2
    xa, xb = xa + 5, xb - 5
    # a cubic whose controls lie at c reaches (ends + 3 c) / 4 in its middle
    c = (4 * h - (ya + yb) / 2) / 3
    reach = (xb - xa) * 0.22
    d = f"M{xa:.1f} {ya:.1f}C{xa + reach:.1f} {c:.1f} {xb - reach:.1f} {c:.1f} {xb:.1f} {yb:.1f}"
    return _path(d), _label((xa + xb) / 2, h + (-5 if h < 0 else 12), name, ink) if name else ""
