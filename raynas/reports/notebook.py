"""This module shows a run in notebooks: single figures of the report, and a short summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from raynas.analysis import proxies as px
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.analysis import supernets as sn
from raynas.core import UserError, failure_message, unknown_option
from raynas.reports.figure_style import Painter, draw, paint
from raynas.reports.figures import painters
from raynas.reports.html import image, step_name
from raynas.reports.sentences import headline

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

PARETO = "pareto"
"""The name of the figure that shows the front, whatever the objectives are."""


def figure_names(table: pa.Table, description: Mapping[str, Any]) -> list[str]:
    """Return the names of the figures for which a run has data.

    Args:
        table: The table of the run's store.
        description: The ``description`` of the run's run.json.

    Returns:
        The names of the report's figures, and :data:`PARETO` where one of them shows a front.
    """
    return list(_painters(st.load(table, description)))


def figure(table: pa.Table, description: Mapping[str, Any], name: str) -> Figure:
    """Draw one figure of the report.

    Args:
        table: The table of the run's store.
        description: The ``description`` of the run's run.json.
        name: The name of the figure.

    Returns:
        The figure.

    Raises:
        UserError: The run has no such figure, or its numbers cannot be drawn.
    """
    known = _painters(st.load(table, description))
    if not known:
        raise UserError(f"figure {name!r}: the run has no results to draw yet")
    if name not in known:
        raise unknown_option("figure", name, known)
    try:
        return draw(known[name])
    except Exception as error:  # such as numbers that no axis can show
        raise UserError(f"figure {name!r} cannot be drawn: {failure_message(error)[0]}") from error


def _painters(run: st.RunStatistics) -> dict[str, Painter]:
    """Return name -> painter of each figure that the run has data for."""
    name = step_name(run.description)
    found = painters(run, name, px.proxies(run), sn.training(run), sn.judged(run))
    fronts = [n for n in found if n == "objectives" or n.startswith("trade_off_")]
    return {**({PARETO: found[fronts[0]]} if fronts else {}), **found}


def summary_html(table: pa.Table, description: Mapping[str, Any], name: str, place: str) -> str:
    """Return a short summary of a run as HTML: a sentence, a table of methods, the front.

    Args:
        table: The table of the run's store.
        description: The ``description`` of the run's run.json.
        name: The name of the run.
        place: The location of the run.

    Returns:
        HTML text for a cell of a notebook, with the figure inside.
    """
    run = st.load(table, description)
    summary = tables.summarise(run)
    parts = [
        Markup("<p><b>{}</b> <code>{}</code><br>{}</p>").format(
            name, place, headline(run, summary)
        ),
        _methods(run, summary) if summary.methods else Markup(""),
    ]
    known = _painters(run)
    shown = next((n for n in (PARETO, "best_so_far", *known) if n in known), None)
    if shown is not None:
        try:
            parts.append(image(shown, paint(known[shown])[0]))
        except Exception as error:  # such as numbers that no axis can show
            parts.append(Markup("<p>{}</p>").format(failure_message(error)[0]))
    return Markup('<div class="raynas-run">{}</div>').format(Markup("").join(parts))


def _methods(run: st.RunStatistics, summary: tables.RunSummary) -> Markup:
    """Return a table with one row per method: trials by state, and its best values."""
    metrics = [o.metric for o in run.objectives]
    head = ["method", "trials", *(s.lower() for s in summary.methods[0].states), *metrics]
    rows = []
    for method in summary.methods:
        best = method.best
        values = [summary.show(m, best.values[m]) if best else "" for m in metrics]
        rows.append(
            [
                method.method,
                f"{method.started:,}",
                *(f"{n:,}" for n in method.states.values()),
                *values,
            ]
        )
    return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(
        _row("th", head), Markup("").join(_row("td", row) for row in rows)
    )


def _row(tag: str, cells: list[str]) -> Markup:
    inner = Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(cell) for cell in cells)
    return Markup("<tr>{}</tr>").format(inner)
