"""This module writes the trials of a run as studies of Optuna, for its dashboard and plots.

A study of the file is a copy to look at: a run never reads it. Optuna shows a trial as:

===========  ====================================================================================
COMPLETE     COMPLETE
STOPPED      PRUNED, with the last measurement's first objective
INFEASIBLE   COMPLETE with violated constraints where all objectives were measured, else PRUNED
FAILED       FAIL
RUNNING      RUNNING
===========  ====================================================================================
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core import Bound, Choice, Objective, Trial, TrialState, UserError
from raynas.samplers.optuna_bridge import directions, quiet

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

Times = Mapping[int, tuple[datetime, datetime]]
"""Trial -> when its first and its last row were stored."""


def write_studies(
    file: Path,
    choices: Sequence[Choice],
    objectives: tuple[Objective, ...],
    bounds: tuple[Bound, ...],
    studies: Mapping[str, Sequence[Trial]],
    times: Times,
) -> None:
    """Write an SQLite file with a study for each name in ``studies``, whole or not at all.

    Parameters are the space's options themselves; metrics, costs, seed and message are user
    attributes. Optuna needs some 40 ms a trial with 24 choices.

    Args:
        file: The file, which must not exist.
        choices: The choices of the space.
        objectives: The objectives of the search.
        bounds: The bounds of the search.
        studies: Name of a study -> its trials.
        times: Trial number -> times at which its first and its last row were stored.

    Raises:
        UserError: ``file`` exists already.
        OSError: The file cannot be written.
    """
    if file.exists():
        raise UserError(f"{file} already exists", hint="remove it, or give another file name")
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    aside.unlink(missing_ok=True)
    try:
        _write(aside, choices, objectives, bounds, studies, times)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _write(
    file: Path,
    choices: Sequence[Choice],
    objectives: tuple[Objective, ...],
    bounds: tuple[Bound, ...],
    studies: Mapping[str, Sequence[Trial]],
    times: Times,
) -> None:
    import optuna

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # metric names
        storage = _storage(file)
        try:
            for name, trials in studies.items():
                study = optuna.create_study(
                    storage=storage, study_name=name, directions=directions(objectives)
                )
                study.set_metric_names([o.metric for o in objectives])
                _fill(study, choices, objectives, bounds, trials, times)
        finally:
            storage.engine.dispose()


def _storage(file: Path) -> RDBStorage:
    """Return a storage on SQLite that does not wait for the disk, because the file is new."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    storage = RDBStorage(f"sqlite:///{file}")

    def hurry(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(storage.engine, "connect", hurry)
    storage.engine.dispose()  # of what was opened before
    return storage


def _fill(
    study: Study,
    choices: Sequence[Choice],
    objectives: tuple[Objective, ...],
    bounds: tuple[Bound, ...],
    trials: Sequence[Trial],
    times: Times,
) -> None:
    distributions = {choice.name: parameter_distribution(choice) for choice in choices}
    for trial in sorted(trials, key=lambda t: t.number):
        frozen = _frozen(trial, objectives, bounds, distributions)
        if trial.number in times:
            frozen.datetime_start, ended = times[trial.number]
            frozen.datetime_complete = ended if trial.state.ended else None
        study.add_trial(frozen)


def _frozen(
    trial: Trial,
    objectives: tuple[Objective, ...],
    bounds: tuple[Bound, ...],
    distributions: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    from optuna.trial import TrialState as OptunaState
    from optuna.trial import create_trial

    known = trial.values()
    values = [known.get(o.metric, math.nan) for o in objectives]
    measured = all(map(math.isfinite, values)) and bool(trial.measurements)
    state = _state(trial, measured)
    curve = _curve(trial, objectives[0].metric)
    shown = values if state == "COMPLETE" else None
    if state == "PRUNED" and len(objectives) == 1 and curve:
        shown = [curve[max(curve)]]
    return create_trial(
        state=OptunaState[state],
        values=shown,
        params={name: option_value(trial.proposal[name]) for name in distributions},
        distributions=dict(distributions),
        intermediate_values=curve,
        constraints=_constraints(trial, bounds),
        user_attrs=_attributes(trial),
    )


def _state(trial: Trial, measured: bool) -> str:
    if trial.state in (TrialState.COMPLETE, TrialState.INFEASIBLE) and measured:
        return "COMPLETE"
    return {
        TrialState.COMPLETE: "FAIL",
        TrialState.STOPPED: "PRUNED",
        TrialState.INFEASIBLE: "PRUNED",
        TrialState.FAILED: "FAIL",
        TrialState.RUNNING: "RUNNING",
    }[trial.state]


def _curve(trial: Trial, metric: str) -> dict[int, float]:
    """Return step -> value of the first objective where it was measured, also with several."""
    points = {m.step: trial.values(m).get(metric, math.nan) for m in trial.measurements}
    return {step: value for step, value in points.items() if math.isfinite(value)}


def _constraints(trial: Trial, bounds: tuple[Bound, ...]) -> dict[str, float]:
    """Return one value per bound, 0 or less if it holds; one more if memory did not suffice."""
    found = {str(bound): trial.violations.get(str(bound), math.nan) for bound in bounds}
    known = {name: value for name, value in found.items() if not math.isnan(value)}
    infeasible = trial.state is TrialState.INFEASIBLE
    if infeasible and not any(value > 0 for value in known.values()):
        known["memory"] = 1.0
    return {name: max(min(value, 1e300), -1e300) for name, value in known.items()}


def _attributes(trial: Trial) -> dict[str, Any]:
    finite = {n: v for n, v in trial.values().items() if math.isfinite(v)}
    return {
        "trial": trial.number,
        "arch": trial.arch.text,
        "arch_id": trial.arch.id,
        "seed": str(trial.seed),  # beyond what JSON readers count with
        "seconds": trial.seconds,
        "state": trial.state.value,
        **finite,
        **({"message": trial.message} if trial.message else {}),
    }


def parameter_distribution(choice: Choice) -> BaseDistribution:
    """Return the parameter of a study that stands for a choice.

    Args:
        choice: A choice of a space.

    Returns:
        A range for equal steps of whole numbers, else a list of options.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    options = choice.options
    whole = [option for option in options if type(option) is int]
    gaps = {b - a for a, b in pairwise(whole)}
    if choice.ordered and len(whole) == len(options) and len(gaps) == 1 and min(gaps) > 0:
        return IntDistribution(whole[0], whole[-1], step=min(gaps))
    return CategoricalDistribution(tuple(option_value(option) for option in options))


def option_value(option: Any) -> Any:
    """Return the value of a parameter that stands for an option.

    Args:
        option: An option of a choice.

    Returns:
        The option itself, or its text where a database cannot keep it.
    """
    return option if isinstance(option, bool | int | float | str) else str(option)
