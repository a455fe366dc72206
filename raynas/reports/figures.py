"""The figures that a run's report shows."""

from __future__ import annotations

import numpy as np

from raynas.analysis import statistics as st
from raynas.analysis.proxies import ProxyStatistics
from raynas.analysis.supernets import SearchRankingStatistics, SupernetTraining, costs_of
from raynas.core import failure_message
from raynas.reports.figure_style import Painter, paint
from raynas.reports.ranking_figures import (
    inherited_truth,
    score_agreement,
    score_ranks,
    supernet_curves,
)
from raynas.reports.search_figures import (
    best_so_far,
    curve_metric,
    learning_curves,
    objectives_plane,
    trade_off,
)


def _proxy_painters(run: st.RunStatistics, p: ProxyStatistics) -> dict[str, Painter]:
    if p.best is None:
        return {"proxy_agreement": score_agreement(p)}
    known = [n for n in (p.best, "params") if np.isfinite(p.scores[n]).any()]
    places = ("proxy_best", "proxy_params")
    return {place: score_ranks(run, p, name) for place, name in zip(places, known, strict=False)}


def painters(
    run: st.RunStatistics,
    step_name: str = "step",
    proxies: ProxyStatistics | None = None,
    training: SupernetTraining | None = None,
    judged: SearchRankingStatistics | None = None,
) -> dict[str, Painter]:
    """Return the figures that the run has data for; nothing is drawn yet.

    Args:
        run: The loaded run.
        step_name: Name of a step, such as "epoch".
        proxies: Scores of the run; None where it has none.
        training: Training of the supernet; None where there is none.
        judged: The search's ranking, judged by trained networks; None where there are none.

    Returns:
        Name -> painter.
    """
    found: dict[str, Painter] = {}
    if len(run.complete()):
        found["best_so_far"] = best_so_far(run)
        if len(run.objectives) > 1:
            found["objectives"] = objectives_plane(run)
        for cost in costs_of(run):
            if cost not in [o.metric for o in run.objectives[:2]]:
                found[f"trade_off_{cost}"] = trade_off(run, cost)
    if run.main is not None and curve_metric(run) is not None:
        found["learning_curves"] = learning_curves(run, run.main, step_name)
    if proxies is not None:
        found |= _proxy_painters(run, proxies)
    if training is not None and training.curves:
        found["supernet_curves"] = supernet_curves(training)
    if judged is not None and len(judged.index) > 1:
        found["inherited_truth"] = inherited_truth(run, judged)
    return found


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
    drawn, missing = dict[str, tuple[str, bytes]](), dict[str, str]()
    for name, painter in painters(run, step_name, proxies, training, judged).items():
        try:
            drawn[name] = paint(painter)
        except Exception as error:  # such as numbers that no axis can show
            missing[name] = failure_message(error)[0]
    return drawn, missing
