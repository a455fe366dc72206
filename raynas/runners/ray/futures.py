"""This module makes futures whose callbacks run in a thread of their own.

So a slow callback does not delay anybody else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class CallbackThread:
    """A thread that runs the callbacks of its futures, in the order in which they became due.

    A callback may do what any other code may: wait, ask for more, raise. Whoever waits for the
    result of a future does not wait for the callbacks of others. The thread is started by the first
    callback. After :meth:`end` a callback runs where its future gets the result, or where it is
    added to a future that has one.

    Example:
        >>> thread = CallbackThread()
        >>> future = thread.future()
        >>> future.set_result(3)
        >>> future.result()
        3
        >>> thread.end()
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: deque[tuple[Callable[[Any], object], Future[Any]]] = deque()
        self._started = self._ended = False

    def future(self) -> Future[Any]:
        """Return a new future, which is pending."""
        return _FutureWithThread(self)

    def run(self, callback: Callable[[Any], object], future: Future[Any]) -> None:
        """Have a callback run soon.

        Args:
            callback: The function; what it raises is logged.
            future: Its argument, a future that has its result.
        """
        with self._changed:
            if not self._ended:
                self._start()
                self._due.append((callback, future))
                self._changed.notify_all()
                return
        _call(callback, future)

    def end(self) -> None:
        """Let the thread run the callbacks that are due, and end."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._serve, name="callbacks", daemon=True).start()

    def _serve(self) -> None:
        while due := self._next():
            _call(*due)

    def _next(self) -> tuple[Callable[[Any], object], Future[Any]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._ended)
            return self._due.popleft() if self._due else None


class _FutureWithThread(Future[T]):
    """A future whose callbacks a :class:`CallbackThread` runs."""

    def __init__(self, thread: CallbackThread) -> None:
        super().__init__()
        self._thread = thread

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have ``fn`` called with this future once it is done, in the thread of callbacks."""
        super().add_done_callback(lambda future: self._thread.run(fn, future))


def _call(callback: Callable[[Any], object], future: Future[Any]) -> None:
    try:
        callback(future)
    except BaseException:  # SystemExit, too, would end the thread for all callbacks
        _LOG.exception("callback %r of an answer failed", callback)
