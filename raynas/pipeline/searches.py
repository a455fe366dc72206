"""This module builds the search of an experiment, for runs and simulations alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, overload

from raynas.core import Architecture, Job, Trial
from raynas.core.describe import fresh
from raynas.experiment import Experiment
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.search.builder import SearchSetup, build_ordered_search, build_search
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.search.screening import ProposalScreening, ScoredOutcome

Evaluate = Callable[
    [EvaluationContext, Sequence[tuple[Architecture, Job]]], Sequence[Sequence[ScoredOutcome]]
]


@overload
def build_experiment_search(
    experiment: Experiment,
    setup: SearchSetup,
    *,
    sampler: Sampler,
    limits: SearchLimits,
    run: str,
    screening: ProposalScreening | None,
) -> SearchController: ...


@overload
def build_experiment_search(
    experiment: Experiment,
    setup: SearchSetup,
    *,
    sampler: Sampler,
    limits: SearchLimits,
    run: str,
    screening: ProposalScreening | None,
    lanes: int | None,
) -> SearchController | DeterministicOrder: ...


def build_experiment_search(
    experiment: Experiment,
    setup: SearchSetup,
    *,
    sampler: Sampler,
    limits: SearchLimits,
    run: str,
    screening: ProposalScreening | None,
    lanes: int | None = None,
) -> SearchController | DeterministicOrder:
    """Build the search of an experiment with one of its samplers.

    Args:
        experiment: The experiment, whose scheduler and bounds the search has.
        setup: Settings that it shares with other searches of the run.
        sampler: Proposes architectures.
        limits: Limits after which nothing new is admitted.
        run: The run's id, for samplers that keep data elsewhere.
        screening: Scores proposals before they are evaluated; None for no screening.
        lanes: Number of logical workers of a search in its deterministic order; None for a search
            in the order in which results arrive.

    Returns:
        The controller of the search, in its deterministic order if ``lanes`` are given.
    """
    parts: dict[str, Any] = {
        "sampler": sampler,
        "fallback": Random(),
        "scheduler": fresh(experiment.scheduler),
        "limits": limits,
        "run": run,
        "bounds": experiment.bounds,
        "screening": screening,
    }
    if lanes:
        return build_ordered_search(setup, lanes=lanes, **parts)
    return build_search(setup, **parts)


def screening_of(
    experiment: Experiment,
    payload: EvaluationContext,
    evaluate: Evaluate,
    past: Sequence[Trial] = (),
) -> ProposalScreening | None:
    """Return the screening of an experiment, if it has one.

    Args:
        experiment: The experiment.
        payload: The space and the data view.
        evaluate: Evaluates architectures beside what runs, as
            :meth:`~raynas.runners.base.Runner.evaluate`.
        past: Trials of the search so far.

    Returns:
        The screening; its bounds are those on metrics that only the screen measures.
    """
    screen = experiment.screen
    if screen is None:
        return None
    own = dataclasses.replace(payload, evaluator=fresh(screen.evaluator))
    early = set(screen.names) - {metric.name for metric in experiment.evaluator.metrics}
    bounds = tuple(bound for bound in experiment.bounds if bound.metric in early)
    return ProposalScreening(screen, partial(evaluate, own), past, bounds)
