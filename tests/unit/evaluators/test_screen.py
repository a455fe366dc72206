"""Which of a batch go on, and which screens make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Curves, Quick

from raynas.core import Ensemble, Metric, UserError
from raynas.evaluators import Screen


@dataclass
class Scores(Quick):
    """Any number of scores."""

    max_step: int = 1
    named: tuple[tuple[str, str], ...] = (("good", "max"), ("bad", "min"))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(Metric(name, "", direction) for name, direction in self.named)  # type: ignore[arg-type]


ONE = Scores(named=(("good", "max"),))


def kept(screen: Screen, good: list[float], earlier: int = 0) -> list[int]:
    return screen.kept({"good": np.array(good)}, earlier)


def test_the_best_of_a_batch_go_on_best_first() -> None:
    assert kept(Screen(ONE, keep=0.5), [1.0, 4.0, 2.0, 3.0]) == [1, 3]
    assert kept(Screen(ONE, keep=0.01), [1.0, 4.0, 2.0, 3.0]) == [1]
    assert kept(Screen(ONE, keep=1.0), [1.0, 4.0, 2.0, 3.0]) == [1, 3, 2, 0]


def test_of_equals_the_earlier_goes_first() -> None:
    assert kept(Screen(ONE, keep=0.5), [2.0, 2.0, 2.0, 2.0]) == [0, 1]
    assert kept(Screen(ONE, keep=0.5, within="run"), [2.0] * 4, earlier=2) == []


def test_within_a_batch_the_past_does_not_count() -> None:
    past = [9.0] * 6
    assert kept(Screen(ONE, keep=0.5), [*past, 1.0, 2.0], earlier=6) == [1]


def test_a_learned_quantile_may_let_a_batch_fall_or_take_it_whole() -> None:
    screen = Screen(ONE, keep=0.25, within="run")
    assert kept(screen, [9.0, 8.0, 7.0, 6.0, 1.0, 2.0, 3.0, 4.0], earlier=4) == []
    assert kept(screen, [1.0] * 6 + [2.0, 3.0], earlier=6) == [1, 0]


def test_what_has_no_score_ranks_lowest() -> None:
    nan, inf = float("nan"), float("inf")
    assert kept(Screen(ONE, keep=0.75), [nan, -1e300, 5.0, inf]) == [3, 2, 1]
    both = Screen(Scores(), keep=0.5)
    table = {"good": np.array([3.0, nan, 2.0, 4.0]), "bad": np.array([5.0, 1.0, nan, 6.0])}
    assert both.kept(table, 0)[0] == 0


def test_directions_count_and_sizes_can_rank() -> None:
    table = {n: np.array(v, float) for n, v in
             {"good": [1, 1, 1], "bad": [3, 1, 2], "params": [10, 20, 30]}.items()}  # fmt: skip
    assert Screen(Scores(), keep=0.3).kept(table, 0) == [1]
    assert Screen(Scores(), keep=0.3, by=Ensemble(("params",))).kept(table, 0) == [2]
    assert Screen(Scores(), keep=0.3, by=Ensemble(("params",), (-1.0,))).kept(table, 0) == [0]
    assert Screen(Scores(named=()), keep=0.3, by=Ensemble(("params",))).kept(table, 0) == [2]


@given(
    st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan"))), min_size=1, max_size=40),
    st.integers(0, 20),
    st.floats(0.01, 1),
    st.sampled_from(["batch", "run"]),
)
def test_no_candidate_that_falls_is_better_than_one_that_goes_on(
    good: list[float], earlier: int, keep: float, within: Any
) -> None:
    earlier = min(earlier, len(good) - 1)
    new = np.nan_to_num(good, nan=-100.0)[earlier:]
    places = kept(Screen(ONE, keep=keep, within=within), good, earlier)
    assert len(set(places)) == len(places)
    on = [(-new[i], i) for i in places]
    off = [(-new[i], i) for i in range(len(new)) if i not in places]
    assert on == sorted(on)
    assert not on or not off or max(on) < min(off)
    if within == "batch":
        assert len(places) == max(1, int(np.ceil(round(keep * len(new), 9))))


def test_the_share_is_exact() -> None:
    assert len(kept(Screen(ONE, keep=0.07), list(range(100)))) == 7  # in floats .07 * 100 > 7


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"evaluator": Scores}, "an evaluator, as ZeroShot"),
        ({"keep": 0.0}, "above 0, up to 1"),
        ({"keep": 1.5}, "above 0, up to 1"),
        ({"keep": float("nan")}, "keep=nan; expected: number"),
        ({"batch": 0}, ">= 1"),
        ({"evaluator": Curves(max_step=4)}, "takes 4 steps.*one measurement"),
        ({"by": Ensemble(("naswot",))}, "naswot.*bad, good, macs, params"),
        ({"evaluator": Scores(named=())}, r"has no metrics to rank by.*by=Ensemble"),
    ],
)
def test_screens_that_make_no_sense(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Screen(**{"evaluator": Scores(), **parts})
