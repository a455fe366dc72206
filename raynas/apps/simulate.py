"""This module simulates a search on a cluster of any size, on a virtual clock.

It gives results, times and cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raynas.apps.step_times import AssumedEvaluator
from raynas.core import Objective, UserError
from raynas.core.describe import fresh
from raynas.experiment import Experiment
from raynas.pipeline.searches import build_experiment_search, screening_of
from raynas.runners.simulated import VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster, WorkerUsage
from raynas.search.builder import SearchSetup
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.controller import SearchController

Watch = Callable[[SearchController], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class NewBest:
    """A new best trial of a simulated search.

    Attributes:
        clock_s: Simulated seconds at its end.
        trial: Number of the trial.
        arch: The architecture as text.
        value: Value of the first objective.
    """

    clock_s: float
    trial: int
    arch: str
    value: float


@dataclass(frozen=True)
class SimulatedSearch:
    """One simulated search on one cluster.

    Attributes:
        cluster: The cluster.
        objective: First objective of the search.
        usage: Use of the workers' time.
        best: New best trials, in the order of time.
        ends: (simulated seconds, state) of all trials, in the order of time.
        counts: Counts of the search's trials.
        real_s: Seconds that the simulation took.
        note: Reason why the search ended early; empty when it did not.
        made_up: True when values and architectures have no meaning.
    """

    cluster: SimulatedCluster
    objective: Objective
    usage: WorkerUsage
    best: tuple[NewBest, ...]
    ends: tuple[tuple[float, str], ...]
    counts: Mapping[str, int]
    real_s: float
    note: str
    made_up: bool

    def at(self, clock_s: float) -> tuple[NewBest | None, Counter[str]]:
        """Return the state of the search at one moment.

        Args:
            clock_s: Simulated seconds.

        Returns:
            The best trial so far, None before the first; and state -> number of trials ended so
                far.
        """
        found = [one for one in self.best if one.clock_s <= clock_s]
        ended = Counter(state for when, state in self.ends if when <= clock_s)
        return (found[-1] if found else None), ended


def simulate(
    experiment: Experiment,
    cluster: SimulatedCluster,
    *,
    payload: EvaluationContext,
    hours: float | None = None,
    watch: Watch = lambda _: contextlib.nullcontext(),
) -> SimulatedSearch:
    """Run the experiment's search on ``cluster``, in this process, on a virtual clock.

    Args:
        experiment: The experiment.
        cluster: The simulated workers.
        payload: What is evaluated, of :func:`~raynas.apps.step_times.payload_for`.
        hours: Simulated hours that replace the experiment's budget. As there, no trial is started
            later, and running ones are finished. None keeps the budget.
        watch: Makes a context around the search, such as a live view.

    Returns:
        The simulated search.

    Raises:
        UserError: ``hours`` is not a finite number above 0.
    """
    if hours is not None and not 0 < hours < math.inf:
        raise UserError(f"--hours {hours}", expected="above 0")
    runner = VirtualRunner(cluster, dataclasses.replace(experiment.resources, concurrent=None))
    rows = _Ends(runner.clock, experiment.objectives[0])
    limit = experiment.budget.hours if hours is None else hours
    setup = SearchSetup(
        payload=payload,
        rows=rows,
        stage="simulated",
        arm=experiment.sampler.name,
        objectives=experiment.objectives,
        seed=experiment.seed,
        clock=runner.clock,
    )
    search = build_experiment_search(
        experiment,
        setup,
        sampler=fresh(experiment.sampler),
        limits=SearchLimits(
            trials=experiment.budget.trials if hours is None else None,
            deadline=None if limit is None else 3600 * limit,
        ),
        run=f"simulated/{experiment.sampler.name}",
        screening=(
            screening_of(experiment, payload, runner.evaluate)
            if payload.evaluator.simulated
            else None
        ),
    )
    began = time.monotonic()
    with watch(search):
        runner.run(search)
    return SimulatedSearch(
        cluster=cluster,
        objective=experiment.objectives[0],
        usage=runner.usage(),
        best=tuple(rows.best),
        ends=tuple(rows.ends),
        counts=dict(search.status().counts),
        real_s=time.monotonic() - began,
        note=search.note,
        made_up=isinstance(payload.evaluator, AssumedEvaluator),
    )


class _Ends:
    """A list of rows of which only the ends of trials are kept."""

    def __init__(self, clock: Callable[[], float], objective: Objective) -> None:
        self.clock, self.objective = clock, objective
        self.best: list[NewBest] = []
        self.ends: list[tuple[float, str]] = []

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if row["state"] == "RUNNING":
                continue
            self.ends.append((self.clock(), row["state"]))
            value, sign = row.get(self.objective.metric), self.objective.sign
            if row["state"] != "COMPLETE" or value is None:
                continue
            if not self.best or sign * value > sign * self.best[-1].value:
                self.best.append(NewBest(self.clock(), row["trial"], row["arch"], value))


def worker_counts(text: str) -> tuple[int, ...]:
    """Parse the numbers of workers.

    Args:
        text: Numbers separated by commas.

    Returns:
        The numbers.

    Raises:
        UserError: A part is not a whole number from 1.

    Example:
        >>> worker_counts("1,10,100")
        (1, 10, 100)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise UserError(f"--workers {text}", expected="a number from 1, or several: 1,10,100")
    return tuple(int(part) for part in parts)
