"""Estimates of what a search costs before it runs, for `raynas plan`."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raynas.core import (
    Architecture,
    Decision,
    Job,
    Measurement,
    RaynasError,
    SearchProblem,
    Trial,
    UserError,
    commonest_reason,
    rng_for,
    violations,
)
from raynas.core.describe import describe, fingerprint, fresh
from raynas.evaluators.abilities import bound_to
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.checks import prepare
from raynas.pipeline.finalists import finalists_refused
from raynas.pipeline.history import final_evaluator
from raynas.runners.base import pick_device
from raynas.search.context import EvaluationContext
from raynas.spaces.guard import ArchitectureError, checked_canonical

#: seconds of the driver that each trial needs; workers with shorter trials wait for it
DRIVER_SECONDS = 0.03

_SEARCH = "search ("


@dataclass(frozen=True)
class CostRange:
    """The spread of a cost over the architectures that keep the bounds.

    Attributes:
        least: Smallest cost.
        median: Median cost.
        most: Largest cost.
    """

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> CostRange:
        """Compute the spread of some costs.

        Args:
            values: One cost per architecture, at least one.

        Example:
            >>> CostRange.of([1.0, 5.0, 2.0])
            CostRange(least=1.0, median=2.0, most=5.0)
        """
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True)
class PlannedStage:
    """A part of the run.

    Attributes:
        name: Name of the part.
        trials: Number of its trials.
        steps: Number of steps that they take together.
        hours: Hours of one device; None where they are not known.
    """

    name: str
    trials: int
    steps: float
    hours: float | None


@dataclass(frozen=True)
class ExperimentPlan:
    """The estimates for an experiment before it runs.

    Attributes:
        size: Number of architectures in the space.
        drawn: Number of architectures in the sample.
        failed: Number of those for which the space's own code raises.
        reason: Their most frequent error.
        feasible: Number of those that keep the bounds.
        bounds: The bounds as texts.
        costs: Name -> spread over what is feasible (``params``, ``macs``, ``memory_mb`` of a
            training step).
        step_seconds: Seconds of a step of the median architecture on ``device``; None without a
            probe.
        device: Device on which steps are timed.
        stages: Parts of the run, in its order.
        concurrent: Number of trials at the same time; None where the machine decides.
    """

    size: int
    drawn: int
    failed: int
    reason: str
    feasible: int
    bounds: tuple[str, ...]
    costs: dict[str, CostRange]
    step_seconds: float | None
    device: str
    stages: tuple[PlannedStage, ...]
    concurrent: int | None

    @property
    def hours(self) -> float | None:
        """The hours of one device for all stages together.

        Returns:
            Hours; None where those of a stage are not known.
        """
        known = [stage.hours for stage in self.stages]
        return None if None in known else sum(h for h in known if h is not None)

    @property
    def most_workers(self) -> int | None:
        """The number of workers beyond which the driver is the limit.

        Each trial takes ``DRIVER_SECONDS`` of its time.

        Returns:
            The number; None where the time of a step is not known.
        """
        if self.step_seconds is None or not self.stages:
            return None
        search = next((s for s in self.stages if s.name.startswith(_SEARCH)), None)
        if search is None:
            return None
        trial_seconds = self.step_seconds * search.steps / max(search.trials, 1)
        return max(1, int(trial_seconds / DRIVER_SECONDS))


def plan(experiment: Experiment, *, sample: int = 300, probe: bool = True) -> ExperimentPlan:
    """Look at random architectures, and time a step of each kind of evaluation for the median one.

    Args:
        experiment: What is to be run.
        sample: How many architectures are drawn.
        probe: Whether steps are timed. A supernet that is still to be trained is trained for up
            to two epochs then; evaluations that use its weights are timed with those.

    Returns:
        The estimates.

    Raises:
        UserError: The sample is smaller than 1.
        UserError: The experiment cannot run.
        UserError: No architecture of the sample has a network, or keeps the bounds.
        UserError: The evaluation that is timed fails.
    """
    if sample < 1:
        raise UserError(f"a sample of {sample} architectures", expected="1 or more")
    payload = prepare(experiment)
    all_drawn, errors = _draw(experiment, payload, sample)
    costs, drawn = list[dict[str, float]](), list[Architecture]()
    for arch in all_drawn:
        try:
            costs.append(payload.costs(arch))
            drawn.append(arch)
        except ArchitectureError as error:
            errors.append(str(error))
    reason, _ = commonest_reason(errors)
    if not drawn:
        raise UserError(
            f"none of {len(errors)} random architectures can be built: {reason}",
            hint="fix the space's build(), canonical() or costs()",
        )
    keep = [not _beyond(experiment, c) for c in costs]
    if not any(keep):
        raise UserError(
            f"none of {len(drawn)} random architectures satisfies "
            f"{', '.join(map(str, experiment.bounds))}",
            hint="relax the bounds, or ask for a larger --sample",
        )
    kept = [a for a, k in zip(drawn, keep, strict=True) if k]
    found = [c for c, k in zip(costs, keep, strict=True) if k]
    spreads = {n: CostRange.of([c[n] for c in found]) for n in ("params", "macs")}
    middle = kept[int(np.argsort([c["macs"] for c in found])[len(found) // 2])]
    memory = _memory(experiment, payload, kept, found)
    if memory is not None:
        spreads["memory_mb"] = memory
    device = pick_device(experiment.resources.gpus)
    with tempfile.TemporaryDirectory() as folder:
        times = _StepTimes(experiment, payload, middle, device, Path(folder) if probe else None)
        stages = tuple(_stages(experiment, times))
        seconds = times.of(experiment.evaluator)
    return ExperimentPlan(
        size=payload.space.size,
        drawn=len(drawn) + len(errors),
        failed=len(errors),
        reason=reason,
        feasible=len(kept),
        bounds=tuple(map(str, experiment.bounds)),
        costs=spreads,
        step_seconds=seconds,
        device=device,
        stages=stages,
        concurrent=experiment.resources.concurrent,
    )


def _draw(
    experiment: Experiment, payload: EvaluationContext, count: int
) -> tuple[list[Architecture], list[str]]:
    """Draw ``count`` architectures; return the different ones, and an error of each that raised."""
    rng = rng_for(experiment.seed, "plan")
    found, errors = dict[str, Architecture](), dict[str, str]()
    for _ in range(count):
        drawn = payload.space.sample(rng)
        try:
            arch = checked_canonical(payload.space, drawn)
            found[arch.id] = arch
        except ArchitectureError as error:
            errors[drawn.id] = str(error)
    return list(found.values()), list(errors.values())


def _beyond(experiment: Experiment, costs: Mapping[str, float]) -> bool:
    return any(v > 0 for v in violations(experiment.bounds, costs).values())


def _memory(
    experiment: Experiment,
    payload: EvaluationContext,
    kept: list[Architecture],
    costs: list[dict[str, float]],
) -> CostRange | None:
    """Return megabytes of a training step at the least, middle and most MACs; else None."""
    recipe = getattr(experiment.evaluator, "recipe", None)
    batch = getattr(recipe, "batch_size", None)
    if batch is None:
        return None
    from raynas.costs import training_memory

    order = np.argsort([c["macs"] for c in costs], kind="stable")
    view = payload.view

    def megabytes(arch: Architecture) -> float:
        def build() -> object:
            return payload.space.build(arch, view.input_shape, view.num_classes)

        return training_memory(build, view.input_shape).at(batch) / 1e6  # type: ignore[arg-type]

    places = (order[0], order[len(order) // 2], order[-1])
    return CostRange(*(megabytes(kept[int(place)]) for place in places))


class _StepTimes:
    """Seconds of one step of each evaluator of an experiment, each measured once."""

    def __init__(
        self,
        experiment: Experiment,
        payload: EvaluationContext,
        arch: Architecture,
        device: str,
        folder: Path | None,
    ) -> None:
        """Remember what is to be timed.

        Args:
            experiment: Whose evaluators are timed.
            payload: Its space and data.
            arch: What is evaluated.
            device: On which it is.
            folder: For the weights of a supernet; None times nothing.
        """
        self._experiment, self._payload, self._arch = experiment, payload, arch
        self._device, self._folder = device, folder
        self._known: dict[str, float | None] = {}

    def of(self, evaluator: Evaluator) -> float | None:
        """Return the seconds of a step; None where nothing is timed."""
        if self._folder is None:
            return None
        key = fingerprint(describe(evaluator))
        if key not in self._known:
            self._known[key] = self._measured(evaluator)
        return self._known[key]

    def _measured(self, evaluator: Evaluator) -> float | None:
        needed, folder = self._experiment.needs(), self._folder
        assert folder is not None
        if needed is None or evaluator == needed:
            return self._probed(evaluator, folder if evaluator == needed else None)
        self.of(needed)
        return self._probed(bound_to(evaluator, folder / "weights"), None)

    def _probed(self, evaluator: Evaluator, workdir: Path | None) -> float | None:
        payload = replace(self._payload, evaluator=evaluator)
        return _probe(payload, self._arch, self._device, self._experiment, workdir)


def _probe(
    payload: EvaluationContext,
    arch: Architecture,
    device: str,
    experiment: Experiment,
    workdir: Path | None = None,
) -> float | None:
    """Return the seconds of one step, the second where there are two: the first one warms up."""
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    last = min(2, evaluator.max_step)
    threads = experiment.resources.threads
    job = Job(0, experiment.seed, last, workdir=workdir, device=device, threads=threads)
    began = time.monotonic()
    try:
        measured = list(evaluator.evaluate(arch, job))
    except RaynasError:
        raise
    except Exception as error:
        raise UserError(
            f"a trial of {arch.text} fails: {type(error).__name__}: {error}",
            hint="fix the error, or plan with --no-probe",
        ) from error
    took = measured[-1].seconds if measured else 0.0
    return took or (time.monotonic() - began) / max(len(measured), 1)


def _stages(experiment: Experiment, times: _StepTimes) -> list[PlannedStage]:
    """Return the parts of a run, in its order.

    They are the supernet, the search and its comparisons, the trained networks that judge the
    ranking, and the finalists.
    """
    finalists, needed = experiment.finalists, experiment.needs()
    stages = [] if needed is None else [_stage("supernet", needed, 1, times)]
    search = _search_stages(experiment, times)
    stages += search
    stages += [_comparison(other.name, search, times.of(experiment.evaluator)) for other in (
        experiment.baselines if search else ())]  # fmt: skip
    if experiment.ranking_check is not None:
        searched = sum(s.trials for s in stages if s.name.startswith((_SEARCH, "comparison (")))
        count = min(experiment.ranking_check.count, searched or experiment.ranking_check.count)
        trained = count * experiment.ranking_check.seeds
        stages.append(_stage("truth", experiment.ranking_check.evaluator, trained, times))
    finals = finalists.top * finalists.seeds
    if finals and not finalists_refused(experiment):
        last = _stage("finalists", final_evaluator(experiment), finals, times)
        stages.append(replace(last, name="finalists"))
        if finalists.inherited is not None:
            stages.append(_stage("finalists, inherited", finalists.inherited, finals, times))
    return stages


def _stage(name: str, evaluator: Evaluator, trials: int, times: _StepTimes) -> PlannedStage:
    """Return the stage of ``trials`` whole evaluations."""
    seconds, steps = times.of(evaluator), trials * evaluator.max_step
    hours = None if seconds is None else steps * seconds / 3600
    return PlannedStage(f"{name} ({evaluator.name})", trials, steps, hours)


def _search_stages(experiment: Experiment, times: _StepTimes) -> list[PlannedStage]:
    """Return the stages of screening, if there is one, and search.

    Neither is returned where it is not known how many trials fit into the hours.
    """
    evaluator, screen, trials = experiment.evaluator, experiment.screen, experiment.budget.trials
    seconds = times.of(evaluator)
    looks = 1 / screen.keep if screen else 0.0  # of a trial that is evaluated
    look_seconds = times.of(screen.evaluator) if screen else 0.0
    hours, each = experiment.budget.hours, None
    if trials is None and hours is not None and seconds and look_seconds is not None:
        each = expected_steps(experiment, 200) / 200
        trials = int(3600 * hours / (seconds * each + look_seconds * looks))
    if trials is None:
        return []
    steps = expected_steps(experiment, trials) if each is None else trials * each
    taken = None if seconds is None else steps * seconds / 3600
    search = PlannedStage(f"{_SEARCH}{experiment.sampler.name})", trials, steps, taken)
    if screen is None:
        return [search]
    return [_stage("screening", screen.evaluator, math.ceil(trials * looks), times), search]


def _comparison(name: str, search: Sequence[PlannedStage], seconds: float | None) -> PlannedStage:
    """Return the stage of a compared method, which gets the same worker time.

    The time of screening goes into its steps, too, and no scheduler stops its trials.
    """
    last = search[-1]
    if not seconds or last.hours is None:
        return replace(last, name=f"comparison ({name})")
    hours = sum(stage.hours or 0.0 for stage in search)
    steps = hours * 3600 / seconds
    trials = math.floor(last.trials * steps / last.steps + 1e-9) if last.steps else last.trials
    return PlannedStage(f"comparison ({name})", trials, steps, hours)


def expected_steps(experiment: Experiment, trials: int, repeats: int = 5) -> float:
    """Compute the expected number of steps that some trials take under the experiment's scheduler.

    It is assumed that the order of architectures shows at the first step already; the result is the
    mean over random orders.

    Args:
        experiment: The experiment.
        trials: Number of trials.
        repeats: Number of random orders.

    Returns:
        Steps of all trials together.
    """
    evaluator, total = experiment.evaluator, 0
    for repeat in range(repeats):
        scheduler = fresh(experiment.scheduler)
        scheduler.setup(SearchProblem(experiment.objectives, evaluator.max_step, repeat, "plan"))
        rng = rng_for(experiment.seed, "plan", repeat)
        arch = Architecture("plan", (), "plan")
        for number in range(trials):
            worth = {o.metric: float(rng.uniform()) for o in experiment.objectives}
            trial = Trial(number, arch, arch)
            for step in range(1, evaluator.max_step + 1):
                trial.measurements.append(Measurement(step, worth))
                total += 1
                if step < evaluator.max_step and scheduler.decide(trial) is Decision.STOP:
                    break
    return total / repeats
