"""This module scores batches of proposals in a search, and decides which of them go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from raynas.core import Architecture, Bound, Job, Measurement, Trial, TrialState, violations
from raynas.evaluators.screen import Screen


class ScoredOutcome(Protocol):
    """A runner's outcome, as the screening needs it."""

    @property
    def measurement(self) -> Measurement | None:
        """The scores, or None where scoring failed."""

    @property
    def failure(self) -> str:
        """The reason why scoring failed; empty if it did not."""

    @property
    def infeasible(self) -> bool:
        """True if scoring did not fit into memory."""

    @property
    def host(self) -> str:
        """The machine that scored."""

    @property
    def device(self) -> str:
        """The device that scored."""


Scorer = Callable[[Sequence[tuple[Architecture, Job]]], Sequence[Sequence[ScoredOutcome]]]


@dataclass(frozen=True)
class ScreeningVerdict:
    """The result of screening one proposal.

    Attributes:
        trial: The scored trial.
        goes_on: Whether it goes on to the search's own evaluator.
        host: The machine that scored.
        device: The device that scored.
    """

    trial: Trial
    goes_on: bool
    host: str
    device: str


class ProposalScreening:
    """The screening of one search, by the settings of a :class:`Screen`.

    Scores are measurements at step 0, before any training.

    Args:
        screen: The settings.
        scorer: Evaluates a batch of architectures.
        past: Trials of the search so far.
        bounds: Bounds on metrics that only screening measures; a trial that breaks one is
            INFEASIBLE and takes no place among the best.
    """

    def __init__(
        self,
        screen: Screen,
        scorer: Scorer,
        past: Iterable[Trial] = (),
        bounds: tuple[Bound, ...] = (),
    ) -> None:
        self.screen, self._scorer, self._bounds = screen, scorer, bounds
        self._names = (*screen.names, "params", "macs")
        scored = (t for t in past if t.measurements and t.measurements[0].step == 0)
        self._scores = [self._score(t) for t in scored if not self.broken(t)]

    def __call__(self, trials: Sequence[Trial], threads: int) -> list[ScreeningVerdict]:
        """Score trials and judge them; each gets its scores and state.

        Args:
            trials: New trials.
            threads: CPU threads of a score.

        Returns:
            One verdict per trial, best first.
        """
        jobs = [(t.arch, Job(t.number, t.seed, max_step=1, threads=threads)) for t in trials]
        lasts = [outcomes[-1] if outcomes else None for outcomes in self._scorer(jobs)]
        for trial, last in zip(trials, lasts, strict=True):
            self._take(trial, last)
        rivals = [i for i, trial in enumerate(trials) if not trial.state.ended]
        earlier = len(self._scores)
        self._scores += [self._score(trials[i]) for i in rivals]
        on = [rivals[place] for place in self._kept(earlier)] if rivals else []
        for i in set(rivals) - set(on):
            self._hold_back(trials[i])
        order = [*on, *(i for i in range(len(trials)) if i not in on)]
        places = [(last.host, last.device) if last else ("", "") for last in lasts]
        return [ScreeningVerdict(trials[i], i in on, *places[i]) for i in order]

    def broken(self, trial: Trial) -> str:
        """Return the bounds that the trial's scores break.

        Args:
            trial: The trial.

        Returns:
            The bounds in words; empty when all are kept.
        """
        first = trial.measurements[0] if trial.measurements else None
        return broken(violations(self._bounds, trial.values(first)))

    def held_back(self, trial: Trial) -> bool:
        """Return whether screening ended the trial: by its scores, or because it has none.

        Args:
            trial: The trial.

        Returns:
            True if it was screened out.
        """
        if not trial.state.ended or trial.step > 0:
            return False
        if not trial.measurements:  # what fails in its evaluation was scored before
            return trial.state is TrialState.FAILED
        return trial.state is TrialState.STOPPED or bool(self.broken(trial))

    def _take(self, trial: Trial, last: ScoredOutcome | None) -> None:
        if last is None or last.measurement is None:
            reason = " ".join(last.failure.split())[:500] if last else ""
            trial.state = TrialState.FAILED
            if last is not None and last.infeasible:
                trial.state = TrialState.INFEASIBLE
            trial.message = f"screening: {reason or 'no measurement'}"
            return
        found = last.measurement
        values = {n: v for n, v in found.values.items() if not np.isnan(v)}  # as they are stored
        trial.measurements.append(replace(found, step=0, values=values))
        if message := self.broken(trial):
            trial.state, trial.message = TrialState.INFEASIBLE, message

    def _hold_back(self, trial: Trial) -> None:
        note = " ".join(trial.measurements[0].note.split())[:400]
        trial.state = TrialState.STOPPED
        trial.message = f"screened: not among the best {100 * self.screen.keep:.3g} %"
        trial.message += f"; {note}" if note else ""

    def _score(self, trial: Trial) -> tuple[float, ...]:
        values = trial.values(trial.measurements[0])
        return tuple(float(values.get(name, np.nan)) for name in self._names)

    def _kept(self, earlier: int) -> list[int]:
        columns = np.array(self._scores).T
        return self.screen.kept(dict(zip(self._names, columns, strict=True)), earlier)


def broken(found: Mapping[str, float]) -> str:
    """Return the broken bounds in words.

    Args:
        found: Bound in words -> violation, above 0 where it is broken.

    Returns:
        The words; empty when no bound is broken.

    Example:
        >>> broken({"params <= 1": 0.5, "macs <= 9": -2.0})
        'breaks params <= 1'
    """
    names = [name for name, violation in found.items() if violation > 0]
    return "breaks " + ", ".join(names) if names else ""
