"""This module has asynchronous successive halving, the stopping variant.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import Decision, Trial, TrialState
from raynas.schedulers.rungs import RungScheduler


@dataclass
class ASHA(RungScheduler):
    """A scheduler that stops trials below the best ``1/factor`` of their rung, without waiting.

    Rungs are at ``min_step * factor**k`` below ``max_step``, in exact integers. A trial is
    entered in a rung with its first measurement at or after that step; one that jumps over
    several rungs is entered in the highest only.

    The rule: of ``n`` trials entered in a rung so far, the share of the rung is
    ``ceil(n / factor)``. A trial that enters a rung goes on if it is among the share's best
    there, and among the best of twice the share in every lower rung. Between rungs nothing
    stops. Of equal values the lower trial number ranks first; several objectives rank by Pareto
    front, then crowding. Two consequences:

    * The best of all rungs that it entered never stops (with equals: the lowest number).
    * A stream in which each trial is better than the one before passes a rung whole, since each
      is the best when it comes; of those overtaken meanwhile only twice the share pass the next.

    A measurement without finite objectives stops the trial and enters no rung. Decisions depend
    on the measurements only, not on a random state or on the order in which trials report.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.

    Raises:
        UserError: A setting is outside its range.

    Example:
        >>> from raynas.core import Objective, SearchProblem
        >>> scheduler = ASHA(min_step=1, factor=3)
        >>> objectives = (Objective("val_accuracy", "max"),)
        >>> scheduler.setup(SearchProblem(objectives, max_step=27, seed=0, run="a"))
        >>> [rung.step for rung in scheduler.rungs()]
        [1, 3, 9]
    """

    name: ClassVar[str] = "asha"

    def decide(self, trial: Trial) -> Decision:
        """Return STOP for a trial that enters a rung below its best, else CONTINUE.

        Args:
            trial: The trial, with its last measurement.

        Returns:
            CONTINUE or STOP.
        """
        if not self._finite(trial, trial.last):
            return Decision.STOP
        rung = self._enter(trial, trial.last)
        if rung is None:
            return Decision.CONTINUE
        if trial.step >= self._end or rung.entries[trial.number][0] != trial.step:
            return Decision.CONTINUE
        lower = [r for r in self._rungs if r is not rung and trial.number in r.entries]
        if rung.keeps(trial.number) and all(r.keeps(trial.number, 2) for r in lower):
            rung.stopped.discard(trial.number)
            return Decision.CONTINUE
        rung.stopped.add(trial.number)
        return Decision.STOP

    def replay(self, trials: Iterable[Trial]) -> None:
        """Enter stored trials in their rungs."""
        for trial in trials:
            rung = None
            for measurement in trial.measurements:
                if self._finite(trial, measurement):
                    rung = self._enter(trial, measurement)
            if rung is None or trial.state is not TrialState.STOPPED:
                continue
            if rung.entries[trial.number][0] == trial.step:
                rung.stopped.add(trial.number)
