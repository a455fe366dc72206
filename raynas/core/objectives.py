"""This module has the objectives and the bounds of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raynas.core.errors import UserError
from raynas.core.fields import check_fields
from raynas.core.metrics import Direction


@dataclass(frozen=True)
class Objective:
    """A metric to maximize or minimize.

    Attributes:
        metric: The name of the metric.
        direction: "max" or "min".

    Raises:
        UserError: The direction is neither "max" nor "min".
    """

    metric: str = "val_accuracy"
    direction: Direction = "max"

    def __post_init__(self) -> None:
        check_fields(self, unchecked=("direction",))
        if self.direction not in ("max", "min"):
            raise UserError(f"direction {self.direction!r} of {self.metric}", expected="max, min")

    @property
    def sign(self) -> float:
        """The factor that makes higher values better.

        Returns:
            +1 for a metric to maximize, -1 for one to minimize.
        """
        return 1.0 if self.direction == "max" else -1.0


@dataclass(frozen=True)
class Bound:
    """A hard limit on a metric: ``min <= metric <= max``.

    Attributes:
        metric: The name of the metric.
        max: The largest allowed value, infinite for no limit.
        min: The smallest allowed value, minus infinity for no limit.

    Raises:
        UserError: ``min`` is greater than ``max``, so that no value satisfies the bound.

    Example:
        >>> bound = Bound("params", max=1e6)
        >>> str(bound), bound.violation(1.5e6), bound.violation(0.5e6)
        ('params <= 1e+06', 0.5, -0.5)
    """

    metric: str
    max: float = field(default=math.inf, metadata={"infinite": True})
    min: float = field(default=-math.inf, metadata={"infinite": True})

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.min <= self.max:
            raise UserError(
                f"no value satisfies the bound on {self.metric}: "
                f"min={self.min:g}, max={self.max:g}",
                expected="min <= max",
            )

    def violation(self, value: float) -> float:
        """Return the violation of the bound by ``value``, relative to the limit.

        Args:
            value: The value of the metric.

        Returns:
            At most 0 when ``value`` satisfies the bound, else the excess over the limit divided by
                the limit (by 1 for limits below 1). Infinite for an infinite value beyond the bound
                and for NaN, which satisfies no bound.
        """
        if math.isnan(value):
            return math.inf
        over = value - self.max if math.isfinite(self.max) else -math.inf
        under = self.min - value if math.isfinite(self.min) else -math.inf
        limit = self.max if over >= under else self.min
        worst = max(over, under)
        return -1.0 if worst == -math.inf else worst / max(abs(limit), 1.0)

    def __str__(self) -> str:
        low = f"{self.min:g} <= " if math.isfinite(self.min) else ""
        high = f" <= {self.max:g}" if math.isfinite(self.max) else ""
        return f"{low}{self.metric}{high}"


def violations(bounds: Sequence[Bound], values: Mapping[str, float]) -> dict[str, float]:
    """Return the violation of each bound whose metric has a value.

    Args:
        bounds: The bounds of a search.
        values: Metric name -> value; metrics may be missing.

    Returns:
        Text of the bound -> violation: at most 0 is feasible, above 0 is infeasible.
    """
    return {str(b): b.violation(values[b.metric]) for b in bounds if b.metric in values}


def signed(objectives: Sequence[Objective], values: Mapping[str, float]) -> tuple[float, ...]:
    """Return the values of the objectives with signs such that higher is better for each.

    Args:
        objectives: The objectives of a search.
        values: Metric name -> value of every objective.

    Returns:
        One value per objective.

    Example:
        >>> signed([Objective(), Objective("macs", "min")], {"val_accuracy": 90.0, "macs": 5e6})
        (90.0, -5000000.0)
    """
    return tuple(o.sign * values[o.metric] for o in objectives)
