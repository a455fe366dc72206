"""This module offers a sampler of raynas as a sampler of Optuna.

A study asks the adapter for the parameters of each trial. The study is the only memory: before a
proposal the sampler is told of the trials that ended since the last one. Where the study has trials
that this adapter did not propose (it was loaded from a storage, they were added or enqueued, other
processes work on it), the sampler is set up again and replays the whole study.

A choice is a parameter: whole numbers in equal steps an ``IntDistribution``, other ordered numbers
in equal steps a ``FloatDistribution`` with that step, all others a ``CategoricalDistribution``.

A trial of the study is, for the sampler:

==========  =======================================================================================
COMPLETE    COMPLETE with its values; INFEASIBLE where a constraint is above 0, FAILED where a value
            is infinite
PRUNED      STOPPED, with its intermediate values where the study has one objective
FAIL        FAILED
RUNNING     RUNNING: it is not proposed again
==========  =======================================================================================

Waiting trials, and those whose parameters are not an architecture of the space, are left out.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from raynas.core import (
    Architecture,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
    rng_for,
)
from raynas.samplers.base import Sampler
from raynas.samplers.studies import option_value, parameter_distribution
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import canonical_or_itself

_STATES = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.STOPPED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
}


class RaynasSampler(BaseSampler):
    """A sampler of Optuna that proposes what a sampler of raynas proposes.

    :func:`raynas.samplers.as_optuna` makes one. Parameters of a trial that are no choices of the
    space are drawn at random, and so are all where the space is exhausted, since Optuna asks for a
    proposal in any case.

    Args:
        sampler: The sampler of raynas; it belongs to the adapter from now on.
        space: The search space.
        seed: The seed of the sampler and of random draws.
        max_step: The last step of an evaluation, for samplers that compare curves.
    """

    def __init__(self, sampler: Sampler, space: SearchSpace, seed: int, max_step: int) -> None:
        self._sampler, self._space = sampler, space
        self._seed, self._max_step = seed, max_step
        self._distributions = {c.name: _distribution(c) for c in space.choices}
        self._independent = RandomSampler(seed=seed)
        self._study = ""
        self._asked: dict[int, Architecture] = {}
        self._told: set[int] = set()
        self._drawn: set[int] = set()  # the sampler knows nothing of these
        self._lock = Lock()  # threads of one study share their sampler

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock, so that the sampler can be pickled and copied."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, with a new lock."""
        vars(self).update(state, _lock=Lock())

    def reseed_rng(self) -> None:
        """Draw other random values than before for parameters that are no choices."""
        self._independent.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the choices of the space.

        Args:
            study: The study.
            trial: The new trial, not used.

        Returns:
            Name of a choice -> its distribution.

        Raises:
            ValueError: The sampler does not serve this study, for example because it takes one
                objective only.
        """
        with self._lock:
            self._set_up_for(study)
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the proposal of the sampler for a trial.

        Args:
            study: The study.
            trial: The new trial.
            search_space: The choices of the space, as inferred.

        Returns:
            Name of a choice -> value.

        Raises:
            ValueError: The sampler does not serve this study.
        """
        with self._lock:
            self._set_up_for(study)
            self._learn(study, trial.number)
            try:
                arch = self._sampler.ask(trial.number)
            except SpaceExhausted:
                arch = self._space.sample(rng_for(self._seed, "exhausted", trial.number))
                self._drawn.add(trial.number)
            self._asked[trial.number] = arch
        return {name: option_value(arch[name]) for name in search_space if name in arch}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of a parameter that was not proposed.

        Args:
            study: The study.
            trial: The trial.
            param_name: Name of the parameter.
            param_distribution: Its distribution.

        Returns:
            The value.

        Raises:
            ValueError: The sampler does not serve this study.
        """
        with self._lock:
            self._set_up_for(study)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _set_up_for(self, study: Study) -> None:
        if self._study != study.study_name:
            self._set_up(study)

    def _set_up(self, study: Study) -> None:
        objectives = tuple(
            Objective(_metric(n), "max" if d is StudyDirection.MAXIMIZE else "min")
            for n, d in enumerate(study.directions)
        )
        problem = SearchProblem(objectives, self._max_step, self._seed, study.study_name)
        try:
            self._sampler.setup(self._space, problem)
        except UserError as error:
            raise ValueError(str(error)) from error
        self._study, self._asked = study.study_name, {}
        self._told, self._drawn = set(), set()

    def _learn(self, study: Study, number: int) -> None:
        """Give the sampler what the study has got since the last proposal."""
        trials = study.get_trials(deepcopy=False)
        known = [trial for old in trials if old.number != number and (trial := self._trial(old))]
        if any(self._asked.get(trial.number) != trial.proposal for trial in known):
            self._set_up(study)
            self._sampler.replay(known)
            self._asked = {trial.number: trial.proposal for trial in known}
        else:
            for trial in known:
                if trial.state.ended and trial.number not in self._told | self._drawn:
                    self._sampler.tell(trial)
        self._told = {trial.number for trial in known if trial.state.ended}

    def _trial(self, found: FrozenTrial) -> Trial | None:
        """Return a trial of the study in terms of raynas, or None where it is left out."""
        arch = self._architecture(found)
        if arch is None or found.state not in _STATES:
            return None
        state, violations = _STATES[found.state], found.constraints
        if state is TrialState.COMPLETE and not all(map(math.isfinite, found.values)):
            state = TrialState.FAILED
        elif state is TrialState.COMPLETE and any(value > 0 for value in violations.values()):
            state = TrialState.INFEASIBLE
        return Trial(
            found.number,
            arch,
            canonical_or_itself(self._space, arch),
            state=state,
            measurements=self._measurements(found),
            violations=violations,
        )

    def _architecture(self, found: FrozenTrial) -> Architecture | None:
        values = {}
        for choice in self._space.choices:
            options = {option_value(option): option for option in choice.options}
            value = found.params.get(choice.name)
            if choice.name not in found.params or value not in options:
                return None if found.state.is_finished() else self._asked.get(found.number)
            values[choice.name] = options[value]
        return self._space.architecture(values)

    def _measurements(self, found: FrozenTrial) -> list[Measurement]:
        curve = found.intermediate_values  # none with several objectives: Optuna refuses them
        points = {step: {_metric(0): value} for step, value in sorted(curve.items()) if step >= 0}
        if found.state is OptunaState.COMPLETE:
            last = max([self._max_step, *points])
            points[last] = {_metric(n): value for n, value in enumerate(found.values)}
        return [Measurement(step, values) for step, values in points.items()]


def _metric(number: int) -> str:
    """Return the name under which the sampler knows an objective."""
    return f"objective_{number}"


def _distribution(choice: Choice) -> BaseDistribution:
    found = parameter_distribution(choice)
    if choice.ordered and len(choice) > 1 and all(type(o) is float for o in choice.options):
        low, *_, high = map(float, choice.options)
        step = (high - low) / (len(choice) - 1)
        grid = [low + n * step for n in range(len(choice))]
        if grid == list(choice.options):
            return FloatDistribution(low, high, step=step)
    return found
