"""How measurements become rows of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from raynas.core import Measurement, Trial
from raynas.search.context import Rows, one_line


class RowWriter:
    """Writes the rows of one stage and arm.

    Args:
        rows: The store's writer.
        stage: Of the run, as the store names it.
        arm: Name of the sampler that proposed, or of the supernet's trainer.
        weights: Version of the inherited weights, stored with every row.
        ended: Called with each trial at rest once it is stored.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        stage: str,
        arm: str,
        weights: str | None,
        ended: Callable[[Trial], None],
    ) -> None:
        self.rows = rows
        self.stage, self.arm, self._weights = stage, arm, weights
        self._ended = ended
        self._gathering = False
        self._new_rows: list[dict[str, Any]] = []
        self._new_ends: list[Trial] = []

    def write(
        self, trial: Trial, measurement: Measurement | None, host: str = "", device: str = ""
    ) -> None:
        """Store what is new of a trial: a measurement, or how it ended."""
        self._new_rows.append(self.row(trial, measurement, host, device))
        if trial.state.ended:
            self._new_ends.append(trial)
        if not self._gathering:
            self.settle()

    def settle(self) -> None:
        """Store what was written, then let ended trials have their consequences."""
        rows, ends, self._new_rows, self._new_ends = self._new_rows, self._new_ends, [], []
        if rows:
            self.rows.append(rows)
        for trial in ends:
            self._ended(trial)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written within is stored by one append, which costs as much as one row."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self.settle()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows at once, made by :meth:`row`."""
        self.rows.append(rows)

    def row(
        self, trial: Trial, measurement: Measurement | None, host: str = "", device: str = ""
    ) -> dict[str, Any]:
        """Return one row of the result table."""
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
    """Passes on the rows that are not stored yet, for a search that is gone through again.

    Args:
        rows: Where new rows go.
        stored: The stored trials.
    """

    def __init__(self, rows: Rows, stored: Iterable[Trial]) -> None:
        self._rows = rows
        stored = list(stored)
        self._have = {(t.number, m.step) for t in stored for m in t.measurements}
        self._ended = {t.number for t in stored if t.state.ended}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append those rows that are new."""
        if new := [row for row in rows if self._is_new(row)]:
            self._rows.append(new)

    def _is_new(self, row: Mapping[str, Any]) -> bool:
        number, step = row["trial"], row["step"]
        if step is None:
            return number not in self._ended
        if (number, step) in self._have:
            return False
        self._ended.discard(number)  # it goes on now, so how it ends is news again
        return True
