"""The desk of a server: what is asked is answered once, whoever dies; the queue has an end."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Curves, ToySpace

from raynas.core import Measurement, UserError
from raynas.runners.base import Outcome
from raynas.runners.crew import Shared, Task
from raynas.runners.server import Answer, Busy, _Desk

SPACE = ToySpace()
ARCHS = list(SPACE.enumerate())
OLD = Shared(SPACE, Curves(max_step=1), None, version="old")
NEW = replace(OLD, version="new")


def done(task: Task, value: float = 1.0) -> list[tuple[Task, Outcome]]:
    return [(task, Outcome(Measurement(1, {"val_accuracy": value}))), (task, Outcome())]


def taken(desk: _Desk) -> Task:
    task = desk.next()
    assert task is not None
    return task


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([OLD, NEW])), max_size=20),
    fates=st.lists(st.sampled_from(["done", "again", "lost", "failed", "twice"]), min_size=60),
)
def test_every_question_has_one_answer_by_its_version(
    asked: list[tuple[int, Shared]], fates: list[str]
) -> None:
    desk, told = _Desk(1000), []
    for place, shared in asked:
        (future,) = desk.ask([ARCHS[place]], shared, None)
        future.add_done_callback(lambda f, at=(place, shared): told.append((at, f.result())))
    under_way: list[Task] = []
    for fate in [*fates, *["done"] * 100]:
        task = under_way.pop(0) if under_way else desk.next()
        if task is None:
            break
        if fate == "again":
            desk.take(done(task)[:1])
            desk.again(task)
            under_way.append(task)
        elif fate == "lost":
            desk.lose(task, "its worker died")
        elif fate == "failed":
            desk.take([(task, Outcome(failure="ValueError"))])
        else:
            desk.take(done(task))
            if fate == "twice":  # a worker that came back from the dead
                desk.take(done(task, 2.0))
    assert len(told) == len(asked)
    assert not desk.asked
    for (place, shared), answer in told:
        assert (answer.arch, answer.version) == (ARCHS[place], shared.version)
        assert (answer.measurement is None) == bool(answer.failure)
        assert answer.measurement is None or answer.measurement.values == {"val_accuracy": 1.0}


def test_equal_questions_share_an_evaluation_and_are_known_afterwards() -> None:
    desk = _Desk(10)
    first, again = (desk.ask(ARCHS[:2], OLD, None) for _ in range(2))
    assert first[0] is again[0]
    assert len(desk.waiting) == 2
    for _ in range(2):
        desk.take(done(taken(desk)))
    assert desk.ask(ARCHS[:2], OLD, None)[0].done()
    assert not desk.ask(ARCHS[:1], NEW, None)[0].done()
    assert desk.answered == 2


def test_a_failure_is_not_remembered() -> None:
    desk = _Desk(10)
    (first,) = desk.ask(ARCHS[:1], OLD, None)
    desk.lose(taken(desk), "its worker died")
    assert first.result() == Answer(ARCHS[0], "old", None, "its worker died")
    (second,) = desk.ask(ARCHS[:1], OLD, None)
    desk.take(done(taken(desk)))
    assert second.result().measurement is not None


def test_an_evaluation_without_a_measurement_is_a_failure() -> None:
    desk = _Desk(10)
    (future,) = desk.ask(ARCHS[:1], OLD, None)
    task = taken(desk)
    desk.take([(task, Outcome())])
    assert future.result().failure == "the evaluator ended without a measurement"


def test_the_queue_holds_so_many_and_lets_a_large_request_through_alone() -> None:
    desk = _Desk(4)
    desk.ask(ARCHS[:3], OLD, 0.0)
    with pytest.raises(Busy, match="3 architectures wait, up to 4 may"):
        desk.ask(ARCHS[3:5], OLD, 0.0)
    desk.ask(ARCHS[2:4], OLD, 0.0)  # only one of them is new
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(desk.ask(ARCHS[10:20], OLD, 30.0)))
    waiting.start()
    for _ in range(4):
        assert not got
        desk.next()
    waiting.join()
    assert len(desk.waiting) == 10


def test_who_waits_for_room_hears_of_the_end() -> None:
    desk = _Desk(1)
    (future,) = desk.ask(ARCHS[:1], OLD, None)
    heard: list[str] = []

    def ask() -> None:
        try:
            desk.ask(ARCHS[1:3], OLD, None)
        except UserError as error:
            heard.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    desk.end(RuntimeError("no more"))
    waiting.join()
    wait([future])
    assert isinstance(future.exception(), RuntimeError)
    assert heard == ["the supernet server has ended: no more"]
    assert desk.over
