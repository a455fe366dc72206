"""This module checks that the parts of an experiment fit, before anything is made or paid for."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from raynas.core import (
    Architecture,
    Costs,
    RaynasError,
    SearchProblem,
    UserError,
    failure_message,
    rng_for,
)
from raynas.core.describe import fresh
from raynas.data.abilities import check_test_images
from raynas.data.base import Images
from raynas.evaluators.abilities import check_architecture, weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.finalists import finalists_refused
from raynas.pipeline.history import final_evaluator
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext
from raynas.spaces.guard import ArchitectureError, one_architecture
from raynas.spaces.roundtrip import check_round_trip


def prepare(experiment: Experiment) -> EvaluationContext:
    """Read the data and check that the parts fit, before anything is made or paid for.

    Args:
        experiment: The experiment.

    Returns:
        The space, the evaluator and the data view of the search.

    Raises:
        UserError: If the data cannot be read, or space, data, evaluators, samplers or scheduler do
            not fit each other.
    """
    check_round_trip(experiment.space)
    payload = EvaluationContext(
        experiment.space, experiment.evaluator, experiment.data.search_view(experiment.seed)
    )
    if experiment.finalists.top:
        check_test_images(experiment.data, payload.view, experiment.seed)
    _set_up_once(experiment)
    arch = _fitting(experiment, payload)
    if experiment.screen is not None:
        check_evaluator(experiment.screen.evaluator, payload, arch)
    if experiment.ranking_check is not None:
        check_evaluator(experiment.ranking_check.evaluator, payload, arch)
    _check_finalists(experiment, payload, arch)
    if (needed := experiment.needs()) is not None:
        check_evaluator(needed, payload, payload.space.extremes()[1])
    elif (inherited := _inherited(experiment)) and not weights_version_of(inherited):
        raise UserError(
            f"finalists.inherited={inherited.name}: there are no weights to inherit",
            hint="give it weights=PATH, or search by an evaluator that trains a supernet",
        )
    return payload


#: if so many random architectures all fail the check, the run does not begin
_CHECKED = 10


def _fitting(experiment: Experiment, payload: EvaluationContext) -> Architecture:
    """Return a random architecture that can be evaluated.

    Architectures for which the space's own code raises are skipped.

    Raises:
        UserError: With the first error, if none of some architectures can be evaluated.
    """
    rng = rng_for(experiment.seed, "check")
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    first: Exception | None = None
    for _ in range(_CHECKED):
        arch = payload.space.sample(rng)
        try:
            with one_architecture(f"architecture {arch.text!r}"):
                check_architecture(evaluator, arch)
                _check_costs(experiment, payload, arch)
            return arch
        except ArchitectureError as error:
            first = first or error
    assert first is not None
    if isinstance(first.__cause__, UserError):
        raise first.__cause__
    raise UserError(
        f"none of {_CHECKED} random architectures of space {payload.space.name!r} can be "
        f"evaluated; the first one, {first}",
        hint="fix the space's build(), canonical() or costs()",
    ) from first


def unused_settings(experiment: Experiment) -> list[str]:
    """Name settings that the user has given and that nothing uses.

    Args:
        experiment: The experiment.

    Returns:
        One sentence for each; empty if all are used.
    """
    found, finalists = [], experiment.finalists
    given = [n for n in ("evaluator", "inherited") if getattr(finalists, n) is not None]
    if given and not finalists.top:
        names = ", ".join(f"finalists.{name}" for name in given)
        found.append(f"{names}: not used, since finalists.top=0 trains no finalists")
    scheduler, evaluator = experiment.scheduler, experiment.evaluator
    if not isinstance(scheduler, NoStopping) and evaluator.max_step == 1:
        found.append(
            f"scheduler={type(scheduler).__name__}: not used, since {evaluator.name} measures once "
            "and there is nothing to stop"
        )
    return found


def remarks_on_batches(experiment: Experiment, images: int) -> list[str]:
    """Name trainings with batches of more images than there are, so that an epoch is one step.

    Args:
        experiment: Those of its evaluators that have a ``recipe`` are checked.
        images: How many training images a search has.

    Returns:
        One sentence for each such training.
    """
    needed = experiment.needs()
    found = []
    for evaluator in (*experiment.evaluators, *([needed] if needed else [])):
        batch = getattr(getattr(evaluator, "recipe", None), "batch_size", 0)
        if batch > images:
            found.append(
                f"{evaluator.name}: recipe.batch_size={batch} is more than the {images} training "
                "images: an epoch is one step; take smaller batches, or many epochs"
            )
    return found


def _inherited(experiment: Experiment) -> Evaluator | None:
    return experiment.finalists.inherited if experiment.finalists.top else None


def _set_up_once(experiment: Experiment) -> None:
    """Check that copies of samplers and scheduler can be set up, before anything is trained.

    Raises:
        UserError: From a part that cannot work in this space, or for these objectives.
    """
    steps = experiment.evaluator.max_step
    problem = SearchProblem(
        experiment.objectives, steps, experiment.seed, "check", experiment.bounds
    )
    for sampler in (experiment.sampler, *experiment.baselines):
        copy.copy(sampler).setup(experiment.space, problem)
    copy.copy(experiment.scheduler).setup(problem)


def check_evaluator(evaluator: Evaluator, payload: EvaluationContext, arch: Architecture) -> None:
    """Check that the evaluator fits space and data.

    Args:
        evaluator: The evaluator; a copy of it is set up.
        payload: The space and the data view.
        arch: The architecture to check with.

    Raises:
        UserError: If it does not.
    """
    new = fresh(evaluator)
    new.setup(payload.space, payload.view)
    try:
        check_architecture(new, arch)
    except RaynasError:
        raise
    except Exception as error:
        raise UserError(
            f"{evaluator.name} cannot evaluate architecture {arch.text!r} of space "
            f"{payload.space.name!r}: {failure_message(error)[0]}",
            hint="fix the space's build(), canonical() or costs()",
        ) from error


def _check_finalists(
    experiment: Experiment, payload: EvaluationContext, arch: Architecture
) -> None:
    """Check that the evaluators of the finalists fit.

    Weights with which they begin must not have been trained on images beyond the training and
    validation images. No test image is read for this check.

    Raises:
        UserError: If they do not fit, or were.
    """
    finals = (final_evaluator(experiment), experiment.finalists.inherited)
    known = [e for e in finals if e is not None]
    begin = [e for e in known if weights_version_of(e)]
    if not experiment.finalists.top or finalists_refused(experiment):
        return
    alike = dataclasses.replace(payload.view, held_out_name="test")  # the same validation images
    for evaluator in known:
        if evaluator not in begin:
            check_evaluator(evaluator, dataclasses.replace(payload, view=alike), arch)
    if not begin:
        return
    parts = payload.view.train, payload.view.held_out
    pixels = np.concatenate([images.pixels for images in parts])
    labels = np.concatenate([images.labels for images in parts])
    view = dataclasses.replace(payload.view, train=Images(pixels, labels), held_out_name="test")
    for evaluator in begin:
        check_evaluator(evaluator, dataclasses.replace(payload, view=view), arch)


def _check_costs(experiment: Experiment, payload: EvaluationContext, arch: Architecture) -> None:
    """Check that the space counts the costs that objectives and bounds are on.

    Raises:
        UserError: If it does not count one of them.
    """
    asked = {o.metric for o in experiment.objectives} | {b.metric for b in experiment.bounds}
    if not asked & {cost.name for cost in dataclasses.fields(Costs)}:
        return
    costs = vars(payload.space.costs(arch, payload.view.input_shape, payload.view.num_classes))
    for name in asked & costs.keys():
        if costs[name] is None:
            raise UserError(
                f"{name!r} in objectives or bounds: space {payload.space.name!r} does not "
                "compute it",
                expected=", ".join(known for known, cost in costs.items() if cost is not None),
            )
