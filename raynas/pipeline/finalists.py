"""This module chooses architectures to train after a search, and what their training measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from raynas.core import Architecture, Metric, Objective, Trial, TrialState
from raynas.core.metrics import on_test
from raynas.evaluators.abilities import final_metrics_of, no_test_reason_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.history import final_evaluator


def _on_test(objective: Objective) -> Objective:
    """Return the objective with its metric as the finalists' training measures it."""
    return dataclasses.replace(objective, metric=on_test(objective.metric))


def final_objectives(sought: tuple[Objective, ...], evaluator: Evaluator) -> tuple[Objective, ...]:
    """Return the objectives that a finalist's training must measure.

    They are those of the search. If the search used scores of untrained networks, which no training
    measures, it is the first of the training's own metrics.

    Args:
        sought: The objectives of the search.
        evaluator: Trains the finalists.

    Returns:
        At least one objective.
    """
    on_test = [_on_test(objective) for objective in sought]
    known = {metric.name for metric in final_metrics_of(evaluator)}
    measured = [o for o in on_test if o.metric in known or o not in sought]
    first = final_metrics_of(evaluator)[0]
    return tuple(measured) or (_on_test(Objective(first.name, first.direction)),)


def finalists_refused(experiment: Experiment) -> str:
    """Return why no finalists are trained although some are asked for.

    Their evaluator may be unable to measure on the test data; then every one of them would fail,
    after the search was paid for.

    Args:
        experiment: The experiment.

    Returns:
        A remark for the user; empty if finalists are trained, or none are asked for.
    """
    if not experiment.finalists.top:
        return ""
    evaluator = final_evaluator(experiment)
    measured = {metric.name for metric in final_metrics_of(evaluator)}
    sought = final_objectives(experiment.objectives, evaluator)
    missing = [o.metric for o in sought if o.metric not in measured]
    reason = no_test_reason_of(evaluator)
    if not reason and missing:
        reason = f"evaluator {evaluator.name!r} does not measure {', '.join(missing)}"
    if not reason:
        return ""
    return (
        f"no finalists will be trained: {reason}; or give finalists.evaluator one that does, or "
        "set finalists.top=0"
    )


def trained_objectives(
    sought: tuple[Objective, ...], metrics: tuple[Metric, ...]
) -> tuple[Objective, ...]:
    """Return the objectives that a training measures; if there are none, its own first metric.

    Args:
        sought: The objectives of the search.
        metrics: The metrics of the training.

    Returns:
        At least one objective.
    """
    known = {metric.name for metric in metrics}
    measured = tuple(o for o in sought if o.metric in known)
    return measured or (Objective(metrics[0].name, metrics[0].direction),)


def ranking(searched: list[Trial], objective: Objective) -> list[Architecture]:
    """Return the architectures of complete trials, each once, the best first.

    Args:
        searched: Trials of searches.
        objective: The objective that ranks them.

    Returns:
        The architectures; of equals the one of the lower number first.
    """
    complete = [t for t in searched if t.state is TrialState.COMPLETE]
    complete.sort(key=lambda t: (-objective.sign * t.values()[objective.metric], t.number))
    return list({t.arch.id: t.arch for t in complete}.values())


def spread(ranked: Sequence[Architecture], count: int) -> list[Architecture]:
    """Choose architectures at equal distances in a ranking, the first and the last among them.

    Args:
        ranked: The ranking.
        count: The number of architectures to choose; all if there are fewer.

    Returns:
        The chosen ones, in their order.

    Example:
        >>> spread("abcdefghi", 3)
        ['a', 'e', 'i']
    """
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]
