"""This module gives up a search whose first trials all failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raynas.core import AllTrialsFailed, Trial, TrialState
from raynas.core.failures import every_trial_failed
from raynas.search.context import SearchInterruption

#: Number of trials whose failures, before any trial is measured, end a search.
FIRST_TRIALS = 10


class FirstFailures:
    """A rule that ends a search when its first trials have all failed.

    The cause of their failures would fail the others, too. The first trials are those of the
    lowest numbers, so the rule waits for those of them that still run. INFEASIBLE trials do not
    count: they say nothing about the code that evaluates.

    Args:
        limit: Number of failures in this session, without any measurement ever, that ends the
            search; None: it is never ended.
        interruption: Interruption of the search; it is requested with the error.
        running: All trials that have begun and not ended, kept up to date by its owner.
        past: The stored trials of the search.
        stored: Numbers of trials that failed in an earlier session: a resumed search that goes
            through them again does not count them.
    """

    def __init__(
        self,
        limit: int | None,
        interruption: SearchInterruption,
        running: Collection[int],
        *,
        past: Iterable[Trial] = (),
        stored: Collection[int] = (),
    ) -> None:
        works = any(t.step > 0 and t.state is not TrialState.FAILED for t in past)
        self._limit = None if works else limit
        self._interruption, self._running = interruption, running
        self._stored, self._messages = frozenset(stored), dict[int, str]()

    def one_works(self) -> None:
        """Switch the rule off, because a trial was measured."""
        self._limit = None

    def heard(self, *trials: Trial) -> None:
        """Count trials that have ended, and end the search when all first ones failed.

        Args:
            trials: Trials that have ended.
        """
        if self._limit is None or self._interruption.requested:
            return
        for trial in trials:
            if trial.state is TrialState.FAILED and trial.number not in self._stored:
                self._messages[trial.number] = trial.message
        first = sorted(self._messages)[: self._limit]
        if len(first) < self._limit or any(number < first[-1] for number in self._running):
            return
        self._interruption.request(
            AllTrialsFailed(
                f"the search was stopped: {every_trial_failed([self._messages[n] for n in first])}"
                "; fix the cause, then continue with `raynas resume`"
            )
        )
