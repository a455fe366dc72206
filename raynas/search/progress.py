"""This module describes the present state of a search in plain values, for a live view."""

from __future__ import annotations

from typing import final

from raynas.core import Objective
from raynas.core.prices import in_seconds
from raynas.schedulers.base import Scheduler
from raynas.search.context import BudgetMeter, SearchStatus
from raynas.search.incumbents import Incumbents
from raynas.search.ledger import TrialLedger
from raynas.search.proposers import Proposer


@final
class SearchProgress:
    """The source of the status of a search.

    Args:
        stage: Stage of the run.
        arm: Name of the method.
        objective: The first objective.
        max_step: Last step of a full evaluation.
        ledger: The trials and their states.
        proposer: Source of new trials, which counts those that it rejects.
        scheduler: Has the rungs.
        incumbents: The best trials; None where the best one is not to be shown.
        meter: Counts what was spent, and has the clock.

    Attributes:
        began: The time on the clock when the search began.
    """

    def __init__(
        self,
        stage: str,
        arm: str,
        objective: Objective,
        max_step: int,
        *,
        ledger: TrialLedger,
        proposer: Proposer,
        scheduler: Scheduler,
        incumbents: Incumbents | None,
        meter: BudgetMeter,
    ) -> None:
        self._stage, self._arm, self._objective = stage, arm, objective
        self._max_step, self._ledger, self._proposer = max_step, ledger, proposer
        self._scheduler, self._incumbents, self._meter = scheduler, incumbents, meter
        self.began = meter.clock()

    def status(self, waits_for: str = "") -> SearchStatus:
        """Return the state of the search.

        Args:
            waits_for: Words on what the runner waits for.

        Returns:
            Plain values that another thread may read.
        """
        counts, limits, metric = self._proposer.counts, self._meter.limits, self._objective.metric
        trials, best = self._ledger.trials, self._incumbents.first if self._incumbents else None
        return SearchStatus(
            stage=self._stage,
            arm=self._arm,
            counts={s: n for s, n in self._ledger.counts.items() if n},
            target=self._proposer.target,
            running=tuple(
                (t.number, t.arch.text, t.step, t.values().get(metric))
                for t in (trials[number] for number in list(self._ledger.jobs))
            ),
            best=(best.number, best.arch.text, best.values()[metric]) if best else None,
            objective=self._objective,
            rungs=self._scheduler.rungs(),
            rejected=counts.rejected,
            duplicates=counts.duplicates,
            screened_out=counts.screened_out,
            seconds=self._meter.paid,
            max_seconds=limits.seconds if limits.price is in_seconds else None,
            elapsed=self._meter.clock() - self.began,
            max_step=self._max_step,
            progress=self._share(),
            waits_for=waits_for,
        )

    def _share(self) -> float:
        """Return the paid share of the price, or the share of the only trial, from 0 to 1."""
        limit = self._meter.limits.seconds
        if limit:
            return self._meter.paid / limit
        if self._proposer.target != 1:
            return 0.0
        trials = list(self._ledger.trials.values())
        return max((t.step for t in trials if not t.state.ended), default=0) / self._max_step
