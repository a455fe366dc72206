"""The sentences of a report: the result first, with the evidence against it stated plainly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from raynas.analysis import equal_cost, rank_correlation, selection
from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.analysis import supernets as sn
from raynas.analysis.chance import ResultLead
from raynas.analysis.intervals import PAIRS_FROM, IntervalEstimate
from raynas.analysis.proxies import ProxyStatistics, ScreeningStatistics
from raynas.analysis.ranking import FEWEST, RankQuality
from raynas.core import TrialState


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
    if summary.best is None and not summary.arms:
        return f"Nothing has been searched yet. {trained_sentence(summary.training)}".rstrip()
    if summary.best is None and summary.failure:
        return f"There is no result: {summary.failure}."
    if summary.best is None:
        return "No trial has brought a result yet. " + _endings(summary)
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
    counts = {s: sum(a.states[s.value] for a in summary.arms) for s in TrialState}
    parts = [f"{n:,} {state.value.lower()}" for state, n in counts.items() if n]
    screened = sum(a.screened for a in summary.arms)
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
    main = next((a for a in summary.arms if a.main), None)
    if main is None:
        return ""
    states = main.states
    parts = [f"{main.arm} started {words.count(main.started, 'trial')}"]
    if main.screened:
        parts = [f"{main.arm} screened out {words.count(main.screened, 'candidate')} by scores",
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
            (TrialState.INFEASIBLE, "broke a bound"),
            (TrialState.RUNNING, "still running"),
        )
        if states[s.value]
    ]
    text = ", ".join(parts)
    if main.seconds:
        text += f". That took {words.duration(main.seconds)} of workers' time"
        if summary.worker_seconds > main.seconds:
            whole = words.duration(summary.worker_seconds)
            more = "the training of the supernet, " if summary.training else ""
            text += f"; the whole run with {more}comparisons and finals took {whole} of it"
        text += f", {words.duration(summary.elapsed)} by the clock"
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
        return "worse", text + f"Random search {end}: this run does not speak for {run.main}."
    ahead = f"{text}{run.main} is ahead by {gap}"
    if c.pending:
        return "close", f"{ahead}, but {c.pending}, so nothing can be said yet of luck."
    if c.luck is None or not c.luck.can_be_judged:
        return "close", (
            f"{ahead}. One run of each is too little to tell that from luck: compare several seeds."
        )
    if not c.beyond_luck:
        return "close", (
            f"{ahead}, which random search reaches by luck, too: {_chance(run.main, c.luck)}. "
            "Several seeds of both would say more."
        )
    return "better", (
        f"{ahead}, more than luck gives random search: {_chance(run.main, c.luck)}. "
        "It is one run of each: another seed may differ."
    )


def _chance(arm: str | None, lead: ResultLead) -> str:
    best = "best network" if lead.above == 1 else f"{lead.above:,} best networks"
    are = "is" if lead.above == 1 else "are all"
    share = 100 * lead.chance
    shown = f"{share:.2g} %" if share >= 0.01 else "less than 0.01 %"
    return f"the {best} of both {are} from {arm}, as by chance alone in {shown} of cases"


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
    missing = " (Only completed trials count, so the poorest are missing.)" if _halted(run) else ""
    interval = f", 95 % interval {r.low:.2f} to {r.high:.2f}" if math.isfinite(r.low) else ""
    return (
        f"Ranking the {ranking.n:,} completed architectures by parameters alone agrees with their "
        f"{words.named(metric, unit)} by Kendall's τ = {r.tau:.2f}{interval}: {_strength(r)}; "
        f"{pick}{missing}"
    )


def _halted(run: st.RunStatistics) -> bool:
    """Return True when screening or a scheduler kept some trials from a final value."""
    return bool((run.searching() & run.has_state(TrialState.STOPPED)).any())


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
_SIZES = {"params": "the number of parameters", "macs": "the multiply-adds"}


def screening_sentence(s: ScreeningStatistics) -> str:
    """Return a sentence on the candidates that a method scored and kept, and on the cost of both.

    Args:
        s: The screening of the method.

    Returns:
        One or two sentences.
    """
    text = (
        f"{s.arm} scored {words.count(s.candidates, 'candidate')}, kept {s.kept:,} for training "
        f"and screened out {s.out:,}"
    )
    if s.scoring + s.training <= 0:
        return text + "."
    share = 100 * s.scoring / (s.scoring + s.training)
    return (
        f"{text}. Scoring took {words.duration(s.scoring)} of workers' time, training "
        f"{words.duration(s.training)}: {share:.2g} % went into scores."
    )


def judged_sentence(run: st.RunStatistics, p: ProxyStatistics) -> str:
    """Return a sentence on the metric that judges the proxies, or on why they are not judged.

    Args:
        run: The loaded run.
        p: Its scores.

    Returns:
        One or more sentences.
    """
    if p.objective is None:
        return (
            "The search ranked architectures by scores alone and trained none, so there is nothing "
            "to check the scores against. What can be shown is how far they agree with each other "
            f"on the {words.count(len(p.index), 'architecture')} that were scored."
        )
    what = words.named(p.objective.metric, run.unit(p.objective.metric))
    if not p.qualities:
        few = f"only {p.trained:,}" if p.trained else "none"
        return (
            f"Scores are judged by the {what} of what was trained to the end; {few} of the scored "
            f"architectures {'were' if p.trained > 1 else 'was'} so far, and it takes {FEWEST}."
        )
    arms = [f"{arm} {n:,}" for arm, n in p.arms(run).items()]
    shares = f" ({', '.join(arms)})" if len(arms) > 1 else ""
    best = float(run.trials.values[p.objective.metric][p.index[0]])
    value = words.quantity(p.objective.metric, best, run.unit(p.objective.metric))
    text = (
        f"Judged by the {what} of the {words.count(p.trained, 'architecture')} that were scored "
        f"and trained to the end{shares}; the best of them has {value}."
    )
    text += _left_out(p.left_out)
    if _halted(run):
        text += (
            " Architectures that were screened out or stopped early are missing here: among all "
            "of them a score may agree more, or less."
        )
    return text


def _left_out(count: int) -> str:
    if not count:
        return ""
    who = words.count(count, "architecture")
    return f" {who} that a search chose by results {'is' if count == 1 else 'are'} left out."


def proxy_sentences(p: ProxyStatistics) -> list[str]:
    """Return sentences on the evidence for each proxy, compared with the size of the networks.

    Args:
        p: The scores of the run.

    Returns:
        A list of sentences; empty where no proxy is judged.
    """
    judged = [q for q in p.qualities if q.name in p.names]
    flat = [q for q in judged if not math.isfinite(q.whole.spearman.value)]
    able = [q for q in judged if q not in flat]
    better = [q for q in able if q.beats_all]
    said = []
    for sizes in dict.fromkeys(tuple(q.beyond) for q in better):
        names = [q.name for q in better if tuple(q.beyond) == sizes]
        verb = "ranks" if len(names) == 1 else "rank"
        said.append(f"{_listed(names)} {verb} better than {_listed(_named(sizes))}, beyond chance.")
    many = sum(math.isfinite(q.chance_ahead) for q in able)
    said += [f"{q.name} ranks {_worse(q)}" for q in able if q.worse_than_all]
    said += [
        _not_shown(q, f"{q.name} is", many)
        for q in able
        if not (q.beats_all or q.worse_than_all or q.undecided)
    ]
    open_ = [q for q in able if q.undecided]
    said += [_undecided([q.name for q in open_])] if open_ else []
    said += [_unranked(able[0])] if able and able[0].unranked else []
    return said + [_flat(q) for q in flat]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _named(baselines: Iterable[str]) -> list[str]:
    return [_SIZES[b] for b in baselines]


def _not_shown(q: RankQuality, who: str, many: int = 1) -> str:
    """Return why nothing is claimed of a score.

    ``who`` is the subject with its verb; ``many`` is the number of scores compared.
    """
    if not q.beyond:
        return f"{who} not compared with the size of the networks, which is not known."
    if q.ahead:
        gaps = [f"{_SIZES[b]} ({_gap(gap)})" for b, gap in q.beyond.items()]
        but = f"among {many} scores one may be so by chance" if many > 1 else "not beyond chance"
        return _explained(f"{who} ahead of {_listed(gaps)}, but {but}.")
    shown = [f"{_SIZES[b]} ({_gap(q.beyond[b])})" for b in q.no_better_than]
    return _explained(f"{who} not shown to rank better than {_listed(shown)}.")


def _worse(q: RankQuality) -> str:
    gaps = [f"{_SIZES[b]} ({_gap(gap)})" for b, gap in q.beyond.items()]
    return _explained(f"worse than {_listed(gaps)}, beyond chance.")


def _undecided(names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{_listed(names)} {verb} not compared with size: that takes {PAIRS_FROM} architectures "
        "that were drawn at random, and differ."
    )


def _unranked(q: RankQuality) -> str:
    sizes = _listed(_named(q.unranked))
    one = len(q.unranked) == 1
    verb, rank = ("is", "ranks") if one else ("are", "rank")
    return f"{sizes[0].upper()}{sizes[1:]} {verb} the same for all of them and so {rank} nothing."


def _flat(q: RankQuality) -> str:
    if not q.distinct:
        return f"{q.name} has no valid score of these architectures."
    if q.distinct == 1:
        return f"{q.name} does not tell these architectures apart."
    return f"{q.name} cannot be judged: what was measured does not differ."


def _explained(text: str) -> str:
    return text.replace("(", "(difference in rank correlation ", 1)


def _gap(gap: IntervalEstimate) -> str:
    interval = f" [{gap.low:.2f}, {gap.high:.2f}]" if math.isfinite(gap.low) else ""
    return f"{gap.value:+.2f}{interval}"


# -- inherited weights ---------------------------------------------------------------------------


def trained_sentence(t: sn.SupernetTraining | None) -> str:
    """Return a sentence on the supernet's training and on the cost of the search beside it.

    Args:
        t: The training; None where there is none.

    Returns:
        The text; empty without a training.
    """
    if t is None:
        return ""
    took = f"{words.count(t.step, 'epoch')} in {words.duration(t.seconds)} of workers' time"
    if t.state == TrialState.FAILED.value:
        return f"{t.trainer} failed after {took}: {t.message}."
    if t.state != TrialState.COMPLETE.value:
        return f"{t.trainer} is under way: {took}."
    text = f"{t.trainer} trained the supernet once: {took}."
    if not t.evaluated or not t.seconds:
        return text
    share = 100 * t.searching / t.seconds
    shown = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
    return (
        f"{text} With its weights {words.count(t.evaluated, 'architecture')} were evaluated in "
        f"{words.duration(t.searching)} of workers' time, {shown} % of what the training took."
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
            f"{j.wanted:,} are trained so far, and it takes {FEWEST}."
        )
    best = words.quantity(j.objective.metric, float((j.objective.sign * j.truth).max())
                          * j.objective.sign, run.unit(j.objective.metric))  # fmt: skip
    return (
        f"{words.count(len(j.index), 'architecture')} from all over the search's ranking were "
        f"trained from scratch; the best of them has {best} {what}.{_left_out(j.left_out)} The "
        "search's own value ranks them like this, beside what their size alone would say:"
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
        flat = "do not tell these architectures apart" if q.distinct == 1 else "cannot be judged"
        return f"{subject} {flat}" + (
            ": the trained networks do not differ." if q.distinct > 1 else "."
        )
    if q.undecided:
        return _undecided([subject]).replace(" is not ", " are not ", 1)
    if q.worse_than_all:
        return f"{subject} rank {_worse(q)}"
    if not q.beats_all:
        return _not_shown(q, f"{subject} are")
    gaps = _listed([f"{_SIZES[b]} ({_gap(gap)})" for b, gap in q.beyond.items()])
    return _explained(f"{subject} rank better than {gaps}, beyond chance.")


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
            text += f"{_side(gain.value)} one from scratch {interval}, which other seeds may turn"
    times = [f.tuned_seconds / f.scratch_seconds for f in both if f.scratch_seconds > 0]
    if times and np.isfinite(times).all():
        text += f", with {100 * float(np.mean(times)):.0f} % of its worker time"
    if len(both) > 1:
        better = sum(sign * f.gain > 0 for f in both)
        text += f"; it is ahead for {better} of {len(both)}"
    return text + "."


def _side(gain: float) -> str:
    return "above" if gain > 0 else "below"
