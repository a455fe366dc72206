"""This module has successive halving and Hyperband, which wait for a whole rung.

Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016, https://arxiv.org/abs/1502.07943; Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar,
"Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18, 2018,
https://arxiv.org/abs/1603.06560.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Decision, Trial, TrialState
from raynas.schedulers.base import began, require_integer
from raynas.schedulers.rungs import RungRanking, RungScheduler


@dataclass(eq=False)
class _Bracket:
    """A group of up to ``size`` trials that are halved together.

    ``alive`` are the numbers of those that have not ended.
    """

    size: int
    rungs: list[RungRanking]
    begun: int = 0
    alive: set[int] = field(default_factory=set)
    waiting: dict[int, RungRanking] = field(default_factory=dict)

    def verdicts(self, factor: int, last: bool) -> list[tuple[int, Decision]]:
        """Return the decisions on the trials at the lowest rung, once all that are alive wait."""
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
    """Return ``ceil((most + 1) / (halvings + 1) * factor**halvings)`` in exact integers."""
    return -(-(most + 1) * int(factor**halvings) // (halvings + 1))


@dataclass
class BracketScheduler(RungScheduler):
    """The common part of schedulers that halve the trials of a bracket together.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.
        brackets: Number of kinds of brackets, those with most halvings first; None for all.

    Raises:
        UserError: A setting is outside its range.
    """

    brackets: int | None = None

    _sizes: list[tuple[int, int]] = field(init=False, repr=False, compare=False)
    _open: list[_Bracket] = field(init=False, repr=False, compare=False)
    _opened: int = field(init=False, repr=False, compare=False)
    _of: dict[int, _Bracket] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.brackets is not None:
            name = type(self).__name__
            self.brackets = require_integer(name, "brackets", self.brackets, 1)

    @abstractmethod
    def bracket_sizes(self) -> list[tuple[int, int]]:
        """Return the kinds of brackets, in the order in which they begin.

        Returns:
            Pairs of the index of a bracket's first rung and its number of trials.
        """

    def reset(self) -> None:
        """Forget all brackets."""
        self._sizes = self.bracket_sizes()
        self._open, self._opened, self._of = [], 0, {}

    def hyperband_sizes(self) -> list[tuple[int, int]]:
        """Return the kinds of brackets of Hyperband, as many as ``brackets``.

        Returns:
            Pairs of the index of a bracket's first rung and its number of trials.
        """
        most = len(self._rungs)
        kinds = range(most, max(-1, most - (self.brackets or most + 1)), -1)
        return [(most - s, _bracket_size(most, s, self.factor)) for s in kinds]

    def begin(self, trial: Trial) -> None:
        """Put a new trial into the last bracket, or into a new one when that is full.

        Args:
            trial: The trial.
        """
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
        """Return PAUSE at a rung of the trial's bracket, else CONTINUE.

        Args:
            trial: The trial, with its last measurement.

        Returns:
            CONTINUE or PAUSE; STOP for a measurement without finite objectives.
        """
        if not self._finite(trial, trial.last):
            return Decision.STOP
        self._enter(trial, trial.last)  # the rungs for display hold all brackets
        bracket = self._of[trial.number]
        rung = self._enter(trial, trial.last, bracket.rungs)
        if rung is None or not self._rests(trial, rung):
            return Decision.CONTINUE
        self._wait(trial, bracket, rung)
        return Decision.PAUSE

    def decide_waiting(self, last: bool) -> Sequence[tuple[int, Decision]]:
        """Decide on the trials of a rung when all trials of its bracket wait.

        Args:
            last: Nothing new will start, so brackets that are not full are decided on, too.

        Returns:
            Pairs of a trial number and CONTINUE or STOP.
        """
        found = [v for bracket in self._open for v in bracket.verdicts(self.factor, last)]
        for number, decision in found:
            if decision is Decision.CONTINUE:
                for rung in self._rungs:
                    rung.stopped.discard(number)
        return found

    def end(self, trial: Trial) -> None:
        """Take a trial that has ended out of its bracket."""
        bracket = self._of[trial.number]
        bracket.alive.discard(trial.number)
        bracket.waiting.pop(trial.number, None)
        if not bracket.alive and bracket.begun == bracket.size and bracket in self._open:
            self._open.remove(bracket)

    def pause_steps(self) -> Sequence[int]:
        """Return the steps of all rungs.

        Returns:
            Steps from low to high.
        """
        return [rung.step for rung in self._rungs]

    def waiting_trials(self) -> Collection[int]:
        """Return the trials that wait in a bracket.

        Returns:
            Their numbers.
        """
        return {number for bracket in self._open for number in bracket.waiting}

    def replay(self, trials: Iterable[Trial]) -> None:
        """Rebuild brackets and rungs from stored trials."""
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

    def _rests(self, trial: Trial, rung: RungRanking) -> bool:
        return trial.step < self._end and rung.entries[trial.number][0] == trial.step

    def _wait(self, trial: Trial, bracket: _Bracket, rung: RungRanking) -> None:
        if trial.number in bracket.alive:
            bracket.waiting[trial.number] = rung
        rung.stopped.add(trial.number)
        for shown in self._rungs:
            if shown.step == rung.step:
                shown.stopped.add(trial.number)


@dataclass
class Hyperband(BracketScheduler):
    """A scheduler of brackets of successive halving, from early stopping to no stopping.

    With ``k`` rungs below the last step, a bracket with ``s`` halvings, ``s = k, ..., 0``, begins
    with ``ceil((k + 1) / (s + 1) * factor**s)`` trials, which are compared at the highest ``s``
    rungs: of ``n`` in a rung the ``max(1, floor(n / factor))`` best go on once all have come, the
    others stop. After the last kind of bracket the first comes again.

    A worker that finds nothing to do in the brackets that have begun starts a new trial, of the
    next bracket if need be. Rungs and ranks as in :class:`~raynas.schedulers.asha.ASHA`.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.
        brackets: Number of kinds of brackets, those with most halvings first; None for all.

    Raises:
        UserError: A setting is outside its range.
    """

    brackets: int | None = None

    name: ClassVar[str] = "hyperband"

    def bracket_sizes(self) -> list[tuple[int, int]]:
        """Return the kinds of brackets, from most halvings to none.

        Returns:
            Pairs of the index of a bracket's first rung and its number of trials.
        """
        return self.hyperband_sizes()


@dataclass
class SuccessiveHalving(BracketScheduler):
    """A scheduler of brackets of one kind, compared at each of the ``k`` rungs.

    It is the synchronous method; :class:`~raynas.schedulers.asha.ASHA` does not wait.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.
        brackets: Number of kinds of brackets, here 1.
        size: Number of trials in a bracket; None for ``factor**k``.
        overlap: Whether workers that would wait begin the next bracket. If not, they wait until
            the bracket is over.

    Raises:
        UserError: A setting is outside its range.
    """

    brackets: int | None = 1
    size: int | None = None
    overlap: bool = True

    name: ClassVar[str] = "halving"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            self.size = require_integer("SuccessiveHalving", "size", self.size, 1)

    def bracket_sizes(self) -> list[tuple[int, int]]:
        """Return one kind of bracket, of ``size`` trials if it is set.

        Returns:
            Pairs of the index of a bracket's first rung and its number of trials.
        """
        found = self.hyperband_sizes()
        return found if self.size is None else [(first, self.size) for first, _ in found]

    def may_begin(self) -> bool:
        """Return whether a new trial may start now.

        Returns:
            False while a full bracket is open and brackets must not overlap.
        """
        return self.overlap or not self._open or self._open[-1].begun < self._open[-1].size
