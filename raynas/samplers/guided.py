"""This module has a predictor-guided search, in which a model proposes what to measure next.

The model is a Gaussian process on ranks; the choice among candidates is an upper confidence bound
(N. Srinivas et al., "Gaussian Process Optimization in the Bandit Setting", ICML 2010); for several
objectives the growth of the hypervolume by such bounds (as random scalarisations: R. Zhang, D.
Golovin, "Random Hypervolume Scalarizations for Provable Multi-Objective Black Box Optimization",
ICML 2020); within bounds on metrics times the probability that they hold (M. Schonlau, W. Welch,
D. Jones, "Global versus Local Search in Constrained Optimization", 1998).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, Bound, SearchProblem, Trial, UserError, rng_for
from raynas.core.fields import check_fields
from raynas.core.pareto import pareto_order
from raynas.core.trial import LARGEST_VALUE
from raynas.samplers.base import Sampler
from raynas.samplers.candidates import WHOLE, CandidateSet, FeatureCache, around, whole
from raynas.samplers.distinct import ArchitectureDeduplicator, at_least
from raynas.samplers.evidence import TrialObservation, evidence, standing
from raynas.samplers.subset import bound_orders, by_turns, objective_orders
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import canonical_or_itself

if TYPE_CHECKING:
    from raynas.samplers.surrogate import SurrogateModel

Floats = NDArray[np.float64]

PARENTS = 10
"""Number of best trials whose mutants are candidates in a large space."""
_HOPELESS = 0.01
_DIRECTIONS = 64
_LITTLE = 1e-3  # weight of the mean of all objectives, which decides where no gain is expected


@dataclass
class Guided(Sampler):
    """A sampler that proposes what a Gaussian process over the trials so far finds most promising.

    The first ``startup`` trials are random. Then a Gaussian process over ``space.features`` learns
    the ranks of trials, high ranks spread out, and the candidate of the highest mean plus
    ``explore`` standard deviations is proposed. Candidates are all architectures of a space of up
    to 20,000, else ``candidates`` of them: mutants of the best, and random ones. Pending trials
    reduce the deviation around them, so that many workers get different proposals.

    Stopped trials count with the rank that their curve predicts, those that were screened out
    with the rank that their scores predict. Several objectives have a model each, and the
    proposal is the one expected to extend their front most. A bound has a model of its own, of
    the bounded metric. Failed trials give no data.

    Each model gets at most ``most`` trials: the best that keep all bounds, the latest and some of
    every value; a model of an objective also its best trials, a model of a bound also those next
    to the bound on both sides. It is made again after ``refit`` trials, later after a twentieth
    of all, which takes tenths of a second: where an evaluation takes less, use evolution. It
    depends on the numbers of the trials that ended, not on the order in which they ended; with
    many workers it is made again more often.

    Attributes:
        startup: Number of random trials at the beginning.
        explore: Number of standard deviations that are added to the mean.
        candidates: Number of candidates in a large space.
        refit: Least number of new trials after which the model is made again.
        most: Largest number of trials in one model.

    Raises:
        UserError: A setting is outside its range.
    """

    startup: int = 5
    explore: float = 1.5
    candidates: int = 1000
    refit: int = 2
    most: int = 600

    name: ClassVar[str] = "guided"

    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _problem: SearchProblem = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _features: FeatureCache = field(init=False, repr=False, compare=False)
    _told: list[TrialObservation] = field(init=False, repr=False, compare=False)  # by number
    _known: set[Architecture] = field(init=False, repr=False, compare=False)  # canonical
    _open: dict[int, Architecture] = field(init=False, repr=False, compare=False)  # may have values
    _hopeful: int = field(init=False, repr=False, compare=False)  # asked, less those without value
    _model: _Model | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for setting, least in (("startup", 1), ("candidates", 10), ("refit", 1), ("most", 10)):
            at_least("Guided", setting, getattr(self, setting), least)
        if not 0 <= self.explore < math.inf:
            raise UserError(f"Guided: explore = {self.explore}", expected="0 or more")

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start without any history for this space and problem.

        Args:
            space: The search space.
            problem: The search problem, with one or several objectives.
        """
        self._space, self._problem = space, problem
        self._distinct = ArchitectureDeduplicator(space, problem.seed)
        self._features = FeatureCache(space)
        self._told, self._known, self._open, self._hopeful = [], set(), {}, 0
        self._model = None

    def ask(self, number: int) -> Architecture:
        """Return the candidate with the highest score, or a random architecture at the beginning.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """
        proposal = self._proposal(number)
        self._enter(number, proposal)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Add the data of an ended trial to those that the next model is made of."""
        found = evidence(trial, self._open[trial.number], self._problem)
        if found is None:
            self._open.pop(trial.number, None)
        else:
            bisect.insort(self._told, found, key=lambda e: e.number)
        if found is None or not found.curve:
            self._hopeful -= 1

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history, in the order of the trials' numbers."""
        for trial in trials:
            self._distinct.replay(trial)
            self._enter(trial.number, trial.proposal)
            if trial.state.ended:
                self.tell(trial)

    def _enter(self, number: int, proposal: Architecture) -> None:
        arch = canonical_or_itself(self._space, proposal)
        self._distinct.add(arch)
        self._known.add(arch)
        self._open[number] = arch
        self._hopeful += 1
        if self._model is not None:
            self._model.take(arch)

    def _proposal(self, number: int) -> Architecture:
        rng = rng_for(self._problem.seed, self.name, number)
        known = self._told[: _settled(len(self._told), self.refit)]
        valued = sum(bool(e.curve) for e in known)
        if self._hopeful < self.startup or not valued:
            return self._start(number, known, rng)
        model = self._up_to_date(known)
        if not model.learned:
            return self._distinct.fresh(number)
        return self._best(model, model.score(rng, self.explore), number)

    def _start(
        self, number: int, known: Sequence[TrialObservation], rng: np.random.Generator
    ) -> Architecture:
        """Return a random architecture.

        Where a bound was broken already, it is drawn among those that are likely to keep it.
        """
        if not any(self._breaks(e) for e in known):
            return self._distinct.fresh(number)
        model = self._up_to_date(known)
        return self._best(model, model.chance() * rng.uniform(size=len(model.pool)), number)

    def _best(self, model: _Model, score: Floats, number: int) -> Architecture:
        """Return the candidate of the highest score that is not taken."""
        if not len(model.pool):
            return self._distinct.fresh(number)
        # rounded, so that the order of a sum's terms cannot decide
        place = int(np.argmax(np.where(model.taken, -1.0, np.round(score, 9))))
        if model.taken[place]:
            return self._distinct.fresh(number)
        return model.pool.architectures[place]

    def _up_to_date(self, known: Sequence[TrialObservation]) -> _Model:
        """Return the model of the trials ``known``, with the other open trials as pending ones."""
        numbers = [e.number for e in known]
        others = sorted(self._open.keys() - set(numbers))
        model = self._model
        fits = (
            model is not None
            and model.numbers == numbers
            and model.expected == others[: len(model.expected)]
        )
        if model is None or not fits:
            model = self._model = self._fitted(known)
        model.expect({number: self._open[number] for number in others[len(model.expected) :]})
        return model

    def _fitted(self, known: Sequence[TrialObservation]) -> _Model:
        feasible = np.array([not self._breaks(e) for e in known])
        found = [standing(known, j) for j in range(len(self._problem.objectives))]
        stands = np.array([_among(stand, feasible) for stand, _ in found])
        best = [i for i in _best_first(stands.T) if feasible[i]]
        pool = self._pool(known, self._parents(known, best))
        places = [pool.place.get(e.arch) for e in known]
        # one objective: its top is what matters; of several the whole front
        goals = -np.log1p(-stands) if len(stands) == 1 else stands
        doubts = [doubt for _, doubt in found]
        excesses = self._excesses(known)
        sure = [np.ones(len(known))] * len(excesses)
        complete = np.array([e.complete for e in known])
        model = _Model(
            [e.number for e in known],
            pool,
            self._learned(pool, places, goals, doubts, [objective_orders(y, best) for y in goals]),
            self._learned(pool, places, excesses, sure, [bound_orders(y, best) for y in excesses]),
            stands[:, complete & feasible],
        )
        for arch in self._known:
            model.take(arch)
        return model

    def _learned(
        self,
        pool: CandidateSet,
        places: Sequence[int | None],
        values: Iterable[Floats],
        doubts: Iterable[Floats],
        orders: Iterable[Iterable[Iterable[int]]],
    ) -> list[SurrogateModel]:
        """Return a model of each of ``values`` that has any.

        ``values`` are (n,) arrays; ``places`` are the indices of the n trials in the pool, None
        without features. Of too many trials the first ones by ``orders`` are taken.
        """
        from raynas.samplers.surrogate import SurrogateModel

        models = []
        for y, doubt, wanted in zip(values, doubts, orders, strict=True):
            placed = [i for i in by_turns(wanted, self.most) if places[i] is not None]
            if placed:
                kept = np.array(placed, dtype=np.intp)
                at = [place for i in placed if (place := places[i]) is not None]
                models.append(SurrogateModel(pool.distances(at), at, y[kept], doubt[kept]))
        return models

    def _excesses(self, known: Sequence[TrialObservation]) -> list[Floats]:
        limits = np.array([e.limits for e in known]).T
        return [_excess(b, v) for b, v in zip(self._problem.bounds, limits, strict=True)]

    def _parents(
        self, known: Sequence[TrialObservation], best: Sequence[int]
    ) -> list[Architecture]:
        """Return the best that keep all bounds; if there are none, those that break them least."""
        if best:
            return [known[i].arch for i in best[:PARENTS]]
        return [e.arch for e in sorted(known, key=self._violation)][:PARENTS]

    def _pool(
        self, known: Sequence[TrialObservation], best: Sequence[Architecture]
    ) -> CandidateSet:
        if self._space.size <= WHOLE:
            return whole(self._space)
        rng = rng_for(self._problem.seed, self.name, "candidates", len(known))
        # in the order of their numbers, so that a resumed search has them in the same places
        asked = {**{e.number: e.arch for e in known}, **self._open}
        others = [asked[number] for number in sorted(asked)]
        return around(self._space, self._features, best, others, rng, self.candidates)

    def _breaks(self, found: TrialObservation) -> bool:
        return self._violation(found) > 0

    def _violation(self, found: TrialObservation) -> float:
        """Return the largest violation of a bound, 0 or less where none is known to be broken."""
        pairs = zip(self._problem.bounds, found.limits, strict=True)
        return max((b.violation(v) for b, v in pairs if not math.isnan(v)), default=0.0)


class _Model:
    """The model of the candidates ``pool`` after the trials ``numbers``."""

    def __init__(
        self,
        numbers: list[int],
        pool: CandidateSet,
        objectives: list[SurrogateModel],
        bounds: list[SurrogateModel],
        reached: Floats,
    ) -> None:
        self.numbers, self.pool, self.expected = numbers, pool, list[int]()
        self._objectives, self._reached = objectives, reached
        self.taken = np.zeros(len(pool), dtype=bool)
        self._kept: Floats = np.zeros(len(pool))  # log-probability that all bounds are kept
        for bound in bounds:
            self._kept = self._kept + _log_probability(-bound.mean / bound.deviation)

    @property
    def learned(self) -> bool:
        """Whether there are candidates and values."""
        return len(self.pool) > 0 and len(self._objectives) > 0

    def take(self, arch: Architecture) -> None:
        """Mark an architecture as known, so that it is no candidate any more."""
        place = self.pool.place.get(arch)
        if place is not None:
            self.taken[place] = True

    def expect(self, trials: Mapping[int, Architecture]) -> None:
        """Add pending trials, number -> architecture, that may have a value later."""
        self.expected += trials
        places = [self.pool.place[arch] for arch in trials.values() if arch in self.pool.place]
        if places:
            distances = self.pool.distances(places)
            for model in self._objectives:
                model.expect(places, distances)

    def chance(self) -> Floats:
        """Return the probability (m,) that each candidate keeps all bounds.

        Where no candidate is likely to keep them, those nearest to it rank first.
        """
        chance = np.exp(self._kept)
        if self.hopeless:
            chance = chance + (self._kept - self._kept.min()) / max(np.ptp(self._kept), 1e-9)
        return np.asarray(chance, dtype=np.float64)

    @property
    def hopeless(self) -> bool:
        """Whether no candidate that is left is likely to keep the bounds."""
        return float(self._kept.max(where=~self.taken, initial=-np.inf)) < math.log(_HOPELESS)

    def score(self, rng: np.random.Generator, explore: float) -> Floats:
        """Return how promising each candidate is, (m,) values of 0 or more."""
        if self.hopeless:
            return self.chance()
        hopes = np.array([o.mean + explore * o.deviation for o in self._objectives])
        hope = hopes[0] if len(hopes) == 1 else self._gain(hopes, rng)
        return np.asarray(np.maximum(hope, 0.0) * self.chance(), dtype=np.float64)

    def _gain(self, hopes: Floats, rng: np.random.Generator) -> Floats:
        """Return the growth of the dominated hypervolume, (m,) up to a factor.

        ``hopes`` are m points, (objectives, m). The growth is a mean over random directions: the
        length of each within the dominated region, to the power of the number of objectives.
        """
        directions = np.abs(rng.normal(size=(_DIRECTIONS, len(hopes)))) + 1e-9
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)

        def reach(points: Floats) -> Floats:
            """Return the reach of each point in each direction, (directions, points)."""
            return np.asarray(np.min(points[None] / directions[:, :, None], axis=1).clip(0.0))

        longest = reach(self._reached).max(axis=1, initial=0.0)
        new = np.maximum(reach(hopes), longest[:, None]) ** len(hopes)
        gain = (new - longest[:, None] ** len(hopes)).mean(axis=0)
        return np.asarray(gain + _LITTLE * hopes.clip(0.0).mean(axis=0), dtype=np.float64)


def _settled(count: int, least: int) -> int:
    """Return how many of ``count`` trials a model is made of.

    The number grows by ``least``, later by 1/20.
    """
    settled = 0
    while (following := settled + max(least, settled // 20)) <= count:
        settled = following
    return settled


def _among(stand: Floats, feasible: NDArray[np.bool_]) -> Floats:
    """Return ranks among the feasible trials, above 0 and below 1."""
    rivals = np.sort(stand[feasible & ~np.isnan(stand)])
    if not len(rivals):
        return stand
    below = np.searchsorted(rivals, stand, "left") + np.searchsorted(rivals, stand, "right")
    edge = 0.5 / len(rivals)
    place = np.clip(below / (2 * len(rivals)), edge, 1 - edge)
    return np.where(np.isnan(stand), np.nan, place)


def _best_first(stands: Floats) -> list[int]:
    """Return indices of trials that have values, best first; ``stands`` is (n, objectives)."""
    there = np.flatnonzero(~np.isnan(stands).any(axis=1))
    return [int(i) for i in there[pareto_order(stands[there])]] if len(there) else []


def _excess(bound: Bound, values: Floats) -> Floats:
    """Return how far values are beyond a bound, (n,) in robust units, negative within it.

    Values far from the bound and from the other values are clipped.
    """
    values = np.clip(values, -LARGEST_VALUE, LARGEST_VALUE)
    high, low = (
        limit if math.isinf(limit) else max(min(limit, LARGEST_VALUE), -LARGEST_VALUE)
        for limit in (bound.max, bound.min)
    )
    over = np.maximum(values - high, low - values)
    known = over[~np.isnan(over)]
    if not len(known):
        return over
    lower, upper = np.percentile(known, [25, 75])
    unit = (upper - lower) / 1.35 or float(known.std()) or 1.0
    edges = min(-3.0, upper / unit - 3.0), max(3.0, lower / unit + 3.0)
    return np.asarray(np.clip(over / unit, *edges), dtype=np.float64)


def _log_probability(z: Floats) -> Floats:
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(z), dtype=np.float64)
