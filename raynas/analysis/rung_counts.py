"""The rungs of a run's scheduler and the trials that reached, passed and ended at them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from raynas.analysis.rank_correlation import TauEstimate, kendall
from raynas.analysis.statistics import COSTS, DRAWN, RunStatistics
from raynas.core import TrialState


@dataclass(frozen=True)
class RungCount:
    """The counts of one rung of a scheduler.

    Attributes:
        method: Name of the method.
        step: Step of the rung.
        reached: Number of trials that reached it.
        promoted: Number of trials that were measured beyond it and not stopped there.
        stopped: Number of trials that the scheduler stopped there, or later, before the next rung.
        rank: Correlation of the values at this rung with the last ones, over COMPLETE trials only,
            so that the worst are missing; None where it is not computed.
    """

    method: str
    step: int
    reached: int
    promoted: int
    stopped: int
    rank: TauEstimate | None = field(default=None, compare=False)


def last_step(run: RunStatistics) -> int:
    """Return the step at which trials are complete, as far as the table shows it.

    Args:
        run: The loaded run.

    Returns:
        The step; 0 when there are no trials.
    """
    steps = run.trials.step[run.complete()]
    return int(steps.max() if len(steps) else max(run.trials.step, default=0))


def rung_steps(run: RunStatistics) -> list[int]:
    """Return the rungs below the last step.

    They come from the scheduler's settings, else from the steps at which trials were stopped.

    Args:
        run: The loaded run.

    Returns:
        Steps in ascending order.
    """
    settings = run.description.get("scheduler") or {}
    # while nothing is complete, the highest step seen may be a rung itself
    top = settings.get("max_step") or last_step(run) + (not len(run.complete()))
    step, factor = settings.get("min_step"), settings.get("factor")
    if isinstance(step, int) and isinstance(factor, int) and step >= 1 and factor >= 2:
        steps = []
        while step < top:
            steps.append(step)
            step *= factor
        return steps
    stopped = run.searching() & run.has_state(TrialState.STOPPED)
    return sorted({int(s) for s in run.trials.step[stopped]} - {0})


def rungs(run: RunStatistics, method: str, *, ranks: bool = False) -> list[RungCount]:
    """Count the trials of one method at its rungs, low to high.

    A rung counts at a trial's first step at or above it.

    Args:
        run: The loaded run.
        method: Name of the method.
        ranks: Whether rank correlations with the last values are computed, too.

    Returns:
        One entry per rung.
    """
    steps = rung_steps(run)
    mine = run.searching(method)
    halted = mine & run.has_state(TrialState.STOPPED)
    result = []
    for step, following in zip(steps, [*steps, math.inf][1:], strict=True):
        above = run.rows.owner[run.rows.step >= step]
        rows = np.bincount(above, minlength=len(run.trials))
        here = halted & (run.trials.step >= step) & (run.trials.step < following)
        result.append(
            RungCount(
                method,
                step,
                int((mine & (rows >= 1)).sum()),
                int((mine & (rows >= 2) & ~here).sum()),
                int(here.sum()),
                _rung_rank(run, method, step) if ranks else None,
            )
        )
    return result


def _rung_rank(run: RunStatistics, method: str, step: int) -> TauEstimate | None:
    objective = run.objectives[0]
    if objective.metric in (*COSTS, "seconds"):
        return None
    done = run.complete(method)
    values = run.rows.values[objective.metric]
    usable = np.flatnonzero((run.rows.step >= step) & np.isfinite(values))
    owners, first = np.unique(run.rows.owner[usable], return_index=True)
    early = np.full(len(run.trials), np.nan)
    early[owners] = values[usable[first]]
    done = done[np.isfinite(early[done])]
    late = run.trials.values[objective.metric][done]
    return kendall(early[done], late, independent=method in DRAWN)
