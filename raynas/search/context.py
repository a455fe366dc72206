"""What a search works with: its payload, its limits, what it shows, and its common state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raynas.core import Measurement, Objective, Trial, TrialState
from raynas.core.prices import ExpectedPrice, Price, in_seconds
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.schedulers.base import Rung
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import checked_costs


@dataclass(frozen=True)
class Payload:
    """What every worker needs once: large arrays in it are shared, never copied per trial."""

    space: SearchSpace
    evaluator: Evaluator
    view: View

    def costs(self, arch: Any) -> dict[str, float]:
        """Return the costs of an architecture that the space counts, by name.

        Raises:
            ArchitectureError: The space's own code raised.
        """
        return checked_costs(self.space, arch, self.view.input_shape, self.view.num_classes)


class Rows(Protocol):
    """Where rows go: the store's writer, or a list in tests."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> object: ...


@dataclass(frozen=True)
class Limits:
    """When a search admits nothing new. What runs then is finished. None: no such limit.

    Attributes:
        trials: Trials evaluated; proposals beyond a bound, duplicates and those that screening
            holds back do not count.
        seconds: Worker seconds, or what else ``price`` counts, of all measurements. Paused trials
            are decided on as at the end of any other search.
        expected: What trials will have cost at their ends. Those that run count as this much of
            ``seconds``, so that many workers spend little more than one does.
        deadline: Seconds on the search's clock. Paused trials do not go on after it, either.
        price: What a measurement counts where searches are compared at equal cost.
    """

    trials: int | None = None
    seconds: float | None = None
    expected: ExpectedPrice = field(default_factory=lambda: ExpectedPrice(()))
    deadline: float | None = None
    price: Price = in_seconds


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


class Meter:
    """What a search has spent, and whether it may begin anything new.

    Args:
        limits: Of the search.
        clock: Gives seconds; the runner's own where its time is simulated.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self.spent = self.paid = 0.0  # seconds of workers; what that counts
        self.paid_by: Counter[int] = Counter()  # the same by trial
        self._running: Mapping[int, Trial] = {}

    def watch(self, running: Mapping[int, Trial]) -> None:
        """Count trials that have not ended as what they are expected to cost.

        Args:
            running: All trials that have begun and not ended, kept up to date by its owner.
        """
        self._running = running

    def pay(self, trial: Trial, measurement: Measurement) -> None:
        """Add one measurement of a trial."""
        price = self.limits.price(trial, measurement)
        self.spent += measurement.seconds
        self.paid += price
        self.paid_by[trial.number] += price  # type: ignore[assignment]

    @property
    def spent_up(self) -> bool:
        """Whether the price is spent, or will be by the trials that have begun."""
        limit, expected = self.limits.seconds, self.limits.expected
        if limit is None:
            return False
        if self.paid + expected.most * len(self._running) < limit:
            return False  # whatever they have cost so far
        paid = [float(self.paid_by[number]) for number in self._running]
        return self.paid + sum(expected(one) - one for one in paid) >= limit

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
