"""Analysis of a run that searches with inherited weights.

It covers the training of the supernet, the ranking by inherited weights beside trained networks,
finalists from scratch and from inherited weights, and the archive of networks of all sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raynas.analysis import selection
from raynas.analysis import statistics as st
from raynas.analysis.intervals import IntervalEstimate, t_quantile
from raynas.analysis.ranking import BASELINES, FEWEST, RankQuality, rank_qualities
from raynas.core import Objective, TrialState
from raynas.core.metrics import TRAIN_ACCURACY
from raynas.core.pareto import pareto_front
from raynas.store.schema import FINAL, SUPERNET, TRUTH, TUNED

SEARCHED = "searched"  # name of the search's own values among the scores
SHOWN = 12  # number of networks of the archive in the table


@dataclass(frozen=True)
class SupernetTraining:
    """The training of a supernet.

    Attributes:
        trainer: Name of the evaluator that trained it.
        state: State of its trial.
        message: Its last message.
        step: Last step measured.
        seconds: Worker seconds of the training.
        searching: Worker seconds of the trials after it.
        evaluated: Number of those trials.
        curves: Subnets -> (k, 2) epochs and accuracy in percent.
    """

    trainer: str
    state: str
    message: str
    step: int
    seconds: float
    searching: float
    evaluated: int
    curves: Mapping[str, st.Floats]


def training(run: st.RunStatistics) -> SupernetTraining | None:
    """Return the last training of the run's supernet.

    Args:
        run: The loaded run.

    Returns:
        The training; None where the run trained none.
    """
    mine = np.flatnonzero(run.trials.stage == SUPERNET)
    if not len(mine):
        return None
    last, t, searching = mine[-1], run.trials, run.searching()
    rows = run.rows.owner == last
    curves = {}
    for name, column in run.rows.values.items():
        known = rows & np.isfinite(column)
        if run.unit(name) == "%" and name != TRAIN_ACCURACY.name and known.any():
            curves[name] = np.stack([run.rows.step[known], column[known]], axis=1)
    return SupernetTraining(
        trainer=str(t.method[last]),
        state=str(t.state[last]),
        message=str(t.message[last]),
        step=int(t.step[last]),
        seconds=float(t.seconds[last]),
        searching=float(t.seconds[searching].sum()),
        evaluated=int((searching & (t.step > 0)).sum()),
        curves=curves,
    )


@dataclass(frozen=True)
class SearchRankingStatistics:
    """The search's own ranking compared with networks that were trained from scratch.

    Attributes:
        objective: First objective of the search.
        index: (n,) the search's trials of the architectures, one each, as :func:`statistics.sample`
            takes them.
        truth: (n,) results of the training, the mean over seeds.
        wanted: Number of architectures that were to be trained.
        qualities: Rank quality of ``SEARCHED``, params and macs, the highest Spearman first; empty
            with fewer than four architectures.
        left_out: Number of architectures left out because the search chose them by results.
    """

    objective: Objective
    index: st.Ints
    truth: st.Floats
    wanted: int
    qualities: tuple[RankQuality, ...]
    left_out: int = 0

    @property
    def search(self) -> RankQuality | None:
        """The rank quality of the search's own values; None where they cannot be judged."""
        return next((q for q in self.qualities if q.name == SEARCHED), None)


def judged(run: st.RunStatistics) -> SearchRankingStatistics | None:
    """Judge the search's ranking by the networks that were trained from scratch.

    Args:
        run: The loaded run.

    Returns:
        The judgement; None where the run trained no networks to judge by.
    """
    metric = run.objectives[0].metric
    mine = run.trials.stage == TRUTH
    if metric in (*st.COSTS, "seconds") or not mine.any():
        return None
    values = run.trials.values[metric]
    done = mine & run.has_state(TrialState.COMPLETE) & np.isfinite(values)
    trained = np.isin(run.trials.arch_id, run.trials.arch_id[done])
    index, independent = selection.sample(run, trained)
    truth = np.array(
        [values[done & (run.trials.arch_id == run.trials.arch_id[i])].mean() for i in index]
    )
    sign = run.objectives[0].sign
    scores = {SEARCHED: sign * values[index]}
    scores |= {name: run.trials.values[name][index] for name in BASELINES}
    enough = len(index) >= FEWEST
    found = rank_qualities(scores, truth, sign=sign, independent=independent) if enough else []
    wanted = len(np.unique(run.trials.arch_id[mine].astype(str)))
    left_out = int(trained[selection.ranked(run)].sum()) - len(index)
    return SearchRankingStatistics(run.objectives[0], index, truth, wanted, tuple(found), left_out)


@dataclass(frozen=True)
class FinalistPair:
    """A finalist that was trained from scratch and from the weights that it inherits.

    Attributes:
        arch: The architecture as text.
        searched: Value of the first objective in the search.
        scratch: Test results of the training from scratch.
        tuned: Test results of the training from inherited weights; None before the first.
        scratch_seconds: Worker seconds of one training from scratch; NaN before the first.
        tuned_seconds: Worker seconds of one training from inherited weights; NaN before the first.
    """

    arch: str
    searched: float
    scratch: selection.FinalistResult
    tuned: selection.FinalistResult | None
    scratch_seconds: float
    tuned_seconds: float

    @property
    def gain(self) -> float:
        """The difference that inherited weights make to the mean test result.

        Returns:
            The difference, in the metric's own sign; NaN while one of the two is missing.
        """
        return self.tuned.mean - self.scratch.mean if self.tuned else math.nan


def twice(run: st.RunStatistics) -> list[FinalistPair]:
    """Return the finalists with both ways of training, best on the validation images first.

    Args:
        run: The loaded run.

    Returns:
        One entry per finalist; empty where none was fine-tuned.
    """
    scratch, tuned = selection.finals(run), selection.finals(run, TUNED)
    if not tuned:
        return []
    metric, found = run.objectives[0].metric, []
    for i in selection.ranked(run):
        arch_id = str(run.trials.arch_id[i])
        if arch_id in scratch:
            found.append(
                FinalistPair(
                    arch=str(run.trials.arch[i]),
                    searched=float(run.trials.values[metric][i]),
                    scratch=scratch[arch_id],
                    tuned=tuned.get(arch_id),
                    scratch_seconds=_seconds(run, FINAL, arch_id),
                    tuned_seconds=_seconds(run, TUNED, arch_id),
                )
            )
    return found


def mean_gain(found: Sequence[FinalistPair]) -> IntervalEstimate:
    """Estimate what inherited weights add to the test result of these finalists.

    The interval is Welch's, over seeds: the scatter between the seeds of one finalist is pooled
    over finalists, apart for the two ways of training. It takes three seeds of a finalist, or two
    of two, in both ways.

    Args:
        found: Finalists that were trained in both ways.

    Returns:
        The mean gain over the finalists, in the metric's own sign.
    """
    gain = float(np.mean([f.gain for f in found]))
    sides = [_scatter([f.scratch for f in found]), _scatter([f.tuned for f in found if f.tuned])]
    error = sum(variance for variance, _ in sides)
    if min(freedom for _, freedom in sides) < 2 or error == 0:
        return IntervalEstimate(gain)
    freedom = error**2 / sum(variance**2 / free for variance, free in sides)
    half = t_quantile(freedom) * math.sqrt(error)
    return IntervalEstimate(gain, gain - half, gain + half)


def _scatter(finals: Sequence[selection.FinalistResult]) -> tuple[float, int]:
    """Variance of the mean over finalists, and its degrees of freedom."""
    squares = sum(float(((f.values - f.mean) ** 2).sum()) for f in finals)
    freedom = sum(len(f.values) - 1 for f in finals)
    shares = sum(1 / len(f.values) for f in finals) / len(finals) ** 2
    return (squares / freedom * shares if freedom else math.nan), freedom


def _seconds(run: st.RunStatistics, stage: str, arch_id: str) -> float:
    """Worker time of one training to its end; NaN before the first."""
    mine = (run.trials.stage == stage) & (run.trials.arch_id == arch_id)
    times = run.trials.seconds[mine & run.has_state(TrialState.COMPLETE)]
    return float(times.mean()) if len(times) else math.nan


def costs_of(run: st.RunStatistics) -> tuple[str, ...]:
    """Return the costs of networks that the search has stored, of params, macs and latency_ms.

    Args:
        run: The loaded run.

    Returns:
        Names of the costs.
    """
    done = run.complete()
    return tuple(
        name
        for name in (*st.COSTS, st.LATENCY)
        if name in run.trials.values and np.isfinite(run.trials.values[name][done]).any()
    )


def archive(run: st.RunStatistics, most: int = SHOWN) -> tuple[st.Ints, int]:
    """Return the networks that no other beats in the first objective and in every cost at once.

    Args:
        run: The loaded run.
        most: Largest number of networks returned; they are spread evenly over the sizes.

    Returns:
        (k,) indices of trials, smallest network first; and the number of all such networks.
    """
    done, costs = selection.ranked(run), costs_of(run)
    columns = [run.points()[done, 0], *(-run.trials.values[cost][done] for cost in costs)]
    points = np.stack(columns, axis=1)
    known = np.isfinite(points).all(axis=1)
    front = done[known][pareto_front(points[known])] if known.any() else done[:0]
    size = run.trials.values[costs[0]][front] if costs else np.zeros(len(front))
    front = front[np.argsort(size, kind="stable")]
    places = np.linspace(0, len(front) - 1, min(most, len(front))).round().astype(int)
    return front[places], len(front)
