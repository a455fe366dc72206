"""Are a run's results what its experiment gives? `raynas verify` measures some of them again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raynas.core import Job, Measurement, Trial, UserError, rng_for
from raynas.core.describe import fresh
from raynas.runners.base import pick_device
from raynas.store import RunFolder
from raynas.store.schema import SEARCH
from raynas.stored import equipped, history, reload


@dataclass(frozen=True)
class Verified:
    """A trial that was measured again. ``differs``: step -> (metric, stored, now) of the values
    that are further apart than allowed; ``most``: the largest difference, relative to the value."""

    trial: Trial
    steps: int
    most: float
    differs: tuple[tuple[int, str, float, float], ...]


def verify(path: Path, *, count: int = 3, tolerance: float = 0.0) -> Iterator[Verified]:
    """Measure ``count`` trials of the run at ``path`` again, drawn at random, from their seeds.

    Nothing is stored. ``tolerance``: relative; on the machine and versions of the run training on a
    CPU gives the same bits, on a GPU or elsewhere it does not.
    Raises: UserError when there is nothing to verify.
    """
    folder = RunFolder.open(path)
    experiment = equipped(folder, reload(folder).experiment)
    past, _ = history(folder, experiment, SEARCH, experiment.sampler.name)
    measured = [t for t in past if t.step > 0]
    if not measured:
        raise UserError(f"run {folder.place} has no results yet", cure="`raynas resume` goes on")
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
        yield _compare(trial, evaluator.evaluate(trial.arch, job), tolerance)


def _compare(trial: Trial, again: Iterator[Measurement], tolerance: float) -> Verified:
    """Up to the last step that is stored."""
    stored = {m.step: m for m in trial.measurements if m.step > 0}
    differs, most, steps = [], 0.0, 0
    for now in again:
        old = stored.get(now.step)
        if old is not None:
            steps += 1
            for name, value in old.values.items():
                found = now.values.get(name, math.nan)
                apart = abs(found - value) / max(abs(value), 1e-12)
                most = max(most, apart) if apart == apart else math.inf
                if not apart <= tolerance:
                    differs.append((old.step, name, value, found))
        if now.step >= trial.step:
            break
    return Verified(trial, steps, most, tuple(differs))
