"""The contract suites of samplers.

======================================  ========================================================
:class:`SamplerTestCase`                for every sampler that proposes nothing twice
:class:`ParallelSamplerTestCase`        for one whose resumed search equals an uninterrupted one
                                        with any number of workers
:class:`RestartedSamplerTestCase`       for one that is fast enough for some hundred proposals
:class:`RepeatingSamplerTestCase`       for one that may propose a known architecture again
:class:`MultiObjectiveSamplerTestCase`  for one that takes several objectives
======================================  ========================================================

Example: a test file for a sampler of your own.

.. code-block:: python

    from dataclasses import dataclass
    from typing import ClassVar

    import pytest

    from raynas.samplers import Sampler
    from raynas.samplers.distinct import ArchitectureDeduplicator
    from raynas.testing.samplers import MultiObjectiveSamplerTestCase, SamplerTestCase


    @dataclass
    class Shuffled(Sampler):
        name: ClassVar[str] = "shuffled"

        def setup(self, space, problem):
            self._distinct = ArchitectureDeduplicator(space, problem.seed)

        def ask(self, number):
            arch = self._distinct.fresh(number)
            self._distinct.add(arch)
            return arch

        def tell(self, trial):
            pass

        def replay(self, trials):
            for trial in trials:
                self._distinct.replay(trial)


    class TestShuffled(SamplerTestCase, MultiObjectiveSamplerTestCase):
        @pytest.fixture
        def sampler(self):
            return Shuffled
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raynas.core import (
    SpaceExhausted,
    TrialState,
    UserError,
)
from raynas.spaces.base import SearchSpace
from raynas.testing.sampler_histories import (
    KINDS,
    MIXED,
    ORDERED,
    SPACES,
    TWO,
    AskTellSearch,
    ChoicesOnly,
    MakeSampler,
    end_trial,
    ops,
    problem,
    restart,
    resume,
    simulate,
    simulate_answering,
    widths,
)

SMALL = ChoicesOnly(ops(2, "abc") + widths(1, 2))
_INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)


@dataclass(frozen=True)
class SamplerTraits:
    """What a sampler promises, as far as samplers differ in it. The defaults are the common case.

    Attributes:
        depends_on_seed: False for a fixed list of proposals.
        trials: The number of trials of most tests; fewer for a slow sampler.
        restart_trials: The number of proposals in the tests of restarts.
        workers: The number of workers with which a resumed search equals an uninterrupted one.
        slow: True cuts the search once instead of three times in the tests of restarts.
        small_space: A small space for which the sampler finds every class.
    """

    depends_on_seed: bool = True
    trials: int = 30
    restart_trials: int = 90
    workers: int = 8
    slow: bool = False
    small_space: SearchSpace = SMALL


class _SamplerTestCase:
    @pytest.fixture
    def sampler(self) -> MakeSampler:
        """Return a function that makes the sampler to test."""
        raise NotImplementedError("define the fixture `sampler` in your subclass")

    @pytest.fixture
    def traits(self) -> SamplerTraits:
        """Return what the sampler promises."""
        return SamplerTraits()

    @pytest.fixture(params=SPACES)
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        """Return a space; a sampler that cannot work in all three overrides it."""
        return SPACES[request.param]

    @pytest.fixture
    def repeats(self) -> bool:
        """Return whether the sampler may propose an architecture again."""
        return False


class _RestartTestCase(_SamplerTestCase):
    def test_after_a_restart_one_worker_goes_on_as_if_undisturbed(
        self, sampler: MakeSampler, traits: SamplerTraits, repeats: bool
    ) -> None:
        """Also where proposals were answered from what was known, of which nothing is stored."""
        n = traits.restart_trials
        whole = simulate_answering(sampler, kinds=("COMPLETE", "STOPPED", "COMPLETE"))
        halves = []
        for cut in (n - 3,) if traits.slow else (n // 3, n // 2, n - 7):
            whole.asks(cut)
            halves.append(restart(whole, sampler))
        whole.asks(n)
        repeated = len(whole.asked) - len(whole.trials)
        assert (repeated > 0) == repeats
        for half in halves:
            half.asks(n)
            assert half.asked == {k: whole.asked[k] for k in half.asked}
            assert [t.number for t in half.trials] == [t.number for t in whole.trials]


class SamplerTestCase(_RestartTestCase):
    """What every sampler does. A subclass defines the fixture ``sampler``.

    The sampler must propose each class of isomorphic architectures once, and say when
    there are no more. A sampler that differs from the common case has a fixture ``traits``.
    """

    def test_proposals_are_of_the_space_and_new_up_to_isomorphism(
        self, sampler: MakeSampler, traits: SamplerTraits, space: SearchSpace
    ) -> None:
        """Proposals are of the space and new up to isomorphism."""
        done = simulate(sampler, space, workers=8).until(traits.trials)
        for arch in done.proposals():
            assert space.architecture(dict(arch)) == arch
        assert len({t.arch for t in done.trials}) == traits.trials

    def test_same_seed_same_proposals_another_seed_others(
        self, sampler: MakeSampler, traits: SamplerTraits, space: SearchSpace
    ) -> None:
        """Same seed same proposals another seed others."""
        n = traits.trials
        first = simulate(sampler, space, workers=3).until(n).proposals()
        assert simulate(sampler, space, workers=3).until(n).proposals() == first
        other = simulate(sampler, space, seed=1, workers=3).until(n).proposals()
        assert (other == first) == (not traits.depends_on_seed)

    def test_setup_again_forgets_everything(
        self, sampler: MakeSampler, traits: SamplerTraits
    ) -> None:
        """Setup again forgets everything."""
        done = simulate(sampler, ORDERED, workers=2).until(traits.trials)
        done.sampler.setup(ORDERED, problem())
        again = AskTellSearch(done.sampler, ORDERED, workers=2).until(traits.trials)
        assert again.proposals() == done.proposals()

    def test_resumed_equals_uninterrupted(
        self, sampler: MakeSampler, traits: SamplerTraits, space: SearchSpace
    ) -> None:
        """Resumed equals uninterrupted."""
        workers = traits.workers
        n = traits.trials
        whole = simulate(sampler, space, workers=workers)
        halves = [resume(whole.until(cut), sampler) for cut in (n // 3, n - 3)]
        whole.until(n)
        for half in halves:
            assert half.until(n).proposals() == whole.proposals()

    def test_running_trials_of_a_history_are_told_later(self, sampler: MakeSampler) -> None:
        """Running trials of a history are told later."""
        before = simulate(sampler, ORDERED, workers=4).until(10)
        after = resume(before, sampler)
        running = [t for t in after.trials if t.state is TrialState.RUNNING]
        assert len(running) == 4
        for trial in running:
            end_trial(trial, ORDERED, "COMPLETE")
            after.sampler.tell(trial)
        arch = after.sampler.ask(10)
        assert ORDERED.canonical(arch) not in {t.arch for t in after.trials}

    def test_a_history_with_holes_is_taken_over(self, sampler: MakeSampler) -> None:
        """A history with holes is taken over."""
        before = simulate(sampler, ORDERED).until(12)
        kept = [t for t in before.trials if t.number not in (2, 5) and t.state.ended]
        made = sampler()
        made.setup(ORDERED, problem())
        made.replay(kept)
        new = [made.ask(n) for n in range(12, 18)]
        assert len({*new, *(t.arch for t in kept)}) == len(kept) + 6

    def test_a_proposal_that_left_the_space_is_named(self, sampler: MakeSampler) -> None:
        """A proposal that left the space is named."""
        trials = simulate(sampler, ORDERED).until(6).trials
        made = sampler()
        smaller = ChoicesOnly(widths(4, options=2))
        made.setup(smaller, problem())
        with pytest.raises(UserError, match=r"stored trial \d+ proposed 'w0=.*start a new run"):
            made.replay(trials)

    def test_an_exhausted_space_is_said_so_after_its_last_class(
        self, sampler: MakeSampler, traits: SamplerTraits
    ) -> None:
        """An exhausted space is said so after its last class."""
        space = traits.small_space
        classes = {space.canonical(a) for a in space.enumerate()}
        done = simulate(sampler, space, kinds=("COMPLETE",)).until(len(classes))
        assert {t.arch for t in done.trials} == classes
        for number in (len(classes), len(classes) + 7):
            with pytest.raises(SpaceExhausted, match=space.name):
                done.sampler.ask(number)

    @pytest.mark.parametrize("kind", ["STOPPED", "INFEASIBLE", "FAILED"])
    def test_a_search_in_which_nothing_completes_goes_on(
        self, sampler: MakeSampler, traits: SamplerTraits, kind: str
    ) -> None:
        """A search in which nothing completes goes on."""
        n = traits.trials
        done = simulate(sampler, ORDERED, workers=3, kinds=(kind,)).until(n)
        assert len({t.arch for t in done.trials}) == n


class ParallelSamplerTestCase(_SamplerTestCase):
    """What a sampler does whose resumed search equals an uninterrupted one with many workers."""

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=_INHERITED)
    @given(
        events=st.integers(1, 50),
        workers=st.integers(1, 9),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5).map(tuple),
    )
    def test_resumed_equals_uninterrupted_wherever_it_is_cut(
        self, sampler: MakeSampler, events: int, workers: int, kinds: tuple[str, ...]
    ) -> None:
        """Resumed equals uninterrupted wherever it is cut."""
        whole = simulate(sampler, MIXED, workers=workers, kinds=kinds)
        for _ in range(events):
            whole.step()
        half = resume(whole, sampler)
        n = len(whole.trials) + 5
        assert half.until(n).proposals() == whole.until(n).proposals()


class RestartedSamplerTestCase(_SamplerTestCase):
    """What a sampler does whose history may hold repeats; these tests ask many times."""

    @pytest.fixture(params=[1, 8])
    def workers(self, request: pytest.FixtureRequest) -> int:
        """Return a number of workers with which a whole history is taken over exactly."""
        return int(request.param)

    def test_a_restart_with_many_workers_and_repeats_goes_on_the_same_every_time(
        self, sampler: MakeSampler, repeats: bool
    ) -> None:
        """A restart with many workers and repeats goes on the same every time."""
        n = 30
        before = simulate_answering(sampler, workers=6).asks(n)
        one, other = (restart(before, sampler).asks(n + 10) for _ in range(2))
        assert one.asked == other.asked
        if not repeats:
            assert len({t.arch for t in one.trials}) == len(one.trials) == n + 10

    def test_a_whole_history_with_repeats_in_it_is_taken_over(
        self, sampler: MakeSampler, workers: int
    ) -> None:
        """Where repeats are trials of their own, as in the comparison's published protocol."""
        made = sampler()
        made.setup(ORDERED, problem())
        n = 40
        whole = AskTellSearch(made, ORDERED, workers).until(n - 5)
        fresh = sampler()
        fresh.setup(ORDERED, problem())
        trials = copy.deepcopy(whole.trials)
        fresh.replay(trials)
        half = AskTellSearch(fresh, ORDERED, whole.workers, trials=trials)
        assert half.until(n).proposals() == whole.until(n).proposals()


class RepeatingSamplerTestCase(RestartedSamplerTestCase, _RestartTestCase):
    """What a sampler does that may propose a known architecture again."""

    @pytest.fixture
    def repeats(self) -> bool:
        """Return whether the sampler may propose an architecture again."""
        return True

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=_INHERITED)
    @given(
        events=st.integers(1, 90),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5).map(tuple),
    )
    def test_a_restart_anywhere_loses_no_repeat(
        self, sampler: MakeSampler, events: int, kinds: tuple[str, ...]
    ) -> None:
        """A restart anywhere loses no repeat."""
        whole = simulate_answering(sampler, kinds=kinds)
        for _ in range(events):
            whole.step()
        half = restart(whole, sampler)
        stored = 1 + max((t.number for t in whole.trials), default=-1)
        n = whole.number + 6
        for play in (whole, half):
            play.asks(n)
        assert half.asked == {k: whole.asked[k] for k in range(stored, n)}

    def test_a_restored_repeat_that_is_asked_for_again_changes_nothing(
        self, sampler: MakeSampler
    ) -> None:
        """A resumed search may give the missing numbers out again."""
        before = simulate_answering(sampler, kinds=("COMPLETE",)).asks(60)
        plain, again = (restart(before, sampler) for _ in range(2))
        stored = {t.number for t in before.trials}
        missing = [n for n in range(max(stored)) if n not in stored]
        assert missing
        for number in missing:
            arch = again.sampler.ask(number)
            assert arch == before.asked[number]
            first = next(t for t in again.trials if t.arch == ORDERED.canonical(arch))
            again.sampler.tell(dataclasses.replace(first, number=number, proposal=arch))
        assert again.asks(80).asked == plain.asks(80).asked


class MultiObjectiveSamplerTestCase(_SamplerTestCase):
    """What a sampler does that takes several objectives."""

    def test_resumed_with_two_objectives_equals_uninterrupted(
        self, sampler: MakeSampler, traits: SamplerTraits, space: SearchSpace
    ) -> None:
        """Resumed with two objectives equals uninterrupted."""
        workers = traits.workers
        n = traits.trials
        whole = simulate(sampler, space, objectives=TWO, workers=workers)
        halves = [resume(whole.until(cut), sampler, TWO) for cut in (n // 3, n - 3)]
        whole.until(n)
        for half in halves:
            assert half.until(n).proposals() == whole.proposals()

    @pytest.mark.parametrize("kinds", [KINDS, ("STOPPED",), ("INFEASIBLE", "COMPLETE")])
    def test_two_objectives_with_every_outcome(
        self, sampler: MakeSampler, traits: SamplerTraits, kinds: tuple[str, ...]
    ) -> None:
        """Two objectives with every outcome."""
        n = traits.trials
        done = simulate(sampler, MIXED, objectives=TWO, workers=3, kinds=kinds).until(n)
        assert len({t.arch for t in done.trials}) == n
