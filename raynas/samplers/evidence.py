"""This module turns ended trials into data for a model.

Completed trials give values, stopped ones give estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, SearchProblem, Trial, TrialState, signed
from raynas.core.ranks import ranks
from raynas.core.renamed import renamed_names

Floats = NDArray[np.float64]

ENOUGH = 5
"""Number of trials that must have gone further before a stopped one is estimated from them."""
DOUBT = 4.0
"""Noise of an estimated value, in units of that of a measured one."""


@dataclass(frozen=True)
class TrialObservation:
    """The data that one ended trial gives to a model.

    Attributes:
        number: Number of the trial.
        arch: Its canonical architecture.
        curve: Step -> objectives, higher is better.
        complete: Whether the last step of ``curve`` is the trial's result.
        scores: Scores of a screening by name.
        limits: Value of each bounded metric, NaN where it is not known.
    """

    number: int
    arch: Architecture
    curve: Mapping[int, tuple[float, ...]]
    complete: bool
    scores: Mapping[str, float]
    limits: tuple[float, ...]

    @property
    def step(self) -> int:
        """The last step of the curve, 0 without one."""
        return max(self.curve, default=0)

    @property
    def last(self) -> tuple[float, ...]:
        """The objectives at the last step, higher is better."""
        return self.curve[self.step]


def evidence(trial: Trial, arch: Architecture, problem: SearchProblem) -> TrialObservation | None:
    """Return the data that a trial gives to a model.

    A trial that broke a bound was measured all the same. A failed one gives no data.

    Args:
        trial: The trial.
        arch: Its canonical architecture.
        problem: Names objectives and bounds.

    Returns:
        The data, or None where there are none.
    """
    if trial.state is TrialState.FAILED or not trial.state.ended:
        return None
    curve: dict[int, tuple[float, ...]] = {}
    for measurement in trial.measurements:
        values = trial.values(measurement)
        known = [values.get(o.metric, math.nan) for o in problem.objectives]
        if measurement.step and all(map(math.isfinite, known)):
            curve[measurement.step] = signed(problem.objectives, values)
    first = trial.measurements[0] if trial.measurements else None
    scores = first.values if first is not None and first.step == 0 else {}
    values = trial.values()
    limits = tuple(float(values.get(b.metric, math.nan)) for b in problem.bounds)
    if not (curve or scores or any(map(math.isfinite, limits))):
        return None
    ended = trial.state is TrialState.COMPLETE or max(curve, default=0) >= problem.max_step
    return TrialObservation(trial.number, arch, curve, bool(curve) and ended, scores, limits)


def standing(found: Sequence[TrialObservation], objective: int) -> tuple[Floats, Floats]:
    """Rank the trials by one objective.

    A stopped trial is put beside those that went further and had about the same value at its
    last step (isotonic regression), if there are enough of them. Where that does not tell two
    apart the one with more steps is better, then the one with the better value there.

    Args:
        found: Data of n trials.
        objective: Index of the objective.

    Returns:
        (n,) ranks from 0 to 1, NaN for a trial without a value, and (n,) factors of the noise of
        each rank, 1 for a complete trial.
    """
    value = np.array([e.last[objective] if e.complete else np.nan for e in found])
    stopped = [i for i, e in enumerate(found) if e.curve and not e.complete]
    for step in sorted({found[i].step for i in stopped}, reverse=True):
        group = [i for i in stopped if found[i].step == step]
        further = [i for i, e in enumerate(found) if step in e.curve and not np.isnan(value[i])]
        value[group] = _estimated(
            np.array([found[i].curve[step][objective] for i in group]),
            np.array([found[i].curve[step][objective] for i in further]),
            value[further],
        )
    _from_scores(found, value)
    keys = [
        (float(value[i]), math.inf if e.complete else float(e.step), _last(e, objective))
        for i, e in enumerate(found)
    ]
    return _places(keys), np.array([1.0 if e.complete else DOUBT for e in found])


def _last(found: TrialObservation, objective: int) -> float:
    return found.last[objective] if found.curve else -math.inf


def _estimated(values: Floats, seen: Floats, results: Floats) -> Floats:
    """Return the results to expect of ``values`` at a step.

    Other trials had the values ``seen`` at this step, and ended with ``results``.
    """
    if len(seen) < ENOUGH:
        lowest = results.min() if len(results) else 0.0
        return np.full(len(values), lowest)
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(seen, results)
    return np.asarray(model.predict(values), dtype=np.float64)


def _from_scores(found: Sequence[TrialObservation], value: Floats) -> None:
    """Estimate trials that were screened out, by a ridge regression on the ranks of all scores."""
    names = sorted({name for e in found for name in e.scores})
    held = np.array([not e.curve and bool(e.scores) for e in found])
    known = np.array([bool(e.scores) for e in found]) & ~np.isnan(value)
    if not names or not held.any() or known.sum() < 2 * ENOUGH:
        return
    from sklearn.linear_model import Ridge

    table = np.array([[e.scores.get(name, np.nan) for name in names] for e in found])
    share = np.stack([ranks(column) for column in table.T], axis=1) / len(found)
    order = ranks(value[known])
    places = Ridge(alpha=1.0).fit(share[known], order).predict(share[held])
    value[held] = np.interp(places, np.sort(order), np.sort(value[known]))


def _places(keys: Sequence[tuple[float, float, float]]) -> Floats:
    """Return ranks from 0 to 1 by value, step, and the value there; equal ones share theirs."""
    known = [i for i, key in enumerate(keys) if not math.isnan(key[0])]
    place = {key: n for n, key in enumerate(sorted({keys[i] for i in known}))}
    found = np.full(len(keys), np.nan)
    if known:
        found[known] = (ranks([place[keys[i]] for i in known]) - 0.5) / len(known)
    return found


__getattr__ = renamed_names(__name__, Evidence="TrialObservation")
