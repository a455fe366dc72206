"""This module has what a search works with: payload, limits, status, meter and interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raynas.core import Measurement, Objective, Trial, TrialState
from raynas.core.prices import ExpectedPrice, Price, in_seconds
from raynas.core.renamed import renamed_names
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.schedulers.base import Rung
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import checked_costs


@dataclass(frozen=True)
class EvaluationContext:
    """The data that every worker needs once; large arrays in it are shared, not copied per trial.

    Attributes:
        space: The search space.
        evaluator: Measures architectures.
        view: Training and held-out images.
    """

    space: SearchSpace
    evaluator: Evaluator
    view: DataView

    def costs(self, arch: Any) -> dict[str, float]:
        """Return the costs of an architecture that the space counts.

        Args:
            arch: The architecture.

        Returns:
            Name of a cost -> value.

        Raises:
            ArchitectureError: The space's own code raised.
        """
        return checked_costs(self.space, arch, self.view.input_shape, self.view.num_classes)


class RowSink(Protocol):
    """A receiver of rows: the store's writer, or a list in tests."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> object:
        """Append rows of the result table.

        Args:
            rows: Rows, each column -> value.

        Returns:
            Any value; it is not used.
        """


@dataclass(frozen=True)
class SearchLimits:
    """The limits after which a search admits nothing new; running trials are finished.

    A limit of None does not apply.

    Attributes:
        trials: Number of evaluated trials; proposals beyond a bound, duplicates and trials that
            were screened out do not count.
        seconds: Worker seconds, or the unit of ``price``, of all measurements. When they are
            spent, paused trials are decided on as at the end of any other search.
        expected: Expected price of a trial at its end. Running trials count as this much of
            ``seconds``, so that many workers spend little more than one does.
        deadline: Seconds on the search's clock. Paused trials do not go on after it, either.
        price: Price of a measurement, where searches are compared at equal cost.
    """

    trials: int | None = None
    seconds: float | None = None
    expected: ExpectedPrice = field(default_factory=lambda: ExpectedPrice(()))
    deadline: float | None = None
    price: Price = in_seconds


@dataclass(frozen=True)
class SearchStatus:
    """The state of a search for a live view, in plain values that another thread may read.

    Attributes:
        stage: Stage of the run.
        arm: Name of the method.
        counts: State -> number of trials.
        target: Number of trials to evaluate, or None.
        running: Number, architecture, step and first objective of each running trial.
        best: Number, architecture and first objective of the best trial, or None.
        objective: The first objective.
        rungs: The scheduler's rungs.
        rejected: Number of proposals beyond a bound.
        duplicates: Number of proposals of known architectures.
        screened_out: Number of trials that were screened out.
        seconds: Price paid so far; worker seconds by default.
        max_seconds: Limit of worker seconds, or None.
        elapsed: Seconds since the search began.
        max_step: Last step of a full evaluation.
        progress: Share of the price that is paid, or of the only trial that is measured, from 0
            to 1.
        waits_for: Words on what the runner waits for; empty if nothing.
    """

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
        """The number of trials that have ended and were evaluated.

        Returns:
            The number, without proposals beyond a bound.
        """
        return sum(n for s, n in self.counts.items() if s != TrialState.RUNNING)

    @property
    def share(self) -> float:
        """The used share of the budget.

        Returns:
            A number from 0 to 1.
        """
        parts = [self.progress]
        if self.target:
            parts.append(self.ended / self.target)
        if self.max_seconds:
            parts.append(self.seconds / self.max_seconds)
        return min(max(parts), 1.0)


class BudgetMeter:
    """The account of what a search has spent, which says whether it may begin anything new.

    Args:
        limits: Limits of the search.
        clock: Returns seconds; the runner's own clock where its time is simulated.

    Attributes:
        spent: Worker seconds of all measurements.
        paid: Price of all measurements.
        paid_by: Trial number -> price of its measurements.
    """

    def __init__(self, limits: SearchLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self.spent = self.paid = 0.0  # seconds of workers; what that counts
        self.paid_by: Counter[int] = Counter()  # the same by trial
        self._running: Mapping[int, Trial] = {}

    def watch(self, running: Mapping[int, Trial]) -> None:
        """Count running trials as what they are expected to cost.

        Args:
            running: All trials that have begun and not ended, kept up to date by its owner.
        """
        self._running = running

    def pay(self, trial: Trial, measurement: Measurement) -> None:
        """Add one measurement of a trial.

        Args:
            trial: The trial.
            measurement: The measurement, with its seconds.
        """
        price = self.limits.price(trial, measurement)
        self.spent += measurement.seconds
        self.paid += price
        self.paid_by[trial.number] += price  # type: ignore[assignment]

    @property
    def spent_up(self) -> bool:
        """True if the price is spent, or will be by the trials that have begun.

        Returns:
            Always False without a limit.
        """
        limit, expected = self.limits.seconds, self.limits.expected
        if limit is None:
            return False
        if self.paid + expected.most * len(self._running) < limit:
            return False  # whatever they have cost so far
        paid = [float(self.paid_by[number]) for number in self._running]
        return self.paid + sum(expected(one) - one for one in paid) >= limit

    @property
    def past_deadline(self) -> bool:
        """True if the time on the clock is over.

        Returns:
            Always False without a deadline.
        """
        return self.limits.deadline is not None and self.clock() >= self.limits.deadline

    @property
    def late(self) -> bool:
        """True if nothing new may begin.

        Returns:
            True if the price is spent or the deadline is over.
        """
        return self.spent_up or self.past_deadline


@dataclass
class SearchInterruption:
    """The request to end a search early, by a user or by an error of its runner.

    Attributes:
        requested: Whether the end was requested.
        error: The error that caused it, or None.
    """

    requested: bool = False
    error: BaseException | None = None

    def request(self, error: BaseException | None = None) -> None:
        """Request the end of the search.

        Args:
            error: The error for the runner to raise, if any; the first one counts.
        """
        self.requested, self.error = True, self.error or error


def one_line(text: str) -> str:
    r"""Return the text in one line of at most 500 characters.

    Args:
        text: Any text.

    Returns:
        The text with each run of whitespace as one space.

    Example:
        >>> one_line("CUDA out of memory:\n  tried 2 GiB")
        'CUDA out of memory: tried 2 GiB'
    """
    return " ".join(text.split())[:500]


__getattr__ = renamed_names(__name__, Payload="EvaluationContext")
