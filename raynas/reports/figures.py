"""Figures of the report, drawn with matplotlib's object interface on the Agg canvas.

There is no global state. All figures have one size, so that they stand side by side on a screen and
below each other on a phone. Colours are Okabe and Ito's, which colour-blind readers can tell apart;
methods differ in marker, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from raynas.analysis import equal_cost
from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis.proxies import ProxyStatistics
from raynas.analysis.supernets import SearchRankingStatistics, SupernetTraining, costs_of
from raynas.core import TrialState, failure_message

INK, SOFT, GRID = "#1f2933", "#616e7c", "#e4e7eb"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#9aa5b1"
ARM_COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#b8860b", "#56b4e9")
ARM_MARKERS = ("o", "^", "s", "D", "v", "P")
SIZE = (6.4, 4.0)
MANY = 2_000  # points above which a scatter is stored as pixels
CURVES = 400
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


def paint(painter: Painter) -> tuple[str, bytes]:
    """Render the figure that ``painter`` draws.

    Args:
        painter: Function that draws into the axes that it is given.

    Returns:
        The figure as SVG text and as PNG bytes.
    """
    with mpl.rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        painter(axes)
        _legend(figure, axes)
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


def arm_style(run: st.RunStatistics, arm: str) -> tuple[str, str]:
    """Return colour and marker of a method: blue circles for the main one.

    Args:
        run: The loaded run.
        arm: Name of the method.

    Returns:
        A colour as "#rrggbb" and a marker of matplotlib.
    """
    index = run.arms.index(arm) % len(ARM_COLOURS)
    return ARM_COLOURS[index], ARM_MARKERS[index]


def _ticks(axes: Axes, which: str, show: Callable[[float], str]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _position: show(value)))


def _time_axis(axes: Axes, seconds: float) -> None:
    """Label worker time in the unit that suits its length."""
    scale, unit = next(
        (s, u) for s, u in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
        if seconds >= 2.5 * s or s == 1
    )  # fmt: skip
    low, high = axes.get_xlim()
    ticks = np.asarray(
        MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low / scale, high / scale)
    )
    ticks = ticks[(ticks * scale >= low) & (ticks * scale <= high)]
    axes.set_xticks(ticks * scale, [f"{t:g}" for t in ticks])
    axes.set_xlabel(f"worker time spent ({unit})")


def best_so_far(run: st.RunStatistics) -> Painter:
    """Draw the best value of every method against its cost, random search with its band.

    Args:
        run: The loaded run, with a COMPLETE trial at least.

    Returns:
        A painter of the figure.
    """

    def painter(axes: Axes) -> None:
        everyone = equal_cost.traces(run)
        traces = [t for t in everyone if len(t.cost)]
        longest = max(t.total for t in traces)
        for t in traces:
            colour, marker = arm_style(run, t.arm)
            if t.arm == run.random:
                band = equal_cost.reordered(run, t)
                if band is not None and len(band.cost):
                    axes.fill_between(
                        band.cost, band.low, band.high, color=colour, alpha=0.14, linewidth=0,
                        step="post", label=f"{t.arm}: 95 % of the orders of its trials",
                    )  # fmt: skip
            axes.step(
                np.r_[t.cost, t.total], np.r_[t.value, t.value[-1]], where="post", color=colour,
                linewidth=2.4 if t.arm == run.main else 1.8, label=t.arm,
            )  # fmt: skip
            shown = t.cost if len(t.cost) <= 60 else t.cost[:0]
            axes.plot(shown, t.value[: len(shown)], marker, color=colour, markersize=4.5)
        if len(traces) > 1:
            equal = equal_cost.common_cost(everyone)
            axes.axvline(equal, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "equal cost", (equal, 1), xycoords=("data", "axes fraction"), xytext=(-4, -2),
                textcoords="offset points", ha="right", va="top", rotation=90, color=SOFT,
                fontsize=8.5,
            )  # fmt: skip
        _zoom(axes, run, traces)
        axes.set_xlim(0, longest * 1.02)
        if equal_cost.counts_steps(run):
            axes.set_xlabel("steps trained (no worker time was recorded)")
        else:
            _time_axis(axes, longest)
        _best_label(axes, run)

    return painter


def _best_label(axes: Axes, run: st.RunStatistics) -> None:
    if len(run.objectives) > 1:
        axes.set_ylabel("dominated share of the objectives' box")
        return
    metric = run.objectives[0].metric
    axes.set_ylabel("best " + words.axis(metric, run.unit(metric)))
    if metric in st.COSTS:
        _ticks(axes, "y", words.tick)


def _zoom(axes: Axes, run: st.RunStatistics, traces: list[equal_cost.BestSoFarCurve]) -> None:
    """Crop poor early values where they would flatten the rest of the figure."""
    sign = run.objectives[0].sign if len(run.objectives) == 1 else 1.0
    values = np.concatenate([sign * t.value for t in traces])
    top, bottom = values.max(), values.min()
    middle = np.median([sign * t.at(t.total / 6) for t in traces if len(t.cost)])
    if np.isfinite(middle) and top - bottom > 4 * (top - middle) > 0:
        bottom = top - 4 * (top - middle)
    margin = 0.08 * (top - bottom) or max(abs(top), 1.0) * 0.01
    limits = sorted((sign * (bottom - margin), sign * (top + margin)))
    axes.set_ylim(limits[0], limits[1])


def trade_off(run: st.RunStatistics, cost: str) -> Painter:
    """Draw the first objective against a cost of the network.

    The figure shows COMPLETE trials of every method, and the Pareto front of all of them.

    Args:
        run: The loaded run.
        cost: Name of the cost, such as "params".

    Returns:
        A painter of the figure.
    """
    objective = run.objectives[0]
    metric = objective.metric

    def painter(axes: Axes) -> None:
        values = run.trials.values
        everything = run.complete()
        for place, arm in enumerate(run.arms):
            done = run.complete(arm)
            colour, marker = arm_style(run, arm)
            crowd = len(everything) > MANY
            axes.scatter(
                values[cost][done], values[metric][done], s=7 if crowd else 30, marker=marker,
                color=colour, alpha=0.25 if crowd else 0.75, linewidths=0, rasterized=crowd,
                label=f"{arm} ({len(done):,})", zorder=2.5 - 0.1 * place,
            )  # fmt: skip
        chosen = st.front(run, None, [(metric, objective.sign), (cost, -1.0)])
        order = np.argsort(values[cost][chosen], kind="stable")
        x, y = values[cost][chosen][order], values[metric][chosen][order]
        axes.step(x, y, where="post", color=INK, linewidth=1.3, zorder=3, label="Pareto front")
        axes.plot(x, y, "o", mfc="none", mec=INK, mew=1.1, markersize=8, zorder=3)
        _mark_finalists(axes, run, cost)
        spread = values[cost][everything]
        spread = spread[np.isfinite(spread) & (spread > 0)]
        if len(spread) and spread.max() > 12 * spread.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.minorticks_off()
        _crop(axes, values[metric][everything], objective.sign)
        _ticks(axes, "x", words.tick)
        axes.set_xlabel(words.axis(cost, run.unit(cost)) + (" per image" if cost == "macs" else ""))
        axes.set_ylabel(words.axis(metric, run.unit(metric)))

    return painter


def _crop(axes: Axes, values: st.Floats, sign: float) -> None:
    """Cut below the lowest 2 % where networks that learned nothing would flatten the figure."""
    if len(values) < 20:
        return
    signed = np.sort(sign * values)
    low, top = signed[len(signed) // 50], signed[-1]
    if low - signed[0] > 0.5 * (top - low) > 0:
        limits = sorted((sign * (low - 0.1 * (top - low)), sign * (top + 0.08 * (top - low))))
        axes.set_ylim(limits[0], limits[1])
        hidden = int((signed < low - 0.1 * (top - low)).sum())
        axes.set_title(
            f"{words.count(hidden, 'poorer network')} outside the picture", fontsize=8.5,
            color=SOFT, loc="left",
        )  # fmt: skip


def _mark_finalists(axes: Axes, run: st.RunStatistics, cost: str) -> None:
    final = st.finals(run)
    chosen = [i for i in st.ranked(run) if run.trials.arch_id[i] in final]
    if chosen:
        axes.plot(
            run.trials.values[cost][chosen], run.trials.values[run.objectives[0].metric][chosen],
            "*", color="#e69f00", mec=INK, mew=0.7, markersize=13, zorder=4, label="finalists",
        )  # fmt: skip


def objectives_plane(run: st.RunStatistics) -> Painter:
    """Draw the first two objectives against each other with the front of each method.

    Args:
        run: The loaded run, with several objectives.

    Returns:
        A painter of the figure.
    """
    second, first = run.objectives[1], run.objectives[0]

    def painter(axes: Axes) -> None:
        values = run.trials.values
        crowd = len(run.complete()) > MANY
        for place, arm in enumerate(run.arms):
            done = run.complete(arm)
            colour, marker = arm_style(run, arm)
            axes.scatter(
                values[second.metric][done], values[first.metric][done], s=7 if crowd else 30,
                marker=marker, color=colour, alpha=0.25 if crowd else 0.75, linewidths=0,
                rasterized=crowd, label=f"{arm} ({len(done):,})", zorder=2.5 - 0.1 * place,
            )  # fmt: skip
        for arm in run.arms:
            chosen = st.front(run, arm, [(o.metric, o.sign) for o in (first, second)])
            order = np.argsort(values[second.metric][chosen], kind="stable")
            axes.step(
                values[second.metric][chosen][order], values[first.metric][chosen][order],
                where="post" if second.sign < 0 else "pre", color=arm_style(run, arm)[0],
                linewidth=1.5, label=f"{arm}: front",
            )  # fmt: skip
        for which, objective in (("x", second), ("y", first)):
            if objective.metric in st.COSTS:
                _ticks(axes, which, words.tick)
        axes.set_xlabel(words.axis(second.metric, run.unit(second.metric)))
        axes.set_ylabel(words.axis(first.metric, run.unit(first.metric)))

    return painter


def curve_metric(run: st.RunStatistics) -> str | None:
    """Return the first objective that changes with the step.

    Args:
        run: The loaded run.

    Returns:
        The name of the metric; None when no trial has two steps.
    """
    names = [o.metric for o in run.objectives if o.metric not in (*st.COSTS, "seconds")]
    searching = run.searching()
    long = bool(len(run.trials)) and bool((run.trials.step[searching] > 1).any())
    return names[0] if names and long else None


def shown_curves(run: st.RunStatistics, arm: str) -> tuple[st.Ints, int]:
    """Choose the trials whose curves are drawn.

    Up to ``CURVES`` all are drawn; of more, a fixed random choice with the best among them.

    Args:
        run: The loaded run.
        arm: Name of the method.

    Returns:
        (k,) indices of trials, and the number of trials that have a curve.
    """
    mine = np.flatnonzero(run.searching(arm) & (run.trials.step > 0))
    if len(mine) <= CURVES:
        return mine, len(mine)
    rng = np.random.default_rng(0)
    done = np.intersect1d(mine, run.complete(arm))
    rest = np.setdiff1d(mine, done)
    few = rng.permutation(done)[: CURVES // 2]
    chosen = np.r_[few, rng.permutation(rest)[: CURVES - len(few)]]
    top = st.best(run, arm)
    return np.unique(chosen if top is None else np.r_[chosen, top]), len(mine)


def learning_curves(run: st.RunStatistics, arm: str, step_name: str) -> Painter:
    """Draw the learning curve of every trial; where the scheduler stopped one, it ends in a cross.

    Args:
        run: The loaded run.
        arm: Name of the method.
        step_name: Name of a step, such as "epoch".

    Returns:
        A painter of the figure.
    """
    metric = curve_metric(run) or run.objectives[0].metric

    def painter(axes: Axes) -> None:
        chosen, _total = shown_curves(run, arm)
        lines = _curves(run, chosen, metric)
        state = run.trials.state
        top = st.best(run, arm)
        kinds = (
            (TrialState.STOPPED, GREY, 0.55, "stopped early"),
            (TrialState.COMPLETE, BLUE, 0.6, "complete"),
            (TrialState.FAILED, ORANGE, 0.9, "failed"),
            (TrialState.RUNNING, GREEN, 0.8, "running"),
        )
        crowd = len(chosen) > 120
        for kind, colour, alpha, name in kinds:
            members = [i for i in lines if state[i] == kind.value]
            if members:
                axes.add_collection(
                    LineCollection(
                        [lines[i] for i in members],
                        colors=colour,
                        linewidths=0.7 if crowd else 1,
                        alpha=alpha * (0.6 if crowd else 1),
                        label=name,
                        rasterized=crowd,
                    )
                )
        ends = [lines[i][-1] for i in lines if state[i] == TrialState.STOPPED.value]
        if ends:
            axes.plot(*np.array(ends).T, "x", color=SOFT, markersize=4, mew=1, rasterized=crowd)
        if top is not None and top in lines:
            axes.plot(
                *lines[top].T, "-o", color=INK, linewidth=2, markersize=3.5, zorder=5, label="best"
            )
        axes.autoscale_view()
        _mark_rungs(axes, run, arm)
        _step_axis(axes, run)
        axes.set_xlabel(step_name)
        axes.set_ylabel(words.axis(metric, run.unit(metric)))

    return painter


def _curves(run: st.RunStatistics, chosen: st.Ints, metric: str) -> dict[int, st.Floats]:
    """Trial index -> (k, 2) steps and values."""
    values = run.rows.values[metric]
    wanted = np.zeros(len(run.trials), dtype=bool)
    wanted[chosen] = True
    rows = np.flatnonzero(wanted[run.rows.owner] & np.isfinite(values) & (run.rows.step > 0))
    owner = run.rows.owner[rows]
    pairs = np.stack([run.rows.step[rows], values[rows]], axis=1)
    cuts = np.flatnonzero(owner[1:] != owner[:-1]) + 1
    parts = np.split(pairs, cuts)
    return (
        {int(o): p for o, p in zip(owner[np.r_[0, cuts]], parts, strict=True)} if len(rows) else {}
    )


def _mark_rungs(axes: Axes, run: st.RunStatistics, arm: str) -> None:
    for rung in st.rungs(run, arm):
        if not rung.stopped:
            continue
        axes.axvline(rung.step, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
        axes.annotate(
            f"{rung.stopped:,}", (rung.step, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", fontsize=9, color=SOFT, ha="center",
        )  # fmt: skip


def _step_axis(axes: Axes, run: st.RunStatistics) -> None:
    """Set whole steps as ticks, on a logarithmic axis where there are many rungs."""
    top = st.last_step(run)
    if top > 15 and len(st.rung_steps(run)) > 2:
        axes.set_xscale("log")
        ticks = sorted({*st.rung_steps(run), top})
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def score_ranks(run: st.RunStatistics, p: ProxyStatistics, name: str) -> Painter:
    """Draw the truth against the rank by one score; the best 5 % by either are marked.

    Args:
        run: The loaded run.
        p: Its scores.
        name: Name of the score.

    Returns:
        A painter of the figure.
    """
    assert p.objective is not None
    metric, sign = p.objective.metric, p.objective.sign

    def painter(axes: Axes) -> None:
        valid = np.isfinite(p.scores[name])
        score, index = p.scores[name][valid], p.index[valid]
        truth, arm = run.trials.values[metric][index], run.trials.arm[index]
        _, group, size = np.unique(score, return_inverse=True, return_counts=True)
        rank = (np.cumsum(size) - (size - 1) / 2)[group]
        crowd = len(index) > MANY
        few = max(1, round(0.05 * len(p.index)))
        axes.axvspan(
            len(rank) - few + 0.5, len(rank) + 0.5, color=GREEN, alpha=0.12, linewidth=0,
            label="best 5 % by score",
        )  # fmt: skip
        for place, which in enumerate(dict.fromkeys(arm)):
            mine = arm == which
            colour, marker = arm_style(run, which)
            axes.scatter(
                rank[mine], truth[mine], s=7 if crowd else 30, marker=marker, color=colour,
                alpha=0.25 if crowd else 0.75, linewidths=0, rasterized=crowd,
                label=f"{which} ({int(mine.sum()):,})", zorder=2.5 - 0.1 * place,
            )  # fmt: skip
        top = sign * truth >= np.sort(sign * run.trials.values[metric][p.index])[-few]
        axes.plot(rank[top], truth[top], "o", mfc="none", mec=INK, mew=0.6 if crowd else 1.1,
                  markersize=3 if crowd else 8, zorder=3, label="true best 5 %")  # fmt: skip
        axes.set_xlim(0, len(rank) + 1)
        _crop(axes, truth, sign)
        axes.set_xlabel(f"rank by {_column(name)}, from the lowest to the highest")
        axes.set_ylabel(words.axis(metric, run.unit(metric)))

    return painter


def supernet_curves(t: SupernetTraining) -> Painter:
    """Draw the accuracy of subnets with inherited weights after each epoch of the training.

    Args:
        t: The training, with curves.

    Returns:
        A painter of the figure.
    """

    def painter(axes: Axes) -> None:
        for place, (name, curve) in enumerate(sorted(t.curves.items(), key=_last_value)):
            colour = ARM_COLOURS[place % len(ARM_COLOURS)]
            few = len(curve) <= 40
            axes.plot(
                *curve.T, "-o" if few else "-", color=colour, markersize=3.5, linewidth=1.8,
                label=words.label(name).removesuffix(" accuracy"),
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch of the supernet's training")
        axes.set_ylabel("accuracy (%)")

    return painter


def _last_value(curve: tuple[str, st.Floats]) -> float:
    """Return the sort key that puts the curve with the highest end first."""
    return -float(curve[1][-1, 1])


def inherited_truth(run: st.RunStatistics, j: SearchRankingStatistics) -> Painter:
    """Draw the result of training from scratch against the value by which the search ranked.

    Args:
        run: The loaded run.
        j: Its ranking, judged by trained networks.

    Returns:
        A painter of the figure.
    """
    metric = j.objective.metric

    def painter(axes: Axes) -> None:
        arms = run.trials.arm[j.index]
        for which in dict.fromkeys(arms):
            mine = arms == which
            colour, marker = arm_style(run, which)
            axes.scatter(
                run.trials.values[metric][j.index[mine]], j.truth[mine], s=30, marker=marker,
                color=colour, alpha=0.8, linewidths=0, label=f"{which} ({int(mine.sum()):,})",
            )  # fmt: skip
        axes.set_xlabel(f"{words.axis(metric, run.unit(metric))} in the search")
        axes.set_ylabel("trained from scratch" + (" (%)" if run.unit(metric) == "%" else ""))

    return painter


def score_agreement(p: ProxyStatistics) -> Painter:
    """Draw the rank correlations of all scores with each other, as a table of colours.

    Args:
        p: The scores of the run.

    Returns:
        A painter of the figure.
    """

    def painter(axes: Axes) -> None:
        table, names = p.agreement, [_column(name) for name in p.scores]
        axes.imshow(table, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        places = range(len(names))
        axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        for i, j in np.ndindex(table.shape):
            axes.text(
                j, i, f"{table[i, j]:.2f}" if np.isfinite(table[i, j]) else words.DASH,
                ha="center", va="center", fontsize=9 if len(names) <= 10 else 6.5,
                color="white" if abs(table[i, j]) > 0.6 else INK,
            )  # fmt: skip

    return painter


def _column(name: str) -> str:
    """Return the name of a score: proxies have the names of their columns."""
    return words.label(name) if name in st.COSTS else name


def _proxy_painters(run: st.RunStatistics, p: ProxyStatistics) -> dict[str, Painter]:
    if p.best is None:
        return {"proxy_agreement": score_agreement(p)}
    known = [n for n in (p.best, "params") if np.isfinite(p.scores[n]).any()]
    places = ("proxy_best", "proxy_params")
    return {place: score_ranks(run, p, name) for place, name in zip(places, known, strict=False)}


def all_figures(
    run: st.RunStatistics,
    step_name: str = "step",
    proxies: ProxyStatistics | None = None,
    training: SupernetTraining | None = None,
    judged: SearchRankingStatistics | None = None,
) -> tuple[dict[str, tuple[str, bytes]], dict[str, str]]:
    """Draw each figure that the run has data for.

    Args:
        run: The loaded run.
        step_name: Name of a step, such as "epoch".
        proxies: Scores of the run; None where it has none.
        training: Training of the supernet; None where there is none.
        judged: The search's ranking, judged by trained networks; None where there are none.

    Returns:
        Name -> (SVG text, PNG bytes), and name -> reason why it could not be drawn.
    """
    painters: dict[str, Painter] = {}
    if len(run.complete()):
        painters["best_so_far"] = best_so_far(run)
        if len(run.objectives) > 1:
            painters["objectives"] = objectives_plane(run)
        for cost in costs_of(run):
            if cost not in [o.metric for o in run.objectives[:2]]:
                painters[f"trade_off_{cost}"] = trade_off(run, cost)
    if run.main is not None and curve_metric(run) is not None:
        painters["learning_curves"] = learning_curves(run, run.main, step_name)
    if proxies is not None:
        painters |= _proxy_painters(run, proxies)
    if training is not None and training.curves:
        painters["supernet_curves"] = supernet_curves(training)
    if judged is not None and len(judged.index) > 1:
        painters["inherited_truth"] = inherited_truth(run, judged)
    drawn, missing = dict[str, tuple[str, bytes]](), dict[str, str]()
    for name, painter in painters.items():
        try:
            drawn[name] = paint(painter)
        except Exception as error:  # such as numbers that no axis can show
            missing[name] = failure_message(error)[0]
    return drawn, missing
