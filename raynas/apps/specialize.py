"""Networks for any budget from one search over a supernet.

The best architectures that the run has stored within some bounds are taken out of the supernet
with the weights that they inherit, and exported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from raynas.core import Bound, Objective, Trial, TrialState, UserError, unknown_option, violations
from raynas.core.metrics import LATENCY
from raynas.evaluators.abilities import trained_network, weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.history import equipped, history, reload
from raynas.pipeline.results import BestNetwork, export
from raynas.store import RunFolder
from raynas.store.schema import SEARCH

if TYPE_CHECKING:
    from torch import nn

    from raynas.costs import LatencyMeasurement
    from raynas.training import ExportedNetwork

#: largest number of networks whose latency is measured; the choice ends there
MEASURED = 200

Measure = Callable[[str], float]
"""A function from the text of an architecture to its latency in milliseconds."""


@dataclass(frozen=True)
class SpecializedNetwork:
    """One network within the bounds, with the trial that the search has of it.

    Attributes:
        found: The trial.
        exported: Files of the network.
        latency: Latency of the network itself, measured on this machine; None where there was no
            bound on it.
    """

    found: Trial
    exported: ExportedNetwork
    latency: LatencyMeasurement | None = None


@dataclass(frozen=True)
class SpecializeRequest:
    """A request for networks: the ``top`` best by the run's first objective within ``bounds``.

    Attributes:
        bounds: Bounds on costs and metrics.
        top: Number of networks.
        output: Folder for them; of several, each has a folder of its own in it. None:
            RUN/specialized.
        formats: Formats of the files: safetensors, onnx, torch.
        device: Device on which latency is measured.
    """

    bounds: tuple[Bound, ...] = ()
    top: int = 1
    output: Path | None = None
    formats: tuple[str, ...] = ("safetensors",)
    device: str = "cpu"

    @property
    def timed(self) -> bool:
        """True when there is a bound on latency."""
        return any(bound.metric == LATENCY.name for bound in self.bounds)


def parse_bounds(least: Sequence[str], most: Sequence[str]) -> tuple[Bound, ...]:
    """Parse bounds of the form METRIC=NUMBER.

    Args:
        least: Lower bounds.
        most: Upper bounds.

    Returns:
        One bound per metric.

    Raises:
        UserError: A text has another form.

    Example:
        >>> [b.metric for b in parse_bounds(["params=1e5"], ["params=5e5", "latency_ms=2"])]
        ['params', 'latency_ms']
    """
    limits: dict[str, dict[str, float]] = {}
    for option, texts in (("min", least), ("max", most)):
        for text in texts:
            metric, _, value = text.partition("=")
            try:
                limit = float(value)
            except ValueError:
                limit = math.nan
            if not metric.strip() or not math.isfinite(limit):
                allowed = f"METRIC=NUMBER, as --{option} params=5e5"
                raise UserError(f"--{option} {text}", expected=allowed)
            limits.setdefault(metric.strip(), {})[option] = limit
    return tuple(Bound(metric, **limit) for metric, limit in limits.items())


def specialize(
    path: Path, request: SpecializeRequest, *, trust: bool = False
) -> list[SpecializedNetwork]:
    """Pick, take out, recalibrate, check and export the networks that ``request`` asks for.

    Costs and metrics come from the store. Under a bound on ``latency_ms``, networks of which the
    store has none are timed on this machine, for one image, in the order of the ranking; those
    that are exported are timed in any case. It executes the ``experiment.py`` of the run.

    Args:
        path: The folder of the run.
        request: What is wanted.
        trust: Whether the file is executed also if it belongs to another user.

    Returns:
        The networks, the best first.

    Raises:
        UserError: The run has no inherited weights.
        UserError: No architecture lies within the bounds; the nearest one is named.
        RaynasError: A network does not compute the same as the supernet.
    """
    folder = RunFolder.open(path)
    experiment = equipped(folder, reload(folder, trust=trust).experiment)
    evaluator = next((e for e in experiment.evaluators if weights_version_of(e)), None)
    if evaluator is None:
        raise UserError(
            f"run {folder.place} has no inherited weights to specialize",
            hint=f"take its trained network: raynas export {folder.place}",
        )
    view = experiment.data.search_view(experiment.seed)
    evaluator.setup(experiment.space, view)

    @cache
    def network(text: str) -> nn.Module:
        return _network(evaluator, experiment, text)

    @cache
    def latency(text: str) -> LatencyMeasurement:
        from raynas.costs import measure_latency

        threads = experiment.resources.threads
        return measure_latency(
            network(text), view.input_shape, device=request.device, threads=threads
        )

    ranked = ranking(folder, experiment)
    chosen = pick(ranked, request.bounds, request.top, lambda text: latency(text).median_ms,
                  folder.place)  # fmt: skip
    found = []
    for trial in chosen:
        text = trial.arch.text
        best = BestNetwork(network(text), trial, trial, view, weights_version_of(evaluator))
        to = (request.output or folder.path / "specialized").absolute()
        alone = request.output is not None and request.top == 1
        place = to if alone else to / trial.arch.id
        exported = export(best, folder, place, request.formats)
        found.append(SpecializedNetwork(trial, exported, latency(text) if request.timed else None))
    return found


def _network(evaluator: Evaluator, experiment: Experiment, text: str) -> nn.Module:
    network = trained_network(evaluator, experiment.space.architecture(text), Path())
    if network is None:
        raise UserError(f"{evaluator.name} has no networks", hint="search with Inherited()")
    return network


def ranking(folder: RunFolder, experiment: Experiment) -> list[Trial]:
    """Return all that was evaluated to the end, each architecture once, best first.

    The order is by the first objective that is no cost, and of equals the smallest first.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.

    Returns:
        The trials.
    """
    objective = _quality(experiment)
    arms = [sampler.name for sampler in (experiment.sampler, *experiment.baselines)]
    every = [t for arm in arms for t in history(folder, experiment, SEARCH, arm)[0]]
    known = [t for t in every if t.state is TrialState.COMPLETE and objective.metric in t.values()]
    known.sort(
        key=lambda t: (
            -objective.sign * t.values()[objective.metric],
            t.costs.get("params", math.inf),
            t.number,
        )
    )
    first: dict[str, Trial] = {}
    for trial in known:
        first.setdefault(trial.arch.id, trial)
    return list(first.values())


def _quality(experiment: Experiment) -> Objective:
    measured = {metric.name for metric in experiment.evaluator.metrics} - {LATENCY.name}
    objectives = experiment.objectives
    return next((o for o in objectives if o.metric in measured), objectives[0])


def pick(
    ranked: Sequence[Trial], bounds: Sequence[Bound], top: int, latency: Measure, where: object
) -> list[Trial]:
    """Choose the first ``top`` of ``ranked`` within all bounds.

    Args:
        ranked: Trials, best first.
        bounds: Bounds on costs and metrics.
        top: Number of trials.
        latency: Measures the latency of an architecture in milliseconds where none is stored.
        where: The run as errors name it.

    Returns:
        At least one trial, best first.

    Raises:
        UserError: Nothing was evaluated to the end.
        UserError: A bound is on a metric that no trial has.
        UserError: No trial lies within the bounds; the nearest one is named.
    """
    if not ranked:
        raise UserError(f"run {where} has no completed evaluation", hint=f"raynas resume {where}")
    known = {LATENCY.name, *(name for trial in ranked for name in trial.values())}
    for bound in bounds:
        if bound.metric not in known:
            raise unknown_option("bound on", bound.metric, sorted(known))
    chosen: list[Trial] = []
    seen: list[tuple[float, Trial]] = []
    for trial, worst in _judged(ranked, bounds, latency):
        seen.append((worst, trial))
        if worst <= 0:
            chosen.append(trial)
        if len(chosen) == top:
            break
    if chosen:
        return chosen
    nearest = min(seen, key=lambda pair: pair[0])[1]
    values = _shown(nearest.values(), bounds)
    raise UserError(
        f"no architecture of {where} keeps {', '.join(map(str, bounds))}; of {len(seen):,} the "
        f"nearest is {nearest.arch.text} with {values}",
        hint=f"relax the bounds, or extend the search: raynas resume {where} --trials +N",
    )


def _judged(
    ranked: Sequence[Trial], bounds: Sequence[Bound], latency: Measure
) -> Iterator[tuple[Trial, float]]:
    """Yield each trial with its worst violation of a bound.

    Where only latency could rule a trial out, it is measured, and the trial carries it from then
    on.
    """
    timed = any(bound.metric == LATENCY.name for bound in bounds)
    measured = 0
    for trial in ranked:
        worst = _worst(bounds, trial.values())
        if timed and worst <= 0 and LATENCY.name not in trial.values():
            if measured == MEASURED:
                return
            measured += 1
            trial = replace(trial, costs={**trial.costs, LATENCY.name: latency(trial.arch.text)})
            worst = _worst(bounds, trial.values())
        yield trial, worst


def _worst(bounds: Sequence[Bound], values: Mapping[str, float]) -> float:
    """Return the largest violation over all bounds on what is known; <= 0 within them."""
    return max(violations(bounds, values).values(), default=0.0)


def _shown(values: Mapping[str, float], bounds: Sequence[Bound]) -> str:
    names = [bound.metric for bound in bounds if bound.metric in values]
    return ", ".join(f"{name}={values[name]:g}" for name in names)
