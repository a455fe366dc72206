"""This module says what a simulation evaluates in the place of trainings, and what a step takes.

The times of steps are looked up in a table, measured here, or stated by the user.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from raynas.benchmarks.synthetic import Synthetic
from raynas.core import Architecture, Job, Measurement, Metric, UserError, commonest_reason, rng_for
from raynas.core import violations as broken_by
from raynas.core.describe import fresh
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import DataView
from raynas.evaluators.abilities import remarks_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.checks import prepare
from raynas.runners.base import pick_device
from raynas.search.context import EvaluationContext
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import ArchitectureError, checked_canonical, checked_costs


@dataclass(frozen=True)
class StepTimes:
    """The seconds of one step as a function of an architecture's MACs: ``fixed + per_mac * macs``.

    Attributes:
        fixed: Seconds.
        per_mac: Seconds per multiply-add.
        error: Mean deviation of measured times from that, as a share; None where not measured.
    """

    fixed: float
    per_mac: float
    error: float | None = None

    def seconds(self, macs: float) -> float:
        """Return the seconds of one step.

        Args:
            macs: Multiply-adds of one forward pass.

        Example:
            >>> StepTimes(fixed=1.0, per_mac=1e-6).seconds(2e6)
            3.0
        """
        return self.fixed + self.per_mac * macs


def payload_for(
    experiment: Experiment, *, probe: int | None = None, step_seconds: float | None = None
) -> tuple[EvaluationContext, tuple[str, ...]]:
    """Choose what a simulation evaluates in the place of trainings.

    Args:
        experiment: The experiment.
        probe: Number of architectures of which a step is measured here; None for none.
        step_seconds: Seconds of a step of the median architecture; None where not stated.

    Returns:
        What is evaluated, and remarks for the user, a sentence each.

    Raises:
        UserError: Both ``probe`` and ``step_seconds`` are given, or one of them for an experiment
            whose times are known.
        UserError: The experiment trains for real and neither is given.
    """
    if probe is not None and step_seconds is not None:
        raise UserError("--probe and --step-seconds together", hint="give only one of them")
    if experiment.evaluator.simulated and (probe is not None or step_seconds is not None):
        raise UserError(
            f"{experiment.name}: the time of a step is known ({experiment.evaluator.name})",
            hint="leave --probe and --step-seconds out",
        )
    if probe is None and step_seconds is None:
        return tabled(experiment), remarks_of(experiment.evaluator)
    if probe is not None:
        times = measured(experiment, probe)
        known = f"measured here on {probe} architectures (off by {times.error:.0%} on average)"
    else:
        assert step_seconds is not None
        times, known = stated(experiment, step_seconds), "as stated"
    screened = "; its screening is left out" if experiment.screen else ""
    return assumed(experiment, times), (
        f"a step's time by MACs is {known}; accuracies are SIMULATED: use times, utilisation and "
        f"cost only{screened}",
    )


def tabled(experiment: Experiment) -> EvaluationContext:
    """Prepare an experiment whose evaluator looks trainings up.

    Args:
        experiment: The experiment.

    Returns:
        What is evaluated.

    Raises:
        UserError: The evaluator trains networks.
    """
    if not experiment.evaluator.simulated:
        raise UserError(
            f"{experiment.name}: {experiment.evaluator.name} trains networks, so the time of a "
            "step is not known",
            hint="give --probe 4 to time a step of 4 architectures here, or --step-seconds S for "
            "the time on your workers (accuracies are simulated then); or use a table: "
            "evaluator=Tabular(...)",
        )
    return prepare(experiment)


def assumed(experiment: Experiment, times: StepTimes) -> EvaluationContext:
    """Prepare trainings that take ``times`` and whose results are simulated.

    Args:
        experiment: The experiment.
        times: Times of a step.

    Returns:
        What is evaluated.
    """
    view = experiment.data.search_view(experiment.seed)
    stand_in = AssumedEvaluator(experiment.evaluator, times, seed=experiment.seed)
    return EvaluationContext(experiment.space, stand_in, view)


def measured(experiment: Experiment, count: int) -> StepTimes:
    """Measure one step of ``count`` random architectures within the bounds on this machine.

    Args:
        experiment: The experiment.
        count: Number of architectures.

    Returns:
        Times of a step, with their mean deviation from what was measured.

    Raises:
        UserError: Too few random architectures satisfy the bounds.
        UserError: The evaluation of one fails.
    """
    payload = prepare(experiment)
    evaluator, view = fresh(payload.evaluator), payload.view
    evaluator.setup(payload.space, view)
    archs = _within_bounds(experiment, view, count)
    device = pick_device(experiment.resources.gpus)
    macs, seconds = [], []
    for number, arch in enumerate([archs[0], *archs]):  # the first evaluation warms caches up
        job = Job(number, seed=number, max_step=evaluator.max_step, device=device)
        job = dataclasses.replace(job, threads=experiment.resources.threads)
        try:
            first = next(iter(evaluator.evaluate(arch, job)))
        except Exception as error:
            raise UserError(f"probing {arch.text}: {type(error).__name__}: {error}") from error
        macs.append(_macs(experiment.space, arch, view))
        seconds.append(first.seconds)
    return fit(macs[1:], seconds[1:])


def fit(macs: Sequence[float], seconds: Sequence[float]) -> StepTimes:
    """Fit a line through measured times, or the best one through 0 where a coefficient is negative.

    Args:
        macs: (n,) multiply-adds.
        seconds: (n,) seconds.

    Returns:
        Times of a step, with their mean deviation from what was measured.

    Example:
        >>> round(fit([1e6, 2e6], [2.0, 3.0]).fixed, 6)
        1.0
    """
    x, y = np.asarray(macs, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if len(set(macs)) > 1:
        per_mac, fixed = (float(v) for v in np.polyfit(x, y, 1))
    else:
        per_mac, fixed = -1.0, 0.0
    if per_mac < 0 or fixed < 0:
        per_mac, fixed = float(x @ y / (x @ x)) if x.any() else 0.0, 0.0
    off = np.abs(fixed + per_mac * x - y) / np.maximum(y, 1e-12)
    return StepTimes(fixed, per_mac, float(off.mean()))


def stated(experiment: Experiment, step_seconds: float) -> StepTimes:
    """Assume ``step_seconds`` for the median of random architectures, others in proportion to MACs.

    Args:
        experiment: The experiment.
        step_seconds: Seconds of a step.

    Returns:
        Times of a step.

    Raises:
        UserError: ``step_seconds`` is not a finite number above 0.
        UserError: Too few random architectures satisfy the bounds.
    """
    if not 0 < step_seconds < math.inf:
        raise UserError(f"--step-seconds {step_seconds}", expected="above 0")
    view = experiment.data.search_view(experiment.seed)
    archs = _within_bounds(experiment, view, 100)
    median = float(np.median([_macs(experiment.space, arch, view) for arch in archs]))
    return StepTimes(0.0, step_seconds / median) if median else StepTimes(step_seconds, 0.0)


def _within_bounds(experiment: Experiment, view: DataView, count: int) -> list[Architecture]:
    space, rng = experiment.space, rng_for(experiment.seed, "probe")
    found, errors = list[Architecture](), list[str]()
    for _ in range(100 * count):
        drawn = space.sample(rng)
        try:
            arch = checked_canonical(space, drawn)
            known = checked_costs(space, arch, view.input_shape, view.num_classes)
        except ArchitectureError as error:
            errors.append(str(error))
            continue
        if all(v <= 0 for v in broken_by(experiment.bounds, known).values()):
            found.append(arch)
        if len(found) == count:
            return found
    reason, times = commonest_reason(errors)
    raise UserError(
        f"{len(found)} of {100 * count} random architectures satisfy the bounds"
        + (f"; {times} cannot be built: {reason}" if errors else ""),
        hint="relax the bounds or make the space smaller",
    )


def _macs(space: SearchSpace, arch: Architecture, view: DataView) -> float:
    return float(space.costs(arch, view.input_shape, view.num_classes).macs)


@dataclass
class AssumedEvaluator(Evaluator):
    """An evaluator whose steps take assumed ``times`` and whose results are simulated.

    Metrics to maximise follow the curves of a :class:`~raynas.benchmarks.Synthetic` landscape,
    those to minimise fall by them. Only times, utilisation and cost have a meaning.

    Attributes:
        like: The evaluator that it replaces.
        times: Times of a step.
        seed: Seed of the landscape.
    """

    name: ClassVar[str] = "assumed"
    lightweight: ClassVar[bool] = True
    simulated: ClassVar[bool] = True

    like: Evaluator
    times: StepTimes
    seed: int = 0
    _landscape: Synthetic | None = field(default=None, init=False, repr=False, compare=False)
    _given: tuple[SearchSpace, DataView] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the evaluator that it replaces."""
        return self.like.metrics

    @property
    def max_step(self) -> int:
        """The last step of the evaluator that it replaces."""
        return self.like.max_step

    def setup(self, space: SearchSpace, view: DataView) -> None:
        """Prepare the landscape of simulated results."""
        self._given = space, view
        self._landscape = Synthetic(max_step=self.max_step, noise=0.3, seed=self.seed)
        self._landscape.setup(space)

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        """Yield simulated measurements, each with the assumed seconds of its step."""
        assert self._landscape is not None
        assert self._given is not None
        space, view = self._given
        seconds = self.times.seconds(_macs(space, arch, view))
        for step in range(1, job.max_step + 1):
            made_up = self._landscape.query(arch, "synthetic", step, job.seed)
            accuracy = made_up.values[VAL_ACCURACY.name]
            values = {
                m.name: accuracy if m.direction == "max" else 100 - accuracy for m in self.metrics
            }
            yield Measurement(step, values, seconds)
