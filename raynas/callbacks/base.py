"""The contract of an observer, and the board that keeps observers from holding up a run."""

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

Row = Mapping[str, Any]


class Observer(ABC):
    """Hears of every row after it is stored, in a thread of its own; may be slow, and may fail."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """The run begins, or goes on. Raises: UserError when a package is missing."""

    @abstractmethod
    def show(self, row: Row) -> None:
        """A row of the result table: what was measured, or how a trial ended."""

    def close(self) -> None:
        """The run ends."""


class Board:
    """Hands rows to observers without ever waiting for them.

    Each has a queue of ``room`` rows; what does not fit is dropped, and counted. An observer that
    raises is left alone from then on: ``remarks`` say which, and why.
    """

    def __init__(self, observers: Sequence[Observer], room: int = 10_000) -> None:
        self._desks = [_Desk(observer, room) for observer in observers]

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Raises: UserError when an observer cannot be used at all, with the reason."""
        for desk in self._desks:
            try:
                desk.observer.open(run, folder, description)
            except UserError:
                raise
            except Exception as error:  # a server that is away, settings that it does not take
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                name = desk.observer.name
                raise UserError(f"{name} cannot be used: {told}", cure="leave it out") from error
            desk.thread.start()

    def show(self, rows: Sequence[Row]) -> None:
        for desk in self._desks:
            for row in rows:
                desk.take(row)

    def close(self, patience: float = 5.0) -> None:
        """Waits up to ``patience`` seconds in all for what is still in the queues."""
        deadline = time.monotonic() + patience
        for desk in self._desks:
            desk.end(deadline)

    @property
    def remarks(self) -> list[str]:
        """What a user should know of observers that missed something."""
        return [remark for desk in self._desks if (remark := desk.remark)]


class _Desk:
    """One observer, its queue and its thread."""

    def __init__(self, observer: Observer, room: int) -> None:
        self.observer = observer
        self.thread = threading.Thread(target=self._work, name=observer.name, daemon=True)
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
                self.observer.show(row)
            except Exception as error:  # whatever it is, the search goes on
                self._missed += 1
                self._failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with contextlib.suppress(Exception):
            self.observer.close()

    def end(self, deadline: float) -> None:
        if not self.thread.is_alive():
            return
        with contextlib.suppress(queue.Full):
            self._rows.put(None, timeout=max(deadline - time.monotonic(), 0.001))
        self.thread.join(max(deadline - time.monotonic(), 0.001))

    @property
    def remark(self) -> str:
        with self._rows.mutex:  # the end may wait among them, or be behind it already
            late = sum(row is not None for row in self._rows.queue)
        if not (self._missed or late or self._failure):
            return ""
        why = f" ({self._failure})" if self._failure else ""
        return f"{self.observer.name} missed {self._missed + late} rows{why}; the store has them"


def metrics_of(row: Row) -> dict[str, float]:
    """What a row measured: its columns of numbers that are no costs, seeds or counts."""
    return {
        name: float(value)
        for name, value in row.items()
        if name not in _NO_METRICS
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


_NO_METRICS = {"trial", "attempt", "seed", "step", "session", "params", "macs", "layers"}
