"""This module has REINFORCE: a controller learns which option of each choice is worth drawing.

Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning", Machine Learning 8, 1992; for architectures Zoph, Le, "Neural Architecture Search with
Reinforcement Learning", ICLR 2017, https://arxiv.org/abs/1611.01578. The controller without a
recurrent network, one categorical distribution a choice, is that of Dong, Yang, "NAS-Bench-201",
ICLR 2020, https://arxiv.org/abs/2001.00326.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, SearchProblem, Trial, TrialState, UserError, rng_for, signed
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, one_objective
from raynas.samplers.repeats import RepeatReplay
from raynas.spaces.base import SearchSpace

Floats = NDArray[np.float64]
_DRAWS = 64  # largest number of draws for a new proposal
_BETAS = (0.9, 0.999)  # of Adam


@dataclass(frozen=True)
class _Lesson:
    """An ended trial in the form the controller learns from.

    ``reward`` is NaN for a trial that breaks a bound. Only a ``complete`` trial can count as
    better than the baseline, and only it enters the baseline.
    """

    number: int
    options: NDArray[np.intp]  # (choices,)
    reward: float
    complete: bool


@dataclass(frozen=True)
class _State:
    """The state of the controller after some lessons.

    Logits (choices, options), Adam's moments, the moving average of rewards and the worst reward.
    """

    logits: Floats
    mean: Floats
    square: Floats
    steps: int = 0
    total: float = 0.0
    weight: float = 0.0
    worst: float = math.inf

    def told(self, reward: float, momentum: float) -> _State:
        """Return the state with ``reward`` in the moving average."""
        return replace(
            self,
            total=momentum * self.total + (1 - momentum) * reward,
            weight=momentum * self.weight + (1 - momentum),
        )

    @property
    def baseline(self) -> float:
        return self.total / self.weight


@dataclass
class Reinforce(Sampler):
    """A policy gradient on one independent categorical distribution per choice, with a baseline.

    The reward is the objective. A stopped trial counts with its last value but never as better
    than the baseline, one that breaks a bound as the worst so far; failed trials teach nothing.
    Lessons are learned in the order of the trials' numbers, whatever the order of their ends.

    Attributes:
        lr: Learning rate of Adam on the logits.
        momentum: Momentum of the moving average of rewards, which is the baseline; from 0, below
            1.
        distinct: Whether a known architecture (up to isomorphism) is drawn again. If not, a
            controller that has converged repeats its favorite, as in the published runs.

    Raises:
        UserError: A setting is outside its range, or at ``setup`` there are several objectives.
    """

    lr: float = 0.1
    momentum: float = 0.9
    distinct: bool = True

    name: ClassVar[str] = "reinforce"

    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _repeats: RepeatReplay = field(init=False, repr=False, compare=False)
    _lessons: list[_Lesson] = field(init=False, repr=False, compare=False)  # by number
    _states: list[_State] = field(init=False, repr=False, compare=False)  # after so many lessons

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.lr > 0:
            raise UserError(f"Reinforce: lr = {self.lr}", expected="above 0, for instance 0.1")
        if not 0 <= self.momentum < 1:
            raise UserError(f"Reinforce: momentum = {self.momentum}", expected="from 0, below 1")

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with uniform distributions.

        Args:
            space: The search space.
            problem: The search problem, with one objective.

        Raises:
            UserError: There are several objectives.
        """
        one_objective("Reinforce", problem)
        self._problem, self._space = problem, space
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._repeats = RepeatReplay(space)
        self._lessons = []
        shape = len(space.choices), max(len(choice) for choice in space.choices)
        none = np.zeros(shape)
        there = np.arange(shape[1]) < np.array([[len(choice)] for choice in space.choices])
        self._states = [_State(np.where(there, 0.0, -np.inf), none, none)]

    def ask(self, number: int) -> Architecture:
        """Draw an architecture from the controller.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        if number in self._repeats:
            return self._repeats[number]
        arch = self._propose(number)
        self._distinct.add(arch)
        return arch

    def _propose(self, number: int) -> Architecture:
        rng = rng_for(self._problem.seed, self.name, number)
        self._learn()
        chances = _softmax(self._states[-1].logits)
        for _ in range(_DRAWS if self.distinct else 1):
            arch = self._draw(chances, rng)
            if not self.distinct or arch not in self._distinct:
                return arch
        return self._distinct.variant(arch, rng, number)

    def _draw(self, chances: Floats, rng: np.random.Generator) -> Architecture:
        places = [
            int(rng.choice(len(choice), p=row[: len(choice)]))
            for choice, row in zip(self._space.choices, chances, strict=True)
        ]
        return self._space.architecture(
            {c.name: c.options[i] for c, i in zip(self._space.choices, places, strict=True)}
        )

    def tell(self, trial: Trial) -> None:
        """Remember the reward of a trial; it is learned at the next ask."""
        lesson = self._lesson(trial)
        if lesson is None or trial.number in self._repeats:
            return
        place = bisect.bisect(self._lessons, lesson.number, key=lambda known: known.number)
        self._lessons.insert(place, lesson)
        del self._states[place + 1 :]  # what was learned later is learned again

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials if self.distinct else self._repeats.within(trials, self._propose):
            self._distinct.replay(trial)
            if trial.state.ended:
                self.tell(trial)

    def _lesson(self, trial: Trial) -> _Lesson | None:
        """Return the lesson of a trial, or None for a trial that teaches nothing."""
        options = np.array([c.options.index(trial.proposal[c.name]) for c in self._space.choices])
        if trial.state is TrialState.INFEASIBLE:
            return _Lesson(trial.number, options, math.nan, False)
        values = trial.values()
        value = values.get(self._problem.objectives[0].metric, math.nan)
        if trial.state is TrialState.FAILED or not math.isfinite(value):
            return None
        reward = signed(self._problem.objectives, values)[0]
        return _Lesson(trial.number, options, reward, trial.state is TrialState.COMPLETE)

    def _learn(self) -> None:
        """Bring the controller up to date with all lessons."""
        for lesson in self._lessons[len(self._states) - 1 :]:
            self._states.append(self._after(self._states[-1], lesson))

    def _after(self, state: _State, lesson: _Lesson) -> _State:
        reward = state.worst if math.isnan(lesson.reward) else lesson.reward
        state = replace(state, worst=min(state.worst, reward))
        if lesson.complete:
            state = state.told(reward, self.momentum)
        if not state.weight:  # there is no baseline yet
            return state
        advantage = reward - state.baseline
        return self._step(
            state, lesson.options, advantage if lesson.complete else min(advantage, 0.0)
        )

    def _step(self, state: _State, options: NDArray[np.intp], advantage: float) -> _State:
        """Return the state after one step of Adam.

        The loss is minus the log-probability of ``options`` times ``advantage``.
        """
        chosen = np.zeros_like(state.mean)
        chosen[np.arange(len(chosen)), options] = 1.0
        gradient = advantage * (_softmax(state.logits) - chosen)
        mean = _BETAS[0] * state.mean + (1 - _BETAS[0]) * gradient
        square = _BETAS[1] * state.square + (1 - _BETAS[1]) * gradient**2
        steps = state.steps + 1
        scale = np.sqrt(square / (1 - _BETAS[1] ** steps)) + 1e-8
        logits = state.logits - self.lr * (mean / (1 - _BETAS[0] ** steps)) / scale
        return replace(state, logits=logits, mean=mean, square=square, steps=steps)


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)
