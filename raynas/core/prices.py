"""What a measurement counts where two searches are compared at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raynas.core.trial import Measurement, Trial

#: of a trial's measurement, in a unit that all measurements of a search share
Price = Callable[[Trial, Measurement], float]


def in_seconds(_: Trial, measurement: Measurement) -> float:
    """Return the worker's seconds, of scoring as of training."""
    return measurement.seconds


def in_steps(trial: Trial, measurement: Measurement) -> float:
    """Return the steps since the trial's measurement before; 0 for scores, which train nothing."""
    for other in reversed(trial.measurements):
        if other.step < measurement.step:
            return float(measurement.step - max(other.step, 0))
    return float(measurement.step)


def in_multiply_adds(trial: Trial, measurement: Measurement, score_share: float = 1.0) -> float:
    """Return the multiply-adds of one image's forward pass, once per step.

    Args:
        trial: Its costs say the multiply-adds; where they do not, a step counts 1.
        measurement: One of the trial's, or its next.
        score_share: What scores (step 0) cost, as a part of a step of the same network.
    """
    steps = in_steps(trial, measurement) if measurement.step else score_share
    return float(trial.costs.get("macs", 1.0)) * steps


def records_time(trials: Iterable[Trial]) -> bool:
    """Return whether any step beyond scoring has a time, so that seconds can be a price."""
    return any(m.seconds > 0 for trial in trials for m in trial.measurements if m.step > 0)


def total(trials: Iterable[Trial], price: Price) -> float:
    """Return the price of all measurements of all trials."""
    return float(sum(price(trial, m) for trial in trials for m in trial.measurements))
