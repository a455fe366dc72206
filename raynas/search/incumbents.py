"""This module keeps the best trials so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from raynas.core import Objective, Trial, TrialState, signed
from raynas.core.pareto import pareto_order


class Incumbents:
    """The best COMPLETE trials of a search, and its Pareto front.

    Args:
        objectives: The objectives; the first one is shown.
        keep: Number of best trials to keep.
        past: Stored trials.
    """

    def __init__(
        self, objectives: tuple[Objective, ...], keep: int, past: Iterable[Trial] = ()
    ) -> None:
        self._objectives, self._keep = objectives, keep
        self._best: list[Trial] = []
        self._front: dict[int, tuple[Trial, tuple[float, ...]]] = {}
        for trial in past:
            self.enter(trial)

    def enter(self, trial: Trial) -> None:
        """Rank a trial that has ended; one that is not COMPLETE changes nothing.

        Args:
            trial: The trial.
        """
        if trial.state is not TrialState.COMPLETE:
            return
        values = self.score(trial)
        if not any(_dominates(other, values) for _, other in self._front.values()):
            left = {n: e for n, e in self._front.items() if not _dominates(values, e[1])}
            self._front = {**left, trial.number: (trial, values)}
        candidates = [*self._best, trial]
        scores = [self.score(one) for one in candidates]
        if len(self._objectives) == 1:
            order = sorted(
                range(len(candidates)), key=lambda i: (-scores[i][0], candidates[i].number)
            )
        else:
            order = list(pareto_order(scores))  # type: ignore[arg-type]
        self._best = [candidates[i] for i in order[: self._keep]]

    def score(self, trial: Trial) -> tuple[float, ...]:
        """Return the objectives' values, higher is better.

        Args:
            trial: The trial.

        Returns:
            One value per objective; minus infinity where one is missing.
        """
        known = {o.metric: -o.sign * math.inf for o in self._objectives}
        return signed(self._objectives, {**known, **trial.values()})

    @property
    def best(self) -> tuple[Trial, ...]:
        """The best trials.

        Returns:
            At most ``keep`` trials, best first; by Pareto rank for several objectives.
        """
        return tuple(self._best)

    @property
    def front(self) -> Mapping[int, object]:
        """The trials that no other dominates.

        Returns:
            A mapping whose keys are their numbers.
        """
        return self._front

    @property
    def first(self) -> Trial | None:
        """The best trial by the first objective.

        Returns:
            The trial, of equals the one of the lowest number; None without a COMPLETE trial.
        """
        if not self._front:
            return None
        return max(self._front.values(), key=lambda e: (e[1][0], -e[0].number))[0]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return whether ``one`` is nowhere worse and somewhere better; higher is better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
