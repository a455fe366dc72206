"""Callbacks of futures: whatever they do, results come and the other callbacks run."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from raynas.runners.ray.futures import CallbackThread

_SECONDS = 20.0  # a wait that is never used up


def done(thread: CallbackThread, value: int = 1) -> Future[Any]:
    future = thread.future()
    future.set_result(value)
    return future


def test_callbacks_run_in_order_in_another_thread() -> None:
    thread, ran = CallbackThread(), list[tuple[int, int]]()
    last = threading.Event()
    futures = [thread.future() for _ in range(5)]
    for future in futures:
        future.add_done_callback(lambda f: ran.append((f.result(), threading.get_ident())))
    for number, future in enumerate(futures):
        future.set_result(number)
    done(thread).add_done_callback(lambda _: last.set())
    assert last.wait(_SECONDS)
    assert [number for number, _ in ran] == [*range(5)]
    assert {where for _, where in ran} != {threading.get_ident()}
    thread.end()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(), KeyboardInterrupt()])
def test_one_that_raises_is_logged_and_the_next_runs(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    thread, last = CallbackThread(), threading.Event()

    def fail(_: Future[int]) -> None:
        raise error

    with caplog.at_level(logging.ERROR):
        done(thread).add_done_callback(fail)
        done(thread).add_done_callback(lambda _: last.set())
        assert last.wait(_SECONDS)
    assert "of an answer failed" in caplog.text
    thread.end()


def test_a_result_waits_for_no_callback() -> None:
    thread, go_on, ended = CallbackThread(), threading.Event(), threading.Event()
    first, second = thread.future(), thread.future()

    def wait(_: Future[int]) -> None:
        assert second.result(_SECONDS) == 2  # of another future, in a callback
        go_on.wait(_SECONDS)
        ended.set()

    first.add_done_callback(wait)
    first.set_result(1)
    second.set_result(2)
    assert second.result(0) == 2
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(_SECONDS)
    thread.end()


def test_after_the_end_what_is_due_has_run_and_callbacks_run_at_once() -> None:
    thread, ran = CallbackThread(), list[int]()
    go_on, last = threading.Event(), threading.Event()
    done(thread).add_done_callback(lambda _: go_on.wait(_SECONDS))
    done(thread, 2).add_done_callback(lambda f: (ran.append(f.result()), last.set()))
    thread.end()
    done(thread, 3).add_done_callback(lambda f: ran.append(f.result()))
    assert ran == [3]
    go_on.set()
    assert last.wait(_SECONDS)
    assert ran == [3, 2]


def test_without_callbacks_there_is_no_thread() -> None:
    before = threading.active_count()
    thread = CallbackThread()
    assert done(thread).result(0) == 1
    assert threading.active_count() == before
    thread.end()
