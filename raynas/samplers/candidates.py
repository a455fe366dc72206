"""This module lists the candidates that a model chooses from.

In a small space these are all architectures, else mutants of the best and random ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture
from raynas.core.exact import remember
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import ArchitectureError, canonical_or_itself, one_architecture

Floats = NDArray[np.float64]

WHOLE = 20_000
"""Largest space, in architectures, of which all are candidates."""
_MEMORY = 64_000_000
_SAMPLE = 256


class FeatureCache:
    """A cache of ``space.features`` of canonical architectures.

    An architecture for which the space's own code raises has no features.

    Args:
        space: The search space.
        most: Number of remembered architectures above which the cache is cleared.
    """

    def __init__(self, space: SearchSpace, most: int = 50_000) -> None:
        self._space, self._most = space, most
        self._known: dict[Architecture, NDArray[np.float32] | None] = {}

    def __call__(self, architectures: Sequence[Architecture]) -> tuple[list[Architecture], Floats]:
        """Return the features of architectures.

        Args:
            architectures: Canonical architectures.

        Returns:
            The n architectures that have features, in their order, and the features (n, d) float64.
        """
        if len(self._known) > self._most:
            self._known.clear()
        found, rows = list[Architecture](), list[NDArray[np.float32]]()
        for arch in architectures:
            if arch not in self._known:
                self._known[arch] = self._of(arch)
            row = self._known[arch]
            if row is not None:
                found.append(arch)
                rows.append(row)
        return found, np.array(rows, dtype=np.float64)

    def _of(self, arch: Architecture) -> NDArray[np.float32] | None:
        try:
            with one_architecture("features()"):
                return self._space.features(arch)
        except ArchitectureError:
            return None


class CandidateSet:
    """A set of canonical architectures with the distances between them.

    Architectures without features are left out.

    Args:
        architectures: Canonical architectures; repeated ones count once.
        features: Returns their features.
        count: The unit of distance is the median distance between some of the first ``count``
            architectures; None takes all.

    Attributes:
        architectures: The architectures that have features.
        place: Architecture -> its index.
    """

    def __init__(
        self,
        architectures: Iterable[Architecture],
        features: FeatureCache,
        count: int | None = None,
    ) -> None:
        asked = list(dict.fromkeys(architectures))
        self.architectures, self._features = features(asked)
        self.place = {arch: place for place, arch in enumerate(self.architectures)}
        first = asked if count is None else asked[:count]
        self._unit = _median_distance(self._features[: sum(arch in self.place for arch in first)])
        self._rows: dict[int, Floats] = {}

    def __len__(self) -> int:
        return len(self.architectures)

    def distances(self, places: Sequence[int]) -> Floats:
        """Return distances from some candidates to all, in units of the median distance.

        Args:
            places: Indices of n candidates.

        Returns:
            (n, m) distances, m = ``len(self)``.
        """
        from scipy.spatial.distance import cdist

        new = [place for place in dict.fromkeys(places) if place not in self._rows]
        if 8 * len(self) * (len(self._rows) + len(new)) > _MEMORY:
            self._rows.clear()
            new = list(dict.fromkeys(places))
        found = cdist(self._features[new], self._features) / self._unit
        self._rows.update(zip(new, found, strict=True))
        return np.stack([self._rows[place] for place in places])


def whole(space: SearchSpace) -> CandidateSet:
    """Return all classes of isomorphic architectures of a small space; made once per process.

    Args:
        space: A space of at most ``WHOLE`` architectures.

    Returns:
        The candidates.
    """
    return _remembered(space)


def _all(space: SearchSpace) -> CandidateSet:
    canonical = (canonical_or_itself(space, arch) for arch in space.enumerate())
    return CandidateSet(canonical, FeatureCache(space))


_remembered = remember(maxsize=4)(_all)


def around(
    space: SearchSpace,
    features: FeatureCache,
    best: Sequence[Architecture],
    known: Iterable[Architecture],
    rng: np.random.Generator,
    count: int,
) -> CandidateSet:
    """Draw candidates around the best architectures of a large space.

    Three of four draws are one of the ``best`` changed once or more often; the others are random.
    The ``known`` architectures follow after the draws.

    Args:
        space: The search space.
        features: Returns features of architectures.
        best: Architectures to mutate; where it is empty, all draws are random.
        known: Architectures that are added.
        rng: Source of random numbers.
        count: Number of draws.

    Returns:
        The candidates.
    """
    drawn: dict[Architecture, None] = {}
    for number in range(count):
        if not best or number % 4 == 3:
            arch = space.sample(rng)
        else:
            arch = best[int(rng.integers(len(best)))]
            for _ in range(int(rng.geometric(0.5))):
                arch = space.mutate(arch, rng)
        drawn[canonical_or_itself(space, arch)] = None
    return CandidateSet([*drawn, *known], features, len(drawn))


def _median_distance(features: Floats) -> float:
    from scipy.spatial.distance import pdist

    if len(features) < 2:
        return 1.0
    places = np.linspace(0, len(features) - 1, min(_SAMPLE, len(features))).astype(int)
    apart = pdist(features[places])
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0
