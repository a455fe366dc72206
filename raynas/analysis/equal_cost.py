"""Comparison of a search's methods at equal cost, used by sentences, tables and figures alike.

A method's trials are taken in the order of their numbers, each with all that it cost in the end,
whatever ran beside it. An order of ends would put those last that take long, and a cost of rows
would charge a method for trials that others of its trials kept from ending: both depend on the
number of workers, and on which of two methods was told to stop. The methods are compared at the
cost that the cheapest of them has spent. A trial belongs to what was spent by then when at least
half of its own cost does, so that neither method has an advantage by the trial in which it is cut:
without it the method that is never cut (the one that gave the others their budget) is ahead by half
a trial, and by more where long trainings are rare and good, since a cut falls into a long training
more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raynas.analysis import chance
from raynas.analysis.selection import running_hypervolume
from raynas.analysis.statistics import Floats, Ints, RunStatistics
from raynas.core import TrialState


@dataclass(frozen=True)
class BestSoFarCurve:
    """The best value of a method so far, in the order of its trials.

    Attributes:
        method: Name of the method.
        trials: (n,) indices of the method's trials.
        spent: (n,) cost of the method when each of them is paid: worker seconds, or steps.
        cost: (k,) cost at which a trial with a new best value is paid.
        since: (k,) cost from which the new best value counts, when half of that trial is paid.
        value: (k,) best values, in the objective's own sign; with several objectives the
            hypervolume's share of a common box, from 0 to 1.
    """

    method: str
    trials: Ints
    spent: Floats
    cost: Floats
    since: Floats
    value: Floats

    @property
    def total(self) -> float:
        """The cost of all trials of the method, including those that were stopped or failed."""
        return float(self.spent[-1]) if len(self.spent) else 0.0

    def at(self, cost: float) -> float:
        """Return the best value of the trials that belong to ``cost``.

        Args:
            cost: Worker seconds, or steps.

        Returns:
            The best value; NaN without any.
        """
        found = int(np.searchsorted(self.since, _with_rounding(cost), side="right"))
        return float(self.value[found - 1]) if found else math.nan

    def within(self, cost: float) -> Ints:
        """Return the indices of the method's trials that belong to ``cost``, in their order.

        Args:
            cost: Worker seconds, or steps.

        Returns:
            (m,) indices into the run's trials.
        """
        own = np.diff(self.spent, prepend=0.0)
        return self.trials[self.spent - own / 2 <= _with_rounding(cost)]


def _with_rounding(cost: float) -> float:
    return cost * (1 + 1e-9)


def counts_steps(run: RunStatistics) -> bool:
    """Return True when no worker time of any training was recorded, so that steps are the cost.

    Args:
        run: The loaded run.
    """
    return not run.rows.seconds[~run.rows.scoring].any()


def trial_costs(run: RunStatistics) -> Floats:
    """Return the cost of each trial.

    A step of a screening's scores trains nothing and counts as none.

    Args:
        run: The loaded run.

    Returns:
        (trials,) worker seconds, those of scoring included; or steps, where no time was recorded.
    """
    return run.trials.step.astype(np.float64) if counts_steps(run) else run.trials.seconds


def trace(run: RunStatistics, method: str) -> BestSoFarCurve:
    """Return the best-so-far of one method against its cost, in the order of its trials' numbers.

    Args:
        run: The loaded run.
        method: Name of the method.

    Returns:
        Its trace; empty arrays without completed trials.
    """
    mine = np.flatnonzero(run.searching(method))  # trials are ordered by number
    own = trial_costs(run)[mine]
    spent = np.cumsum(own)
    done = np.flatnonzero(np.isin(mine, run.complete(method)))
    value = _running_best(run, mine[done])
    better = np.r_[True, value[1:] != value[:-1]] if len(value) else np.empty(0, dtype=bool)
    found = done[better]
    return BestSoFarCurve(
        method, mine, spent, spent[found], spent[found] - own[found] / 2, value[better]
    )


def traces(run: RunStatistics) -> tuple[BestSoFarCurve, ...]:
    """Return the traces of all methods, the main one first.

    Args:
        run: The loaded run.
    """
    return tuple(trace(run, method) for method in run.methods)


def common_cost(found: tuple[BestSoFarCurve, ...]) -> float:
    """Return the cost that the cheapest of the methods has spent.

    Args:
        found: One trace per method.

    Returns:
        Worker seconds, or steps; 0 without any trace.
    """
    return min((one.total for one in found), default=0.0)


def _running_best(run: RunStatistics, chosen: Ints) -> Floats:
    points = run.points()
    if len(run.objectives) > 1:
        return running_hypervolume(points[chosen], points[run.complete()])
    if not len(chosen):
        return np.empty(0)
    return np.asarray(run.objectives[0].sign * np.maximum.accumulate(points[chosen, 0]))


def reordered(run: RunStatistics, one: BestSoFarCurve) -> chance.ChanceBand | None:
    """Compute the band of a method over all orders of its trials, in the objective's own sign.

    See :func:`~raynas.analysis.chance.reordered_band`.

    Args:
        run: The loaded run.
        one: The trace of the method.

    Returns:
        The band; None with several objectives or too few results.
    """
    if len(run.objectives) > 1:
        return None
    band = chance.reordered_band(_quality(run, one.trials), one.total)
    if band is None or run.objectives[0].sign > 0:
        return band
    return chance.ChanceBand(band.cost, -band.high, -band.low)


@dataclass(frozen=True)
class EqualCostComparison:
    """The main method and random search at the cost that both have spent.

    Attributes:
        cost: Worker seconds, or steps.
        main: Best value of the main method.
        random: Best value of random search.
        better: True when the main method's value is better.
        lead: Lead of the main method and its probability by chance; None with several objectives,
            and where one of the methods is not finished or was cut off.
        pending: Reason why the lead cannot be judged; empty when it can.
    """

    cost: float
    main: float
    random: float
    better: bool
    lead: chance.ResultLead | None = None
    pending: str = ""

    @property
    def beyond_chance(self) -> bool:
        """True when the main method is better by more than chance gives random search."""
        return self.better and self.lead is not None and self.lead.beyond_chance


def compare(run: RunStatistics) -> EqualCostComparison | None:
    """Compare the main method with random search at equal cost.

    Args:
        run: The loaded run.

    Returns:
        The comparison; None when one of the two is absent or has no result at that cost.
    """
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
        lead = chance.lead(*(_quality(run, one.within(cost)) for one in (main, other)))
    return EqualCostComparison(cost, ours, theirs, sign * ours > sign * theirs, lead, pending)


#: message of trials that an earlier version stopped before their end, at a method's budget
CUT_OFF = "the method's worker time is spent"


def _pending(run: RunStatistics, methods: tuple[str, str]) -> str:
    """Return why the results of the methods cannot be compared yet; empty when they can."""
    mine = run.searching(methods[0]) | run.searching(methods[1])
    if (mine & run.has_state(TrialState.RUNNING)).any():
        return "some of their trials are not finished"
    if (mine & (run.trials.message == CUT_OFF)).any():
        return "an earlier version stopped trials of random search in the middle"
    return ""


def _quality(run: RunStatistics, chosen: Ints) -> Floats:
    """Return (m,) values of the evaluated trials, higher is better; NaN without a result."""
    complete = np.zeros(len(run.trials), dtype=bool)
    complete[run.complete()] = True
    began = chosen[run.trials.step[chosen] > 0]
    return np.where(complete[began], run.points()[began, 0], np.nan)
