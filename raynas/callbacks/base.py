"""This module has the contract of a callback, and queues so that callbacks do not delay a run."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import UserError
from raynas.core.renamed import renamed_names

Row = Mapping[str, Any]


class RunCallback(ABC):
    """A receiver of every row after it is stored, in a thread of its own.

    It may be slow, and it may fail.

    Attributes:
        name: Name in ``CALLBACKS`` and on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Prepare for a run that begins, or goes on.

        Args:
            run: The run's id.
            folder: The run's folder.
            description: Plain description of the experiment.

        Raises:
            UserError: A package is missing.
        """

    @abstractmethod
    def show(self, row: Row) -> None:
        """Show a row of the result table.

        Args:
            row: Column -> value: a measurement, or how a trial ended.
        """

    def close(self) -> None:
        """Finish at the end of the run."""


class CallbackDispatcher:
    """A dispatcher that passes rows to callbacks without waiting for them.

    Each callback has a queue; rows that do not fit are dropped, and counted. A callback that
    raises gets no more rows; ``remarks`` say which one, and why.

    Args:
        callbacks: The callbacks.
        room: Number of rows that each queue holds.

    Example:
        >>> board = CallbackDispatcher([])
        >>> board.show([{"trial": 0}])
        >>> board.close()
        >>> board.remarks
        []
    """

    def __init__(self, callbacks: Sequence[RunCallback], room: int = 10_000) -> None:
        self._desks = [_Desk(callback, room) for callback in callbacks]

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Open all callbacks and start their threads.

        Args:
            run: The run's id.
            folder: The run's folder.
            description: Plain description of the experiment.

        Raises:
            UserError: A callback cannot be used at all; the message has the reason.
        """
        for desk in self._desks:
            try:
                desk.callback.open(run, folder, description)
            except UserError:
                raise
            except Exception as error:  # for instance an unreachable server, or invalid settings
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                name = desk.callback.name
                raise UserError(f"{name} cannot be used: {told}", hint="leave it out") from error
            desk.thread.start()

    def show(self, rows: Sequence[Row]) -> None:
        """Put rows into the queue of every callback.

        Args:
            rows: Rows of the result table.
        """
        for desk in self._desks:
            for row in rows:
                desk.take(row)

    def close(self, patience: float = 5.0) -> None:
        """Close all callbacks, after they were given time for the rows in their queues.

        Args:
            patience: Longest time to wait, in seconds, for all callbacks together.
        """
        deadline = time.monotonic() + patience
        for desk in self._desks:
            desk.end(deadline)

    @property
    def remarks(self) -> list[str]:
        """The remarks on callbacks that missed rows.

        Returns:
            One sentence for each such callback.
        """
        return [remark for desk in self._desks if (remark := desk.remark)]


class _Desk:
    """A callback with its queue and its thread."""

    def __init__(self, callback: RunCallback, room: int) -> None:
        self.callback = callback
        self.thread = threading.Thread(target=self._work, name=callback.name, daemon=True)
        self._rows: queue.Queue[Row | None] = queue.Queue(room)
        self._missed = 0
        self._failure = ""

    def take(self, row: Row) -> None:
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._missed += 1

    def _work(self) -> None:
        while (row := self._rows.get()) is not None:
            if self._failure:
                self._missed += 1
                continue
            try:
                self.callback.show(row)
            except Exception as error:  # any error: the search must go on
                self._missed += 1
                self._failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with contextlib.suppress(Exception):
            self.callback.close()

    def end(self, deadline: float) -> None:
        if not self.thread.is_alive():
            return
        with contextlib.suppress(queue.Full):
            self._rows.put(None, timeout=max(deadline - time.monotonic(), 0.001))
        self.thread.join(max(deadline - time.monotonic(), 0.001))

    @property
    def remark(self) -> str:
        with self._rows.mutex:  # the None that ends it may be among them
            late = sum(row is not None for row in self._rows.queue)
        if not (self._missed or late or self._failure):
            return ""
        why = f" ({self._failure})" if self._failure else ""
        return f"{self.callback.name} missed {self._missed + late} rows{why}; the store has them"


def metrics_of(row: Row) -> dict[str, float]:
    """Return the measured values of a row.

    Args:
        row: A row of the result table.

    Returns:
        Metric -> value: the numeric columns that are not costs, seeds or counts.

    Example:
        >>> metrics_of({"trial": 3, "step": 1, "state": "complete", "val_accuracy": 91.5})
        {'val_accuracy': 91.5}
    """
    return {
        name: float(value)
        for name, value in row.items()
        if name not in _NO_METRICS
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


_NO_METRICS = {"trial", "attempt", "seed", "step", "session", "params", "macs", "layers"}

__getattr__ = renamed_names(__name__, Observer="RunCallback")
