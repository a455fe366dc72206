"""Trials and measurements: what a search does with one architecture."""

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


class TrialState(StrEnum):
    """RUNNING while a worker has it, a resumed run will continue it, or the scheduler made it wait;
    the others at rest."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    STOPPED = "STOPPED"  # by the scheduler; its curve is kept
    INFEASIBLE = "INFEASIBLE"  # breaks a bound, or does not fit into memory
    FAILED = "FAILED"  # crash or NaN; the message says which

    @property
    def ended(self) -> bool:
        return self is not TrialState.RUNNING


class Decision(StrEnum):
    """What a scheduler answers to a measurement."""

    CONTINUE = "CONTINUE"
    STOP = "STOP"
    PAUSE = "PAUSE"  # its worker is free; the scheduler will say whether the trial goes on


#: a value beyond it counts as infinite: squares and products of such numbers are
LARGEST_VALUE = 1e150
#: seconds beyond it, 300 years, are none
LONGEST = 1e10
_LAST_STEP = 2**31 - 2


@dataclass(frozen=True)
class Measurement:
    """What an evaluator found at one step (1, 2, ...; an epoch for training; 0 for screening).

    ``values``: metric name -> value; one beyond ``LARGEST_VALUE`` is infinite. ``seconds``: what
    the worker spent on this step, the currency in which searches are compared (of training on a
    CPU: processor time); what is no time, such as NaN or less than 0, is 0. ``note``: a remark for
    a reader of the results, such as why a value is missing. Raises: UserError for a step that is
    no whole number from 0 up.
    """

    step: int
    values: Mapping[str, float]
    seconds: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if not _is_step(self.step):
            raise UserError(
                f"step {self.step!r} of a measurement",
                allowed=f"a whole number from 0 to {_LAST_STEP}",
            )
        if not is_time(self.seconds):
            object.__setattr__(self, "seconds", 0.0)
        if any(map(_is_huge, self.values.values())):
            found = {n: _infinite(v) if _is_huge(v) else v for n, v in self.values.items()}
            object.__setattr__(self, "values", found)

    def bad_values(self, names: Sequence[str]) -> list[str]:
        """The metrics among ``names`` that are missing or not finite."""
        return [n for n in names if not _finite(self.values.get(n))]


def is_time(seconds: object) -> bool:
    """Whether a number of seconds is one that work can take."""
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
    """What an evaluator needs to know beside the architecture.

    ``max_step``: the last step to measure. ``device``: a torch device name. ``workdir``: a folder
    of this job's own, kept between attempts, or None where nothing may be written. ``threads``:
    how many CPU threads the evaluation may use. ``mirror``: where on shared storage the workdir is
    kept, or nothing where all machines see the workdir itself. ``pauses``: steps at which the
    search may lay the trial aside: what is to be kept in ``workdir`` is kept before they are
    measured, and whoever goes on from there measures that step once more, since it may be lost.
    ``more_memory``: an attempt before ran out of it; this one is to get more. ``stored``: the last
    step that is stored, where that is known: what ``workdir`` has measured beyond is told again.
    ``ticket``: counts the times that a search handed out a job; what arrives for an older ticket
    of the same trial is dropped. ``claim``: the name of the folder in ``workdir`` that belongs to
    this job alone, or nothing where ``workdir`` itself does. ``held_out``: on which data it is
    measured: "val" in a search, "test" where a finalist is trained, on train + valid.
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


class Measured:
    """What follows from measurements that lie in the order of their steps."""

    measurements: Sequence[Measurement]

    @property
    def last(self) -> Measurement | None:
        return self.measurements[-1] if self.measurements else None

    @property
    def step(self) -> int:
        """The last step measured; 0 before the first."""
        return self.measurements[-1].step if self.measurements else 0

    @property
    def seconds(self) -> float:
        return sum(m.seconds for m in self.measurements)


@dataclass
class Trial(Measured):
    """One proposal of a sampler and what became of it.

    ``proposal`` is what the sampler asked for, ``arch`` its canonical form, which is evaluated.
    ``violations``: bound -> value, <= 0 feasible. ``oom_retries``: how often it was started again
    because it had run out of memory. ``failure``: why its evaluation failed, or nothing.
    ``infeasible``: that is because the space says that the architecture has no network.
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
        """Costs, scores of a screening (step 0), and the metrics of ``measurement`` (default: the
        last) in one mapping."""
        m = measurement or self.last
        first = self.measurements[0] if self.measurements else None
        scores = first.values if first and first.step == 0 else {}
        return {**self.costs, **scores, **(m.values if m else {})}


@dataclass(frozen=True)
class Problem:
    """What a sampler or scheduler is told about the search before it starts.

    ``run``: the run's id, unique; anything that a sampler keeps elsewhere goes under this name.
    """

    objectives: tuple[Objective, ...]
    max_step: int
    seed: int
    run: str
    bounds: tuple[Bound, ...] = ()
