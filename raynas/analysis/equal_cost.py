"""The arms of a search at equal cost: the one accounting that sentences, tables and figures use.

An arm's trials are taken in the order of their numbers, each with all that it cost in the end,
whatever ran beside it. An order of ends would put those last that take long, and a cost of rows
would charge an arm for trials that others of its trials kept from ending: both depend on the number
of workers, and on which of two arms was told to stop. The arms are compared at the cost that the
cheapest of them has spent. A trial belongs to what was spent by then when at least half of its own
cost does, so that neither arm has an advantage by the trial in which it is cut: without it the arm
that is never cut (the one that gave the others their budget) is ahead by half a trial, and by more
where long trainings are rare and good, since a cut falls into a long training more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raynas.analysis import chance as luck
from raynas.analysis.statistics import Floats, Ints, Run, running_hypervolume
from raynas.core import TrialState


@dataclass(frozen=True)
class Trace:
    """The best value of an arm so far, in the order of its trials.

    ``trials``: (n,) indices of the arm's trials, and ``spent``: (n,) the arm's cost when each of
    them is paid. The best value becomes ``value[k]`` with the trial that is paid at ``cost[k]``
    (both (k,)), and counts from ``since[k]`` on, when half of that trial is paid.
    ``total``: all that the arm spent, also on trials that were stopped or failed. ``value`` is in
    the objective's own sign; of several objectives it is the hypervolume's share of a common box.
    """

    arm: str
    trials: Ints
    spent: Floats
    cost: Floats
    since: Floats
    value: Floats

    @property
    def total(self) -> float:
        return float(self.spent[-1]) if len(self.spent) else 0.0

    def at(self, cost: float) -> float:
        """The best value of the trials that belong to ``cost``; NaN without any."""
        found = int(np.searchsorted(self.since, _with_rounding(cost), side="right"))
        return float(self.value[found - 1]) if found else math.nan

    def within(self, cost: float) -> Ints:
        """Indices of the arm's trials that belong to ``cost``, in their order."""
        own = np.diff(self.spent, prepend=0.0)
        return self.trials[self.spent - own / 2 <= _with_rounding(cost)]


def _with_rounding(cost: float) -> float:
    return cost * (1 + 1e-9)


def counts_steps(run: Run) -> bool:
    """True when no worker time of any training was recorded, so that steps are the cost."""
    return not run.rows.seconds[~run.rows.scoring].any()


def trial_costs(run: Run) -> Floats:
    """(trials,) worker seconds, those of scoring included; or steps, where no time was recorded.

    A step of a screening's scores trains nothing and counts as none.
    """
    return run.trials.step.astype(np.float64) if counts_steps(run) else run.trials.seconds


def trace(run: Run, arm: str) -> Trace:
    """Best-so-far of one arm against its cost, in the order of its trials' numbers."""
    mine = np.flatnonzero(run.searching(arm))  # trials are ordered by number
    own = trial_costs(run)[mine]
    spent = np.cumsum(own)
    done = np.flatnonzero(np.isin(mine, run.complete(arm)))
    value = _running_best(run, mine[done])
    better = np.r_[True, value[1:] != value[:-1]] if len(value) else np.empty(0, dtype=bool)
    found = done[better]
    return Trace(arm, mine, spent, spent[found], spent[found] - own[found] / 2, value[better])


def traces(run: Run) -> tuple[Trace, ...]:
    """One per arm, the main arm first."""
    return tuple(trace(run, arm) for arm in run.arms)


def common_cost(found: tuple[Trace, ...]) -> float:
    """What the cheapest of the arms has spent; 0 without any."""
    return min((one.total for one in found), default=0.0)


def _running_best(run: Run, chosen: Ints) -> Floats:
    points = run.points()
    if len(run.objectives) > 1:
        return running_hypervolume(points[chosen], points[run.complete()])
    if not len(chosen):
        return np.empty(0)
    return np.asarray(run.objectives[0].sign * np.maximum.accumulate(points[chosen, 0]))


def reordered(run: Run, one: Trace) -> luck.Band | None:
    """:func:`~raynas.analysis.chance.reordered_band` of an arm, in the objective's own sign; None
    for several objectives."""
    if len(run.objectives) > 1:
        return None
    band = luck.reordered_band(_quality(run, one.trials), one.total)
    if band is None or run.objectives[0].sign > 0:
        return band
    return luck.Band(band.cost, -band.high, -band.low)


@dataclass(frozen=True)
class Comparison:
    """The main arm and random search at the cost that both have spent.

    ``main``, ``random``: the best of each. ``luck``: how far the lead is beyond what random search
    has by chance; None for several objectives, and where one of the arms is not finished or was
    cut off. ``pending``: why.
    """

    cost: float
    main: float
    random: float
    better: bool
    luck: luck.Lead | None = None
    pending: str = ""

    @property
    def beyond_luck(self) -> bool:
        return self.better and self.luck is not None and self.luck.beyond_chance


def compare(run: Run) -> Comparison | None:
    """Main arm against random search at equal cost; None when one of them has nothing to show."""
    if run.main is None or run.random is None:
        return None
    main, other = trace(run, run.main), trace(run, run.random)
    cost = common_cost((main, other))
    ours, theirs = main.at(cost), other.at(cost)
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return None
    sign = run.objectives[0].sign if len(run.objectives) == 1 else 1.0
    pending = _pending(run, (run.main, run.random))
    lead = None
    if len(run.objectives) == 1 and not pending:
        lead = luck.lead(*(_quality(run, one.within(cost)) for one in (main, other)))
    return Comparison(cost, ours, theirs, sign * ours > sign * theirs, lead, pending)


#: the message of trials that an earlier version stopped in the middle, at an arm's budget
CUT_OFF = "the arm's worker time is spent"


def _pending(run: Run, arms: tuple[str, str]) -> str:
    """Why what the arms found cannot be weighed (yet); empty when it can."""
    mine = run.searching(arms[0]) | run.searching(arms[1])
    if (mine & run.has_state(TrialState.RUNNING)).any():
        return "some of their trials are not finished"
    if (mine & (run.trials.message == CUT_OFF)).any():
        return "an earlier version stopped trials of random search in the middle"
    return ""


def _quality(run: Run, chosen: Ints) -> Floats:
    """(n,) signed so that higher is better, of the trials that were evaluated; NaN: no result."""
    complete = np.zeros(len(run.trials), dtype=bool)
    complete[run.complete()] = True
    began = chosen[run.trials.step[chosen] > 0]
    return np.where(complete[began], run.points()[began, 0], np.nan)
