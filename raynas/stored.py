"""What lies in the folder of a run: its experiment, its trials, the weights it inherits from."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from raynas.core import Trial, TrialState, UserError, violations
from raynas.core.describe import fresh
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment, Loaded, load
from raynas.store import RunFolder, read, trials


def reload(folder: RunFolder, overrides: Mapping[str, object] | None = None) -> Loaded:
    """The experiment of a run, from the copy of its source in the run's folder."""
    info = folder.info
    return load(
        folder.source,
        {**info.overrides, **(overrides or {})},
        smoke=info.smoke,
        name=info.name,
        beside=Path(info.source_file).parent,
    )


def history(
    folder: RunFolder, experiment: Experiment, stage: str, arm: str
) -> tuple[list[Trial], set[int]]:
    """The stored trials of a stage and arm, and the numbers of all trials of the run."""
    stored = trials(read(folder))
    past = []
    for row in stored:
        if (row.stage, row.arm) != (stage, arm):
            continue
        trial = Trial(
            number=row.number,
            proposal=experiment.space.architecture(row.proposal),
            arch=experiment.space.architecture(row.arch),
            seed=row.seed,
            state=TrialState(row.state),
            measurements=list(row.measurements),
            costs=dict(row.costs),
            message=row.message or "",
            attempt=row.attempt,
        )
        _leave_out_infinite(trial, experiment)
        trial.violations = violations(experiment.bounds, trial.values())
        past.append(trial)
    return past, {row.number for row in stored}


def _leave_out_infinite(trial: Trial, experiment: Experiment) -> None:
    """Let a trial be as if its objective's value had been refused that counts as infinite.

    Values are finite when they are stored, but raynas 0.1 stored them up to 1.8e308. One that is
    RUNNING goes on from the step before.
    """
    sought = [o.metric for o in experiment.objectives]
    sought += [name.replace("val_", "test_", 1) for name in sought]
    for place, measurement in enumerate(trial.measurements):
        infinite = [n for n in sought if math.isinf(measurement.values.get(n, 0.0))]
        if infinite and not trial.state.ended:
            trial.measurements = trial.measurements[:place]
            return
        if infinite and trial.state is not TrialState.FAILED:
            trial.state = TrialState.FAILED
            trial.message = f"{infinite[0]} is {measurement.values[infinite[0]]}"


def keep_weights(folder: RunFolder, trained: Trial) -> None:
    """Move the weights that ``trained`` left to their place, if that was not done before."""
    workdir = folder.workdir(trained.number)
    left = workdir / "weights"
    if left.is_dir():
        shutil.rmtree(folder.supernet, ignore_errors=True)
        left.rename(folder.supernet)
        folder.publish(folder.supernet)
    if not folder.supernet.is_dir():
        raise UserError(
            f"the weights that the search inherits from are not in {folder.supernet}",
            cure="put them back, or train them in a new run",
        )
    place = folder.trial_folder(trained.number)
    shutil.rmtree(place, ignore_errors=True)
    if folder.remote is not None:
        folder.remote.remove_folder(place.relative_to(folder.path).as_posix())


def expect_weights(folder: RunFolder, experiment: Experiment) -> None:
    """Raises: UserError when the run has inherited from other weights before."""
    version = weights_used(*experiment.evaluators)
    before = {t.weights for t in trials(read(folder)) if t.weights}
    if other := before - {version}:
        raise UserError(
            f"run {folder.place} inherits from weights {', '.join(sorted(other))}, not from "
            f"{version or 'none'}, which are there now",
            cure="put the former back, or begin a new run",
        )


def equipped(folder: RunFolder, experiment: Experiment) -> Experiment:
    """The experiment with the weights that its run has trained, if it has."""
    ready = experiment.needs() is not None and folder.supernet.is_dir()
    return experiment.with_prepared(folder.supernet) if ready else experiment


def weights_used(*evaluators: Evaluator | None) -> str | None:
    """Of the weights that one of the evaluators inherits from."""
    return next((v for e in evaluators if e and (v := e.weights_version())), None)


def final_evaluator(experiment: Experiment) -> Evaluator:
    """What trains the finalists: a copy, since it is set up with the test view."""
    return fresh(experiment.finalists.evaluator or experiment.evaluator)
