"""What a model chooses from: every architecture of a small space, else mutants of the best."""

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
"""Spaces of at most so many architectures are candidates as a whole."""
_MEMORY = 64_000_000
_SAMPLE = 256


class Features:
    """``space.features`` of canonical architectures, remembered.

    Where the space's own code raises, an architecture has none.
    """

    def __init__(self, space: SearchSpace, most: int = 50_000) -> None:
        self._space, self._most = space, most
        self._known: dict[Architecture, NDArray[np.float32] | None] = {}

    def __call__(self, architectures: Sequence[Architecture]) -> tuple[list[Architecture], Floats]:
        """Return the n architectures that have features, in their order, and these: (n, d)."""
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


class Candidates:
    """Canonical architectures, each once, and how far they are from each other.

    Those without features are left out. ``place``: architecture -> its number. The unit of distance
    is the median between some of the first ``count`` ones (default: all), the same every time.
    """

    def __init__(
        self, architectures: Iterable[Architecture], features: Features, count: int | None = None
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
        """(n, m) from these candidates to all, (n = len(places), m = len(self))."""
        from scipy.spatial.distance import cdist

        new = [place for place in dict.fromkeys(places) if place not in self._rows]
        if 8 * len(self) * (len(self._rows) + len(new)) > _MEMORY:
            self._rows.clear()
            new = list(dict.fromkeys(places))
        found = cdist(self._features[new], self._features) / self._unit
        self._rows.update(zip(new, found, strict=True))
        return np.stack([self._rows[place] for place in places])


def whole(space: SearchSpace) -> Candidates:
    """All classes of isomorphic architectures of a small space; made once per process."""
    return _remembered(space)


def _all(space: SearchSpace) -> Candidates:
    canonical = (canonical_or_itself(space, arch) for arch in space.enumerate())
    return Candidates(canonical, Features(space))


_remembered = remember(maxsize=4)(_all)


def around(
    space: SearchSpace,
    features: Features,
    best: Sequence[Architecture],
    known: Iterable[Architecture],
    rng: np.random.Generator,
    count: int,
) -> Candidates:
    """``count`` draws: three of four are one of the ``best`` changed once or more often, the
    others are random. The ``known`` ones come after them."""
    drawn: dict[Architecture, None] = {}
    for number in range(count):
        if not best or number % 4 == 3:
            arch = space.sample(rng)
        else:
            arch = best[int(rng.integers(len(best)))]
            for _ in range(int(rng.geometric(0.5))):
                arch = space.mutate(arch, rng)
        drawn[canonical_or_itself(space, arch)] = None
    return Candidates([*drawn, *known], features, len(drawn))


def _median_distance(features: Floats) -> float:
    from scipy.spatial.distance import pdist

    if len(features) < 2:
        return 1.0
    places = np.linspace(0, len(features) - 1, min(_SAMPLE, len(features))).astype(int)
    apart = pdist(features[places])
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0
