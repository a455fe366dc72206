"""This module serves metrics of a run to Prometheus, for instance for Grafana.

Ray serves the metrics of all processes of a cluster to Prometheus. The function that makes a gauge
or a counter is passed in, since only runners may use Ray.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.callbacks.base import Row, RunCallback, metrics_of
from raynas.core import TrialState, UserError

MakeMeter = Callable[[str, str, str, tuple[str, ...]], Any]
"""(kind: ``gauge`` or ``counter``, name, description, labels) -> Ray's object."""


@dataclass
class Prometheus(RunCallback):
    """A callback that sets Ray's gauges and counters, which Prometheus collects.

    The counters are ``ray_raynas_trials_ended_total`` by state and
    ``ray_raynas_worker_seconds_total``. The gauges of each metric are ``ray_raynas_last``,
    ``_most`` and ``_least``: the last, highest and lowest value since this driver began. All are
    labelled with run, stage and arm.

    Attributes:
        make: Makes a gauge or a counter; None where there is no Ray.
        every: Seconds after which gauges are set again, since Ray forgets those that are not.
    """

    name: ClassVar[str] = "prometheus"
    make: MakeMeter | None = None
    every: float = 5.0
    _meters: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _gauges: dict[tuple[str, tuple[str, ...]], float] = field(
        default_factory=dict, init=False, repr=False
    )
    _run: str = field(default="", init=False, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    _LABELS: ClassVar[tuple[str, ...]] = ("run", "stage", "arm")

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Make the gauges and counters, and start the thread that sets gauges again.

        Args:
            run: The run's id, used as a label.
            folder: The run's folder, not used.
            description: Plain description of the experiment, not used.

        Raises:
            UserError: There is no Ray that serves metrics.
        """
        if self.make is None:
            raise UserError("Prometheus metrics need Ray", hint="leave --local out")
        self._run = run
        for key, kind, name, text, more in (
            ("ended", "counter", "raynas_trials_ended", "ended trials", ("state",)),
            ("seconds", "counter", "raynas_worker_seconds", "seconds of workers", ()),
            ("last", "gauge", "raynas_last", "last value of a metric", ("metric",)),
            ("most", "gauge", "raynas_most", "highest value of a metric", ("metric",)),
            ("least", "gauge", "raynas_least", "lowest value of a metric", ("metric",)),
        ):
            self._meters[key] = self.make(kind, name, text, (*self._LABELS, *more))
        threading.Thread(target=self._repeat, name="prometheus-gauges", daemon=True).start()

    def show(self, row: Row) -> None:
        """Count a row and set the gauges of its metrics.

        Args:
            row: A row of the result table.
        """
        values = (self._run, str(row["stage"]), str(row["arm"]))
        labels = dict(zip(self._LABELS, values, strict=True))
        state = TrialState(row["state"])
        if state.ended:
            self._meters["ended"].inc(1, tags={**labels, "state": state.value})
        if seconds := float(row.get("seconds") or 0.0):
            self._meters["seconds"].inc(seconds, tags=labels)
        for name, value in metrics_of(row).items():
            if name == "seconds":
                continue
            key = (*values, name)
            with self._mutex:
                self._set("last", key, value)
                self._set("most", key, max(value, self._gauges.get(("most", key), value)))
                self._set("least", key, min(value, self._gauges.get(("least", key), value)))

    def _set(self, gauge: str, key: tuple[str, ...], value: float) -> None:
        self._gauges[gauge, key] = value
        labels = dict(zip((*self._LABELS, "metric"), key, strict=True))
        self._meters[gauge].set(value, tags=labels)

    def _repeat(self) -> None:
        while not self._ended.wait(self.every):
            with self._mutex, contextlib.suppress(Exception):  # Ray may be shutting down
                for (gauge, key), value in self._gauges.items():
                    self._set(gauge, key, value)

    def close(self) -> None:
        """Stop the thread that sets gauges again."""
        self._ended.set()
