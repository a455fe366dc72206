"""Sentences of a report on supernets and on networks that inherit weights."""

from __future__ import annotations

import math

import numpy as np

from raynas.analysis import formatting as words
from raynas.analysis import selection
from raynas.analysis import statistics as st
from raynas.analysis import supernets as sn
from raynas.analysis.ranking import FEWEST
from raynas.core import TrialState
from raynas.reports.ranking_sentences import (
    SIZE_NAMES,
    explained,
    gap_text,
    left_out_sentence,
    listed,
    not_shown,
    undecided,
    worse,
)


def trained_sentence(t: sn.SupernetTraining | None) -> str:
    """Return a sentence on the supernet's training and on the cost of the search beside it.

    Args:
        t: The training; None where there is none.

    Returns:
        The text; empty without a training.
    """
    if t is None:
        return ""
    took = f"{words.count(t.step, 'epoch')} in {words.duration(t.seconds)} of worker time"
    if t.state == TrialState.FAILED.value:
        return f"{t.trainer} failed after {took}: {t.message}."
    if t.state != TrialState.COMPLETE.value:
        return f"{t.trainer} is running: {took}."
    text = f"{t.trainer} trained the supernet once: {took}."
    if not t.evaluated or not t.seconds:
        return text
    share = 100 * t.searching / t.seconds
    shown = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
    return (
        f"{text} With its weights {words.count(t.evaluated, 'architecture')} were evaluated in "
        f"{words.duration(t.searching)} of worker time, {shown} % of what the training took."
    )


def truth_sentence(run: st.RunStatistics, j: sn.SearchRankingStatistics) -> str:
    """Return a sentence on the trained networks by which the search's ranking is judged.

    Args:
        run: The loaded run.
        j: Its ranking, judged by trained networks.

    Returns:
        One or more sentences.
    """
    what = words.named(j.objective.metric, run.unit(j.objective.metric))
    if not j.qualities:
        return (
            f"The search's values are judged by networks trained from scratch; {len(j.index):,} of "
            f"{j.wanted:,} are trained so far, and at least {FEWEST} are needed."
        )
    best = words.quantity(j.objective.metric, float((j.objective.sign * j.truth).max())
                          * j.objective.sign, run.unit(j.objective.metric))  # fmt: skip
    return (
        f"{words.count(len(j.index), 'architecture')} from all over the search's ranking were "
        f"trained from scratch; the best of them has {best} {what}.{left_out_sentence(j.left_out)} "
        "The search's own value ranks them like this, compared with their size alone:"
    )


def truth_verdict(j: sn.SearchRankingStatistics, subject: str) -> str:
    """Return a sentence on whether the search's values rank better than size.

    Args:
        j: The ranking, judged by trained networks.
        subject: Name of the values, in the plural.

    Returns:
        The text; empty where the values cannot be judged.
    """
    q = j.search
    if q is None:
        return ""
    if not math.isfinite(q.whole.spearman.value):
        flat = (
            "have the same value for all of these architectures"
            if q.distinct == 1
            else "cannot be judged"
        )
        return f"{subject} {flat}" + (
            ": the trained networks do not differ." if q.distinct > 1 else "."
        )
    if q.undecided:
        return undecided([subject]).replace(" is not ", " are not ", 1)
    if q.worse_than_all:
        return f"{subject} rank {worse(q)}"
    if not q.beats_all:
        return not_shown(q, f"{subject} are")
    gaps = listed([f"{SIZE_NAMES[b]} ({gap_text(gap)})" for b, gap in q.beyond.items()])
    return explained(f"{subject} rank better than {gaps}, beyond chance.")


def tuned_sentence(run: st.RunStatistics, found: list[sn.FinalistPair]) -> str:
    """Return a sentence on the difference that a start from inherited weights makes.

    Args:
        run: The loaded run.
        found: Its finalists with both ways of training.

    Returns:
        The text; empty where no finalist was trained in both ways.
    """
    both = [f for f in found if math.isfinite(f.gain)]
    metric = selection.test_metric(run)
    if not both or metric is None:
        return ""
    sign, unit, gain = run.objectives[0].sign, run.unit(metric), sn.mean_gain(both)
    text = f"Over {words.count(len(both), 'finalist')} a start from inherited weights ends "
    text += f"{words.difference(metric, gain.value, unit)} "
    said = "better" if sign * gain.value > 0 else "worse"
    if not math.isfinite(gain.low):
        text += f"{_side(gain.value)} one from scratch; so few seeds do not show that it is {said}"
    else:
        interval = f"(95 % interval {gain.low:+.2f} to {gain.high:+.2f})"
        if gain.low > 0 or gain.high < 0:
            text += f"{said} than one from scratch {interval}"
        else:
            text += f"{_side(gain.value)} one from scratch {interval}"
            text += ", which may differ with other seeds"
    times = [f.tuned_seconds / f.scratch_seconds for f in both if f.scratch_seconds > 0]
    if times and np.isfinite(times).all():
        text += f", with {100 * float(np.mean(times)):.0f} % of its worker time"
    if len(both) > 1:
        better = sum(sign * f.gain > 0 for f in both)
        text += f"; it is ahead for {better} of {len(both)}"
    return text + "."


def _side(gain: float) -> str:
    return "above" if gain > 0 else "below"
