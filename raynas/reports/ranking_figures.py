"""Figures of scores and inherited weights beside the results of trained networks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis.proxies import ProxyStatistics
from raynas.analysis.supernets import SearchRankingStatistics, SupernetTraining
from raynas.reports.figure_style import GREEN, INK, METHOD_COLOURS, Painter, method_style
from raynas.reports.search_figures import MANY, _crop


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
        truth, method = run.trials.values[metric][index], run.trials.method[index]
        _, group, size = np.unique(score, return_inverse=True, return_counts=True)
        rank = (np.cumsum(size) - (size - 1) / 2)[group]
        crowd = len(index) > MANY
        few = max(1, round(0.05 * len(p.index)))
        axes.axvspan(
            len(rank) - few + 0.5, len(rank) + 0.5, color=GREEN, alpha=0.12, linewidth=0,
            label="best 5 % by score",
        )  # fmt: skip
        for place, which in enumerate(dict.fromkeys(method)):
            mine = method == which
            colour, marker = method_style(run, which)
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
            colour = METHOD_COLOURS[place % len(METHOD_COLOURS)]
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
        methods = run.trials.method[j.index]
        for which in dict.fromkeys(methods):
            mine = methods == which
            colour, marker = method_style(run, which)
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
