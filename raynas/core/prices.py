"""What a measurement counts where two searches are compared at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

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


class ExpectedPrice:
    """What a trial will have cost at its end, by what trials of another search cost.

    Args:
        prices: Of trials at rest, in any order.
    """

    def __init__(self, prices: Iterable[float]) -> None:
        self._prices = np.sort(np.array(list(prices), dtype=np.float64))
        counts = np.arange(len(self._prices), 0, -1)
        self._means = np.cumsum(self._prices[::-1])[::-1] / counts  # of a price and all above it

    @property
    def most(self) -> float:
        """The largest of the prices; 0 without any."""
        return float(self._prices[-1]) if len(self._prices) else 0.0

    def __call__(self, paid: float) -> float:
        """Return the mean of the prices from ``paid`` on, or ``paid`` where none was as large."""
        place = int(np.searchsorted(self._prices, paid * (1 - 1e-9)))
        return max(float(self._means[place]), paid) if place < len(self._means) else paid
