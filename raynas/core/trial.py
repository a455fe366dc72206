"""This module has trials and measurements: the record of a search about one architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Integral, Real
from pathlib import Path
from typing import Literal

from raynas.core.architecture import Architecture
from raynas.core.errors import UserError
from raynas.core.objectives import Bound, Objective
from raynas.core.renamed import renamed_names


class TrialState(StrEnum):
    """The state of a trial: RUNNING or one of four terminal states.

    RUNNING means that a worker evaluates it, that a resumed run will continue it, or that the
    scheduler paused it.

    Attributes:
        RUNNING: The trial has not ended.
        COMPLETE: The trial was evaluated up to its last step.
        STOPPED: The scheduler stopped the trial; its curve is kept.
        INFEASIBLE: The trial breaks a bound, has no network, or does not fit into memory.
        FAILED: The evaluation crashed or gave NaN; the message says which.
    """

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    STOPPED = "STOPPED"  # by the scheduler; its curve is kept
    INFEASIBLE = "INFEASIBLE"  # breaks a bound, or does not fit into memory
    FAILED = "FAILED"  # crash or NaN; the message says which

    @property
    def ended(self) -> bool:
        """The end of the trial as a flag.

        Returns:
            True for every state but RUNNING.
        """
        return self is not TrialState.RUNNING


class Decision(StrEnum):
    """The answer of a scheduler to a measurement.

    Attributes:
        CONTINUE: The trial continues.
        STOP: The trial ends as STOPPED.
        PAUSE: The trial waits and its worker is free; the scheduler decides later whether it
            continues.
    """

    CONTINUE = "CONTINUE"
    STOP = "STOP"
    PAUSE = "PAUSE"  # its worker is free; the scheduler decides later


#: a larger absolute value counts as infinite, since squares and products of such numbers are
LARGEST_VALUE = 1e150
#: the longest valid duration in seconds, about 300 years
LONGEST = 1e10
_LAST_STEP = 2**31 - 2


@dataclass(frozen=True)
class Measurement:
    """The values that an evaluator measured at one step of a trial.

    Attributes:
        step: 0 for screening, then 1, 2, ...; an epoch for training.
        values: Metric name -> value; one beyond ``LARGEST_VALUE`` becomes infinite.
        seconds: The seconds that the worker spent on this step, by which searches are compared
            (processor time for training on a CPU). Invalid times, such as NaN or negative numbers,
            become 0.
        note: A remark for readers of the results, such as the reason for a missing value.

    Raises:
        UserError: The step is not a whole number from 0 up.

    Example:
        >>> measured = Measurement(1, {"val_accuracy": 71.5, "val_loss": float("nan")}, seconds=2.5)
        >>> measured.bad_values(["val_accuracy", "val_loss", "params"])
        ['val_loss', 'params']
    """

    step: int
    values: Mapping[str, float]
    seconds: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if not _is_step(self.step):
            raise UserError(
                f"step {self.step!r} of a measurement",
                expected=f"a whole number from 0 to {_LAST_STEP}",
            )
        if not is_time(self.seconds):
            object.__setattr__(self, "seconds", 0.0)
        if any(map(_is_huge, self.values.values())):
            found = {n: _infinite(v) if _is_huge(v) else v for n, v in self.values.items()}
            object.__setattr__(self, "values", found)

    def bad_values(self, names: Sequence[str]) -> list[str]:
        """Return the metrics among ``names`` that are missing or not finite.

        Args:
            names: Names of metrics.

        Returns:
            Names in the given order.
        """
        return [n for n in names if not _finite(self.values.get(n))]


def is_time(seconds: object) -> bool:
    """Return True when a number of seconds is a valid duration.

    Args:
        seconds: Any value.

    Returns:
        True for numbers from 0 to ``LONGEST``.
    """
    try:
        return 0 <= seconds <= LONGEST  # type: ignore[operator]
    except TypeError:
        return False


def _is_step(step: object) -> bool:
    return isinstance(step, Integral) and 0 <= int(step) <= _LAST_STEP


def _is_huge(value: object) -> bool:
    try:
        return isinstance(value, Real) and abs(float(value)) > LARGEST_VALUE
    except OverflowError:  # an integer beyond all floats
        return True


def _infinite(value: float) -> float:
    return math.inf if value > 0 else -math.inf


def _finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):  # None, text, an integer beyond all floats
        return False


@dataclass(frozen=True)
class Job:
    """The data that an evaluator needs besides the architecture.

    Attributes:
        trial: The number of the trial.
        seed: The seed of the trial.
        max_step: The last step to measure.
        device: The name of a torch device.
        workdir: A folder of this job, kept between attempts, or None where nothing may be written.
        threads: The number of CPU threads that the evaluation may use.
        attempt: The number of the attempt, from 0.
        mirror: The location of the workdir on shared storage; empty where all machines see the
            workdir itself.
        pauses: Steps at which the search may pause the trial. State that must be kept in
            ``workdir`` is saved before they are measured, and an evaluation that continues from
            there measures that step again, since the measurement may be lost.
        more_memory: True when an earlier attempt ran out of memory and this one is to get more.
        stored: The last stored step, or None where it is unknown; later steps found in ``workdir``
            are reported again.
        ticket: The serial number of the job in the search; results of an older ticket of the same
            trial are dropped.
        claim: The name of the folder in ``workdir`` that belongs to this job alone; empty where
            ``workdir`` itself does.
        held_out: The data for measurements: "val" in a search, "test" where a finalist is trained
            on train + valid.
    """

    trial: int
    seed: int
    max_step: int
    device: str = "cpu"
    workdir: Path | None = None
    threads: int = 1
    attempt: int = 0
    mirror: str = ""
    pauses: tuple[int, ...] = ()
    more_memory: bool = False
    stored: int | None = None
    ticket: int = 0
    claim: str = ""
    held_out: Literal["val", "test"] = "val"


class MeasurementSeries:
    """A mixin for objects with measurements in the order of their steps.

    Attributes:
        measurements: The measurements, in ascending order of steps.
    """

    measurements: Sequence[Measurement]

    @property
    def last(self) -> Measurement | None:
        """The last measurement.

        Returns:
            The measurement; None before the first.
        """
        return self.measurements[-1] if self.measurements else None

    @property
    def step(self) -> int:
        """The last measured step.

        Returns:
            The step; 0 before the first measurement.
        """
        return self.measurements[-1].step if self.measurements else 0

    @property
    def seconds(self) -> float:
        """The time of all measurements.

        Returns:
            Seconds.
        """
        return sum(m.seconds for m in self.measurements)


@dataclass
class Trial(MeasurementSeries):
    """A proposal of a sampler, and its state, measurements and costs.

    Attributes:
        number: The number of the trial, from 0.
        proposal: The architecture that the sampler proposed.
        arch: The canonical form of the proposal, which is evaluated.
        seed: The seed of the trial.
        state: The state.
        measurements: The measurements, in ascending order of steps.
        costs: Name of a cost -> value.
        violations: Bound -> violation; at most 0 is feasible.
        message: The reason for the state, for readers; empty where there is none.
        attempt: The number of the current attempt, from 0.
        oom_retries: The number of restarts after running out of memory.
        failure: The reason for a failed evaluation; empty without one.
        infeasible: True when ``failure`` is that the space says that the architecture has no
            network.
    """

    number: int
    proposal: Architecture
    arch: Architecture
    seed: int = 0
    state: TrialState = TrialState.RUNNING
    measurements: list[Measurement] = field(default_factory=list)
    costs: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    attempt: int = 0
    oom_retries: int = 0
    failure: str = ""
    infeasible: bool = False

    def values(self, measurement: Measurement | None = None) -> dict[str, float]:
        """Return the costs, the scores of a screening (step 0) and the metrics in one mapping.

        Args:
            measurement: The measurement of the metrics; None takes the last one.

        Returns:
            Name -> value; later entries replace earlier ones of the same name.
        """
        m = measurement or self.last
        first = self.measurements[0] if self.measurements else None
        scores = first.values if first and first.step == 0 else {}
        return {**self.costs, **scores, **(m.values if m else {})}


@dataclass(frozen=True)
class SearchProblem:
    """The description of the search that a sampler or scheduler gets before it starts.

    Attributes:
        objectives: The metrics to optimize.
        max_step: The last step of an evaluation.
        seed: The seed of the search.
        run: The run's unique id; a sampler stores data elsewhere under this name.
        bounds: The hard limits.
    """

    objectives: tuple[Objective, ...]
    max_step: int
    seed: int
    run: str
    bounds: tuple[Bound, ...] = ()


__getattr__ = renamed_names(__name__, Measured="MeasurementSeries", Problem="SearchProblem")
