"""Successive halving and Hyperband, which wait for a whole rung.

Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016, https://arxiv.org/abs/1502.07943; Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar,
"Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18, 2018,
https://arxiv.org/abs/1603.06560.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Decision, Problem, Trial, TrialState
from raynas.schedulers.base import began, require_integer
from raynas.schedulers.rungs import Halving, Standing


@dataclass(eq=False)
class _Bracket:
    """Up to ``size`` trials that are halved together. ``alive``: of these, who has not ended."""

    size: int
    rungs: list[Standing]
    begun: int = 0
    alive: set[int] = field(default_factory=set)
    waiting: dict[int, Standing] = field(default_factory=dict)

    def verdicts(self, factor: int, last: bool) -> list[tuple[int, Decision]]:
        """When all that are alive wait, those at the lowest of their rungs are judged."""
        complete = self.begun == self.size or last
        if not complete or not self.waiting or len(self.waiting) < len(self.alive):
            return []
        rung = min(self.waiting.values(), key=lambda r: r.step)
        best = set(rung.best(max(1, len(rung.entries) // factor)))
        found = []
        for number in sorted(n for n, at in self.waiting.items() if at is rung):
            del self.waiting[number]
            found.append((number, Decision.CONTINUE if number in best else Decision.STOP))
        rung.stopped -= best
        return found


def _bracket_size(most: int, halvings: int, factor: int) -> int:
    """``ceil((most + 1) / (halvings + 1) * factor**halvings)`` in integers, where floats err."""
    return -(-(most + 1) * int(factor**halvings) // (halvings + 1))


@dataclass
class Hyperband(Halving):
    """Brackets of successive halving, from one that stops early to one that stops nothing.

    With ``k`` rungs below the last step, a bracket with ``s`` halvings, ``s = k, ..., 0``, begins
    with ``ceil((k + 1) / (s + 1) * factor**s)`` trials, which are compared at the highest ``s``
    rungs: of ``n`` in a rung the ``max(1, floor(n / factor))`` best go on once all have come, the
    others stop. After the last kind of bracket the first comes again. ``brackets``: how many kinds
    there are, those with most halvings first; None for all.

    A worker that finds nothing to do in the brackets that have begun starts a new trial, of the
    next bracket if need be. Rungs and ranks as in :class:`~raynas.schedulers.asha.ASHA`.
    """

    brackets: int | None = None

    name: ClassVar[str] = "hyperband"

    _sizes: list[tuple[int, int]] = field(init=False, repr=False, compare=False)
    _open: list[_Bracket] = field(init=False, repr=False, compare=False)
    _opened: int = field(init=False, repr=False, compare=False)
    _of: dict[int, _Bracket] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.brackets is not None:
            name = type(self).__name__
            self.brackets = require_integer(name, "brackets", self.brackets, 1)

    def setup(self, problem: Problem) -> None:
        super().setup(problem)
        most = len(self._rungs)
        kinds = range(most, max(-1, most - (self.brackets or most + 1)), -1)
        # (where its rungs begin, how many trials)
        self._sizes = [(most - s, _bracket_size(most, s, self.factor)) for s in kinds]
        self._open, self._opened, self._of = [], 0, {}

    def begin(self, trial: Trial) -> None:
        bracket = self._open[-1] if self._open else None
        if bracket is None or bracket.begun == bracket.size:
            first, size = self._sizes[self._opened % len(self._sizes)]
            bracket = _Bracket(size, self._standings()[first:])
            self._open.append(bracket)
            self._opened += 1
        bracket.begun += 1
        bracket.alive.add(trial.number)
        self._of[trial.number] = bracket

    def decide(self, trial: Trial) -> Decision:
        if not self._finite(trial, trial.last):
            return Decision.STOP
        self._enter(trial, trial.last)  # the rungs for display hold all brackets
        bracket = self._of[trial.number]
        rung = self._enter(trial, trial.last, bracket.rungs)
        if rung is None or not self._rests(trial, rung):
            return Decision.CONTINUE
        self._wait(trial, bracket, rung)
        return Decision.PAUSE

    def review(self, last: bool = False) -> Sequence[tuple[int, Decision]]:
        found = [v for bracket in self._open for v in bracket.verdicts(self.factor, last)]
        for number, decision in found:
            if decision is Decision.CONTINUE:
                for rung in self._rungs:
                    rung.stopped.discard(number)
        return found

    def end(self, trial: Trial) -> None:
        bracket = self._of[trial.number]
        bracket.alive.discard(trial.number)
        bracket.waiting.pop(trial.number, None)
        if not bracket.alive and bracket.begun == bracket.size and bracket in self._open:
            self._open.remove(bracket)

    def pauses(self) -> Sequence[int]:
        return [rung.step for rung in self._rungs]

    def paused(self) -> Collection[int]:
        return {number for bracket in self._open for number in bracket.waiting}

    def replay(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            if not began(trial):
                continue
            self.begin(trial)
            bracket, rung = self._of[trial.number], None
            for measurement in trial.measurements:
                if self._finite(trial, measurement):
                    self._enter(trial, measurement)
                    rung = self._enter(trial, measurement, bracket.rungs)
            waits = trial.state in (TrialState.RUNNING, TrialState.STOPPED)
            if waits and rung is not None and self._rests(trial, rung):
                self._wait(trial, bracket, rung)
            if trial.state.ended:
                self.end(trial)

    def _rests(self, trial: Trial, rung: Standing) -> bool:
        return trial.step < self._end and rung.entries[trial.number][0] == trial.step

    def _wait(self, trial: Trial, bracket: _Bracket, rung: Standing) -> None:
        if trial.number in bracket.alive:
            bracket.waiting[trial.number] = rung
        rung.stopped.add(trial.number)
        for shown in self._rungs:
            if shown.step == rung.step:
                shown.stopped.add(trial.number)


@dataclass
class SuccessiveHalving(Hyperband):
    """Brackets of one kind: ``size`` trials (None: ``factor**k``), compared at each of ``k`` rungs.

    The synchronous method whose waiting :class:`~raynas.schedulers.asha.ASHA` does away with.
    ``overlap``: workers that would wait begin the next bracket; without it they wait until the
    bracket is over.
    """

    brackets: int | None = 1
    size: int | None = None
    overlap: bool = True

    name: ClassVar[str] = "halving"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            self.size = require_integer("SuccessiveHalving", "size", self.size, 1)

    def setup(self, problem: Problem) -> None:
        super().setup(problem)
        if self.size is not None:
            self._sizes = [(first, self.size) for first, _ in self._sizes]

    def admits(self) -> bool:
        return self.overlap or not self._open or self._open[-1].begun < self._open[-1].size
