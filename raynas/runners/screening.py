"""Screening in a search: scores for a batch of proposals, and which of them go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from raynas.core import Architecture, Job, Measurement, Trial, TrialState
from raynas.evaluators.screen import Screen


class Scored(Protocol):
    """What is used of a runner's outcomes."""

    @property
    def measurement(self) -> Measurement | None: ...
    @property
    def failure(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def device(self) -> str: ...


Scorer = Callable[[Sequence[tuple[Architecture, Job]]], Sequence[Sequence[Scored]]]


@dataclass(frozen=True)
class Verdict:
    """What became of a proposal that was scored; ``goes_on`` to the search's own evaluator."""

    trial: Trial
    goes_on: bool
    host: str
    device: str


class Screening:
    """A :class:`Screen` at work. Scores are measurements at step 0, before any training."""

    def __init__(self, screen: Screen, scorer: Scorer, past: Iterable[Trial] = ()) -> None:
        self.screen, self._scorer = screen, scorer
        self._names = (*screen.names, "params", "macs")
        self._scores: list[tuple[float, ...]] = []
        for trial in past:
            if trial.measurements and trial.measurements[0].step == 0:
                self._scores.append(self._score(trial))

    def __call__(self, trials: Sequence[Trial], threads: int) -> list[Verdict]:
        """Score ``trials`` and judge them, best first; each gets its scores and state."""
        jobs = [(t.arch, Job(t.number, t.seed, max_step=1, threads=threads)) for t in trials]
        lasts = [outcomes[-1] for outcomes in self._scorer(jobs)]
        scored = [i for i, last in enumerate(lasts) if last.measurement is not None]
        for trial, last in zip(trials, lasts, strict=True):
            if last.measurement is None:
                trial.state = TrialState.FAILED
                trial.message = f"screening: {last.failure or 'no measurement'}"
            else:
                trial.measurements.append(replace(last.measurement, step=0))
        earlier = len(self._scores)
        self._scores += [self._score(trials[i]) for i in scored]
        on = [scored[place] for place in self._kept(earlier)] if scored else []
        for i in set(scored) - set(on):
            trials[i].state = TrialState.STOPPED
            trials[i].message = f"screened: not among the best {self.screen.keep:.0%}"
        order = [*on, *(i for i in range(len(trials)) if i not in on)]
        return [Verdict(trials[i], i in on, lasts[i].host, lasts[i].device) for i in order]

    def _score(self, trial: Trial) -> tuple[float, ...]:
        values = {**trial.costs, **trial.measurements[0].values}
        return tuple(float(values.get(name, np.nan)) for name in self._names)

    def _kept(self, earlier: int) -> list[int]:
        columns = np.array(self._scores).T
        return self.screen.kept(dict(zip(self._names, columns, strict=True)), earlier)
