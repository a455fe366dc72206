"""This module has the model of BOHB: two kernel density estimates, of good and bad architectures.

Falkner, Klein, Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale",
ICML 2018, https://arxiv.org/abs/1807.01774. The method is this sampler with ``Hyperband`` as the
scheduler. The kernel of an unordered choice is that of Aitchison and Aitken (1976).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, SearchProblem, Trial, TrialState, UserError, rng_for, signed
from raynas.core.fields import check_fields
from raynas.core.ranks import share_of
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least, one_objective
from raynas.samplers.repeats import RepeatReplay
from raynas.spaces.base import SearchSpace

Floats = NDArray[np.float64]
Places = NDArray[np.intp]  # (..., choices): the option's index in its choice


@dataclass(frozen=True)
class _Density:
    """A kernel density over options.

    ``points`` is (n, choices) option indices, ``widths`` (choices,) the probability that a choice
    is drawn anew.
    """

    points: Places
    widths: Floats
    options: Places  # (choices,) how many there are

    def __call__(self, places: Places) -> Floats:
        """Return the densities (m,) at option indices (m, choices)."""
        others = self.widths / np.maximum(self.options - 1, 1)
        same = self.points == places[:, None]
        kernel = np.where(same, 1 - self.widths, others)
        return np.asarray(np.maximum(kernel.prod(axis=2).mean(axis=1), 1e-32), dtype=np.float64)

    def draw(self, count: int, rng: np.random.Generator) -> Places:
        """Draw option indices, (count, choices)."""
        near = self.points[rng.integers(len(self.points), size=count)]
        anew = rng.random(near.shape) < self.widths
        return np.where(anew, rng.integers(self.options, size=near.shape), near)


@dataclass
class BOHB(Sampler):
    """A sampler that proposes what is likely among good architectures and unlikely among bad ones.

    The model is of the highest step at which enough trials were measured for it: one more than
    there are choices for the good ones, and as many for the bad ones. While a higher rung fills,
    the model is of the step below (Falkner et al., algorithm 2; the least number is that of the
    authors' code, where good and bad ones do not overlap).

    The authors' rule makes kernels of unordered choices so wide that in small spaces the model
    says little: on NAS-Bench-201 it does as well as random search, as published. TPE models
    better. Trials that break a bound or failed are not in the model.

    Attributes:
        top: Share of a step's trials that count as good, above 0 and up to 1.
        candidates: Draws per ask, of which the best by the ratio of the densities is taken.
        random: Share of proposals that are random, from 0 to 1.
        width: The narrowest kernel. The defaults are the authors'.
        distinct: Whether a proposal that is known up to isomorphism is replaced by a mutant of it.

    Raises:
        UserError: A setting is outside its range, or at ``setup`` there are several objectives.
    """

    top: float = 0.15
    candidates: int = 64
    random: float = 1 / 3
    width: float = 0.3
    distinct: bool = True

    name: ClassVar[str] = "bohb"

    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _repeats: RepeatReplay = field(init=False, repr=False, compare=False)
    _options: Places = field(init=False, repr=False, compare=False)  # how many a choice has
    # step -> number -> (value, higher is better; options)
    _measured: dict[int, dict[int, tuple[float, Places]]] = field(
        init=False, repr=False, compare=False
    )
    _model: tuple[_Density, _Density] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        at_least("BOHB", "candidates", self.candidates, 1)
        for setting, low in (("top", 0.0), ("random", -1.0), ("width", 0.0)):
            value = getattr(self, setting)
            if not low < value <= 1 or value < 0:
                raise UserError(f"BOHB: {setting} = {value}", expected="above 0, up to 1")

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start without any history for this space and problem.

        Args:
            space: The search space.
            problem: The search problem, with one objective.

        Raises:
            UserError: There are several objectives.
        """
        one_objective("BOHB", problem)
        self._problem, self._space = problem, space
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._repeats = RepeatReplay(space)
        self._options = np.array([len(choice) for choice in space.choices])
        self._measured, self._model = {}, None

    def ask(self, number: int) -> Architecture:
        """Return a random architecture, or the best of some draws by the model.

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
        model = self._model or self._fit()
        if model is None or rng.random() < self.random:
            return self._distinct.fresh(number) if self.distinct else self._space.sample(rng)
        self._model = model
        good, bad = model
        drawn = good.draw(self.candidates, rng)
        best = drawn[int(np.argmin(bad(drawn) / good(drawn)))]
        arch = self._space.architecture(
            {c.name: c.options[i] for c, i in zip(self._space.choices, best, strict=True)}
        )
        known = self.distinct and arch in self._distinct
        return self._distinct.variant(arch, rng, number) if known else arch

    def tell(self, trial: Trial) -> None:
        """Learn from all steps of a trial that has ended.

        Args:
            trial: A trial; only COMPLETE and STOPPED ones count.
        """
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED):
            return
        if trial.number in self._repeats:
            return
        place = np.array([c.options.index(trial.proposal[c.name]) for c in self._space.choices])
        for measurement in trial.measurements:
            values = trial.values(measurement)
            if math.isfinite(values.get(self._problem.objectives[0].metric, math.nan)):
                value = signed(self._problem.objectives, values)[0]
                self._measured.setdefault(measurement.step, {})[trial.number] = value, place
        self._model = None

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials if self.distinct else self._repeats.within(trials, self._propose):
            self._distinct.replay(trial)
            if trial.state.ended:
                self.tell(trial)

    def _fit(self) -> tuple[_Density, _Density] | None:
        """Return the densities of good and bad ones at the highest step that has enough of both."""
        least = len(self._space.choices) + 1
        for step in sorted(self._measured, reverse=True):
            found = self._measured[step]
            if len(found) >= 2 * least:
                good = min(max(least, share_of(len(found), self.top)), len(found) - least)
                order = sorted(found, key=lambda number: (-found[number][0], number))
                places = np.array([found[number][1] for number in order])
                return self._density(places[:good]), self._density(places[good:])
        return None

    def _density(self, points: Places) -> _Density:
        """Return the density of points, with widths by the normal reference rule.

        Kernels are at most as wide as a uniform one.
        """
        n, d = points.shape
        widths = np.maximum(1.06 * points.std(axis=0) * n ** (-1 / (4 + d)), self.width)
        uniform = (self._options - 1) / self._options
        return _Density(points, np.minimum(widths, uniform), self._options)
