"""This module has the published protocol: 12,000 simulated seconds with the 12-epoch setting.

The searches are those of the paper of NAS-Bench-201, on CIFAR-10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, cycle

from raynas.apps.compare.methods import PUBLISHED
from raynas.apps.compare.table_values import accuracies, table
from raynas.apps.compare.tasks import ComparisonTask, Result
from raynas.benchmarks import NASBench201Table
from raynas.benchmarks.nasbench201 import DATASETS
from raynas.core import (
    Architecture,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
    seed_for,
)
from raynas.core.metrics import VAL_ACCURACY
from raynas.samplers.base import Sampler
from raynas.spaces import NASBench201

SECONDS = 12_000.0
"""The published budget."""
BRACKETS = ((9, 3, 1), (3, 1), (3,))
"""BOHB's, of eta = 3 and budgets from 12 to 200. In the published runs a configuration that goes on
is trained anew at the same cost, whatever its budget; only the model tells budgets apart."""


def published(task: ComparisonTask, path: str | None) -> Result:
    """Carry out a search of the published protocol, which is on CIFAR-10 whatever the data set.

    Args:
        task: The run.
        path: The file of the table; None for the usual places.

    Returns:
        ``test``: data set -> test accuracy of the architecture found, in percent; ``trainings``:
            their number; ``seconds``: simulated seconds.
    """
    known = table(path, (12,))
    best, number, spent = spend(task.method, task.seed, known)
    test = {dataset: accuracies(best, dataset, path)[1] for dataset in DATASETS}
    return {"test": test, "trainings": number, "seconds": spent}


def spend(method: str, seed: int, known: NASBench201Table) -> tuple[str, int, float]:
    """Search until the published budget of ``SECONDS`` is spent.

    A training costs what ``known`` says, by default 12 epochs of training and of validation; the
    one that would exceed the budget is not made. Duplicates are paid for again.

    Args:
        method: Name of a published method.
        seed: Seed of the search.
        known: The table.

    Returns:
        The best architecture as text, the number of trainings, and their simulated seconds.
    """
    sampler = PUBLISHED[method]()
    sampler.setup(NASBench201(), SearchProblem((Objective(),), 12, seed, f"bench/{seed}"))
    best, top, number, spent = "", -math.inf, 0, 0.0
    trained = (_halving if method == "bohb" else _plain)(sampler, known, seed)
    for arch, found in trained:
        if spent + found.seconds > SECONDS:
            break
        spent, number = spent + found.seconds, number + 1
        if found.values[VAL_ACCURACY.name] > top:
            top, best = found.values[VAL_ACCURACY.name], arch.text
    return best, number, spent


Trained = Iterator[tuple[Architecture, Measurement]]


def _train(known: NASBench201Table, arch: Architecture, *seed: int) -> Measurement:
    return known.query(arch, "cifar10", 12, seed_for(*seed))


def _plain(sampler: Sampler, known: NASBench201Table, seed: int) -> Trained:
    for number in count():
        arch = sampler.ask(number)
        found = _train(known, arch, seed, number)
        yield arch, found
        sampler.tell(Trial(number, arch, arch, state=TrialState.COMPLETE, measurements=[found]))


def _halving(sampler: Sampler, known: NASBench201Table, seed: int) -> Trained:
    """Brackets of trainings that all cost the same, one after the other.

    A trial's steps are the budgets, 1 to 3, at which it was trained.
    """
    number = 0
    for bracket in cycle(BRACKETS):
        first = len(BRACKETS) - len(bracket) + 1
        rung: list[Trial] = []
        for _ in range(bracket[0]):
            arch = sampler.ask(number)
            rung.append(Trial(number, arch, arch, state=TrialState.COMPLETE))
            yield arch, _measured(rung[-1], known, first, seed)
            number += 1
        every = rung
        for step, size in enumerate(bracket[1:], start=first + 1):
            rung = sorted(rung, key=lambda t: -t.values()[VAL_ACCURACY.name])[:size]
            for trial in rung:
                yield trial.arch, _measured(trial, known, step, seed)
        for trial in every:
            sampler.tell(trial)


def _measured(trial: Trial, known: NASBench201Table, step: int, seed: int) -> Measurement:
    found = replace(_train(known, trial.arch, seed, trial.number, step), step=step)
    trial.measurements.append(found)
    return found
