"""This module turns training code that reports its values into an iterator of these values."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, final

from raynas.core import Architecture, Job, UserError

Report = Callable[..., None]
Fit = Callable[[Architecture, Job, Report], object]


class EvaluationStopped(BaseException):
    """The exception that ``report`` raises when the search goes no further with the trial.

    It is not an ``Exception``, like ``GeneratorExit``, so that training code which catches errors
    and continues ends too. ``finally`` blocks are run as usual.
    """


@final
class PushedValues(Iterator[Any]):
    """An iterator over the values that ``fit(arch, job, report)`` reports.

    The function runs in a thread of its own, and only while a value is asked for: its ``report``
    returns when the next value is wanted. So both threads never run at once, and random numbers
    are drawn as if there were one thread.

    Args:
        fit: The function.
        arch: Its first argument.
        job: Its second argument.

    Example:
        >>> def fit(arch, job, report):
        ...     report(90.0)
        ...     report(step=2, val_accuracy=91.5)
        >>> list(PushedValues(fit, None, None))
        [90.0, {'step': 2, 'val_accuracy': 91.5}]
    """

    def __init__(self, fit: Fit, arch: Architecture, job: Job) -> None:
        self._fit = fit, arch, job
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[bool, Any]] = (
            queue.SimpleQueue()
        )  # (is there more, the value or error)
        self._thread: threading.Thread | None = None
        self._stopped = self._ended = False

    def __next__(self) -> Any:
        """Run the function up to its next report.

        Returns:
            The reported value.

        Raises:
            StopIteration: The function has ended.
            BaseException: The error that the function raised.
        """
        if self._ended:
            raise StopIteration
        self._go_on()
        more, found = self._wait()
        if more:
            return found
        self._ended = True
        if found is not None:
            raise found
        raise StopIteration

    def close(self) -> None:
        """Stop the function at its next report, and wait until it has cleaned up.

        An error that it raises meanwhile is dropped, because its result is not needed any more.
        """
        if self._ended:
            return
        self._ended = self._stopped = True
        if self._thread is not None:
            self._wanted.put(False)
            while self._given.get()[0]:
                pass

    def _go_on(self) -> None:
        if self._thread is not None:
            self._wanted.put(True)
            return
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="raynas-fit", daemon=True
        )
        self._thread.start()

    def _wait(self) -> tuple[bool, Any]:
        try:
            return self._given.get()
        except BaseException:  # a second Ctrl-C must not wait for the thread
            self._ended = self._stopped = True
            self._wanted.put(False)
            raise

    def _run(self) -> None:
        function, arch, job = self._fit
        try:
            function(arch, job, self._report)
        except EvaluationStopped:
            self._given.put((False, None))
        except BaseException as error:
            self._given.put((False, error))
        else:
            self._given.put((False, None))

    def _report(self, found: Any = None, /, **values: Any) -> None:
        """Pass on a measurement: a value as a generator would yield it, or values by name."""
        if (found is None) == (not values):
            raise UserError(
                "report() was called with " + ("two sets of values" if values else "nothing"),
                expected="report(91.5), report({'step': 3, 'val_accuracy': 91.5}), "
                "report(step=3, val_accuracy=91.5) or report(Measurement(...))",
            )
        if self._stopped:
            raise EvaluationStopped
        self._given.put((True, values if found is None else found))
        if not self._wanted.get():
            raise EvaluationStopped
