"""Spaces, trials and histories of proposals for the contract suites of samplers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from raynas.core import (
    Architecture,
    Bound,
    Choice,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    TrialState,
)
from raynas.samplers import Sampler
from raynas.spaces.base import InputShape, SearchSpace

MakeSampler = Callable[[], Sampler]
Objectives = tuple[Objective, ...]


@dataclass(frozen=True)
class ChoicesOnly(SearchSpace):
    """A space without networks; sorting the options of its unordered choices changes nothing.

    Attributes:
        parts: The choices.
    """

    parts: tuple[Choice, ...] = ()
    name: ClassVar[str] = "toy"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices."""
        return self.parts

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the architecture with the options of unordered choices sorted."""
        alike = [c.name for c in self.parts if not c.ordered]
        return self.architecture(
            {**arch, **dict(zip(alike, sorted(map(str, map(arch.get, alike))), strict=True))}
        )

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Any:
        """Raise, because a sampler never builds a network."""
        raise AssertionError("a sampler never builds a network")


def ops(n: int, options: str = "abcd") -> tuple[Choice, ...]:
    """Return ``n`` unordered choices."""
    return tuple(Choice(f"op{i}", tuple(options)) for i in range(n))


def widths(n: int, options: int = 5) -> tuple[Choice, ...]:
    """Return ``n`` ordered choices."""
    return tuple(
        Choice(f"w{i}", tuple(8 * (k + 1) for k in range(options)), True) for i in range(n)
    )


CATEGORICAL = ChoicesOnly(ops(4))  # 256 architectures, 35 classes
ORDERED = ChoicesOnly(widths(4))  # 625
MIXED = ChoicesOnly(ops(2, "abc") + widths(3))  # 1125
SPACES = {"categorical": CATEGORICAL, "ordered": ORDERED, "mixed": MIXED}
ONE = (Objective("val_accuracy"),)
TWO = (Objective("val_accuracy"), Objective("macs", "min"))
BOUND = Bound("params", max=100.0)
MAX_STEP = 9
KINDS = ("COMPLETE", "STOPPED", "COMPLETE", "INFEASIBLE", "COMPLETE", "FAILED")


def problem(seed: int = 0, objectives: Objectives = ONE, run: str = "run-1") -> SearchProblem:
    """Return a search problem with a bound on the parameters."""
    return SearchProblem(objectives, MAX_STEP, seed, run, bounds=(BOUND,))


def _quality(space: SearchSpace, arch: Architecture) -> float:
    index = [c.options.index(arch[c.name]) / max(len(c) - 1, 1) for c in space.choices]
    return 100.0 * float(np.mean(index)) - 5.0 * abs(index[0] - index[-1])


def end_trial(trial: Trial, space: SearchSpace, kind: str) -> None:
    """Give a trial the curve and the end that a search would give it."""
    value = _quality(space, trial.arch)
    steps = {"COMPLETE": MAX_STEP, "STOPPED": 3, "INFEASIBLE": 0, "FAILED": 2}[kind]
    trial.costs = {"params": 50.0, "macs": 1e6 + 1e4 * value}
    trial.violations = {str(BOUND): -0.5}
    if kind == "INFEASIBLE":
        trial.violations = {str(BOUND): 0.25 + value / 1000}
    trial.measurements = [
        Measurement(s, {"val_accuracy": value * s / MAX_STEP}) for s in range(1, steps + 1)
    ]
    if kind == "FAILED":
        trial.measurements.append(Measurement(3, {"val_accuracy": float("nan")}))
        trial.message = "the loss is NaN"
    trial.state = TrialState(kind)


@dataclass
class AskTellSearch:
    """A small search that asks with several workers and ends trials in a fixed, mixed order."""

    sampler: Sampler
    space: SearchSpace
    workers: int = 1
    kinds: tuple[str, ...] = KINDS
    trials: list[Trial] = field(default_factory=list)

    def step(self) -> None:
        """Ask for a trial where a worker is free, else end one."""
        running = [t for t in self.trials if t.state is TrialState.RUNNING]
        if len(running) < self.workers:
            number = len(self.trials)
            arch = self.sampler.ask(number)
            self.trials.append(Trial(number, arch, self.space.canonical(arch)))
            return
        done = running[(7 * len(self.trials)) % len(running)]
        end_trial(done, self.space, self.kinds[done.number % len(self.kinds)])
        self.sampler.tell(done)

    def until(self, asked: int) -> AskTellSearch:
        """Go on until this many trials were asked for."""
        while len(self.trials) < asked:
            self.step()
        return self

    def proposals(self) -> list[Architecture]:
        """Return the proposals in the order of the trials."""
        return [t.proposal for t in self.trials]


@dataclass
class AnsweringSearch(AskTellSearch):
    """A search that answers proposals of known architectures itself and does not store them.

    ``trials`` are what is stored; ``asked`` has every number with its proposal.
    """

    asked: dict[int, Architecture] = field(default_factory=dict)
    waiting: list[tuple[Trial, Trial]] = field(default_factory=list)
    number: int = 0

    def step(self) -> None:
        """Ask where a worker is free, else end a trial and answer the repeats of it."""
        running = [t for t in self.trials if t.state is TrialState.RUNNING]
        if len(running) < self.workers:
            self.ask()
            return
        done = running[(7 * len(self.trials)) % len(running)]
        end_trial(done, self.space, self.kinds[done.number % len(self.kinds)])
        self.sampler.tell(done)
        for first, repeat in [pair for pair in self.waiting if pair[0] is done]:
            self.waiting.remove((first, repeat))
            self.answer(first, repeat)

    def ask(self) -> None:
        """Ask for the next number."""
        number, self.number = self.number, self.number + 1
        arch = self.sampler.ask(number)
        self.asked[number] = arch
        trial = Trial(number, arch, self.space.canonical(arch))
        first = next((t for t in self.trials if t.arch == trial.arch), None)
        if first is None:
            self.trials.append(trial)
        elif first.state.ended:
            self.answer(first, trial)
        else:
            self.waiting.append((first, trial))

    def answer(self, first: Trial, repeat: Trial) -> None:
        """Tell the sampler of a repeat what is known of its architecture."""
        self.sampler.tell(
            dataclasses.replace(first, number=repeat.number, proposal=repeat.proposal)
        )

    def asks(self, count: int) -> AnsweringSearch:
        """Go on until this many numbers were asked for."""
        while self.number < count:
            self.step()
        return self


def simulate(
    sampler: MakeSampler,
    space: SearchSpace,
    seed: int = 0,
    objectives: Objectives = ONE,
    workers: int = 1,
    kinds: tuple[str, ...] = KINDS,
) -> AskTellSearch:
    """Return a new search with a new sampler."""
    made = sampler()
    made.setup(space, problem(seed, objectives))
    return AskTellSearch(made, space, workers, kinds)


def resume(
    before: AskTellSearch, sampler: MakeSampler, objectives: Objectives = ONE
) -> AskTellSearch:
    """Return a search with a new sampler that takes over the history of another search."""
    made = sampler()
    made.setup(before.space, problem(0, objectives))
    trials = copy.deepcopy(before.trials)
    made.replay(trials)
    return AskTellSearch(made, before.space, before.workers, before.kinds, trials)


def simulate_answering(
    sampler: MakeSampler, workers: int = 1, kinds: tuple[str, ...] = KINDS
) -> AnsweringSearch:
    """Return a new search on ``ORDERED`` that answers repeats itself."""
    made = sampler()
    made.setup(ORDERED, problem())
    return AnsweringSearch(made, ORDERED, workers, kinds)


def restart(before: AnsweringSearch, sampler: MakeSampler) -> AnsweringSearch:
    """Return a search with a new sampler that knows what is stored."""
    after = simulate_answering(sampler, workers=before.workers, kinds=before.kinds)
    after.trials = copy.deepcopy(before.trials)
    after.number = 1 + max((t.number for t in after.trials), default=-1)
    after.sampler.replay(after.trials)
    return after
