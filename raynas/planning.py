"""What a search will take, before it is paid for: `raynas plan`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raynas.core import (
    Architecture,
    Decision,
    Job,
    Measurement,
    Problem,
    RaynasError,
    Trial,
    UserError,
    commonest_reason,
    rng_for,
    violations,
)
from raynas.core.describe import fresh
from raynas.experiment import Experiment
from raynas.runners.base import pick_device
from raynas.search.context import Payload
from raynas.session import finalists_refused, prepare
from raynas.spaces.guard import ArchitectureError, checked_canonical
from raynas.stored import final_evaluator

#: driver seconds a trial needs, whatever it trains: a worker that has less to do waits
DRIVER_SECONDS = 0.03


@dataclass(frozen=True)
class Spread:
    """Of a cost over the architectures that keep the bounds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True)
class Stage:
    """A part of the run. ``trials``; ``steps`` that they take together; ``hours`` of one device."""

    name: str
    trials: int
    steps: float
    hours: float | None


@dataclass(frozen=True)
class Plan:
    """What is known of an experiment before it runs.

    ``size``: architectures in the space. ``drawn``, ``feasible``: of the sample. ``failed``: of it,
    those for which the space's own code raises, ``reason`` the commonest error of theirs.
    ``costs``: name -> spread over what is feasible (``params``, ``macs``, ``memory_mb`` of a
    training step).
    ``step_seconds``: of the median architecture on ``device``; None without a probe.
    """

    size: int
    drawn: int
    failed: int
    reason: str
    feasible: int
    bounds: tuple[str, ...]
    costs: dict[str, Spread]
    step_seconds: float | None
    device: str
    stages: tuple[Stage, ...]
    concurrent: int | None

    @property
    def hours(self) -> float | None:
        """Of one device, all stages together."""
        known = [stage.hours for stage in self.stages]
        return None if None in known else sum(h for h in known if h is not None)

    @property
    def most_workers(self) -> int | None:
        """Beyond so many workers the driver is the limit: each trial takes some of its time."""
        if self.step_seconds is None or not self.stages:
            return None
        search = self.stages[0]
        trial_seconds = self.step_seconds * search.steps / max(search.trials, 1)
        return max(1, int(trial_seconds / DRIVER_SECONDS))


def plan(experiment: Experiment, *, sample: int = 300, probe: bool = True) -> Plan:
    """Look at ``sample`` random architectures, and time one step of a middling one (``probe``).

    Raises: UserError when the experiment cannot run, or nothing of the sample keeps the bounds.
    """
    if sample < 1:
        raise UserError(f"a sample of {sample} architectures", allowed="1 or more")
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
            f"none of {len(errors)} random architectures has a network: {reason}",
            cure="mend the space's build(), canonical() or costs()",
        )
    keep = [not _beyond(experiment, c) for c in costs]
    if not any(keep):
        raise UserError(
            f"none of {len(drawn)} random architectures keeps "
            f"{', '.join(map(str, experiment.bounds))}",
            cure="loosen the bounds, or ask for a larger --sample",
        )
    kept = [a for a, k in zip(drawn, keep, strict=True) if k]
    found = [c for c, k in zip(costs, keep, strict=True) if k]
    spreads = {n: Spread.of([c[n] for c in found]) for n in ("params", "macs")}
    middle = kept[int(np.argsort([c["macs"] for c in found])[len(found) // 2])]
    memory = _memory(experiment, payload, kept, found)
    if memory is not None:
        spreads["memory_mb"] = memory
    device = pick_device(experiment.resources.gpus)
    seconds = _probe(payload, middle, device, experiment) if probe else None
    return Plan(
        size=payload.space.size,
        drawn=len(drawn) + len(errors),
        failed=len(errors),
        reason=reason,
        feasible=len(kept),
        bounds=tuple(map(str, experiment.bounds)),
        costs=spreads,
        step_seconds=seconds,
        device=device,
        stages=tuple(_stages(experiment, seconds)),
        concurrent=experiment.resources.concurrent,
    )


def _draw(
    experiment: Experiment, payload: Payload, count: int
) -> tuple[list[Architecture], list[str]]:
    """Different ones, in a small space fewer than ``count``, and an error of each that raised."""
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
    payload: Payload,
    kept: list[Architecture],
    costs: list[dict[str, float]],
) -> Spread | None:
    """Megabytes of a training step of the least, middle and most MACs, where something trains."""
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
    return Spread(*(megabytes(kept[int(place)]) for place in places))


def _probe(
    payload: Payload, arch: Architecture, device: str, experiment: Experiment
) -> float | None:
    """Seconds of one step, the second where there are two: the first one warms up."""
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    last = min(2, evaluator.max_step)
    job = Job(0, experiment.seed, last, device=device, threads=experiment.resources.threads)
    began = time.monotonic()
    try:
        measured = list(evaluator.evaluate(arch, job))
    except RaynasError:
        raise
    except Exception as error:
        raise UserError(
            f"a trial of {arch.text} fails: {type(error).__name__}: {error}",
            cure="mend it before the search meets it, or plan with --no-probe",
        ) from error
    took = measured[-1].seconds if measured else 0.0
    return took or (time.monotonic() - began) / max(len(measured), 1)


def _stages(experiment: Experiment, seconds: float | None) -> list[Stage]:
    """The search, what it is compared with, the finalists."""
    trials = experiment.budget.trials
    hours = experiment.budget.hours
    step = experiment.evaluator.max_step
    stages = []
    if trials is not None:
        steps = expected_steps(experiment, trials)
        stages.append(Stage(f"search ({experiment.sampler.name})", trials, steps, None))
    elif seconds:
        per_trial = expected_steps(experiment, 200) / 200
        count = int(3600 * (hours or 0) / (seconds * per_trial))
        stages.append(Stage(f"search ({experiment.sampler.name})", count, count * per_trial, None))
    for other in experiment.against:
        if stages:  # equal worker time, by no scheduler's favour
            stages.append(replace(stages[0], name=f"comparison ({other.name})"))
    finals = experiment.finalists.top * experiment.finalists.seeds
    if finals and not finalists_refused(experiment):
        last = final_evaluator(experiment).max_step
        stages.append(Stage("finalists", finals, finals * (last or step), None))
    if seconds is None:
        return stages
    return [replace(stage, hours=stage.steps * seconds / 3600) for stage in stages]


def expected_steps(experiment: Experiment, trials: int, repeats: int = 5) -> float:
    """Steps that ``trials`` take under the experiment's scheduler when the order of architectures
    shows at the first step already: the mean over random orders."""
    evaluator, total = experiment.evaluator, 0
    for repeat in range(repeats):
        scheduler = fresh(experiment.scheduler)
        scheduler.setup(Problem(experiment.objectives, evaluator.max_step, repeat, "plan"))
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
