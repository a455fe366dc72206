"""The sentences of a report: the result first, with the evidence against it stated plainly."""

from __future__ import annotations

import math

from raynas.analysis import equal_cost, rank_correlation, selection
from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.analysis.chance import ResultLead
from raynas.analysis.intervals import PAIRS_FROM
from raynas.core import TrialState
from raynas.reports.ranking_sentences import has_stopped_trials
from raynas.reports.supernet_sentences import trained_sentence


def number_or_dash(value: float, digits: int = 2) -> str:
    """Return a number with fixed decimals, or a dash where it is not finite.

    Args:
        value: The number.
        digits: Number of decimals.

    Example:
        >>> number_or_dash(0.123)
        '0.12'
    """
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else words.DASH


def headline(run: st.RunStatistics, summary: tables.RunSummary) -> str:
    """Return the result in one sentence, or the reason why there is none yet.

    Args:
        run: The loaded run.
        summary: Its summary.

    Returns:
        One or two sentences.
    """
    if not summary.rows:
        return "Nothing has been measured yet."
    if summary.best is None and not summary.methods:
        return f"The search has not begun yet. {trained_sentence(summary.training)}".rstrip()
    if summary.best is None and summary.failure:
        return f"There is no result: {summary.failure}."
    if summary.best is None:
        return "No trial has a result yet. " + _endings(summary)
    if not summary.best.complete:
        metric = run.objectives[0].metric
        value = words.finding(metric, summary.best.values[metric], run.unit(metric))
        return (
            f"No trial is complete yet; the best of those measured furthest (step "
            f"{summary.best.step}) has {value}."
        )
    if len(run.objectives) > 1:
        return _front_headline(run, summary)
    return _single_headline(run, summary.best)


def _endings(summary: tables.RunSummary) -> str:
    counts = {s: sum(a.states[s.value] for a in summary.methods) for s in TrialState}
    parts = [f"{n:,} {state.value.lower()}" for state, n in counts.items() if n]
    screened = sum(a.screened for a in summary.methods)
    parts += [f"{screened:,} screened out"] if screened else []
    return f"So far: {', '.join(parts)}." if parts else ""


def _costs(found: tables.TrialSummary) -> str:
    parts = []
    if math.isfinite(found.params):
        parts.append(f"{words.si(found.params)} parameters")
    if math.isfinite(found.macs):
        parts.append(f"{words.si(found.macs)} MACs")
    return " and ".join(parts)


def _single_headline(run: st.RunStatistics, found: tables.TrialSummary) -> str:
    metric = run.objectives[0].metric
    value = words.finding(metric, found.values[metric], run.unit(metric))
    costs = _costs(found)
    text = f"The best network has {value}" + (f" with {costs}" if costs else "")
    test = selection.test_metric(run)
    if test and found.test_n > 1:
        spread = words.spread(test, found.test_mean, found.test_std, run.unit(test))
        return (
            f"{text}; retrained over {found.test_n} seeds it reaches {spread} {words.label(test)} "
            "(mean ± standard deviation)."
        )
    if test and found.test_n == 1:
        spread = words.quantity(test, found.test_mean, run.unit(test))
        return f"{text}; retrained with one seed it reaches {spread} {words.label(test)}."
    return text + "."


def _front_headline(run: st.RunStatistics, summary: tables.RunSummary) -> str:
    front = summary.front
    ends = [front[0], front[-1]] if len(front) > 1 else [front[0]]
    shown = [
        ", ".join(
            words.finding(o.metric, f.values[o.metric], run.unit(o.metric)) for o in run.objectives
        )
        for f in ends
    ]
    found = f"The search found {words.count(len(front), 'network')} that no other beats in all"
    return f"{found} {len(run.objectives)} objectives: {' … '.join(shown)}."


def trials_sentence(summary: tables.RunSummary) -> str:
    """Return a sentence on the trials of the main method: counts, endings and cost.

    Args:
        summary: The summary of the run.

    Returns:
        The text; empty without a search.
    """
    main = next((a for a in summary.methods if a.main), None)
    if main is None:
        return ""
    states = main.states
    parts = [f"{main.method} started {words.count(main.started, 'trial')}"]
    if main.screened:
        parts = [f"{main.method} screened out {words.count(main.screened, 'candidate')} by scores",
                 f"started {words.count(main.started, 'trial')}"]  # fmt: skip
    if states[TrialState.STOPPED.value]:
        share = states[TrialState.STOPPED.value] / main.started
        parts.append(
            f"{states[TrialState.STOPPED.value]:,} ({100 * share:.0f} %) were stopped early"
        )
    parts.append(f"{states[TrialState.COMPLETE.value]:,} completed")
    parts += [
        f"{states[s.value]:,} {said}"
        for s, said in (
            (TrialState.FAILED, "failed"),
            (TrialState.INFEASIBLE, "infeasible"),
            (TrialState.RUNNING, "still running"),
        )
        if states[s.value]
    ]
    text = ", ".join(parts)
    if main.seconds:
        text += f". That took {words.duration(main.seconds)} of worker time"
        if summary.worker_seconds > main.seconds:
            whole = words.duration(summary.worker_seconds)
            more = "the training of the supernet, " if summary.training else ""
            text += f"; the whole run with {more}comparisons and finals took {whole} of it"
        text += f", {words.duration(summary.elapsed)} of wall time"
    return text + "."


def compare_sentence(run: st.RunStatistics) -> tuple[str, str]:
    """Compare the main method with random search in a sentence.

    Args:
        run: The loaded run.

    Returns:
        A verdict (``better``, ``close``, ``worse`` or ``none``) and the sentence beside it.
    """
    if run.main is None:
        return "none", ""
    if run.main.lower().startswith(st.RANDOM):
        return "none", "The search itself was random, so there is nothing to compare it with."
    if run.random is None:
        return "none", (
            "This run holds no random search at equal cost, so it does not show that "
            f"{run.main} is better than chance."
        )
    found = equal_cost.compare(run)
    if found is None:
        return "none", "Random search at equal cost has not completed a trial yet to compare with."
    return _verdict(run, found)


def _verdict(run: st.RunStatistics, c: equal_cost.EqualCostComparison) -> tuple[str, str]:
    single = len(run.objectives) == 1
    metric = run.objectives[0].metric if single else ""
    unit = run.unit(metric) if single else ""

    def show(value: float) -> str:
        return words.quantity(metric, value, unit) if single else f"{100 * value:.1f} %"

    shown = (
        words.finding(metric, c.random, unit)
        if single
        else f"{show(c.random)} of the objectives' box dominated"
    )
    cost = spent(run, c.cost)
    cost += " trained, no time was recorded" if equal_cost.counts_steps(run) else " worker time"
    text = f"Random search at the same cost ({cost}): {shown}; {run.main}: {show(c.main)}. "
    gap = (
        words.difference(metric, c.main - c.random, unit)
        if single
        else f"{100 * abs(c.main - c.random):.1f} points"
    )
    if not c.better:
        end = "did just as well" if c.main == c.random else f"did better, by {gap}"
        return "worse", text + f"Random search {end}: this run is no evidence for {run.main}."
    ahead = f"{text}{run.main} is ahead by {gap}"
    if c.pending:
        return "close", f"{ahead}, but {c.pending}, so it cannot be told from chance yet."
    if c.lead is None or not c.lead.can_be_judged:
        return "close", (
            f"{ahead}. One run of each cannot tell that from chance: compare several seeds."
        )
    if not c.beyond_chance:
        return "close", (
            f"{ahead}, which random search also reaches by chance: {_chance(run.main, c.lead)}. "
            "Several seeds of both would say more."
        )
    return "better", (
        f"{ahead}, more than random search reaches by chance: {_chance(run.main, c.lead)}. "
        "It is one run of each: another seed may differ."
    )


def _chance(method: str | None, lead: ResultLead) -> str:
    best = "best network" if lead.above == 1 else f"{lead.above:,} best networks"
    are = "is" if lead.above == 1 else "are all"
    share = 100 * lead.chance
    shown = f"{share:.2g} %" if share >= 0.01 else "less than 0.01 %"
    return f"the {best} of both {are} from {method}, as by chance alone in {shown} of cases"


def spent(run: st.RunStatistics, cost: float) -> str:
    """Return a cost of a method with its unit: worker time, or steps where no time was recorded.

    Args:
        run: The loaded run.
        cost: Worker seconds, or steps.

    Returns:
        Such as "1 h 6 min" or "120 steps".
    """
    return f"{cost:,.0f} steps" if equal_cost.counts_steps(run) else words.duration(cost)


def size_sentence(run: st.RunStatistics) -> str:
    """Return a sentence on the ranking by the number of parameters alone.

    Args:
        run: The loaded run.

    Returns:
        The text; empty where size is unknown or is itself the first objective.
    """
    ranking = rank_correlation.size_ranking(run)
    metric = run.objectives[0].metric
    if ranking is None or metric in st.COSTS:
        return ""
    t = run.trials
    top = int(selection.ranked(run)[0])
    unit = run.unit(metric)

    def show(i: int) -> str:
        return f"{words.quantity(metric, float(t.values[metric][i]), unit)}"

    largest = (
        f"the largest of them ({words.si(float(t.values['params'][ranking.largest]))} parameters)"
    )
    if ranking.largest == top:
        pick = f"{largest} is also the best: {show(top)}."
    else:
        pick = f"{largest} has {show(ranking.largest)}, the best {show(top)}."
    if ranking.rank is None:
        said = words.count(ranking.n, "completed architecture")
        return f"With {said} a ranking by size cannot be judged; {pick}"
    r = ranking.rank
    missing = (
        " (Only completed trials count, so the poorest are missing.)"
        if has_stopped_trials(run)
        else ""
    )
    interval = f", 95 % interval {r.low:.2f} to {r.high:.2f}" if math.isfinite(r.low) else ""
    return (
        f"Ranking the {ranking.n:,} completed architectures by parameters alone agrees with their "
        f"{words.named(metric, unit)} by Kendall's τ = {r.tau:.2f}{interval}: {_strength(r)}; "
        f"{pick}{missing}"
    )


def _strength(rank: rank_correlation.TauEstimate) -> str:
    """Return what the interval shows, in words, and no more than that."""
    if not math.isfinite(rank.low):
        few = rank.n < PAIRS_FROM
        return "too few to judge" if few else "a search chose them, so they show no more"
    if rank.high < 0:
        return "larger networks tend to be worse"
    if rank.low <= 0:
        return "no relation is shown"
    if rank.low > MOST:
        return "size explains most of the order"
    return "larger networks tend to be better"


MOST = 0.5  # tau, at which three quarters of all pairs are in the order of size
