"""Sections of a report on scores, on supernets and on what they rank."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.analysis import formatting as words
from raynas.analysis import proxies as px
from raynas.analysis import selection
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.analysis import supernets as sn
from raynas.analysis.ranking import DRAWS
from raynas.reports.provenance_section import run_argument
from raynas.reports.ranking_sentences import judged_sentence, proxy_sentences, screening_sentence
from raynas.reports.supernet_sentences import (
    trained_sentence,
    truth_sentence,
    truth_verdict,
    tuned_sentence,
)

if TYPE_CHECKING:
    import pyarrow as pa


def proxy_section(run: st.RunStatistics, found: px.ProxyStatistics | None) -> dict[str, Any]:
    """Return the section about scores; ``proxies`` is None where the run has none."""
    screenings = px.screenings(run)
    shown: dict[str, Any] = {"screenings": screenings, "proxies": found}
    if found is None:
        return shown
    metric = found.objective.metric if found.objective else ""
    return {
        **shown,
        "proxy_lines": [screening_sentence(s) for s in screenings] + [judged_sentence(run, found)],
        "proxy_verdicts": proxy_sentences(found),
        "draws": [k for k in DRAWS if any(k in q.best for q in found.qualities)],
        "truth": lambda value: words.quantity(metric, value, run.unit(metric)),
        "scored_finalists": _scored_finalists(run, found) if not found.qualities else [],
    }


def _scored_finalists(
    run: st.RunStatistics, found: px.ProxyStatistics
) -> list[tuple[str, str, list[str]]]:
    """Return architecture, test result and scores of each finalist."""
    final, metric = selection.finals(run), selection.test_metric(run)
    if metric is None:
        return []
    ids = [str(i) for i in run.trials.arch_id[found.index]]
    places = [int(k) for k, arch_id in enumerate(ids) if arch_id in final]
    places.sort(key=lambda k: -final[ids[k]].mean)
    return [
        (
            str(run.trials.arch[found.index[k]]),
            words.spread(metric, final[ids[k]].mean, final[ids[k]].std, run.unit(metric)),
            [
                words.si(v[k]) if n in st.COSTS else words.quantity(n, float(v[k]), words.SCORE)
                for n, v in found.scores.items()
            ],
        )
        for k in places
    ]


def proxy_captions(found: px.ProxyStatistics | None) -> dict[str, str]:
    """Return the captions of the figures about scores.

    Args:
        found: The scores of the run; None where it has none.

    Returns:
        Name of the figure -> caption.
    """
    if found is None:
        return {}
    ranks = "Tied scores share their middle rank. Rings inside the green band are found."
    return {
        "proxy_best": f"The proxy with the highest rank correlation here. {ranks}",
        "proxy_params": f"The same by size alone. {ranks}",
        "proxy_agreement": "Spearman's rank correlation between scores, parameters and MACs over "
        f"{words.count(len(found.index), 'architecture')}.",
    }


SUPERNET_CAPTIONS = {
    "supernet_curves": "Subnets on validation images, with the weights that they inherit after "
    "each epoch.",
    "inherited_truth": "Each point is an architecture that was searched and then trained from "
    "scratch. The search sees only what is on the horizontal axis.",
}


def supernet_section(
    run: st.RunStatistics,
    table: pa.Table,
    training: sn.SupernetTraining | None,
    judged: sn.SearchRankingStatistics | None,
) -> dict[str, Any]:
    """Return the section about inherited weights and the networks that judge them."""
    inherits = training is not None or bool(tables.counted(table, "weights"))
    subject = "Inherited weights" if inherits else "The search's own values"
    metric, both = selection.test_metric(run) or "", sn.twice(run)

    def searched(value: float) -> str:
        return words.quantity(run.objectives[0].metric, value, run.unit(run.objectives[0].metric))

    def test(final: selection.FinalistResult | None) -> str:
        if final is None or not len(final.values):
            return words.DASH
        return words.spread(metric, final.mean, final.std, run.unit(metric))

    return {
        "inherits": inherits,
        "training": training,
        "supernet_lines": [trained_sentence(training)] if training else [],
        "judged": judged,
        "judged_lines": [truth_sentence(run, judged)] if judged else [],
        "judged_verdict": truth_verdict(judged, subject) if judged else "",
        "judged_names": {sn.SEARCHED: subject.lower()},
        "judged_draws": [k for k in DRAWS if judged and any(k in q.best for q in judged.qualities)],
        "twice": both,
        "twice_line": tuned_sentence(run, both),
        "twice_test": test,
        "searched": searched,
    }


def archive_section(run: st.RunStatistics, path: Path | None, shown: bool) -> dict[str, Any]:
    """Return the section of networks of all sizes from one search over a supernet."""
    if not shown or not len(run.complete()) or run.objectives[0].metric in st.COSTS:
        return {"archive": []}
    index, total = sn.archive(run)
    costs, metric = sn.costs_of(run), run.objectives[0].metric
    names = [metric, *costs]
    rows = [
        (
            [words.quantity(n, float(run.trials.values[n][i]), run.unit(n)) for n in names],
            str(run.trials.arch[i]),
        )
        for i in index
    ]
    middle = run.trials.values[costs[0]][index[len(index) // 2]] if costs else math.nan
    bound = f" --max {costs[0]}={float(f'{middle:.2g}'):.0f}" if math.isfinite(middle) else ""
    return {
        "archive": rows,
        "archive_total": total,
        "archive_names": [words.named(n, run.unit(n)) for n in names],
        "archive_command": f"raynas specialize {run_argument(path)}{bound}",
    }
