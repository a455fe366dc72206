"""Samplers with a fixed list: order, isomorphic ones, ends, and what a search makes of them."""

from __future__ import annotations

import pytest
from integration.toy_runs import Table, search
from toys import Curves, ToySpace

from raynas.core import (
    Bound,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
)
from raynas.runners.local import LocalRunner
from raynas.samplers import Exhaustive, Listed, Sampler
from raynas.spaces import ElasticResNet

PROBLEM = SearchProblem((Objective(),), 1, 0, "run")
SPACE = ToySpace(merge=True)
TEXTS = ("x=5,y=0,op=b", "x=0,y=3,op=c", "x=5,y=0,op=a", "x=1,y=1,op=a", "x=0,y=3,op=c")


def proposals(sampler: Sampler, replayed: tuple[Trial, ...] = ()) -> list[str]:
    sampler.setup(SPACE, PROBLEM)
    sampler.replay(replayed)
    found: list[str] = []

    def ask_all() -> None:
        for number in range(SPACE.size + 1):
            found.append(sampler.ask(number).text)

    with pytest.raises(SpaceExhausted, match="architectures of its list in space 'toy'"):
        ask_all()
    return found


def test_a_list_is_proposed_in_its_order_each_class_once() -> None:
    assert proposals(Listed(TEXTS)) == [TEXTS[0], TEXTS[1], TEXTS[3]]


def test_every_class_of_the_space_comes_in_the_order_of_the_space() -> None:
    found = proposals(Exhaustive())
    assert found == [a.text for a in SPACE.enumerate() if a["op"] != "b"]


@pytest.mark.parametrize("sampler", [Listed(TEXTS), Exhaustive()], ids=["listed", "exhaustive"])
def test_after_a_resume_the_rest_follows(sampler: Sampler) -> None:
    whole = proposals(sampler)
    known = tuple(
        Trial(n, SPACE.architecture(t), SPACE.architecture(t), state=TrialState.COMPLETE)
        for n, t in enumerate(whole)
        if n != 1  # a killed driver lost it
    )
    assert proposals(sampler, known[:1]) == whole[1:]
    assert proposals(sampler, known) == [whole[1]]


def test_what_is_not_of_the_space_or_too_many_is_told_at_setup() -> None:
    with pytest.raises(UserError, match="'q'"):
        Listed(("x=0,y=0,op=q",)).setup(SPACE, PROBLEM)
    with pytest.raises(UserError, match=r"no architectures were given; .*give some"):
        Listed().setup(SPACE, PROBLEM)
    with pytest.raises(UserError, match=r"architectures; expected: up to 2,000,000; .*Random"):
        Exhaustive().setup(ElasticResNet(), PROBLEM)


def test_a_search_evaluates_the_list_and_nothing_else_whatever_bounds_reject() -> None:
    rows, bound = Table(), (Bound("params", max=20),)
    texts = [f"x={x},y={y},op={op}" for x in range(6) for y in range(6) for op in "abc"][::-1]
    work = search(Listed(tuple(texts)), Curves(max_step=1), rows, bounds=bound)
    work.patience = work.proposer.patience.beyond_bounds = work.proposer.patience.rejections = 3
    LocalRunner().run(work)
    kept = [t for t in texts if t[:7] in ("x=0,y=0", "x=0,y=1", "x=1,y=0")]
    assert [row["arch"] for row in rows if row["state"] == "COMPLETE"] == kept
    assert len(work.trials) == len(texts)
    assert work.note == "all 108 architectures of its list in space 'toy' have been proposed"
