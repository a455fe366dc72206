"""The look of all figures: size, colours, markers, legend, ticks.

Figures are drawn with matplotlib's object interface on the Agg canvas, without global state. All
have one size, so that they stand side by side on a screen and below each other on a phone. Colours
are Okabe and Ito's, which colour-blind readers can tell apart; methods differ in marker, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from raynas.analysis import statistics as st

INK, SOFT, GRID = "#1f2933", "#616e7c", "#e4e7eb"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#9aa5b1"
METHOD_COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#b8860b", "#56b4e9")
METHOD_MARKERS = ("o", "^", "s", "D", "v", "P")
SIZE = (6.4, 4.0)
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#cbd2d9",
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "raynas",
}
Painter = Callable[[Axes], None]


def draw(painter: Painter) -> Figure:
    """Draw a figure.

    Args:
        painter: Function that draws into the axes that it is given.

    Returns:
        The figure, on an Agg canvas.
    """
    with mpl.rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        painter(axes)
        _legend(figure, axes)
    return figure


def paint(painter: Painter) -> tuple[str, bytes]:
    """Render the figure that ``painter`` draws.

    Args:
        painter: Function that draws into the axes that it is given.

    Returns:
        The figure as SVG text and as PNG bytes.
    """
    figure = draw(painter)
    with mpl.rc_context(cast(Any, STYLE)):
        if layout := figure.get_layout_engine():
            layout.execute(figure)
        figure.set_layout_engine(None)  # else each file takes a layout and a second drawing
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", dpi=170, metadata={"Date": None})
        figure.savefig(png, format="png", dpi=170)
    return svg.getvalue(), png.getvalue()


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend above the figure, so that it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = len(labels) if sum(len(text) + 6 for text in labels) < 85 else 3
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=max(columns, 1), handlelength=1.6,
        columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None and not isinstance(handle, Patch):
            handle.set_alpha(1)


def method_style(run: st.RunStatistics, method: str) -> tuple[str, str]:
    """Return colour and marker of a method: blue circles for the main one.

    Args:
        run: The loaded run.
        method: Name of the method.

    Returns:
        A colour as "#rrggbb" and a marker of matplotlib.
    """
    index = run.methods.index(method) % len(METHOD_COLOURS)
    return METHOD_COLOURS[index], METHOD_MARKERS[index]


def format_ticks(axes: Axes, which: str, show: Callable[[float], str]) -> None:
    """Label the ticks of one axis.

    Args:
        axes: The axes.
        which: "x" or "y".
        show: Function that gives the text of a value.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _position: show(value)))
