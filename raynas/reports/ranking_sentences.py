"""Sentences of a report on rankings: what scores say about results, compared with size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis.intervals import PAIRS_FROM, IntervalEstimate
from raynas.analysis.proxies import ProxyStatistics, ScreeningStatistics
from raynas.analysis.ranking import FEWEST, RankQuality
from raynas.core import TrialState


def has_stopped_trials(run: st.RunStatistics) -> bool:
    """Return True when screening or a scheduler kept some trials from a final value."""
    return bool((run.searching() & run.has_state(TrialState.STOPPED)).any())


SIZE_NAMES = {"params": "the number of parameters", "macs": "the multiply-adds"}


def screening_sentence(s: ScreeningStatistics) -> str:
    """Return a sentence on the candidates that a method scored and kept, and on the cost of both.

    Args:
        s: The screening of the method.

    Returns:
        One or two sentences.
    """
    text = (
        f"{s.method} scored {words.count(s.candidates, 'candidate')}, kept {s.kept:,} for training "
        f"and screened out {s.out:,}"
    )
    if s.scoring + s.training <= 0:
        return text + "."
    share = 100 * s.scoring / (s.scoring + s.training)
    return (
        f"{text}. Scoring took {words.duration(s.scoring)} of worker time, training "
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
            f"architectures {'were' if p.trained > 1 else 'was'} so far, and at least {FEWEST} are "
            "needed."
        )
    methods = [f"{method} {n:,}" for method, n in p.methods(run).items()]
    shares = f" ({', '.join(methods)})" if len(methods) > 1 else ""
    best = float(run.trials.values[p.objective.metric][p.index[0]])
    value = words.quantity(p.objective.metric, best, run.unit(p.objective.metric))
    text = (
        f"Judged by the {what} of the {words.count(p.trained, 'architecture')} that were scored "
        f"and trained to the end{shares}; the best of them has {value}."
    )
    text += left_out_sentence(p.left_out)
    if has_stopped_trials(run):
        text += (
            " Architectures that were screened out or stopped early are missing here: among all "
            "of them a score may agree more, or less."
        )
    return text


def left_out_sentence(count: int) -> str:
    """Return a sentence, after a blank, on architectures that are not judged.

    Args:
        count: Number of architectures that a search chose by results.

    Returns:
        The text; empty for none.
    """
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
        said.append(f"{listed(names)} {verb} better than {listed(_named(sizes))}, beyond chance.")
    many = sum(math.isfinite(q.chance_ahead) for q in able)
    said += [f"{q.name} ranks {worse(q)}" for q in able if q.worse_than_all]
    said += [
        not_shown(q, f"{q.name} is", many)
        for q in able
        if not (q.beats_all or q.worse_than_all or q.undecided)
    ]
    open_ = [q for q in able if q.undecided]
    said += [undecided([q.name for q in open_])] if open_ else []
    said += [_unranked(able[0])] if able and able[0].unranked else []
    return said + [_flat(q) for q in flat]


def listed(names: Sequence[str]) -> str:
    """Join names with commas and "and".

    Args:
        names: The names.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _named(baselines: Iterable[str]) -> list[str]:
    return [SIZE_NAMES[b] for b in baselines]


def not_shown(q: RankQuality, who: str, many: int = 1) -> str:
    """Return why nothing is claimed of a score.

    ``who`` is the subject with its verb; ``many`` is the number of scores compared.
    """
    if not q.beyond:
        return f"{who} not compared with the size of the networks, which is not known."
    if q.ahead:
        gaps = [f"{SIZE_NAMES[b]} ({gap_text(gap)})" for b, gap in q.beyond.items()]
        but = f"among {many} scores one may be so by chance" if many > 1 else "not beyond chance"
        return explained(f"{who} ahead of {listed(gaps)}, but {but}.")
    shown = [f"{SIZE_NAMES[b]} ({gap_text(q.beyond[b])})" for b in q.no_better_than]
    return explained(f"{who} not shown to rank better than {listed(shown)}.")


def worse(q: RankQuality) -> str:
    """Return the end of a sentence on a score that ranks worse than size does.

    Args:
        q: The quality of the score.
    """
    gaps = [f"{SIZE_NAMES[b]} ({gap_text(gap)})" for b, gap in q.beyond.items()]
    return explained(f"worse than {listed(gaps)}, beyond chance.")


def undecided(names: Sequence[str]) -> str:
    """Return a sentence on scores that cannot be compared with size.

    Args:
        names: Names of the scores.
    """
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{listed(names)} {verb} not compared with size: that needs {PAIRS_FROM} different "
        "architectures drawn at random."
    )


def _unranked(q: RankQuality) -> str:
    sizes = listed(_named(q.unranked))
    one = len(q.unranked) == 1
    verb, rank = ("is", "ranks") if one else ("are", "rank")
    return f"{sizes[0].upper()}{sizes[1:]} {verb} the same for all of them and so {rank} nothing."


def _flat(q: RankQuality) -> str:
    if not q.distinct:
        return f"{q.name} has no valid score of these architectures."
    if q.distinct == 1:
        return f"{q.name} has the same value for all of these architectures."
    return f"{q.name} cannot be judged: what was measured does not differ."


def explained(text: str) -> str:
    """Say in the first parenthesis of a text what its number is.

    Args:
        text: A text with a difference of rank correlations in parentheses.
    """
    return text.replace("(", "(difference in rank correlation ", 1)


def gap_text(gap: IntervalEstimate) -> str:
    """Return a difference with its sign and, where it has one, its 95 % interval.

    Args:
        gap: The difference.
    """
    interval = f" [{gap.low:.2f}, {gap.high:.2f}]" if math.isfinite(gap.low) else ""
    return f"{gap.value:+.2f}{interval}"
