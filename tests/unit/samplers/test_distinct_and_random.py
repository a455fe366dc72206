from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core import Architecture, Choice, Objective, SearchProblem, SpaceExhausted, Trial
from raynas.samplers import Random
from raynas.samplers.distinct import EXACT_UP_TO, ArchitectureDeduplicator
from raynas.spaces.base import SearchSpace


@dataclass(frozen=True)
class Letters(SearchSpace):
    """Words of ``length`` letters; words of the same letters are alike."""

    length: int = 3
    letters: str = "abc"
    name: ClassVar[str] = "letters"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(Choice(f"l{i}", tuple(self.letters)) for i in range(self.length))

    def canonical(self, arch: Architecture) -> Architecture:
        return self.architecture(dict(zip(arch, sorted(map(str, arch.options)), strict=True)))

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        raise AssertionError("a sampler never builds a network")


@dataclass(frozen=True)
class Holes(Letters):
    """Only words that begin with an a."""

    name: ClassVar[str] = "holes"

    def enumerate(self) -> Iterator[Architecture]:
        return (a for a in super().enumerate() if a["l0"] == "a")


def random(space: SearchSpace, seed: int = 0) -> Random:
    sampler = Random()
    sampler.setup(space, SearchProblem((Objective(),), 1, seed, "run-1"))
    return sampler


def trials_of(space: SearchSpace, archs: dict[int, Architecture]) -> list[Trial]:
    return [Trial(n, a, space.canonical(a)) for n, a in archs.items()]


def test_every_class_comes_once():
    space = Letters()
    sampler = random(space)
    got = [space.canonical(sampler.ask(n)) for n in range(10)]
    assert len(set(got)) == 10
    with pytest.raises(SpaceExhausted, match="all 10 distinct architectures of space 'letters'"):
        sampler.ask(10)


def test_the_shuffle_decodes_to_the_whole_space():
    space = Letters(letters="abcd")
    distinct = ArchitectureDeduplicator(space, 0)
    decoded = {distinct._decode(i) for i in range(space.size)}
    assert [distinct._decode(i) for i in range(space.size)] == list(space.enumerate())
    assert len(decoded) == 64


@settings(max_examples=40, deadline=None, derandomize=True)
@given(told=st.sets(st.integers(0, 19)), cut=st.integers(0, 20))
def test_after_any_history_the_stream_goes_on_at_its_number(told, cut):
    space = Letters(letters="abcd")
    whole = random(space)
    stream = [whole.ask(n) for n in range(20)]
    half = random(space)
    half.replay(trials_of(space, {n: stream[n] for n in sorted(told) if n < cut}))
    assert [half.ask(n) for n in range(cut, 20)] == stream[cut:]


def test_numbers_that_were_lost_are_made_up_for_at_the_end():
    space = Letters()
    stream = [a for s in [random(space)] for a in map(s.ask, range(10))]
    half = random(space)
    half.replay(trials_of(space, {n: stream[n] for n in range(10) if n not in (2, 6)}))
    assert [half.ask(10), half.ask(11)] == [stream[2], stream[6]]


def test_an_isomorphic_history_counts():
    space = Letters()
    sampler = random(space)
    first = sampler.ask(0)
    other = random(space)
    swapped = space.architecture(dict(zip(first, reversed(first.options), strict=True)))
    other.replay(trials_of(space, {7: swapped}))
    assert space.canonical(other.ask(0)) != space.canonical(first)


def test_a_space_with_holes_is_enumerated_by_itself():
    space = Holes()
    sampler = random(space)
    got = {space.canonical(sampler.ask(n)) for n in range(6)}
    assert got == {space.canonical(a) for a in space.enumerate()}
    with pytest.raises(SpaceExhausted):
        sampler.ask(6)


def test_a_large_space_is_sampled_and_resumes_alike():
    space = Letters(length=10, letters="abcdef")
    assert space.size > EXACT_UP_TO
    whole, half = random(space), random(space)
    stream = [whole.ask(n) for n in range(50)]
    assert len({space.canonical(a) for a in stream}) == 50
    half.replay(trials_of(space, dict(enumerate(stream[:30]))))
    assert [half.ask(n) for n in range(30, 50)] == stream[30:]


def test_a_large_space_of_few_classes_says_when_it_finds_nothing_new():
    space = Letters(length=17, letters="ab")  # 131,072 words, 18 classes
    sampler = random(space)
    with pytest.raises(SpaceExhausted, match="random architectures of space 'letters'"):
        list(map(sampler.ask, range(19)))


def test_the_first_proposals_are_uniform():
    space = Letters(length=2, letters="abcd")
    firsts = [random(space, seed).ask(0) for seed in range(1600)]
    counts = np.array([firsts.count(a) for a in space.enumerate()])
    assert counts.sum() == 1600
    assert float(((counts - 100) ** 2 / 100).sum()) < 37.7  # chi-square, 15 degrees, p = 0.001


def test_the_first_proposal_of_15625_looks_at_few():
    looked: list[Architecture] = []

    class Counted(Letters):
        def canonical(self, arch: Architecture) -> Architecture:
            looked.append(arch)
            return super().canonical(arch)

    random(Counted(length=6, letters="abcde")).ask(0)
    assert 1 <= len(looked) < 10


def test_a_variant_is_near_and_new():
    space = Letters(length=4, letters="abcd")
    distinct = ArchitectureDeduplicator(space, 0)
    arch = space.architecture("l0=a,l1=b,l2=c,l3=d")
    distinct.add(arch)
    rng = np.random.default_rng(0)
    for n in range(20):
        near = distinct.variant(arch, rng, n)
        assert near not in distinct
        if n == 0:
            assert near in list(space.neighbors(arch))
        distinct.add(near)
    assert len(distinct) == 21


def test_a_sampler_in_use_can_be_pickled():
    sampler = random(Letters())
    sampler.ask(0)
    assert pickle.loads(pickle.dumps(sampler)).ask(1) == sampler.ask(1)


def test_the_package_names_what_it_lacks():
    import raynas.samplers

    with pytest.raises(AttributeError, match="no attribute 'Annealing'"):
        _ = raynas.samplers.Annealing
