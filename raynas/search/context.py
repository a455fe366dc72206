"""What a search works with: its payload, its limits, what it shows, and its common state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raynas.core import Measurement, Objective, Trial, TrialState
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.schedulers.base import Rung
from raynas.spaces.base import SearchSpace


@dataclass(frozen=True)
class Payload:
    """What every worker needs once: large arrays in it are shared, never copied per trial."""

    space: SearchSpace
    evaluator: Evaluator
    view: View

    def costs(self, arch: Any) -> dict[str, float]:
        """Return the costs of an architecture that the space counts, by name."""
        view = self.view
        costs = self.space.costs(arch, view.input_shape, view.num_classes)
        return {name: cost for name, cost in vars(costs).items() if cost is not None}


class Rows(Protocol):
    """Where rows go: the store's writer, or a list in tests."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> object: ...


@dataclass(frozen=True)
class Limits:
    """When a search admits nothing new. What runs then is finished. None: no such limit.

    Attributes:
        trials: Trials evaluated; proposals beyond a bound, duplicates and those that screening
            holds back do not count.
        seconds: Price of all measurements, in the unit of the search's price (worker seconds
            where nothing else is said).
        deadline: Seconds on the search's clock.
    """

    trials: int | None = None
    seconds: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Status:
    """What a live view shows; plain values, safe to read from another thread."""

    stage: str
    arm: str
    counts: Mapping[str, int]
    target: int | None
    running: tuple[tuple[int, str, int, float | None], ...]  # number, arch, step, objective
    best: tuple[int, str, float] | None  # number, arch, objective
    objective: Objective
    rungs: tuple[Rung, ...]
    rejected: int
    duplicates: int
    screened_out: int
    seconds: float
    max_seconds: float | None
    elapsed: float
    max_step: int
    progress: float = 0.0  # of the one trial of a search that has no other
    waits_for: str = ""

    @property
    def ended(self) -> int:
        """Trials at rest that were evaluated: proposals beyond a bound do not count."""
        return sum(n for s, n in self.counts.items() if s != TrialState.RUNNING)

    @property
    def share(self) -> float:
        """How much of the budget is used, 0..1."""
        parts = [self.progress]
        if self.target:
            parts.append(self.ended / self.target)
        if self.max_seconds:
            parts.append(self.seconds / self.max_seconds)
        return min(max(parts), 1.0)


Price = Callable[[Trial, Measurement], float]


def price_in_seconds(_: Trial, measurement: Measurement) -> float:
    """Return what a worker spent on the measurement, in seconds."""
    return measurement.seconds


def price_in_macs(trial: Trial, _: Measurement) -> float:
    """Return the multiply-adds of one forward pass, 1 where they are not known.

    Seconds are never the same twice; a search whose table shall not depend on them counts so.
    """
    return float(trial.costs.get("macs", 1.0))


class Meter:
    """What a search has spent, and whether it may begin anything new.

    Args:
        limits: Of the search.
        price: What a measurement counts where searches are compared at equal cost.
        clock: Gives seconds; the runner's own where its time is simulated.
    """

    def __init__(
        self, limits: Limits, price: Price, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits, self.clock = limits, clock
        self._price = price
        self.spent = self.paid = 0.0  # seconds of workers; what that counts

    def pay(self, trial: Trial, measurement: Measurement) -> None:
        """Add one measurement of a trial."""
        self.spent += measurement.seconds
        self.paid += self._price(trial, measurement)

    @property
    def spent_up(self) -> bool:
        """Whether the price of all measurements has reached its limit."""
        return self.limits.seconds is not None and self.paid >= self.limits.seconds

    @property
    def past_deadline(self) -> bool:
        """Whether the time on the clock is over."""
        return self.limits.deadline is not None and self.clock() >= self.limits.deadline

    @property
    def late(self) -> bool:
        """Whether nothing new may begin."""
        return self.spent_up or self.past_deadline


@dataclass
class Interruption:
    """Whether somebody ended the search early: a user, or an error of its runner."""

    requested: bool = False
    error: BaseException | None = None


def one_line(text: str) -> str:
    """Return the text in one line of at most 500 characters."""
    return " ".join(text.split())[:500]
