"""This module has the prices of measurements, by which searches are compared at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from raynas.core.trial import Measurement, Trial

#: the price of a trial's measurement, in a unit that all measurements of a search share
Price = Callable[[Trial, Measurement], float]


def in_seconds(_: Trial, measurement: Measurement) -> float:
    """Return the worker's seconds, of scoring as of training.

    Args:
        _: The trial of the measurement.
        measurement: The measurement to price.

    Returns:
        Seconds.
    """
    return measurement.seconds


def in_steps(trial: Trial, measurement: Measurement) -> float:
    """Return the steps since the trial's previous measurement.

    Args:
        trial: The trial of the measurement.
        measurement: One of the trial's, or its next.

    Returns:
        Steps; 0 for scores (step 0), which train nothing.
    """
    for other in reversed(trial.measurements):
        if other.step < measurement.step:
            return float(measurement.step - max(other.step, 0))
    return float(measurement.step)


def in_multiply_adds(trial: Trial, measurement: Measurement, score_share: float = 1.0) -> float:
    """Return the multiply-adds of one image's forward pass, once per step.

    Args:
        trial: The trial; its costs give the multiply-adds. Without them a step counts 1.
        measurement: One of the trial's, or its next.
        score_share: The price of scores (step 0), as a share of a step of the same network.

    Returns:
        Multiply-adds.
    """
    steps = in_steps(trial, measurement) if measurement.step else score_share
    return float(trial.costs.get("macs", 1.0)) * steps


def records_time(trials: Iterable[Trial]) -> bool:
    """Return True when a step beyond scoring has a time, so that seconds can be a price.

    Args:
        trials: Trials of one search.

    Returns:
        False when all times of steps above 0 are 0.
    """
    return any(m.seconds > 0 for trial in trials for m in trial.measurements if m.step > 0)


def total(trials: Iterable[Trial], price: Price) -> float:
    """Return the price of all measurements of all trials.

    Args:
        trials: Trials of one search.
        price: The price of one measurement.

    Returns:
        The sum, in the unit of ``price``.
    """
    return float(sum(price(trial, m) for trial in trials for m in trial.measurements))


class ExpectedPrice:
    """The expected final price of a trial, estimated from the prices of another search's trials.

    Args:
        prices: The prices of terminal trials, in any order.

    Example:
        >>> expected = ExpectedPrice([1.0, 2.0, 6.0])
        >>> expected.most, expected(2.0), expected(9.0)
        (6.0, 4.0, 9.0)
    """

    def __init__(self, prices: Iterable[float]) -> None:
        self._prices = np.sort(np.array(list(prices), dtype=np.float64))
        counts = np.arange(len(self._prices), 0, -1)
        self._means = (
            np.cumsum(self._prices[::-1])[::-1] / counts
        )  # the mean of each price and all above it

    @property
    def most(self) -> float:
        """The largest of the prices.

        Returns:
            The price; 0 when there are none.
        """
        return float(self._prices[-1]) if len(self._prices) else 0.0

    def __call__(self, paid: float) -> float:
        """Return the mean of the prices from ``paid`` on.

        Args:
            paid: The price of the trial so far.

        Returns:
            The mean; ``paid`` where no price is as large.
        """
        place = int(np.searchsorted(self._prices, paid * (1 - 1e-9)))
        return max(float(self._means[place]), paid) if place < len(self._means) else paid
