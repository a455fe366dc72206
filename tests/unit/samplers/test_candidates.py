from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from raynas.core import Choice
from raynas.samplers.candidates import CandidateSet, FeatureCache, around, whole
from raynas.spaces import NASBench201
from raynas.spaces.base import SearchSpace


@dataclass
class Listy(SearchSpace):
    """A user's space that cannot be hashed."""

    sides: list[int]
    name: ClassVar[str] = "listy"

    @property
    def choices(self):
        return (Choice("side", tuple(self.sides), ordered=True), Choice("on", (True, False)))

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


def test_a_small_space_is_there_as_a_whole_and_once_per_process():
    space = NASBench201()
    found = whole(space)
    assert len(found) == 6466
    assert all(space.canonical(arch) == arch for arch in found.architectures[::50])
    assert whole(NASBench201()) is found


def test_a_space_that_cannot_be_hashed_does_as_well():
    assert len(whole(Listy([8, 16, 32]))) == 6


def test_distances_are_in_units_of_their_median():
    found = whole(Listy([8, 16, 32]))
    _, features = FeatureCache(Listy([8, 16, 32]))(found.architectures)
    expected = np.linalg.norm(features[[4, 0]][:, None] - features, axis=2)
    rows = found.distances([4, 0])
    np.testing.assert_allclose(rows / rows[0, 0 if rows[0, 0] else 1],
                               expected / expected[0, 0 if rows[0, 0] else 1])  # fmt: skip
    every = found.distances(range(6))
    assert np.median(every[np.triu_indices(6, 1)]) == 1.0


def test_rows_are_forgotten_when_they_take_too_much_memory(monkeypatch):
    found = CandidateSet(NASBench201().enumerate(), FeatureCache(NASBench201()))
    kept = found.distances([1, 2, 3])
    monkeypatch.setattr("raynas.samplers.candidates._MEMORY", 8 * len(found) * 3)
    np.testing.assert_array_equal(found.distances([3, 5, 1])[[2, 0]], kept[[0, 2]])
    assert len(found._rows) == 3


def test_around_the_best_are_mutants_and_what_is_known_comes_last():
    space, rng = NASBench201(), np.random.default_rng(0)
    best, known = space.canonical(space.sample(rng)), space.canonical(space.sample(rng))
    found = around(space, FeatureCache(space), [best], [known], np.random.default_rng(1), 200)
    again = around(space, FeatureCache(space), [best], [], np.random.default_rng(1), 200)
    assert found.architectures[: len(again)] == again.architectures
    assert known in found.place

    def near(architectures) -> float:
        return float(np.mean([sum(a[k] != best[k] for k in a) <= 1 for a in architectures]))

    rng = np.random.default_rng(2)
    assert near(again.architectures) > 5 * near([space.sample(rng) for _ in range(1000)])


@dataclass(frozen=True)
class Sides(SearchSpace):
    """``more`` is not compared, so that spaces are equal that are not the same."""

    sides: tuple[float, ...]
    more: tuple[float, ...] = field(default=(), compare=False)
    name: ClassVar[str] = "sides"

    @property
    def choices(self):
        return (Choice("side", self.sides + self.more, ordered=True),)

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


def test_equal_spaces_do_not_share_candidates():
    spaces = [Sides((1, 2)), Sides((1.0, 2.0)), Sides((1, 2), (3,))]
    assert spaces[0] == spaces[1] == spaces[2]
    for space in spaces:
        texts = [space.architecture(arch).id for arch in space.enumerate()]
        assert [arch.id for arch in whole(space).architectures] == texts
    assert whole(spaces[1]) is whole(Sides((1.0, 2.0)))
