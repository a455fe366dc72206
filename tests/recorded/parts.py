"""All classes and functions of raynas that the recorded runs use, imported in one place.

The names of settings stand in the experiments, as in files of users.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toys import Curves, Quick, ToyData, ToySpace

from raynas.apps.simulate import simulate
from raynas.apps.step_times import payload_for
from raynas.benchmarks.synthetic import Synthetic
from raynas.core import Bound, Ensemble, Objective
from raynas.data import Digits
from raynas.evaluators import (
    FineTune,
    FunctionEvaluator,
    Inherited,
    Retrain,
    Screen,
    Tabular,
    TrainSupernet,
    ZeroShot,
)
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck, load
from raynas.proxies import NASWOT, SynFlow
from raynas.runners.base import Resources
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers import (
    BOHB,
    TPE,
    Guided,
    LocalSearch,
    Random,
    RegularizedEvolution,
)
from raynas.schedulers import ASHA, PASHA, Hyperband, PromotionASHA
from raynas.spaces import NASBench201
from raynas.supernet import SinglePath
from raynas.supernet.evaluation.race import Race
from raynas.training import Recipe

COMMAND_LINE = "raynas.cli"
"""The module that is the command line."""

__all__ = [
    "ASHA", "BOHB", "Bound", "Budget", "COMMAND_LINE", "Curves", "Digits",
    "Ensemble", "Experiment", "FineTune", "Finalists",
    "FunctionEvaluator", "Guided", "Hyperband", "Inherited", "LocalSearch",
    "NASBench201", "NASWOT", "Objective", "PASHA", "PromotionASHA", "Quick", "Race", "RankingCheck",
    "Random", "Recipe", "RegularizedEvolution", "Resources", "Retrain", "Screen", "SinglePath",
    "SynFlow", "Synthetic", "TPE", "Tabular", "ToyData", "ToySpace", "TrainSupernet",
    "ZeroShot", "simulated_rows",
]  # fmt: skip


def simulated_rows(file: Path, **cluster: Any) -> list[dict[str, Any]]:
    """Simulate the search of an experiment file.

    Args:
        file: With ``experiment()``.
        cluster: Settings of the simulated machines.

    Returns:
        Every measurement of every trial, then every end of a trial and every new best one with
        the simulated time, then where the workers' time went.
    """
    experiment = load(file).experiment
    payload, _ = payload_for(experiment)
    searches: list[Any] = []

    @contextlib.contextmanager
    def watch(search: Any) -> Iterator[None]:
        searches.append(search)
        yield

    found = simulate(experiment, SimulatedCluster(**cluster), payload=payload, watch=watch)
    rows: list[dict[str, Any]] = []
    for number, trial in sorted(searches[0].trials.items()):
        about = {"trial": number, "arch": trial.arch.text, "seed": trial.seed}
        ended = {**about, "state": trial.state.value, "message": trial.message}
        rows += [
            {**about, "step": m.step, "seconds": m.seconds, **m.values} for m in trial.measurements
        ]
        rows.append({**ended, "attempt": trial.attempt, **trial.costs})
    rows += [{"what": "end", "clock_s": when, "state": state} for when, state in found.ends]
    rows += [
        {"what": "best", "clock_s": b.clock_s, "trial": b.trial, "arch": b.arch, "value": b.value}
        for b in found.best
    ]
    return [*rows, {"what": "usage", **vars(found.usage)}]
