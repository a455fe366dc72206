"""This module counts the costs of proposed architectures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

from raynas.core import Costs, Trial
from raynas.search.context import EvaluationContext, one_line
from raynas.spaces.guard import ArchitectureError

_COSTS = frozenset(cost.name for cost in fields(Costs))


def count_costs(trial: Trial, payload: EvaluationContext, needed: Collection[str]) -> None:
    """Give the trial its costs, or its failure where the space's own code raises.

    Args:
        trial: A trial without costs, which is changed.
        payload: Has the space. Where its evaluator needs no network, an architecture whose costs
            cannot be counted is evaluated without costs.
        needed: Metrics of objectives and bounds. If a cost is among them, it must be known.
    """
    try:
        trial.costs = payload.costs(trial.arch)
    except ArchitectureError as error:
        if payload.evaluator.needs_network or error.infeasible or _COSTS & set(needed):
            refuse(trial, error)


def refuse(trial: Trial, error: ArchitectureError) -> None:
    """Give the trial its failure, so that it ends as soon as it begins.

    Args:
        trial: The trial, which is changed.
        error: The error of the space's own code.
    """
    trial.failure, trial.infeasible = one_line(str(error)), error.infeasible
