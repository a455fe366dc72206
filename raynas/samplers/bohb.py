"""The model of BOHB: two kernel density estimates over good and bad architectures.

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

from raynas.core import Architecture, Problem, Trial, TrialState, UserError, rng_for, signed
from raynas.core.fields import check_fields
from raynas.core.ranks import share_of
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import Distinct, at_least, one_objective
from raynas.samplers.repeats import Repeats
from raynas.spaces.base import SearchSpace

Floats = NDArray[np.float64]
Places = NDArray[np.intp]  # (..., choices): the option's index in its choice


@dataclass(frozen=True)
class _Density:
    """``points`` (n, choices), ``widths`` (choices,): how likely a choice is drawn anew."""

    points: Places
    widths: Floats
    options: Places  # (choices,) how many there are

    def __call__(self, places: Places) -> Floats:
        """(m, choices) -> (m,)"""
        others = self.widths / np.maximum(self.options - 1, 1)
        same = self.points == places[:, None]
        kernel = np.where(same, 1 - self.widths, others)
        return np.asarray(np.maximum(kernel.prod(axis=2).mean(axis=1), 1e-32), dtype=np.float64)

    def draw(self, count: int, rng: np.random.Generator) -> Places:
        """(count, choices)"""
        near = self.points[rng.integers(len(self.points), size=count)]
        anew = rng.random(near.shape) < self.widths
        return np.where(anew, rng.integers(self.options, size=near.shape), near)


@dataclass
class BOHB(Sampler):
    """Proposes what is likely among the good architectures and unlikely among the bad ones.

    The model is of the highest step at which enough trials were measured for it: one more than
    there are choices for the good ones and for the bad ones. While a higher rung fills, the model
    is of the step below (Falkner et al., algorithm 2; the least number is that of the authors'
    code, where good and bad ones do not overlap).

    ``top``: share of a step's trials that are good. ``candidates``: draws per ask, of which the
    best by the ratio of the densities is taken; ``random``: share of proposals that are random;
    ``width``: the narrowest kernel. Defaults are the authors'. ``distinct``: turn from what is
    known up to isomorphism to a mutant of it.

    The authors' rule makes kernels of unordered choices so wide that in small spaces the model
    says little: on NAS-Bench-201 it does as well as random search, as published. TPE models better.

    Trials that break a bound or failed are not in the model. Raises at setup: UserError for
    several objectives.
    """

    top: float = 0.15
    candidates: int = 64
    random: float = 1 / 3
    width: float = 0.3
    distinct: bool = True

    name: ClassVar[str] = "bohb"

    _problem: Problem = field(init=False, repr=False, compare=False)
    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: Distinct = field(init=False, repr=False, compare=False)
    _repeats: Repeats = field(init=False, repr=False, compare=False)
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
                raise UserError(f"BOHB: {setting} = {value}", allowed="a share, up to 1")

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        one_objective("BOHB", problem)
        self._problem, self._space = problem, space
        self._distinct = Distinct(space, problem.seed)
        self._repeats = Repeats(space)
        self._options = np.array([len(choice) for choice in space.choices])
        self._measured, self._model = {}, None

    def ask(self, number: int) -> Architecture:
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
        """A trial teaches with all its steps, once it has ended."""
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
        for trial in trials if self.distinct else self._repeats.within(trials, self._propose):
            self._distinct.replay(trial)
            if trial.state.ended:
                self.tell(trial)

    def _fit(self) -> tuple[_Density, _Density] | None:
        """The densities of good and bad ones at the highest step that has enough of both."""
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
        """Widths by the normal reference rule, no wider than a uniform kernel."""
        n, d = points.shape
        widths = np.maximum(1.06 * points.std(axis=0) * n ** (-1 / (4 + d)), self.width)
        uniform = (self._options - 1) / self._options
        return _Density(points, np.minimum(widths, uniform), self._options)
