"""This module lets the paused trials of a search go on or end, as its scheduler says."""

from __future__ import annotations

from typing import final

from raynas.core import Decision, Trial, TrialState
from raynas.schedulers.base import Scheduler
from raynas.search.context import BudgetMeter
from raynas.search.ledger import TrialLedger
from raynas.search.outcomes import TrialOutcomes


@final
class PausedTrials:
    """The paused trials of a search.

    Args:
        ledger: The trials and their states.
        scheduler: Decides which paused trials go on.
        meter: Says whether the deadline is over: paused trials do not go on after it.
        outcomes: Ends trials.
    """

    def __init__(
        self,
        ledger: TrialLedger,
        scheduler: Scheduler,
        meter: BudgetMeter,
        outcomes: TrialOutcomes,
    ) -> None:
        self._ledger, self._scheduler = ledger, scheduler
        self._meter, self._outcomes = meter, outcomes

    def review(self) -> None:
        """Let paused trials go on or end, as the scheduler says."""
        if self._ledger.paused and not self._meter.past_deadline:
            self._judge(last=False)

    def last(self) -> Trial | None:
        """Return a paused trial to go on with when nothing runs and nothing is new, or end all.

        Returns:
            The trial, or None when no paused trial is left.
        """
        ledger = self._ledger
        while ledger.paused and not self._meter.past_deadline:
            before = len(ledger.paused)
            self._judge(last=True)
            if ledger.waiting:
                return ledger.waiting.popleft()
            if len(ledger.paused) == before:
                break
        for number in sorted(ledger.paused):
            self._stop(ledger.trials[number], " when the search ended")
        return None

    def _judge(self, *, last: bool) -> None:
        for number, decision in self._scheduler.review(last):
            if decision is Decision.CONTINUE:
                self._ledger.resume(number)
            else:
                self._stop(self._ledger.trials[number], "")

    def _stop(self, trial: Trial, when: str) -> None:
        message = f"{self._scheduler.name} at step {trial.step}{when}"
        self._outcomes.close(trial, TrialState.STOPPED, message)
