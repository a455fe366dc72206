"""This module has asynchronous successive halving as published: paused trials are promoted.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934, algorithm 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Decision, Trial, TrialState
from raynas.schedulers.rungs import RungRanking, RungScheduler


@dataclass
class PromotionScheduler(RungScheduler):
    """The common part of schedulers that pause trials at rungs and promote the best ones.

    A subclass says from which rungs trials are promoted.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.

    Raises:
        UserError: A setting is outside its range.
    """

    _waiting: set[int] = field(init=False, repr=False, compare=False)
    _finished: bool = field(init=False, repr=False, compare=False)  # some trial is complete

    @abstractmethod
    def promoting_rungs(self) -> Sequence[RungRanking]:
        """Return the rungs from which trials are promoted, from low to high."""

    def reset(self) -> None:
        """Forget which trials wait."""
        self._waiting, self._finished = set(), False

    def decide(self, trial: Trial) -> Decision:
        """Return PAUSE when the trial reaches a rung, else CONTINUE.

        Args:
            trial: The trial, with its last measurement.

        Returns:
            CONTINUE or PAUSE; STOP for a measurement without finite objectives.
        """
        if not self._finite(trial, trial.last):
            return Decision.STOP
        rung = self._arrive(trial)
        if rung is None:
            return Decision.CONTINUE
        self._wait(trial, rung)
        return Decision.PAUSE

    def decide_waiting(self, last: bool) -> Sequence[tuple[int, Decision]]:
        """Promote the best paused trial, if any may be promoted.

        Args:
            last: Nothing new will start; if no trial is complete, the best one is promoted anyway.

        Returns:
            At most one pair of a trial number and CONTINUE.
        """
        found = self._promotable()
        if found is None and last and not self._finished:
            found = self._foremost()
        if found is None:
            return ()
        number, rung = found
        self._waiting.discard(number)
        rung.stopped.discard(number)
        return ((number, Decision.CONTINUE),)

    def end(self, trial: Trial) -> None:
        """Forget a paused trial that has ended; it is not shown its last measurement."""
        self._waiting.discard(trial.number)
        self._finished |= trial.state is TrialState.COMPLETE

    def pause_steps(self) -> Sequence[int]:
        """Return the steps of all rungs.

        Returns:
            Steps from low to high.
        """
        return [rung.step for rung in self._rungs]

    def waiting_trials(self) -> Collection[int]:
        """Return the trials that wait for their promotion.

        Returns:
            Their numbers.
        """
        return self._waiting

    def replay(self, trials: Iterable[Trial]) -> None:
        """Enter stored trials in their rungs; those that did not end are paused."""
        for trial in trials:
            rung = None
            for measurement in trial.measurements:
                if self._finite(trial, measurement):
                    rung = self._enter(trial, measurement)
            self._finished |= trial.state is TrialState.COMPLETE
            if rung is None or not self._rests(trial, rung):
                continue
            if trial.state is TrialState.RUNNING:
                self._wait(trial, rung)
            elif trial.state is TrialState.STOPPED:
                rung.stopped.add(trial.number)

    def _arrive(self, trial: Trial) -> RungRanking | None:
        """Return the rung that the trial reaches with its last measurement, if any."""
        rung = self._enter(trial, trial.last)
        return rung if rung is not None and self._rests(trial, rung) else None

    def _rests(self, trial: Trial, rung: RungRanking) -> bool:
        return trial.step < self._end and rung.entries[trial.number][0] == trial.step

    def _wait(self, trial: Trial, rung: RungRanking) -> None:
        self._waiting.add(trial.number)
        rung.stopped.add(trial.number)

    def _promotable(self) -> tuple[int, RungRanking] | None:
        for rung in reversed(self.promoting_rungs()):
            for number in rung.best(len(rung.entries) // self.factor):
                if number in self._waiting and number in rung.stopped:
                    return number, rung
        return None

    def _foremost(self) -> tuple[int, RungRanking] | None:
        """Return the best trial that waits in the highest rung that has any."""
        for rung in reversed(self._rungs):
            for number in rung.best(len(rung.entries)):
                if number in self._waiting and number in rung.stopped:
                    return number, rung
        return None


@dataclass
class PromotionASHA(PromotionScheduler):
    """A scheduler that pauses every trial at its rung; a free worker takes the best promotable one.

    Promotable are, of ``n`` trials in a rung, the ``floor(n / factor)`` best, those of the highest
    rung first. Where there is none, a new trial starts. So no trial goes on before ``factor``
    trials were compared, and a trial can be promoted later, when its rung has grown.
    :class:`~raynas.schedulers.asha.ASHA` decides at once and for good instead, and keeps no
    checkpoints. Rungs are the same as there.

    When nothing new starts and no trial has reached the last step, the best one of the highest
    rung goes on to it: a search always has a winner.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.

    Raises:
        UserError: A setting is outside its range.
    """

    name: ClassVar[str] = "asha_promotion"

    def promoting_rungs(self) -> Sequence[RungRanking]:
        """Return all rungs."""
        return self._rungs
