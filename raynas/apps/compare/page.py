"""The comparison as one HTML page and as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from raynas.apps.compare.sections import PageFigure, PageSection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table


def write_page(path: Path, made: Sequence[PageSection], command: str) -> None:
    """Write the comparison as one HTML file that needs no other files.

    Args:
        path: The file.
        made: The sections of the comparison.
        command: The command that made it, as text.

    Raises:
        OSError: The file cannot be written.
    """
    from raynas.reports.figure_style import paint
    from raynas.reports.html import image, style

    pictures = {
        section.title: image(section.title, paint(partial(_draw, section.figure))[0])
        for section in made
        if section.figure is not None
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = files("raynas.apps.compare").joinpath("page.html").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        sections=made, pictures=pictures, style=style(), command=command
    )
    path.write_text(text, encoding="utf-8")


def terminal_table(section: PageSection) -> Table:
    """Make the table of a section for a terminal.

    Args:
        section: The section.

    Returns:
        The table, to be printed by a console of rich.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=section.title, title_justify="left")
    for i, name in enumerate(section.head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in section.rows:
        table.add_row(*row)
    return table


def _draw(figure: PageFigure, axes: Axes) -> None:
    from raynas.reports.figure_style import GREY, INK, METHOD_COLOURS, METHOD_MARKERS

    colours = (*METHOD_COLOURS, INK, GREY)
    for i, curve in enumerate(figure.curves):
        look = {"color": colours[i % len(colours)], "linewidth": 1.6}
        marker = METHOD_MARKERS[i % len(METHOD_MARKERS)] if len(curve.x) < 20 else None
        axes.plot(curve.x, curve.y, label=curve.name, marker=marker, **look)  # type: ignore[arg-type]
        axes.fill_between(curve.x, curve.low, curve.high, color=look["color"], alpha=0.15, lw=0)
    axes.set_xlabel(figure.across)
    axes.set_ylabel(figure.up)
    axes.set_xscale("log" if figure.log_x else "linear")
    axes.set_yscale("log" if figure.log_y else "linear")
