"""What is sought (objectives) and what must hold (bounds)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raynas.core.errors import UserError
from raynas.core.fields import check_fields
from raynas.core.metrics import Direction


@dataclass(frozen=True)
class Objective:
    """A metric to maximise or minimise."""

    metric: str = "val_accuracy"
    direction: Direction = "max"

    def __post_init__(self) -> None:
        check_fields(self, unchecked=("direction",))
        if self.direction not in ("max", "min"):
            raise UserError(f"direction {self.direction!r} of {self.metric}", allowed="max, min")

    @property
    def sign(self) -> float:
        """+1 for a metric to maximise, -1 for one to minimise."""
        return 1.0 if self.direction == "max" else -1.0


@dataclass(frozen=True)
class Bound:
    """A hard limit: ``min <= metric <= max``. ``Bound("params", max=1e6)``."""

    metric: str
    max: float = field(default=math.inf, metadata={"infinite": True})
    min: float = field(default=-math.inf, metadata={"infinite": True})

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.min <= self.max:
            raise UserError(
                f"bound on {self.metric} that nothing keeps: min={self.min:g}, max={self.max:g}",
                allowed="min <= max",
            )

    def violation(self, value: float) -> float:
        """<= 0 when ``value`` keeps the bound, else by how much it breaks it (relative).

        Infinite beyond the bound, and for NaN, which keeps no bound.
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
    """Per bounded metric present in ``values``: <= 0 feasible, > 0 infeasible."""
    return {str(b): b.violation(values[b.metric]) for b in bounds if b.metric in values}


def signed(objectives: Sequence[Objective], values: Mapping[str, float]) -> tuple[float, ...]:
    """The objectives' values with signs such that higher is better in every place."""
    return tuple(o.sign * values[o.metric] for o in objectives)
