"""This module reads what is in the folder of a run.

That is: its experiment, its trials, and the weights that it inherits from.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raynas.core import Architecture, Bound, Trial, TrialState, UserError, violations
from raynas.core.describe import fresh
from raynas.evaluators.abilities import weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment, LoadedExperiment, load
from raynas.spaces.stored import StoredSpace, whole_texts
from raynas.store import RunFolder, read, trials
from raynas.store.files import reason, write_whole


def reload(
    folder: RunFolder, overrides: Mapping[str, object] | None = None, *, trust: bool = False
) -> LoadedExperiment:
    """Execute the copy of the experiment's source in the run's folder.

    Args:
        folder: The folder of the run.
        overrides: Path of a setting -> value, beside those that the run has.
        trust: True also executes files that belong to another user.

    Returns:
        The experiment of the run.

    Raises:
        UserError: If the files belong to another user, or the source cannot be executed.
    """
    if not trust:
        expect_own(folder)
    info = folder.info
    return load(
        folder.source,
        {**info.overrides, **(overrides or {})},
        smoke=info.smoke,
        stand_in=info.stand_in,
        name=info.name,
        beside=Path(info.source_file).parent,
    )


def expect_own(folder: RunFolder) -> None:
    """Check that what a command executes, or takes paths from, belongs to the user.

    Args:
        folder: The folder of the run.

    Raises:
        UserError: For files of another user.
    """
    for file in (folder.source, folder.pickled, folder.run_file):
        try:
            owner = file.stat().st_uid
        except OSError:
            continue  # the error is reported when the file is read
        if owner != os.geteuid():
            raise UserError(
                f"{file} belongs to another user (uid {owner}), and this command executes the "
                "experiment.py of the run",
                hint="inspect that file, then give --trust; status, report, export-study and "
                "verify --history execute nothing",
            )


# -- what is kept of the space -----------------------------------------------------------------

SPACE_FILE = "space.json"


class ArchitectureReader(Protocol):
    """A reader of the architectures of a run."""

    def architecture(self, text: str, /) -> Architecture:
        """Return the architecture that a text stands for.

        Args:
            text: As it was stored.

        Returns:
            The architecture.
        """


@dataclass(frozen=True)
class StoredExperiment:
    """The part of an experiment that can be read from a run without executing code.

    Attributes:
        space: The choices, and what is kept of architectures; None if the run keeps nothing.
        quick: True if evaluations take no time.
        remark: What is missing and why, for the user; may be empty.
    """

    space: StoredSpace | None
    quick: bool = False
    remark: str = ""


def keep_space(
    folder: RunFolder, experiment: Experiment, drawn: Sequence[str] = ()
) -> StoredSpace | None:
    """Keep in the folder what ``report`` and ``export-study`` need of the space.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.
        drawn: Architectures of which the pictures are kept.

    Returns:
        What the folder has now; None if the space cannot be described.

    Raises:
        UserError: If the folder cannot be written.
    """
    before = kept(folder).space
    try:
        described = StoredSpace.of(experiment.space)
    except Exception:  # the user's code failed: nothing is kept
        return None
    if before is not None and before.choices == described.choices:
        described = before
    texts = []
    if not described.plain_text:
        table = read(folder)
        texts = [*table["proposal"].unique().to_pylist(), *table["arch"].unique().to_pylist()]
    space = described.holding(experiment.space, texts, drawn)
    if space == before:
        return space
    try:
        text = space.to_json(quick=experiment.evaluator.lightweight)
        write_whole(folder.path / SPACE_FILE, text.encode())
    except OSError as error:
        raise UserError(
            f"{folder.path / SPACE_FILE} cannot be written: {reason(error)}",
            hint=f"free space or give access, then go on with: raynas resume {folder.place}",
        ) from error
    folder.publish(folder.path / SPACE_FILE)
    return space


def kept(folder: RunFolder) -> StoredExperiment:
    """Read what the run keeps of its experiment; nothing is executed and nothing is raised.

    Args:
        folder: The folder of the run.

    Returns:
        What could be read, with a remark about what could not.
    """
    file = folder.path / SPACE_FILE
    again = f"`raynas resume {folder.place}` keeps them"
    try:
        data = json.loads(file.read_bytes())
        return StoredExperiment(StoredSpace.from_json(data), data.get("quick") is True)
    except FileNotFoundError:
        return StoredExperiment(
            None, remark=f"the run keeps no choices and drawings of its space; {again}"
        )
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        why = " ".join(str(error).split())[:120]
        return StoredExperiment(None, remark=f"{file} cannot be read ({why}); {again}")


def read_architectures(folder: RunFolder, texts: Sequence[str]) -> list[Architecture]:
    """Read architectures by what the run keeps of its space; nothing is executed.

    Args:
        folder: The folder of the run.
        texts: Architectures as they are stored.

    Returns:
        The architectures. If the run does not keep their options, each has one choice,
        ``architecture``, with its text.
    """
    if not texts:
        return []
    space = kept(folder).space
    if space is None or not space.reads(texts):
        space = whole_texts(texts)
    return [space.architecture(text) for text in texts]


# -- trials ------------------------------------------------------------------------------------


def history(
    folder: RunFolder, experiment: Experiment, stage: str, arm: str
) -> tuple[list[Trial], set[int]]:
    """Read the stored trials of one method in one stage.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.
        stage: The stage, as stored.
        arm: The name of the method, as stored.

    Returns:
        The trials, and the numbers of all trials of the run.
    """
    objectives = [o.metric for o in experiment.objectives]
    return past_trials(folder, experiment.space, objectives, experiment.bounds, stage, arm)


def past_trials(
    folder: RunFolder,
    space: ArchitectureReader,
    objectives: Sequence[str],
    bounds: Sequence[Bound],
    stage: str,
    arm: str,
) -> tuple[list[Trial], set[int]]:
    """Read the stored trials of one method in one stage, without an experiment.

    Args:
        folder: The folder of the run.
        space: Reads the architectures.
        objectives: The names of the metrics to optimise.
        bounds: Limits of metrics, whose violations are computed.
        stage: The stage, as stored.
        arm: The name of the method, as stored.

    Returns:
        The trials, and the numbers of all trials of the run.
    """
    stored = trials(read(folder))
    past = []
    for row in stored:
        if (row.stage, row.arm) != (stage, arm):
            continue
        trial = Trial(
            number=row.number,
            proposal=space.architecture(row.proposal),
            arch=space.architecture(row.arch),
            seed=row.seed,
            state=TrialState(row.state),
            measurements=list(row.measurements),
            costs=dict(row.costs),
            message=row.message or "",
            attempt=row.attempt,
        )
        _leave_out_infinite(trial, objectives)
        trial.violations = violations(bounds, trial.values())
        past.append(trial)
    return past, {row.number for row in stored}


def _leave_out_infinite(trial: Trial, objectives: Sequence[str]) -> None:
    """Treat an objective's value that counts as infinite as if it had been refused.

    Values are finite when they are stored, but raynas 0.1 stored them up to 1.8e308. A trial that
    is RUNNING goes on from the step before; one that has ended is FAILED.
    """
    sought = [*objectives, *(name.replace("val_", "test_", 1) for name in objectives)]
    for place, measurement in enumerate(trial.measurements):
        infinite = [n for n in sought if math.isinf(measurement.values.get(n, 0.0))]
        if infinite and not trial.state.ended:
            trial.measurements = trial.measurements[:place]
            return
        if infinite and trial.state is not TrialState.FAILED:
            trial.state = TrialState.FAILED
            trial.message = f"{infinite[0]} is {measurement.values[infinite[0]]}"


def keep_weights(folder: RunFolder, trained: Trial) -> None:
    """Move the weights that a training left to their folder, unless that was done before.

    Args:
        folder: The folder of the run.
        trained: The trial of the training.

    Raises:
        UserError: If the weights are missing.
    """
    workdir = folder.workdir(trained.number)
    left = workdir / "weights"
    if left.is_dir():
        shutil.rmtree(folder.supernet, ignore_errors=True)
        left.rename(folder.supernet)
        folder.publish(folder.supernet)
    if not folder.supernet.is_dir():
        raise UserError(
            f"the weights that the search inherits from are not in {folder.supernet}",
            hint="restore them, or train them in a new run",
        )
    place = folder.trial_folder(trained.number)
    shutil.rmtree(place, ignore_errors=True)
    if folder.remote is not None:
        folder.remote.remove_folder(place.relative_to(folder.path).as_posix())


def expect_weights(folder: RunFolder, experiment: Experiment) -> None:
    """Check that the run inherits from the same weights as before.

    Args:
        folder: The folder of the run.
        experiment: Its experiment, with its weights.

    Raises:
        UserError: If it has inherited from other weights before.
    """
    version = weights_used(*experiment.evaluators)
    before = {t.weights for t in trials(read(folder)) if t.weights}
    if other := before - {version}:
        raise UserError(
            f"run {folder.place} inherits from weights {', '.join(sorted(other))}, not from "
            f"{version or 'none'}, which are in its folder now",
            hint="restore the former weights, or start a new run",
        )


def equipped(folder: RunFolder, experiment: Experiment) -> Experiment:
    """Return the experiment with the weights that its run has trained, if it has.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.

    Returns:
        A new experiment; the same one if there are no such weights.
    """
    ready = experiment.needs() is not None and folder.supernet.is_dir()
    return experiment.with_prepared(folder.supernet) if ready else experiment


def weights_used(*evaluators: Evaluator | None) -> str | None:
    """Return the version of the weights that one of the evaluators inherits from.

    Args:
        *evaluators: Evaluators, the first with weights counts; None is skipped.

    Returns:
        The version; None if none of them has weights.
    """
    return next((v for e in evaluators if e and (v := weights_version_of(e))), None)


def final_evaluator(experiment: Experiment) -> Evaluator:
    """Return the evaluator that trains the finalists.

    Args:
        experiment: The experiment.

    Returns:
        A copy, since it is set up with the test view.
    """
    return fresh(experiment.finalists.evaluator or experiment.evaluator)
