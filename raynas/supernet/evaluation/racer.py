"""Races among the subnets of one supernet.

All subnets see a few images, the promising ones more, the best ones all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from raynas.core import Architecture, rng_for
from raynas.supernet.evaluation.measurements import SubnetMeasurement, SubnetPredictions
from raynas.supernet.evaluation.race import Race, Right, run_heat
from raynas.supernet.evaluation.subnets import SubnetBatch, SubnetEvaluator, fastest, threads_of


@dataclass(frozen=True)
class RaceLeader:
    """One of the best subnets of all races.

    Attributes:
        first: Its answers in the first heat.
        whole: Its answers to all images.
    """

    first: SubnetPredictions
    whole: SubnetPredictions


@dataclass(frozen=True)
class RaceRound:
    """The result of one heat of a race.

    Attributes:
        images: Numbers of the images that were shown.
        answers: Id of the architecture -> answers to the first of these images.
        stayed: The architectures that remained at the end, best first.
    """

    images: NDArray[np.intp]
    answers: Mapping[str, SubnetPredictions]
    stayed: Sequence[Architecture]


class SubnetRacer:
    """A sequence of races among the subnets of one supernet, in which the best remain leaders.

    Args:
        subnets: The subnets and their images.
    """

    def __init__(self, subnets: SubnetEvaluator) -> None:
        self._subnets = subnets
        self._leaders: dict[str, RaceLeader] = {}
        self._contested: NDArray[np.intp] | None = None

    def run(
        self, archs: Sequence[Architecture], race: Race, threads: int = 1
    ) -> list[SubnetMeasurement]:
        """Measure the best of some subnets exactly, and estimate the others.

        Networks whose program cannot be used are measured exactly, too; their note says why.

        Args:
            archs: The architectures to compare.
            race: Settings of the comparison.
            threads: CPU threads.

        Returns:
            One result per architecture; estimates have a note.

        Raises:
            UserError: When an architecture is of another space.
        """
        subnets = self._subnets
        subnets.turn_page()
        new = {a.id: a for a in archs if a.id not in subnets.known}
        racing = [arch for arch in new.values() if subnets.races(arch)]
        estimates: dict[str, SubnetMeasurement] = {}
        if len(racing) + len(self._leaders) > race.keep:
            with threads_of(threads):
                estimates = self._run(racing, race)
        exact = [arch for arch in archs if arch.id not in estimates]
        found = dict(zip((a.id for a in exact), subnets.measure(exact, threads), strict=True))
        return [found[a.id] if a.id in found else estimates[a.id] for a in archs]

    def _run(self, archs: Sequence[Architecture], race: Race) -> dict[str, SubnetMeasurement]:
        """Return estimates for those that are not among the best, which are measured."""
        subnets, images = self._subnets, self._subnets.counts[1]
        began = subnets.worked()
        if self._contested is None:
            self._contested = self._found_contested(archs, race)
        leaders = [leader.first.right for leader in self._leaders.values()]
        first = self._heat(archs, race, race.calibration, self._contested, leaders)
        second = self._second(first, race)
        seconds = (subnets.worked() - began) / max(len(archs), 1)
        best = second.stayed
        subnets.measure(best, torch.get_num_threads())
        judges = {a.id: RaceLeader(first.answers[a.id], subnets.whole[a.id]) for a in best}
        judges |= self._leaders
        ranked = sorted(judges, key=lambda name: -subnets.known[name].accuracy)
        self._leaders = {name: judges[name] for name in ranked[: race.keep]}
        exact = [subnets.known[name] for name in judges]
        found = {}
        for name in (a.id for a in archs if a.id not in subnets.known):
            heat, others = first, [judge.first for judge in judges.values()]
            if name in second.answers:
                heat = second
                others = [_to(judge.whole, second.images) for judge in judges.values()]
            # on the images that were not shown they do not differ
            weight = len(heat.images) / images
            pairs = list(zip(exact, others, strict=True))
            found[name] = _estimate(heat.answers[name], pairs, weight, seconds)
        return found

    def _found_contested(self, archs: Sequence[Architecture], race: Race) -> NDArray[np.intp]:
        """Return the images on which pilots differ.

        Their batch norm statistics need not be exact for it.
        """
        places = rng_for(race.pilots, "pilots").permutation(len(archs))[: race.pilots]
        pilots = self._crowd([archs[place] for place in places], race.calibration)
        return _contested(pilots.answers(slice(None)).right)

    def _second(self, first: RaceRound, race: Race) -> RaceRound:
        """Run the second heat; those that remain in it are to be measured exactly."""
        stayed = first.stayed
        if len(stayed) + len(self._leaders) <= race.keep:
            return RaceRound(np.arange(0), {}, stayed)
        whole = {name: leader.whole for name, leader in self._leaders.items()}
        images = _contested([one.right for one in whole.values()]) if whole else first.images
        known = {name: _to(one, images).right for name, one in whole.items()}
        heat = self._heat(stayed, race, self._subnets.counts[0], images, list(known.values()))
        seen = max((len(heat.answers[a.id].right) for a in heat.stayed), default=len(images))
        scores = {name: int(right[:seen].sum()) for name, right in known.items()}
        scores |= {a.id: int(heat.answers[a.id].right.sum()) for a in heat.stayed}
        best = sorted(scores, key=lambda name: -scores[name])[: race.keep]
        by_name = {arch.id: arch for arch in stayed}
        return RaceRound(images, heat.answers, [by_name[n] for n in best if n in by_name])

    def _crowd(self, archs: Sequence[Architecture], calibration: int) -> SubnetBatch:
        programs = [program for arch in archs if (program := self._subnets.program(arch))]
        crowd = SubnetBatch(self._subnets, programs, fastest(self._subnets.place))
        crowd.calibrate(calibration)
        return crowd

    def _heat(
        self,
        archs: Sequence[Architecture],
        race: Race,
        calibration: int,
        images: NDArray[np.intp],
        leaders: Sequence[Right],
    ) -> RaceRound:
        if not archs:
            return RaceRound(images, {}, [])
        crowd = self._crowd(archs, calibration)
        losses = np.zeros((len(archs), len(images)), np.float32)

        def answers(some: Sequence[int], part: slice) -> Right:
            crowd.keep(some)
            found = crowd.answers(images[part])
            losses[some, part] = found.losses
            return found.right

        half = replace(race, p=race.p / 2)  # there are two heats
        course = run_heat(half, len(archs), len(images), answers, leaders)
        own = {
            arch.id: SubnetPredictions(course.right[place, :seen], losses[place, :seen])
            for place, (arch, seen) in enumerate(zip(archs, course.seen.tolist(), strict=True))
        }
        return RaceRound(images, own, [archs[place] for place in course.stayed])


def _contested(answers: Sequence[NDArray[np.bool_]] | NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the images that some get right and others do not; all images if there are none."""
    share = np.mean(answers, axis=0)
    differ = np.flatnonzero((share > 0) & (share < 1))
    return differ if len(differ) else np.arange(len(share))


def _to(answers: SubnetPredictions, images: NDArray[np.intp]) -> SubnetPredictions:
    return SubnetPredictions(answers.right[images], answers.losses[images])


def _estimate(
    own: SubnetPredictions,
    judges: Sequence[tuple[SubnetMeasurement, SubnetPredictions]],
    weight: float,
    seconds: float,
) -> SubnetMeasurement:
    """Return the mean of the best on all images, less the lead that they have on the images shown.

    ``weight`` is the share of all images that the images shown stand for.
    """
    seen = len(own.right)
    both = min(seen, max(len(judge.right) for _, judge in judges))
    able = [(exact, judge) for exact, judge in judges if len(judge.right) >= both]
    ahead = np.mean([judge.right[:both].mean() for _, judge in able]) - own.right[:both].mean()
    more = own.losses[:both].mean() - np.mean([judge.losses[:both].mean() for _, judge in able])
    accuracy = float(np.mean([exact.accuracy for exact, _ in able]) - 100 * weight * ahead)
    loss = float(np.mean([exact.loss for exact, _ in able]) + weight * more)
    note = f"estimated from {seen} images, after which it was behind the best"
    return SubnetMeasurement(min(max(accuracy, 0.0), 100.0), max(loss, 0.0), seen, seconds, note)
