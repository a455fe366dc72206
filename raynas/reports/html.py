"""The report of a run: one HTML file that needs no other files, and PNGs in ``figures/``."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from raynas.analysis import equal_cost, rung_counts, selection
from raynas.analysis import formatting as words
from raynas.analysis import proxies as px
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.analysis import supernets as sn
from raynas.analysis.intervals import PAIRS_FROM
from raynas.core import Architecture, ArchitectureGraph, TrialState, UserError
from raynas.reports import drawings as graphs
from raynas.reports.figures import all_figures
from raynas.reports.provenance_section import provenance_section
from raynas.reports.ranking_sections import (
    SUPERNET_CAPTIONS,
    archive_section,
    proxy_captions,
    proxy_section,
    supernet_section,
)
from raynas.reports.search_figures import curve_metric, shown_curves
from raynas.reports.sentences import (
    compare_sentence,
    headline,
    number_or_dash,
    size_sentence,
    spent,
    trials_sentence,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.store import RunFolder, RunInfo


def write_report(folder: RunFolder, space: SpaceOfRun | None = None) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into the folder of a run.

    It may be called while the run is going on. Every file is replaced as a whole or left as it was.

    Args:
        folder: The folder of the run.
        space: Draws the architectures; None shows them as text.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: The store cannot be read.
        UserError: The folder cannot be written.
    """
    from raynas.store import read
    from raynas.store.files import reason, write_whole

    text, pictures = render(read(folder), folder.info, space, path=folder.path)
    try:
        folder.figures.mkdir(exist_ok=True)
        for name, png in pictures.items():
            write_whole(folder.figures / f"{name}.png", png)
        write_whole(folder.report, text.encode())
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {folder.path}: {reason(error)}",
            hint="free the space or make the folder writable, then `raynas report` again",
        ) from error
    return folder.report


def render(
    table: pa.Table, info: RunInfo, space: SpaceOfRun | None = None, path: Path | None = None
) -> tuple[str, dict[str, bytes]]:
    """Render the report of a run, without writing files.

    Args:
        table: The table of the run's store.
        info: The contents of its run.json.
        space: Draws the architectures; None shows them as text.
        path: The folder of the run, for the commands that the report names.

    Returns:
        The report as HTML text, and its figures as name -> PNG bytes.
    """
    description = info.description if isinstance(info.description, Mapping) else {}
    run = st.load(table, description)
    proxies, training, judged = px.proxies(run), sn.training(run), sn.judged(run)
    pictures, missing = all_figures(run, step_name(description), proxies, training, judged)
    svgs = {name: image(name, svg) for name, (svg, _) in pictures.items()}
    text = _template().render(
        **_story(run, info, space),
        pictures=svgs,
        not_drawn=[f"{name.replace('_', ' ')} ({why})" for name, why in missing.items()],
        captions=_captions(run) | proxy_captions(proxies) | SUPERNET_CAPTIONS,
        **proxy_section(run, proxies),
        **supernet_section(run, table, training, judged),
        **archive_section(run, path, training is not None),
        **provenance_section(run, table, info, path),
    )
    return text, {name: png for name, (_, png) in pictures.items()}


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["integer"] = lambda n: f"{n:,}"
    environment.filters["bind"] = _bind
    environment.globals["number"] = number_or_dash
    environment.globals["si"] = words.si
    environment.globals["duration"] = words.duration
    environment.globals["style"] = style()
    environment.globals["pairs_from"] = PAIRS_FROM
    source = files("raynas.reports").joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _bind(text: str) -> str:
    """Put no line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:%|[kMGTsdh]|min|ms)(?![\w]))", "\N{NO-BREAK SPACE}", text)


@cache
def style() -> Markup:
    """Return the style sheet of all pages.

    Returns:
        CSS text that is safe to put into a page.
    """
    return Markup(
        files("raynas.reports").joinpath("style.css").read_text(encoding="utf-8").rstrip()
    )


def image(name: str, svg: str) -> Markup:
    """Return an ``img`` element that holds the picture itself.

    Args:
        name: Name of the figure; it becomes the alternative text.
        svg: The picture as SVG text.

    Returns:
        The element, with the picture as a data URI.
    """
    data = base64.b64encode(svg.encode()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(
        name.replace("_", " "), Markup(data)
    )


def step_name(description: Mapping[str, Any]) -> str:
    """Return the name of a step: an epoch where the evaluator trains by a recipe.

    Args:
        description: The described experiment.

    Returns:
        "epoch" or "step".

    Example:
        >>> step_name({"evaluator": {"recipe": {}}})
        'epoch'
    """
    return "epoch" if "recipe" in (description.get("evaluator") or {}) else "step"


def _story(run: st.RunStatistics, info: RunInfo, space: SpaceOfRun | None) -> dict[str, Any]:
    summary = tables.summarise(run)
    best = tables.top(run)
    drawings = _drawings(tables.shown(summary, best), space)
    final = selection.finals(run)
    metric = selection.test_metric(run) if final else None
    return {
        "name": info.name or "run",
        "run": run,
        "summary": summary,
        "status": _status(run, summary),
        "headline": headline(run, summary),
        "trials": trials_sentence(summary),
        "comparison": compare_sentence(run),
        "tiles": _tiles(run, summary),
        "best": best,
        "front": summary.front,
        "drawings": drawings,
        "test_metric": metric,
        "test": lambda f: words.spread(
            metric or "", f.test_mean, f.test_std, run.unit(metric or "")
        ),
        "label": lambda m: words.named(m, run.unit(m)),
        "value": lambda f, m: words.quantity(m, f.values[m], run.unit(m)),
        "size": size_sentence(run),
        "rungs": [r for method in run.methods for r in rung_counts.rungs(run, method, ranks=True)],
        "step": step_name(run.description),
        "failed_finals": sum(f.failed for f in final.values()),
        "costs": [c for c in st.COSTS if c not in {o.metric for o in run.objectives}],
        **_equal_cost(run),
    }


def _status(run: st.RunStatistics, summary: tables.RunSummary) -> str:
    running = int(run.has_state(TrialState.RUNNING).sum())
    if not summary.rows:
        return "not started"
    if running:
        return f"unfinished: {words.count(running, 'trial')} running when this was written"
    if not summary.methods:
        return "unfinished: nothing has been searched yet"
    short = summary.budget is not None and summary.methods[0].evaluated < summary.budget
    if short and not summary.finals:  # the finals begin when the search is over, for any reason
        return f"{summary.methods[0].evaluated:,} of {summary.budget:,} trials"
    return "finished"


def _equal_cost(run: st.RunStatistics) -> dict[str, Any]:
    """Return the values that each method had found when all had spent the same."""
    traces = equal_cost.traces(run)
    if len(traces) < 2 or len(run.objectives) > 1:
        return {"equal_cost": "", "at_equal_cost": {}}
    cost = equal_cost.common_cost(traces)
    metric = run.objectives[0].metric
    return {
        "equal_cost": spent(run, cost),
        "at_equal_cost": {
            t.method: words.quantity(metric, t.at(cost), run.unit(metric)) for t in traces
        },
    }


@dataclass(frozen=True)
class HeaderTile:
    """One number of the report's header.

    Attributes:
        name: Name of the number.
        value: The number with its unit, as text.
        note: Remark below it; empty for none.
    """

    name: str
    value: str
    note: str = ""


def _tiles(run: st.RunStatistics, summary: tables.RunSummary) -> list[HeaderTile]:
    tiles = []
    found = summary.best
    if found is not None:
        for o in run.objectives:
            note = "" if found.complete else f"at {step_name(run.description)} {found.step}"
            value = words.quantity(o.metric, found.values[o.metric], run.unit(o.metric))
            tiles.append(HeaderTile(words.named(o.metric, run.unit(o.metric)), value, note))
        metric = selection.test_metric(run)
        if metric and found.test_n:
            value = words.spread(metric, found.test_mean, found.test_std, run.unit(metric))
            tiles.append(HeaderTile(words.label(metric), value, words.count(found.test_n, "seed")))
        shown = {o.metric for o in run.objectives}
        for cost, value_ in (("params", found.params), ("macs", found.macs)):
            if cost not in shown and math.isfinite(value_):
                tiles.append(HeaderTile(words.label(cost), words.si(value_)))
    main = next((a for a in summary.methods if a.main), None)
    if main is not None:
        stopped = main.states[TrialState.STOPPED.value]
        note = f"{stopped:,} stopped early"
        note += f", {main.screened:,} more screened out" if main.screened else ""
        tiles.append(HeaderTile(f"trials ({main.method})", f"{main.started:,}", note))
    if summary.worker_seconds:
        note = f"{words.duration(summary.elapsed)} of wall time"
        tiles.append(HeaderTile("worker time, all", words.duration(summary.worker_seconds), note))
    return tiles


class SpaceOfRun(Protocol):
    """A reader of architectures that draws them: a search space, or what a run keeps of it."""

    def architecture(self, text: str, /) -> Architecture:
        """Return the architecture of a text.

        Args:
            text: Text form of an architecture.
        """

    def graph(self, arch: Architecture, /) -> ArchitectureGraph:
        """Return the graph by which an architecture is drawn.

        Args:
            arch: The architecture.
        """


def _drawings(shown: Iterable[tables.TrialSummary], space: SpaceOfRun | None) -> dict[str, Markup]:
    """Return text of an architecture -> its drawing, for those that the space knows."""
    if space is None:
        return {}
    made: dict[str, ArchitectureGraph] = {}
    for found in shown:
        try:
            made[found.arch] = space.graph(space.architecture(found.arch))
        except Exception:  # of a user's own code, or another version of the space
            continue  # its text is shown instead
    colours = graphs.colours(made.values())
    # safe: graphs.draw escapes every label
    return {text: Markup(graphs.draw(g, colours)) for text, g in made.items()}


def _captions(run: st.RunStatistics) -> dict[str, str]:
    captions = {
        "best_so_far": "Cost is the time that workers spent on all trials of a method, stopped and "
        "failed ones included. Trials are in the order in which they were proposed, each with its "
        "whole cost. A step up is a trial that was completed.",
        "objectives": "Completed trials; each method's front over the objectives.",
        "trade_off_params": "Completed trials of all methods by the size of the network.",
        "trade_off_macs": "Completed trials of all methods by multiply-adds of one forward pass.",
        "trade_off_latency_ms": "Completed trials of all methods by the time of a forward pass.",
    }
    if len(run.objectives) > 1:
        captions["best_so_far"] = captions["best_so_far"].replace(
            "A step up is a trial that was completed.",
            "The height is the hypervolume of the completed trials, as a share of the box that all "
            "of them span.",
        )
    elif run.random is not None:
        captions["best_so_far"] += (
            f" The band holds 95 % of all orders of {run.random}'s own trials. It closes "
            "at the end, where all of them are in, and does not show what another seed would find."
        )
    if run.main is not None and curve_metric(run) is not None:
        chosen, total = shown_curves(run, run.main)
        part = "" if len(chosen) == total else f", {len(chosen):,} chosen at random are drawn"
        captions["learning_curves"] = (
            f"{words.count(total, 'trial')} of {run.main}{part}. "
            "A cross is where the scheduler stopped a trial; dashed lines are its rungs, with the "
            "number of trials stopped there or before the next one."
        )
    return captions
