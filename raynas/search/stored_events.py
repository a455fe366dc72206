"""This module has the events of trials: measurements and ends, stored ones and new ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from raynas.core import Measurement, Trial, TrialState
from raynas.search.ledger import recall_failure


@dataclass(frozen=True)
class TrialEvent:
    """A fact about a trial that is known before its turn: a measurement, or how it ended.

    Attributes:
        measurement: The measurement; None at the end of the evaluation.
        host: The machine that measured.
        device: The device that measured.
        failure: The reason why the trial failed; None if it did not.
        infeasible: Whether the trial does not fit, rather than crashed.
    """

    measurement: Measurement | None = None
    host: str = ""
    device: str = "cpu"
    failure: str | None = None
    infeasible: bool = False


def unbroken(past: Iterable[Trial]) -> dict[int, Trial]:
    """Return stored trials by number, none with a hole in its curve.

    A trial may lack a step that others have, because its fragment was damaged. It keeps the steps
    before the hole and goes on from there, as decisions need all of a curve.

    Args:
        past: Stored trials.

    Returns:
        Number -> trial.
    """
    found = {trial.number: trial for trial in past}
    steps = sorted({m.step for trial in found.values() for m in trial.measurements})
    for number, trial in found.items():
        recall_failure(trial)
        have = [m.step for m in trial.measurements]
        first = next((s for s in steps if 0 < s < trial.step and s not in have), None)
        if first is not None:
            before = [m for m in trial.measurements if m.step < first]
            found[number] = replace(
                trial, measurements=before, state=TrialState.RUNNING, message=""
            )
    return found


def stored_events(trial: Trial) -> list[TrialEvent]:
    """Return the stored events of a trial in their order.

    Args:
        trial: A stored trial.

    Returns:
        Its measurements after screening, then its end unless the scheduler stopped it.
    """
    found = [TrialEvent(m) for m in trial.measurements if m.step > 0]
    if trial.state in (TrialState.FAILED, TrialState.INFEASIBLE):
        infeasible = trial.state is TrialState.INFEASIBLE
        found.append(TrialEvent(failure=trial.message, infeasible=infeasible))
    elif trial.state is TrialState.COMPLETE:
        found.append(TrialEvent())
    return found
