"""This module has regularized (aging) evolution.

Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search",
AAAI 2019, https://arxiv.org/abs/1802.01548.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import ClassVar

import numpy as np

from raynas.core import Architecture, SearchProblem, Trial, TrialState, rng_for, signed
from raynas.core.fields import check_fields
from raynas.core.pareto import pareto_order
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least
from raynas.samplers.repeats import RepeatReplay
from raynas.spaces.base import SearchSpace


@dataclass(frozen=True)
class _Individual:
    number: int
    proposal: Architecture
    step: int  # of the values; a completed trial counts as beyond every step
    values: tuple[float, ...]  # higher is better


@dataclass
class RegularizedEvolution(Sampler):
    """An evolution that mutates the best of a random sample of the youngest trials.

    The first ``population`` trials are random. Then ``sample`` members are drawn without
    replacement and the best one's proposal is mutated in one choice; a child that is known up to
    isomorphism is mutated again, unless ``distinct`` is off. The population are the
    ``population`` trials of highest number that ended with a value. Age is the number, not the
    time of the end, so that a proposal depends on seed and history only, with any number of
    workers and after any interruption.

    Infeasible and failed trials are never parents. A completed trial beats every stopped one;
    among stopped ones more steps win, then the value there: values of different fidelity are
    never compared. Several objectives are compared by Pareto rank, then crowding.

    Attributes:
        population: Number of members, 2 or more.
        sample: Number of members drawn for one child.
        distinct: Whether known architectures are never proposed again.

    Raises:
        UserError: A setting is outside its range.

    Example:
        >>> from raynas.core import Objective, SearchProblem
        >>> from raynas.spaces import NASBench201
        >>> sampler = RegularizedEvolution(population=10, sample=3)
        >>> goal = (Objective("val_accuracy", "max"),)
        >>> problem = SearchProblem(goal, max_step=1, seed=1, run="a")
        >>> sampler.setup(NASBench201(), problem)
        >>> sampler.ask(0).space
        'nasbench201'
    """

    population: int = 30
    sample: int = 10
    distinct: bool = True

    name: ClassVar[str] = "evolution"

    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _repeats: RepeatReplay = field(init=False, repr=False, compare=False)
    _members: list[_Individual] = field(init=False, repr=False, compare=False)  # by number
    _hopeful: int = field(init=False, repr=False, compare=False)  # asked, less those without value

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("RegularizedEvolution", "population", self.population, 2)
        at_least("RegularizedEvolution", "sample", self.sample, 1)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start with an empty population.

        Args:
            space: The search space.
            problem: The search problem, with one or several objectives.
        """
        self._problem, self._space = problem, space
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._repeats = RepeatReplay(space)
        self._members = []
        self._hopeful = 0

    def ask(self, number: int) -> Architecture:
        """Return a random architecture, or a mutant of the best of a sample.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        if number in self._repeats:
            return self._repeats[number]
        child = self._propose(number)
        self._distinct.add(child)
        self._hopeful += 1
        return child

    def _propose(self, number: int) -> Architecture:
        rng = rng_for(self._problem.seed, self.name, number)
        if self._hopeful < self.population or not self._members:
            return self._distinct.fresh(number) if self.distinct else self._space.sample(rng)
        parent = self._parent(rng).proposal
        if not self.distinct:
            return self._space.mutate(parent, rng)
        return self._distinct.variant(parent, rng, number)

    def tell(self, trial: Trial) -> None:
        """Let a trial with a value join the population; the oldest member leaves."""
        if trial.number in self._repeats:
            return
        member = self._individual(trial)
        if member is None:
            self._hopeful -= 1
        else:
            bisect.insort(self._members, member, key=lambda m: m.number)

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials if self.distinct else self._repeats.within(trials, self._propose):
            self._distinct.replay(trial)
            self._hopeful += 1
            if trial.state.ended:
                self.tell(trial)

    def _individual(self, trial: Trial) -> _Individual | None:
        """Return the member, or None for a trial that cannot be a parent."""
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED) or trial.last is None:
            return None
        values = trial.values()
        if any(not np.isfinite(values.get(o.metric, np.nan)) for o in self._problem.objectives):
            return None
        done = trial.state is TrialState.COMPLETE
        step = self._problem.max_step + 1 if done else trial.step
        return _Individual(
            trial.number, trial.proposal, step, signed(self._problem.objectives, values)
        )

    def _parent(self, rng: np.random.Generator) -> _Individual:
        living = self._members[-self.population :]
        drawn = rng.choice(len(living), size=min(self.sample, len(living)), replace=False)
        return _ranked([living[i] for i in sorted(drawn)])[0]


def _ranked(individuals: list[_Individual]) -> list[_Individual]:
    """Return the members best first: those with most steps first, equals by their values."""
    ranked: list[_Individual] = []
    by_step = sorted(individuals, key=lambda i: (-i.step, i.number))
    for _, level in groupby(by_step, key=lambda i: i.step):
        peers = list(level)
        order = pareto_order(np.array([p.values for p in peers], dtype=np.float64))
        ranked += [peers[i] for i in order]
    return ranked
