from __future__ import annotations

import math
from fractions import Fraction

import pytest

from raynas.core import (
    Architecture,
    Decision,
    Measurement,
    Objective,
    SearchProblem,
    Trial,
    UserError,
)
from raynas.core import TrialState as State
from raynas.schedulers import PASHA, Hyperband, PromotionASHA, Rung, Scheduler, SuccessiveHalving

ARCH = Architecture("toy", (("a", 1),), "a=1")
UP = (Objective("val_accuracy"),)


def ready(scheduler: Scheduler, max_step: int = 9) -> Scheduler:
    scheduler.setup(SearchProblem(UP, max_step, 0, "run"))
    return scheduler


class Run:
    """Trials that are measured at one step after the other."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.trials = scheduler, dict[int, Trial]()

    def begin(self, *numbers: int) -> Run:
        for number in numbers:
            self.trials[number] = Trial(number, ARCH, ARCH)
            self.scheduler.begin(self.trials[number])
        return self

    def at(self, step: int, **values: float) -> list[Decision]:
        """``t3=7.0``: trial 3 has the value 7 there."""
        found = []
        for name, value in values.items():
            trial = self.trials[int(name[1:])]
            trial.measurements.append(Measurement(step, {"val_accuracy": value}))
            found.append(self.scheduler.decide(trial))
        return found

    def end(self, number: int, state: State = State.FAILED) -> None:
        self.trials[number].state = state
        self.scheduler.end(self.trials[number])

    def review(self, last: bool = False) -> list[tuple[int, str]]:
        return [(n, str(d)) for n, d in self.scheduler.review(last)]


# -- promotion ---------------------------------------------------------------------------------


def test_everyone_pauses_and_of_three_the_best_is_promoted() -> None:
    run = Run(ready(PromotionASHA())).begin(0, 1, 2, 3)
    assert run.at(1, t0=5.0, t1=7.0) == [Decision.PAUSE] * 2
    assert run.review() == []
    assert run.at(1, t2=6.0) == [Decision.PAUSE]
    assert run.review() == [(1, "CONTINUE")]
    assert run.review() == []
    assert set(run.scheduler.paused()) == {0, 2}
    assert run.scheduler.rungs()[0] == Rung(1, 3, 1)


def test_one_that_was_overlooked_is_promoted_when_its_rung_has_grown() -> None:
    run = Run(ready(PromotionASHA())).begin(*range(6))
    run.at(1, t0=9.0, t1=8.0, t2=1.0)
    assert run.review() == [(0, "CONTINUE")]
    run.at(1, t3=2.0, t4=3.0)
    assert run.review() == []
    run.at(1, t5=4.0)
    assert run.review() == [(1, "CONTINUE")]  # second of six


def test_the_highest_rung_comes_first() -> None:
    run = Run(ready(PromotionASHA())).begin(*range(12))
    run.at(1, **{f"t{n}": float(n) for n in range(12)})
    asked = [run.review()[0][0] for _ in range(4)]
    assert asked == [11, 10, 9, 8]
    run.at(3, t11=1.0, t10=2.0)
    assert run.review() == []
    run.at(3, t9=3.0)
    assert run.review() == [(9, "CONTINUE")]


def test_at_the_end_the_foremost_goes_on_where_nobody_is_complete() -> None:
    run = Run(ready(PromotionASHA())).begin(0, 1)
    run.at(1, t0=1.0, t1=2.0)
    assert run.review() == []
    assert run.review(last=True) == [(1, "CONTINUE")]
    run.at(3, t1=2.0)
    assert run.review(last=True) == [(1, "CONTINUE")]
    run.at(9, t1=2.0)
    run.end(1, State.COMPLETE)
    assert run.review(last=True) == []


def test_a_failed_favourite_gives_way() -> None:
    run = Run(ready(PromotionASHA())).begin(0, 1)
    run.at(1, t0=1.0, t1=2.0)
    run.end(1)
    assert run.review(last=True) == [(0, "CONTINUE")]


def test_a_value_that_is_none_stops_and_enters_no_rung() -> None:
    for make in (PromotionASHA, PASHA, SuccessiveHalving):
        run = Run(ready(make())).begin(0)
        assert run.at(1, t0=float("nan")) == [Decision.STOP]
        assert sum(r.reached for r in run.scheduler.rungs()) == 0


def test_the_steps_of_pauses_are_told_to_evaluators() -> None:
    assert list(ready(PromotionASHA(), 27).pauses()) == [1, 3, 9]
    assert list(ready(PromotionASHA(min_step=2, factor=2, max_step=9), 27).pauses()) == [2, 4, 8]
    assert list(ready(SuccessiveHalving(), 27).pauses()) == [1, 3, 9]


# -- PASHA -------------------------------------------------------------------------------------


def nine_at_the_first_rung(epsilon: float = 0.0) -> Run:
    run = Run(ready(PASHA(epsilon=epsilon), 27)).begin(*range(9))
    run.at(1, **{f"t{n}": float(n) for n in range(9)})
    assert [run.review()[0][0] for _ in range(3)] == [8, 7, 6]
    return run


def test_where_two_rungs_agree_nobody_goes_further() -> None:
    run = nine_at_the_first_rung()
    run.at(3, t8=30.0, t7=20.0, t6=10.0)
    assert run.review() == []
    assert PromotionASHA.review(run.scheduler, True) == ((8, Decision.CONTINUE),)


def test_where_they_do_not_agree_the_next_rung_is_opened() -> None:
    run = nine_at_the_first_rung()
    run.at(3, t8=10.0, t7=20.0, t6=30.0)
    assert run.review() == [(6, "CONTINUE")]
    run.at(9, t6=1.0)
    assert run.review() == []  # of a single one nothing is known


def test_what_is_within_epsilon_is_no_disagreement() -> None:
    swapped = {"t8": 20.0, "t7": 30.0, "t6": 10.0}  # in the first rung 8 and 7 are 1 apart
    for epsilon, further in ((0.9, 1), (1.0, 0)):
        run = nine_at_the_first_rung(epsilon)
        run.at(3, **swapped)
        assert len(run.review()) == further


def test_epsilon_is_checked() -> None:
    with pytest.raises(UserError, match="PASHA: epsilon = -1"):
        PASHA(epsilon=-1.0)
    with pytest.raises(UserError, match="PASHA: factor = 1"):
        PASHA(factor=1)


# -- halving -----------------------------------------------------------------------------------


def test_a_rung_waits_for_all_then_the_best_third_goes_on_and_the_others_stop() -> None:
    run = Run(ready(SuccessiveHalving())).begin(*range(9))
    assert run.at(1, **{f"t{n}": float(n) for n in range(8)}) == [Decision.PAUSE] * 8
    assert run.review() == []
    run.at(1, t8=3.5)
    verdicts = dict(run.review())
    assert sorted(n for n, d in verdicts.items() if d == "CONTINUE") == [5, 6, 7]
    assert len(verdicts) == 9
    for number in (0, 1, 2, 3, 4, 8):
        run.end(number, State.STOPPED)
    run.at(3, t5=1.0, t6=9.0)
    assert run.review() == []
    run.at(3, t7=2.0)
    assert dict(run.review()) == {5: "STOP", 6: "CONTINUE", 7: "STOP"}


def test_who_fails_is_not_waited_for() -> None:
    run = Run(ready(SuccessiveHalving(), 3)).begin(0, 1, 2)
    run.at(1, t0=1.0, t1=2.0)
    run.end(2)
    assert dict(run.review()) == {0: "STOP", 1: "CONTINUE"}


def test_the_next_bracket_begins_while_one_waits() -> None:
    run = Run(ready(SuccessiveHalving(), 3)).begin(0, 1, 2, 3, 4, 5)
    run.at(1, t3=1.0, t4=3.0, t5=2.0, t0=9.0)
    assert dict(run.review()) == {3: "STOP", 4: "CONTINUE", 5: "STOP"}  # not 0, of the first one


def test_without_overlap_workers_wait_for_the_bracket() -> None:
    run = Run(ready(SuccessiveHalving(size=4, overlap=False), 3))
    assert run.scheduler.admits()
    run.begin(0, 1, 2)
    assert run.scheduler.admits()
    run.begin(3)
    assert not run.scheduler.admits()
    run.at(1, t0=1.0, t1=2.0, t2=3.0, t3=0.0)
    assert [n for n, d in run.review() if d == "CONTINUE"] == [2]
    for number in (0, 1, 3):
        run.end(number, State.STOPPED)
        assert not run.scheduler.admits()
    run.end(2, State.COMPLETE)
    assert run.scheduler.admits()
    assert ready(SuccessiveHalving(), 3).admits()


@pytest.mark.parametrize("size", [0, -3])
def test_the_size_is_checked(size: int) -> None:
    with pytest.raises(UserError, match=f"size = {size}"):
        SuccessiveHalving(size=size)


def test_an_unfinished_bracket_is_judged_when_nothing_more_comes() -> None:
    run = Run(ready(SuccessiveHalving())).begin(0, 1, 2, 3)
    run.at(1, t0=1.0, t1=2.0, t2=3.0, t3=0.0)
    assert run.review() == []
    assert dict(run.review(last=True)) == {0: "STOP", 1: "STOP", 2: "CONTINUE", 3: "STOP"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [(0, 27), (1, 12), (2, 6), (3, 4)]),  # of the paper, with R = 27 and eta = 3
        ({"brackets": 2}, [(0, 27), (1, 12)]),
        ({"min_step": 3}, [(0, 9), (1, 5), (2, 3)]),
        ({"factor": 30}, [(0, 30), (1, 2)]),
    ],
)
def test_the_sizes_of_hyperbands_brackets(settings, expected) -> None:
    assert ready(Hyperband(**settings), 27)._sizes == expected


@pytest.mark.parametrize("factor", range(2, 11))
def test_the_sizes_are_those_of_exact_arithmetic(factor: int) -> None:
    for end in [*range(2, 1001), *(factor**k for k in range(1, 13))]:
        most = next(k for k in range(20) if factor**k >= end)  # rungs at 1, factor, ... below end
        exact = [math.ceil(Fraction(most + 1, s + 1) * factor**s) for s in range(most, -1, -1)]
        assert ready(Hyperband(factor=factor), end)._sizes == list(enumerate(exact))


@pytest.mark.parametrize("size", [0, 2.5, math.inf, math.nan])
def test_numbers_of_brackets_and_trials_are_integers(size) -> None:
    for wrong in (lambda: Hyperband(brackets=size), lambda: SuccessiveHalving(size=size)):
        with pytest.raises(UserError, match=r"integers from 1|whole number or none"):
            wrong()


def test_brackets_follow_each_other_and_compare_at_their_own_rungs() -> None:
    run = Run(ready(Hyperband(), 3)).begin(*range(6))  # 3 that are halved, then 2 that are not
    assert run.at(1, t0=1.0, t1=2.0, t3=0.0, t4=5.0) == [
        Decision.PAUSE, Decision.PAUSE, Decision.CONTINUE, Decision.CONTINUE,
    ]  # fmt: skip
    assert run.at(1, t5=3.0) == [Decision.PAUSE]  # the first kind again
