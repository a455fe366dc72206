"""This module turns measurements into rows of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from raynas.core import Measurement, Trial
from raynas.search.context import RowSink, one_line


class RowWriter:
    """A writer of the rows of one stage and method.

    Args:
        rows: The store's writer.
        stage: Stage of the run, as the store names it.
        arm: Name of the method: the sampler that proposed, or the supernet's trainer.
        weights: Version of the inherited weights, stored with every row.
    """

    def __init__(
        self,
        rows: RowSink,
        *,
        stage: str,
        arm: str,
        weights: str | None,
    ) -> None:
        self.rows = rows
        self.stage, self.arm, self._weights = stage, arm, weights
        self._listeners: list[Callable[[Trial], None]] = []
        self._gathering = False
        self._new_rows: list[dict[str, Any]] = []
        self._new_ends: list[Trial] = []

    def on_end(self, listener: Callable[[Trial], None]) -> None:
        """Call a listener with each trial that has ended, once it is stored.

        Args:
            listener: Takes the trial.
        """
        self._listeners.append(listener)

    def write(
        self, trial: Trial, measurement: Measurement | None, host: str = "", device: str = ""
    ) -> None:
        """Store a measurement of a trial, or how it ended.

        Args:
            trial: The trial.
            measurement: The measurement, or None.
            host: The machine that measured.
            device: The device that measured.
        """
        self._new_rows.append(self.row(trial, measurement, host, device))
        if trial.state.ended:
            self._new_ends.append(trial)
        if not self._gathering:
            self.settle()

    def settle(self) -> None:
        """Store the rows that wait, then let ended trials have their consequences."""
        rows, ends, self._new_rows, self._new_ends = self._new_rows, self._new_ends, [], []
        if rows:
            self.rows.append(rows)
        for trial in ends:
            for listener in self._listeners:
                listener(trial)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Store all rows that are written within the block by one append.

        One append costs as much as one row.

        Yields:
            None.
        """
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self.settle()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows at once.

        Args:
            rows: Rows made by :meth:`row`.
        """
        self.rows.append(rows)

    def row(
        self, trial: Trial, measurement: Measurement | None, host: str = "", device: str = ""
    ) -> dict[str, Any]:
        """Return one row of the result table.

        Args:
            trial: The trial.
            measurement: The measurement, or None.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Column -> value.
        """
        note = one_line(measurement.note if measurement else "")
        return {
            "stage": self.stage,
            "arm": self.arm,
            "trial": trial.number,
            "attempt": trial.attempt,
            "arch_id": trial.arch.id,
            "arch": trial.arch.text,
            "proposal": trial.proposal.text,
            "seed": trial.seed,
            "step": measurement.step if measurement else None,
            "state": trial.state.value,
            "message": trial.message or note or None,
            "seconds": measurement.seconds if measurement else 0.0,
            "params": trial.costs.get("params"),
            "macs": trial.costs.get("macs"),
            "layers": trial.costs.get("layers"),
            **({"host": host} if host else {}),
            "device": device,
            "weights": self._weights,
            **(dict(measurement.values) if measurement else {}),
        }


class NewRows:
    """A filter that passes on only rows that are not stored yet.

    It is for a search that is gone through again.

    Args:
        rows: Receiver of new rows.
        stored: The stored trials.
    """

    def __init__(self, rows: RowSink, stored: Iterable[Trial]) -> None:
        self._rows = rows
        stored = list(stored)
        self._have = {(t.number, m.step) for t in stored for m in t.measurements}
        self._ended = {t.number for t in stored if t.state.ended}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append those rows that are new.

        Args:
            rows: Rows of the result table.
        """
        if new := [row for row in rows if self._is_new(row)]:
            self._rows.append(new)

    def _is_new(self, row: Mapping[str, Any]) -> bool:
        number, step = row["trial"], row["step"]
        if step is None:
            return number not in self._ended
        if (number, step) in self._have:
            return False
        self._ended.discard(number)  # it goes on now, so its end is new again
        return True
