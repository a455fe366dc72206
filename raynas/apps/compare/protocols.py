"""The protocols of the comparison, one function each, with the results that are kept of a run.

``trainings``   up to 200 full trainings: the test accuracy of the best by validation, as they grow
``bounded``     the same where the EdgeGPU latency must not exceed its median
``pareto``      accuracy and EdgeGPU latency: hypervolume of what was found
``published``   12,000 simulated seconds with the 12-epoch setting on CIFAR-10, as in the paper of
                the benchmark
``cluster``     simulated workers until the best architecture is within 0.2 points of the optimum

Searches see validation accuracies; the benchmark is asked for test accuracies afterwards. For a
table without test accuracies the first two protocols show the validation accuracy of what was
found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raynas.apps.compare.methods import CLUSTER_STEP, PUBLISHED, SAMPLERS, SCHEDULERS
from raynas.apps.compare.published import SECONDS, published
from raynas.apps.compare.table_values import (
    LATENCY,
    TEST,
    accuracies,
    cells,
    judged_by,
    reference,
    table,
    whole_volume,
)
from raynas.apps.compare.tasks import ComparisonTask, Result
from raynas.benchmarks import NoImages
from raynas.core import (
    Bound,
    Objective,
    TrialState,
    UserError,
)
from raynas.core.describe import describe, fingerprint
from raynas.core.metrics import VAL_ACCURACY
from raynas.core.pareto import hypervolume
from raynas.evaluators import Tabular
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import TimedRows, VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers import NoStopping, Scheduler
from raynas.search.builder import SearchSetup, build_search
from raynas.search.context import EvaluationContext, RowSink, SearchLimits
from raynas.search.job_source import JobSource
from raynas.spaces import NASBench201

TRAININGS = 200
AT = (25, 50, 100, 200)
"""The numbers of trainings after which searches are judged."""
WORKERS = (1, 10, 100, 500)
WITHIN = 0.2
"""The distance from the optimum, in percent, at which a search on a cluster ends."""


def lacking(protocol: str, dataset: str, path: str | None) -> tuple[str, ...]:
    """Return what the protocol asks of the table and the table does not have.

    The published protocol is compared with published test accuracies, so it needs some.

    Args:
        protocol: Name of a protocol.
        dataset: Name of a data set.
        path: The file of the table; None for the usual places.

    Returns:
        Names of what is missing, in words; empty where the table has everything.
    """
    known = table(path)
    lengths = {"published": (12,), "cluster": (CLUSTER_STEP, 200)}.get(protocol, (200,))
    lacks = [
        f"accuracies after {n} epochs" for n in lengths if not known.records(dataset, "valid", n)
    ]
    if protocol == "published" and not known.has_test(dataset):
        lacks.append("test accuracies")
    if protocol in ("bounded", "pareto") and np.isnan(cells(path, dataset)["latency"]).all():
        lacks.append(LATENCY)
    return tuple(lacks)


def check(protocol: str, dataset: str, path: str | None) -> None:
    """Check that the table has what the protocol asks of it.

    Args:
        protocol: Name of a protocol.
        dataset: Name of a data set.
        path: The file of the table; None for the usual places.

    Raises:
        UserError: The table lacks some of it.
    """
    if lacks := lacking(protocol, dataset, path):
        raise UserError(
            f"the table has no {' and no '.join(lacks)} of {dataset}, which {protocol!r} needs",
            hint="take the table that `raynas bench convert` makes, or leave that protocol out",
        )


def answer(task: ComparisonTask, path: str | None) -> Result:
    """Carry out one run of a method.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        Its result, with ``took``: the processor seconds here, after tables were read.
    """
    cells(path, task.dataset)
    for lengths in ((12,), (CLUSTER_STEP, 200)):
        table(path, lengths)
    began = time.process_time()
    result = _PROTOCOLS[task.protocol](task, path)
    return {**result, "took": time.process_time() - began}


def settings(protocol: str, method: str, judged: str = TEST) -> str:
    """Return a fingerprint of the method's settings in the protocol.

    Results with other settings do not count, nor do those that were judged by another accuracy.

    Args:
        protocol: Name of a protocol.
        method: Name of a sampler or scheduler.
        judged: The accuracy that judges results.

    Returns:
        The fingerprint.
    """
    if protocol == "published":
        return fingerprint([describe(PUBLISHED[method]()), SECONDS])
    if protocol == "cluster":
        return fingerprint([describe(SCHEDULERS[method]()), WITHIN])
    kind = [judged] if judged != TEST and protocol in _SHOW_ACCURACY else []
    return fingerprint([describe(SAMPLERS[method]()), TRAININGS, *kind])


# -- searches of full trainings ----------------------------------------------------------------


class _Ends:
    """The trials in the order of their ends, with the seconds spent until then."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []  # state, architecture, seconds so far
        self.spent = 0.0

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self.spent += row["seconds"]
            if row["state"] != TrialState.RUNNING:
                self.rows.append((row["state"], row["arch"], self.spent))


def _setup(
    task: ComparisonTask,
    evaluator: Tabular,
    rows: RowSink,
    objectives: tuple[Objective, ...] = (Objective(),),
    clock: Callable[[], float] = time.monotonic,
) -> SearchSetup:
    return SearchSetup(
        payload=EvaluationContext(NASBench201(), evaluator, NoImages().search_view(0)),
        rows=rows,
        stage="search",
        arm=task.method,
        objectives=objectives,
        seed=task.seed,
        clock=clock,
    )


def _searched(
    sampler: Sampler, task: ComparisonTask, path: str | None, **more: Any
) -> list[tuple[str, str, float]]:
    costs = more.pop("costs", ())
    rows = _Ends()
    evaluator = Tabular(table(path), dataset=task.dataset, costs=costs)
    objectives = more.pop("objectives", (Objective(),))
    work = build_search(
        _setup(task, evaluator, rows, objectives),
        sampler=sampler,
        fallback=Random(),
        scheduler=NoStopping(),
        limits=SearchLimits(trials=TRAININGS),
        run=f"bench/{task.seed}",
        **more,
    )
    LocalRunner().run(work)
    return rows.rows


def _steps(
    rows: Sequence[tuple[str, str, float]],
    task: ComparisonTask,
    path: str | None,
    limit: float = math.inf,
) -> Result:
    """Return the result of a search of full trainings.

    ``best``: (number of trainings, validation, test) whenever the best by validation changes;
    ``top``: the highest test accuracy of all cells with a latency up to ``limit``. Where the table
    has no test accuracies, validation accuracies take their place, and ``judged`` says so.
    """
    known, judged = cells(path, task.dataset), judged_by(path, task.dataset)
    top = float(known["judged"][~(known["latency"] > limit)].max())
    best: list[tuple[int, float, float]] = []
    for number, (state, arch, _) in enumerate(rows, start=1):
        if state != TrialState.COMPLETE:
            continue
        val, test = accuracies(arch, task.dataset, path)
        if not best or val > best[-1][1]:
            best.append((number, val, test))
    spent = rows[-1][2] if rows else 0.0
    found: Result = {"best": best, "top": top, "trainings": len(rows), "seconds": spent}
    return found if judged == TEST else {**found, "judged": judged}


def trainings(task: ComparisonTask, path: str | None) -> Result:
    """Carry out a search of up to ``TRAININGS`` full trainings.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        ``best``: (number of trainings, validation, test accuracy) whenever the best changes;
            ``top``:
        the optimum; ``trainings``: their number; ``seconds``: simulated seconds.
    """
    return _steps(_searched(SAMPLERS[task.method](), task, path), task, path)


def bounded(task: ComparisonTask, path: str | None) -> Result:
    """Carry out a search with a bound on latency: the median of all cells.

    A cell above the bound is recognised only after its training, so it counts as a training.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        The same as for :func:`trainings`, with ``limit``: the bound in milliseconds.
    """
    limit = float(np.nanmedian(cells(path, task.dataset)["latency"]))
    bounds = (Bound(LATENCY, max=limit),)
    rows = _searched(SAMPLERS[task.method](), task, path, costs=(LATENCY,), bounds=bounds)
    return _steps(rows, task, path, limit) | {"limit": limit}


def pareto(task: ComparisonTask, path: str | None) -> Result:
    """Carry out a search for accuracy and latency.

    A cell of which the table has no latency counts as a training and adds no volume.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        ``volume``: hypervolume (validation) of the first ``AT`` trainings in percent of the
            table's;
        ``trainings``: their number; ``seconds``: simulated seconds.
    """
    objectives = (Objective(), Objective(LATENCY, "min"))
    rows = _searched(SAMPLERS[task.method](), task, path, costs=(LATENCY,), objectives=objectives)
    known, space = table(path), NASBench201()
    points = np.full((len(rows), 2), np.nan)  # one a training; NaN where there is no latency
    for number, (_, arch, _) in enumerate(rows):
        latency = known.cost(space.architecture(arch), task.dataset, LATENCY)
        if latency is not None:
            points[number] = accuracies(arch, task.dataset, path)[0], -latency
    zero, whole = np.array(reference(path, task.dataset)), whole_volume(path, task.dataset)
    there = ~np.isnan(points).any(axis=1)
    shares = [100 * hypervolume(points[:n][there[:n]], zero) / whole for n in AT]
    return {"volume": shares, "trainings": len(rows), "seconds": rows[-1][2]}


# -- simulated clusters ------------------------------------------------------------------------


class _UntilGood:
    """Rows that end the search with the first complete trial that is good enough."""

    def __init__(self, runner: VirtualRunner, goal: float) -> None:
        self.rows = TimedRows(runner)
        self.goal, self.hit = goal, math.nan
        self.work: JobSource | None = None

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows.append(rows)
        for row in self.rows[len(self.rows) - len(rows) :]:
            good = row.get(VAL_ACCURACY.name, -math.inf) >= self.goal
            if good and row["state"] == TrialState.COMPLETE and math.isnan(self.hit):
                self.hit = row["clock_s"]
                assert self.work is not None
                self.work.interrupt()


def cluster(task: ComparisonTask, path: str | None) -> Result:
    """Carry out a search on simulated workers, with random proposals.

    Trainings have 12 epochs, then, from scratch, 200.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        ``hours``: simulated hours until a trained cell is within ``WITHIN`` points of the optimum
            by
        validation accuracy, None where that never happens; ``trials``: their number;
        ``worker_hours``: useful hours of the workers; ``utilisation``: a share from 0 to 1.
    """
    scheduler: Scheduler = SCHEDULERS[task.method]()
    both = table(path, (CLUSTER_STEP, 200))
    goal = float(cells(path, task.dataset)["val"].max()) - WITHIN
    runner = VirtualRunner(SimulatedCluster(task.workers))
    rows = _UntilGood(runner, goal)
    search = build_search(
        _setup(task, Tabular(both, dataset=task.dataset), rows, clock=runner.clock),
        sampler=Random(),
        fallback=Random(),
        scheduler=scheduler,
        limits=SearchLimits(),
        run=f"bench/{task.seed}",
    )
    rows.work = search
    runner.run(search)
    usage = runner.usage()
    return {
        "hours": None if math.isnan(rows.hit) else rows.hit / 3600,
        "trials": len(search.trials),
        "worker_hours": usage.useful / 3600,
        "utilisation": usage.utilisation,
    }


_PROTOCOLS: Mapping[str, Callable[[ComparisonTask, str | None], Result]] = {
    "trainings": trainings,
    "bounded": bounded,
    "pareto": pareto,
    "published": published,
    "cluster": cluster,
}
PROTOCOLS = tuple(_PROTOCOLS)
_SHOW_ACCURACY = ("trainings", "bounded")
