"""This module gives trials their states after measurements and at their end, and stores both."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from raynas.core import (
    OUT_OF_MEMORY,
    Bound,
    Decision,
    Measurement,
    Objective,
    Trial,
    TrialState,
    violations,
)
from raynas.schedulers.base import Scheduler
from raynas.search.context import BudgetMeter, one_line
from raynas.search.ledger import TrialLedger
from raynas.search.rows import RowWriter
from raynas.search.screening import broken


@final
class TrialOutcomes:
    """The rules by which measurements and ends of evaluations change trials.

    Args:
        ledger: The trials and their states.
        scheduler: Decides which trials go on.
        rows: Writes the rows of the store.
        meter: Counts what was spent.
        objectives: Metrics that a measurement must have, finite.
        bounds: A trial that breaks them at its last step is INFEASIBLE.
        max_step: Last step of a full evaluation.
        blind: Whether the objectives are measured at the last step only.
    """

    def __init__(
        self,
        *,
        ledger: TrialLedger,
        scheduler: Scheduler,
        rows: RowWriter,
        meter: BudgetMeter,
        objectives: tuple[Objective, ...],
        bounds: tuple[Bound, ...],
        max_step: int,
        blind: bool,
    ) -> None:
        self._ledger, self._scheduler, self._rows, self._meter = ledger, scheduler, rows, meter
        self._objectives, self._bounds = objectives, bounds
        self._max_step, self._blind = max_step, blind

    def bad_values(self, trial: Trial, measurement: Measurement) -> list[str]:
        """Return the objectives that a measurement must have and lacks.

        Args:
            trial: The trial.
            measurement: Its measurement.

        Returns:
            Names of metrics that are missing or not finite.
        """
        if self._blind and measurement.step < self._max_step:
            return []
        return measurement.bad_values(self._measured(trial))

    def _measured(self, trial: Trial) -> list[str]:
        """Return the objectives that an evaluator measures, which excludes costs."""
        return [o.metric for o in self._objectives if o.metric not in trial.costs]

    def measured(self, trial: Trial, measurement: Measurement, host: str, device: str) -> Decision:
        """Add a measurement to its trial, decide whether the trial goes on, and store it.

        Args:
            trial: The trial.
            measurement: A measurement without bad values.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Whether the worker goes on.
        """
        trial.measurements.append(measurement)
        self._meter.pay(trial, measurement)
        decision = self._decide(trial)
        self._rows.write(trial, measurement, host, device)
        return decision

    def _decide(self, trial: Trial) -> Decision:
        """Give the trial its state after its last measurement."""
        trial.violations = violations(self._bounds, trial.values())
        if trial.step >= self._max_step:
            message = broken(trial.violations)
            state = TrialState.INFEASIBLE if message else TrialState.COMPLETE
            self._ledger.move(trial, state, message)
            return Decision.STOP
        decision = self._scheduler.decide(trial)
        if decision is Decision.STOP:
            message = f"{self._scheduler.name} at step {trial.step}"
            self._ledger.move(trial, TrialState.STOPPED, message)
        elif decision is Decision.PAUSE:
            self._ledger.pause(trial.number)
        # a resumed search needs the stored message of a trial that ran out of memory
        if not trial.state.ended and not trial.oom_retries:
            trial.message = ""
        return decision

    def spoiled(
        self, trial: Trial, measurement: Measurement, bad: list[str], host: str, device: str
    ) -> None:
        """Fail a trial whose measurement lacks an objective; its other values are stored.

        Args:
            trial: The trial.
            measurement: Its measurement.
            bad: Names of the objectives that it lacks.
            host: The machine that measured.
            device: The device that measured.
        """
        shown = ", ".join(f"{n} is {measurement.values.get(n, 'missing')}" for n in bad)
        note = f": {measurement.note}" if measurement.note else ""
        trial.failure = one_line(f"{shown} at step {measurement.step}{note}")
        self._ledger.move(trial, TrialState.FAILED, trial.failure)
        finite = {n: v for n, v in measurement.values.items() if not measurement.bad_values([n])}
        if finite:
            measurement = replace(measurement, values=finite)
            trial.measurements.append(measurement)
            self._meter.pay(trial, measurement)
        self._rows.write(trial, measurement if finite else None, host, device)

    def completed(self, trial: Trial) -> None:
        """End a trial whose evaluator is done; without a valid last measurement it is FAILED.

        Args:
            trial: The trial.
        """
        if failure := self._lacking(trial):
            self.failed(trial, failure)
            return
        message = broken(trial.violations)
        state = TrialState.INFEASIBLE if message else TrialState.COMPLETE
        self.close(trial, state, message or early_message(trial.step, self._max_step))

    def _lacking(self, trial: Trial) -> str:
        """Return why a trial whose evaluator has ended early is invalid; empty if it is valid."""
        if trial.last is None or trial.step == 0:
            return "the evaluator ended without a measurement"
        missing = trial.last.bad_values(self._measured(trial))
        if missing:
            return f"the evaluator ended at step {trial.step} without {', '.join(missing)}"
        return ""

    def failed(self, trial: Trial, message: str, *, infeasible: bool = False) -> None:
        """End a trial as FAILED or INFEASIBLE.

        Args:
            trial: The trial.
            message: The reason; it is stored in one line.
            infeasible: Whether the trial does not fit, rather than crashed.
        """
        trial.failure = one_line(message)
        state = TrialState.INFEASIBLE if infeasible else TrialState.FAILED
        self.close(trial, state, trial.failure)

    def ran_out_of_memory(self, trial: Trial, message: str) -> None:
        """Store that a trial ran out of memory and is started once more.

        Args:
            trial: The trial.
            message: The stored message.
        """
        trial.oom_retries += 1
        trial.message = message
        self._rows.write(trial, None)

    def close(self, trial: Trial, state: TrialState, message: str) -> None:
        """End a trial, and store its end.

        Args:
            trial: The trial.
            state: Its last state.
            message: Its stored message.
        """
        self._ledger.move(trial, state, message)
        self._rows.write(trial, None)


def memory_message(reason: str, room: str) -> str:
    """Return the message of a trial that ran out of memory.

    Args:
        reason: The error of the worker.
        room: The memory that it had, in words; empty if unknown.

    Returns:
        The message in one line.
    """
    return one_line(f"{OUT_OF_MEMORY}{f' with {room}' if room else ''}: {reason}")


def early_message(step: int, last: int) -> str:
    """Return the note on a trial whose evaluator ended it before the last step.

    Args:
        step: Its last measured step.
        last: Last step of a full evaluation.

    Returns:
        The note.

    Example:
        >>> early_message(7, 10)
        'its evaluator ended it at step 7 of 10'
    """
    return f"its evaluator ended it at step {step} of {last}"
