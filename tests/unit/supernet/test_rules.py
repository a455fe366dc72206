from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from failing_spaces import FailingSpace
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_supernet import OPERATIONS, Tiny

from raynas.core import Choice, UserError, rng_for
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.base import SearchSpace
from raynas.supernet.rules import (
    OpenOptions,
    Phase,
    Sandwich,
    SinglePath,
    StrictFairness,
    SubnetPass,
)

ELASTIC = ElasticResNet()
PHASES = (Phase(2, "kernel"), Phase(3, "depth", options=2), Phase(5, "depth"), Phase(4, "width"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), space=st.sampled_from([NASBench201(), ELASTIC]))
def test_strict_fairness_takes_every_option_once(seed: int, space: SearchSpace) -> None:
    passes = StrictFairness().passes(OpenOptions.of(space), np.random.default_rng(seed))
    for choice in space.choices:
        taken = [one.arch[choice.name] for one in passes]
        assert sorted(taken, key=str) == sorted(choice.options, key=str)
    assert not any(one.taught for one in passes)


def test_strict_fairness_with_fewer_options_is_fair_over_the_steps() -> None:
    now, rng = OpenOptions.of(Tiny()), rng_for("fair")
    counts: Counter[object] = Counter()
    for _ in range(100):
        passes = StrictFairness().passes(now, rng)
        assert len(passes) == 3
        taken = Counter(one.arch["s1_kernel"] for one in passes)
        assert sorted(taken.values()) == [1, 2]
        counts += taken
        assert {one.arch["op_1"] for one in passes} == set(OPERATIONS)
    assert abs(counts[1] - counts[3]) < 40  # 4 deviations of 100 coins


def test_permutations_are_new_for_every_step_and_choice() -> None:
    now, rng = OpenOptions.of(NASBench201()), rng_for("new")
    steps = [StrictFairness().passes(now, rng) for _ in range(20)]
    orders = [tuple(one.arch.options for one in passes) for passes in steps]
    assert len(set(orders)) == 20
    first, second = (
        {tuple(one.arch.options[k] for one in passes) for passes in steps} for k in (0, 1)
    )
    assert len(first) > 5
    assert first != second


def test_single_path_draws_classes_of_cells_alike() -> None:
    """The function of the empty cell, which many cells compute, is no likelier than another."""
    now, space = OpenOptions.of(NASBench201()), NASBench201()
    empty = space.canonical(OpenOptions.of(space).smallest)
    drawn = {
        canonical: [
            SinglePath(canonical).passes(now, rng_for("draw", k))[0].arch for k in range(400)
        ]
        for canonical in (True, False)
    }
    assert all(space.canonical(arch) == arch for arch in drawn[True])
    assert drawn[True].count(empty) == 0  # 1 in 6,466
    assert sum(space.canonical(arch) == empty for arch in drawn[False]) == 3


def test_what_has_no_canonical_form_is_drawn_again() -> None:
    reach = OpenOptions.of(FailingSpace(where="canonical"))
    drawn = [SinglePath().passes(reach, rng_for("draw", k))[0].arch for k in range(200)]
    assert {int(str(arch["x"])) for arch in drawn} == {3, 4, 5}


def test_a_space_without_any_canonical_form_is_told() -> None:
    with pytest.raises(UserError, match=r"100 random .* 'failing', .* no canonical with x below 6"):
        OpenOptions.of(FailingSpace(where="canonical", bad=6)).draw(rng_for("draw", 1))


def test_the_sandwich_is_largest_random_smallest() -> None:
    now = OpenOptions.of(ELASTIC)
    passes = Sandwich(random=3).passes(now, rng_for("sandwich"))
    small, large = ELASTIC.extremes()
    assert passes[0] == SubnetPass(large)
    assert passes[-1] == SubnetPass(small, taught=True)
    assert len({one.arch for one in passes}) == 5
    assert all(one.taught for one in passes[1:])
    alone = Sandwich(random=0, distil=False).passes(now, rng_for("sandwich"))
    assert alone == [SubnetPass(large), SubnetPass(small)]
    assert not Sandwich.decays_norms


def test_phases_open_kernels_then_depths_then_widths() -> None:
    for epoch in range(1, 6):
        now, rng = OpenOptions.of(ELASTIC).opened(PHASES, epoch), rng_for("phases", epoch)
        drawn = [now.draw(rng) for _ in range(300)]

        def seen(word: str, drawn: list = drawn) -> set[object]:  # type: ignore[type-arg]
            return {arch[f"s1_{word}"] for arch in drawn}

        assert seen("b1_kernel") == ({7} if epoch < 2 else {3, 5, 7})
        assert seen("depth") == ({3} if epoch < 3 else {2, 3} if epoch < 5 else {1, 2, 3})
        assert seen("width") == ({32} if epoch < 4 else {16, 24, 32})
        assert len(seen("b1_expansion")) == 3  # no phase names it
        assert now.whole == (epoch == 5)
        assert now.largest == ELASTIC.extremes()[1]
        assert (
            all(float(now.smallest[name]) <= float(arch[name]) for arch in drawn for name in arch)
            or epoch < 3
        )  # unused blocks of shallow networks have the first options
    assert OpenOptions.of(ELASTIC).opened(PHASES, 1).smallest["s1_b1_kernel"] == 7
    assert now.smallest == ELASTIC.extremes()[0]


def test_a_choice_is_named_by_its_last_word_or_whole() -> None:
    assert Phase(1, "kernel").fits("s1_b1_kernel")
    assert Phase(1, "width").fits("width")
    assert not Phase(1, "width").fits("bandwidth")
    with pytest.raises(
        UserError, match=r"'kernal'.*no such choice; expected: width, depth, kernel"
    ):
        OpenOptions.of(ELASTIC).opened((Phase(1, "kernal"),), 1)


@pytest.mark.parametrize(
    "wrong",
    [lambda: Phase(0, "kernel"), lambda: Phase(1, "kernel", 0), lambda: Sandwich(random=-1)],
)
def test_values_that_make_no_sense_are_refused(wrong: object) -> None:
    with pytest.raises(UserError, match="expected"):
        wrong()  # type: ignore[operator]


def test_rules_can_be_set_from_the_command_line() -> None:
    assert replace(Sandwich(), random=1).random == 1


@pytest.mark.parametrize("widths", [(2, 4, 6), (6, 4, 2), (4, 6, 2)])
def test_the_sandwich_is_taught_by_the_largest_however_options_are_written(
    widths: tuple[int, ...],
) -> None:
    reach = OpenOptions.of(Widths(widths))
    first, *_, last = Sandwich(random=0).passes(reach, rng_for("sandwich"))
    assert (first.arch["width"], first.taught) == (6, False)
    assert (last.arch["width"], last.taught) == (2, True)
    opened = reach.opened((Phase(1, "width", options=2),), 1)
    assert opened.options["width"] == (4, 6)


@dataclass(frozen=True)
class Widths(SearchSpace):
    name: ClassVar[str] = "widths"
    widths: tuple[int, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (Choice("width", self.widths, ordered=True),)
