"""Training code that reports what it finds, as an iterator that is asked for it."""

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
    """Raised out of ``report`` when the search goes no further with the trial.

    It is no ``Exception``, as ``GeneratorExit`` is none, so that training code which goes on after
    errors ends. ``finally`` blocks are run as usual.
    """


@final
class PushedValues(Iterator[Any]):
    """What ``fit(arch, job, report)`` reports, one value after the other.

    The function runs in a thread of its own, and only while a value is asked for: its ``report``
    returns when the next one is wanted. So both never run at once, and random numbers are drawn as
    if there were one thread.

    Args:
        fit: The function.
        arch: Its first argument.
        job: Its second one.
    """

    def __init__(self, fit: Fit, arch: Architecture, job: Job) -> None:
        self._fit = fit, arch, job
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()  # more to come, what
        self._thread: threading.Thread | None = None
        self._stopped = self._ended = False

    def __next__(self) -> Any:
        """Let the function run up to its next report.

        Raises:
            StopIteration: It has ended.
            BaseException: What the function raised.
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
        """Stop the function where it reports, and wait until it has cleaned up.

        What it raises meanwhile is lost: nobody asks for its result any more.
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
        except BaseException:  # a second Ctrl-C waits for nobody
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
        """Hand over a measurement: what a generator would yield, or its values by name."""
        if (found is None) == (not values):
            raise UserError(
                "report() was called with " + ("two sets of values" if values else "nothing"),
                allowed="report(91.5), report({'step': 3, 'val_accuracy': 91.5}), "
                "report(step=3, val_accuracy=91.5) or report(Measurement(...))",
            )
        if self._stopped:
            raise EvaluationStopped
        self._given.put((True, values if found is None else found))
        if not self._wanted.get():
            raise EvaluationStopped
