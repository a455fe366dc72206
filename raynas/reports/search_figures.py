"""Figures of a search: best values against cost, trade-offs, learning curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import LogLocator, MaxNLocator

from raynas.analysis import equal_cost, rung_counts, selection
from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.core import TrialState
from raynas.reports.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SOFT,
    Painter,
    format_ticks,
    method_style,
)

MANY = 2_000  # points above which a scatter is stored as pixels
CURVES = 400


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
            colour, marker = method_style(run, t.method)
            if t.method == run.random:
                band = equal_cost.reordered(run, t)
                if band is not None and len(band.cost):
                    axes.fill_between(
                        band.cost, band.low, band.high, color=colour, alpha=0.14, linewidth=0,
                        step="post", label=f"{t.method}: 95 % of the orders of its trials",
                    )  # fmt: skip
            axes.step(
                np.r_[t.cost, t.total], np.r_[t.value, t.value[-1]], where="post", color=colour,
                linewidth=2.4 if t.method == run.main else 1.8, label=t.method,
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
        format_ticks(axes, "y", words.tick)


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
        for place, method in enumerate(run.methods):
            done = run.complete(method)
            colour, marker = method_style(run, method)
            crowd = len(everything) > MANY
            axes.scatter(
                values[cost][done], values[metric][done], s=7 if crowd else 30, marker=marker,
                color=colour, alpha=0.25 if crowd else 0.75, linewidths=0, rasterized=crowd,
                label=f"{method} ({len(done):,})", zorder=2.5 - 0.1 * place,
            )  # fmt: skip
        chosen = selection.front(run, None, [(metric, objective.sign), (cost, -1.0)])
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
        format_ticks(axes, "x", words.tick)
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
    final = selection.finals(run)
    chosen = [i for i in selection.ranked(run) if run.trials.arch_id[i] in final]
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
        for place, method in enumerate(run.methods):
            done = run.complete(method)
            colour, marker = method_style(run, method)
            axes.scatter(
                values[second.metric][done], values[first.metric][done], s=7 if crowd else 30,
                marker=marker, color=colour, alpha=0.25 if crowd else 0.75, linewidths=0,
                rasterized=crowd, label=f"{method} ({len(done):,})", zorder=2.5 - 0.1 * place,
            )  # fmt: skip
        for method in run.methods:
            chosen = selection.front(run, method, [(o.metric, o.sign) for o in (first, second)])
            order = np.argsort(values[second.metric][chosen], kind="stable")
            axes.step(
                values[second.metric][chosen][order], values[first.metric][chosen][order],
                where="post" if second.sign < 0 else "pre", color=method_style(run, method)[0],
                linewidth=1.5, label=f"{method}: front",
            )  # fmt: skip
        for which, objective in (("x", second), ("y", first)):
            if objective.metric in st.COSTS:
                format_ticks(axes, which, words.tick)
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


def shown_curves(run: st.RunStatistics, method: str) -> tuple[st.Ints, int]:
    """Choose the trials whose curves are drawn.

    Up to ``CURVES`` all are drawn; of more, a fixed random choice with the best among them.

    Args:
        run: The loaded run.
        method: Name of the method.

    Returns:
        (k,) indices of trials, and the number of trials that have a curve.
    """
    mine = np.flatnonzero(run.searching(method) & (run.trials.step > 0))
    if len(mine) <= CURVES:
        return mine, len(mine)
    rng = np.random.default_rng(0)
    done = np.intersect1d(mine, run.complete(method))
    rest = np.setdiff1d(mine, done)
    few = rng.permutation(done)[: CURVES // 2]
    chosen = np.r_[few, rng.permutation(rest)[: CURVES - len(few)]]
    top = selection.best(run, method)
    return np.unique(chosen if top is None else np.r_[chosen, top]), len(mine)


def learning_curves(run: st.RunStatistics, method: str, step_name: str) -> Painter:
    """Draw the learning curve of every trial; where the scheduler stopped one, it ends in a cross.

    Args:
        run: The loaded run.
        method: Name of the method.
        step_name: Name of a step, such as "epoch".

    Returns:
        A painter of the figure.
    """
    metric = curve_metric(run) or run.objectives[0].metric

    def painter(axes: Axes) -> None:
        chosen, _total = shown_curves(run, method)
        lines = _curves(run, chosen, metric)
        state = run.trials.state
        top = selection.best(run, method)
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
        _mark_rungs(axes, run, method)
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


def _mark_rungs(axes: Axes, run: st.RunStatistics, method: str) -> None:
    for rung in rung_counts.rungs(run, method):
        if not rung.stopped:
            continue
        axes.axvline(rung.step, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
        axes.annotate(
            f"{rung.stopped:,}", (rung.step, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", fontsize=9, color=SOFT, ha="center",
        )  # fmt: skip


def _step_axis(axes: Axes, run: st.RunStatistics) -> None:
    """Set whole steps as ticks, on a logarithmic axis where there are many rungs."""
    top = rung_counts.last_step(run)
    if top > 15 and len(rung_counts.rung_steps(run)) > 2:
        axes.set_xscale("log")
        ticks = sorted({*rung_counts.rung_steps(run), top})
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
