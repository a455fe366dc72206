"""The desk of a server: what is asked is answered once, whoever dies; the queue has an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Curves, ToySpace

from raynas.core import Measurement, UserError
from raynas.runners.base import JobOutcome
from raynas.runners.ray.server import ServerBusy, SubnetAnswer, _Desk
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tasks import ActorTask

SPACE = ToySpace()
ARCHS = list(SPACE.enumerate())
OLD = SharedContext(SPACE, Curves(max_step=1), None, version="old")
NEW = replace(OLD, version="new")


def done(task: ActorTask, value: float = 1.0) -> list[tuple[ActorTask, JobOutcome]]:
    return [(task, JobOutcome(Measurement(1, {"val_accuracy": value}))), (task, JobOutcome())]


def taken(desk: _Desk) -> ActorTask:
    task = desk.next()
    assert task is not None
    return task


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([OLD, NEW])), max_size=20),
    fates=st.lists(st.sampled_from(["done", "again", "lost", "failed", "twice"]), min_size=60),
)
def test_every_question_has_one_answer_by_its_version(
    asked: list[tuple[int, SharedContext]], fates: list[str]
) -> None:
    desk, told = _Desk(1000), []
    for place, shared in asked:
        (future,) = desk.ask([ARCHS[place]], shared, None)
        future.add_done_callback(lambda f, at=(place, shared): told.append((at, f.result())))
    under_way: list[ActorTask] = []
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
            desk.take([(task, JobOutcome(failure="ValueError"))])
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
    assert first.result() == SubnetAnswer(ARCHS[0], "old", None, "its worker died")
    (second,) = desk.ask(ARCHS[:1], OLD, None)
    desk.take(done(taken(desk)))
    assert second.result().measurement is not None


def test_an_evaluation_without_a_measurement_is_a_failure() -> None:
    desk = _Desk(10)
    (future,) = desk.ask(ARCHS[:1], OLD, None)
    task = taken(desk)
    desk.take([(task, JobOutcome())])
    assert future.result().failure == "the evaluator ended without a measurement"


def test_the_queue_holds_so_many_and_lets_a_large_request_through_alone() -> None:
    desk = _Desk(4)
    desk.ask(ARCHS[:3], OLD, 0.0)
    with pytest.raises(ServerBusy, match="3 architectures wait, up to 4 may"):
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


def test_who_cancels_leaves_the_others_their_answer_and_the_server_alive() -> None:
    desk = _Desk(10)
    (mine,), (yours,) = (desk.ask(ARCHS[:1], OLD, None) for _ in range(2))
    assert not mine.cancel()
    desk.take(done(taken(desk)))
    assert yours.result(0).measurement is not None
    assert mine.result(0) == yours.result(0)


@pytest.mark.parametrize("ends", [True, False])
def test_whatever_is_done_to_one_future_the_others_are_told(ends: bool) -> None:
    desk = _Desk(10)
    futures = desk.ask(ARCHS[:3], OLD, None)
    futures[0].set_exception(ValueError("set by a caller"))
    tasks = [taken(desk) for _ in futures]
    if ends:
        desk.end(RuntimeError("no more"))
        desk.end(RuntimeError("again"))
        assert [str(f.exception(0)) for f in futures[1:]] == ["no more"] * 2
        return
    for task in tasks:
        desk.take(done(task))
    assert all(f.result(0).measurement for f in futures[1:])


def test_what_comes_late_for_a_task_is_no_answer_to_the_next_one() -> None:
    desk = _Desk(10)
    (first,) = desk.ask(ARCHS[:1], OLD, None)
    old = taken(desk)
    desk.lose(old, "its worker died")
    (second,) = desk.ask(ARCHS[:1], OLD, None)
    desk.take(done(old, 2.0))
    desk.lose(old, "its worker died")
    assert not second.done()
    new = taken(desk)
    desk.take(done(new)[:1])
    desk.again(old)
    desk.take(done(new)[1:])
    found = second.result(0).measurement
    assert found is not None
    assert found.values == {"val_accuracy": 1.0}
    assert first.result(0).failure == "its worker died"


def test_callers_hear_of_an_answer_while_nothing_is_locked() -> None:
    desk, heard = _Desk(10), list[bool]()

    def from_another_thread(_: object) -> None:
        def look() -> None:
            with desk.room:
                free.set()

        free = threading.Event()
        threading.Thread(target=look).start()
        heard.append(free.wait(10.0))

    (future,) = desk.ask(ARCHS[:1], OLD, None)
    future.add_done_callback(from_another_thread)
    desk.take(done(taken(desk)))
    (future,) = desk.ask(ARCHS[1:2], OLD, None)
    future.add_done_callback(from_another_thread)
    desk.end(UserError("the end"))
    assert heard == [True, True]


def test_a_large_request_is_not_passed_by_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, large, waits = _Desk(2), list[object](), threading.Event()
    desk.ask(ARCHS[:2], OLD, None)
    wait_for = desk.room.wait_for

    def noted(fits: Callable[[], bool], seconds: float) -> bool:
        waits.set()
        return wait_for(fits, seconds)

    asking = threading.Thread(target=lambda: large.extend(desk.ask(ARCHS[10:15], OLD, 30.0)))
    with monkeypatch.context() as patch:
        patch.setattr(desk.room, "wait_for", noted)
        asking.start()
        assert waits.wait(10.0)
        with desk.room:  # it has let go of it: it waits
            patch.undo()
    desk.next()  # room for one
    with pytest.raises(ServerBusy, match="1 architectures wait, up to 2 may, and 1 callers"):
        desk.ask(ARCHS[3:4], OLD, 0.0)
    assert len(desk.ask(ARCHS[:2], OLD, 0.0)) == 2  # needs no room
    desk.next()
    asking.join(30.0)
    assert len(large) == 5
    assert len(desk.ask(ARCHS[10:15], OLD, 0.0)) == 5


def test_who_is_interrupted_while_waiting_for_room_is_in_nobody_s_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = _Desk(1)
    desk.ask(ARCHS[:1], OLD, None)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(desk.room, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            desk.ask(ARCHS[1:2], OLD, None)
    desk.next()
    assert len(desk.ask(ARCHS[2:3], OLD, 0.0)) == 1
    assert len(desk.asked) == 2
