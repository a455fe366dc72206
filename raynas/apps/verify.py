"""Checks that a run's results are those of its experiment, for `raynas verify`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from raynas.core import Job, Measurement, Trial, UserError, rng_for
from raynas.core.describe import fresh
from raynas.pipeline.history import equipped, history, reload
from raynas.runners.base import pick_device
from raynas.store import RunFolder, read
from raynas.store.history import check
from raynas.store.schema import SEARCH


@dataclass(frozen=True)
class VerifiedTrial:
    """A trial that was measured again.

    Attributes:
        trial: The stored trial.
        steps: Number of stored steps that were measured again.
        most: Largest difference, relative to the stored value; infinite where one of the two is
            missing or not finite.
        differs: (step, metric, stored, now) of the values that are further apart than allowed. A
            value that one of the two lacks is NaN; a step that was not measured again is listed
            with each of its metrics.
        failure: Reason why the evaluation ended without its steps, where it raised; else empty.
    """

    trial: Trial
    steps: int
    most: float
    differs: tuple[tuple[int, str, float, float], ...]
    failure: str = ""


def verify(
    path: Path, *, count: int = 3, tolerance: float = 0.0, trust: bool = False
) -> Iterator[VerifiedTrial]:
    """Measure ``count`` trials of a run again, drawn at random, from their seeds.

    The store is not changed. It executes the ``experiment.py`` of the run. On the machine and
    versions of the run, training on a CPU gives the same bits; on a GPU or elsewhere it does not.

    Args:
        path: The folder of the run.
        count: Number of trials.
        tolerance: Allowed difference, relative to the stored value, so a stored 0 allows none.
        trust: Whether the file is executed also if it belongs to another user.

    Yields:
        The trials, each as soon as it was measured.

    Raises:
        UserError: The run has no results yet.
        UserError: ``tolerance`` is negative or not finite.
    """
    if not tolerance >= 0 or math.isinf(tolerance):
        raise UserError(f"tolerance={tolerance:g}", expected="a number from 0 up, as 0.01 for 1 %")
    folder = RunFolder.open(path)
    experiment = equipped(folder, reload(folder, trust=trust).experiment)
    past, _ = history(folder, experiment, SEARCH, experiment.sampler.name)
    measured = [t for t in past if t.step > 0]
    if not measured:
        raise UserError(
            f"run {folder.place} has no results yet", hint="continue it with `raynas resume`"
        )
    view = experiment.data.search_view(experiment.seed)
    evaluator = fresh(experiment.evaluator)
    evaluator.setup(experiment.space, view)
    device = pick_device(experiment.resources.gpus)
    rng = rng_for(experiment.seed, "verify", len(measured))
    places = rng.permutation(len(measured))[:count]
    for place in sorted(int(p) for p in places):
        trial = measured[place]
        job = Job(
            trial.number,
            trial.seed,
            evaluator.max_step,
            device,
            threads=experiment.resources.threads,
        )
        again = evaluator.evaluate(trial.arch, job)
        yield _compare(trial, again, {m.name for m in folder.info.metrics}, tolerance)


def _compare(
    trial: Trial, again: Iterator[Measurement], columns: Collection[str], tolerance: float
) -> VerifiedTrial:
    """Compare a trial with its new evaluation, up to the last stored step.

    Values that could not be stored are no difference: intermediate steps that the run did not ask
    for, and metrics for which the run has none of the ``columns``.
    """
    stored = {m.step: m.values for m in trial.measurements if m.step > 0}
    found, failure = _again(again, trial.step)
    differs, most = [], 0.0
    for step, before in sorted(stored.items()):
        now = found.get(step, {})
        for name in (*before, *(n for n in now if n not in before and n in columns)):
            old, new = before.get(name, math.nan), now.get(name, math.nan)
            apart = _apart(old, new, known=name in before and name in now)
            most = max(most, apart)
            if not apart <= tolerance:
                differs.append((step, name, old, new))
    steps = len(stored.keys() & found.keys())
    return VerifiedTrial(trial, steps, most, tuple(differs), failure)


def _again(again: Iterator[Measurement], last: int) -> tuple[dict[int, Mapping[str, float]], str]:
    """Return step -> values of a new evaluation up to ``last``, and why it ended early."""
    found: dict[int, Mapping[str, float]] = {}
    try:
        for now in again:
            found[now.step] = now.values
            if now.step >= last:
                break
    except Exception as error:
        if isinstance(error, UserError) and not found:
            raise  # the run cannot be measured here at all, which says nothing about its results
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def _apart(old: float, new: float, known: bool) -> float:
    """Return the difference relative to ``old``; 0 for equal values, also two NaN."""
    if not known:
        return math.inf
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    apart = abs(new - old) / abs(old) if old else math.inf
    return math.inf if math.isnan(apart) else apart


def verify_history(path: Path) -> tuple[int, list[str]]:
    """Check that the rows of a run are whole: none lost, none twice, no number of two trials.

    Args:
        path: The folder of the run, or the working copy of one that lives elsewhere.

    Returns:
        How many rows count, and a line for each thing that does not hold.

    Raises:
        UserError: There is no run, or its rows cannot be read.
    """
    folder = RunFolder.open(path).refresh()
    return read(folder).num_rows, check(folder)
