"""Prometheus: what Grafana plots of a run, through an endpoint that is there already.

Ray serves metrics of every process of a cluster to Prometheus. Who can give a gauge or a counter is
handed in, since only runners know Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import TrialState, UserError
from raynas.observers.base import Observer, Row, metrics_of

MakeMeter = Callable[[str, str, str, tuple[str, ...]], Any]
"""(kind: ``gauge`` or ``counter``, name, description, labels) -> Ray's object."""


@dataclass
class Prometheus(Observer):
    """``raynas_trials_ended`` by state, ``raynas_worker_seconds``, and the last and best value of
    each metric; labelled with run, stage and arm."""

    name: ClassVar[str] = "prometheus"
    make: MakeMeter | None = None
    _meters: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _best: dict[tuple[str, ...], float] = field(default_factory=dict, init=False, repr=False)
    _run: str = field(default="", init=False, repr=False)

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        if self.make is None:
            raise UserError("metrics for Prometheus come from Ray", cure="leave --local out")
        self._run = run
        labels = ("run", "stage", "arm")
        for key, kind, name, text, more in (
            ("ended", "counter", "raynas_trials_ended", "trials at rest", ("state",)),
            ("seconds", "counter", "raynas_worker_seconds", "seconds of workers", ()),
            ("last", "gauge", "raynas_last", "last value of a metric", ("metric",)),
            ("most", "gauge", "raynas_most", "highest value of a metric", ("metric",)),
        ):
            self._meters[key] = self.make(kind, name, text, (*labels, *more))

    def show(self, row: Row) -> None:
        labels = {"run": self._run, "stage": str(row["stage"]), "arm": str(row["arm"])}
        state = TrialState(row["state"])
        if state.ended:
            self._meters["ended"].inc(1, tags={**labels, "state": state.value})
        if seconds := float(row.get("seconds") or 0.0):
            self._meters["seconds"].inc(seconds, tags=labels)
        for name, value in metrics_of(row).items():
            if name == "seconds":
                continue
            key = (labels["stage"], labels["arm"], name)
            self._best[key] = max(value, self._best.get(key, value))
            self._meters["last"].set(value, tags={**labels, "metric": name})
            self._meters["most"].set(self._best[key], tags={**labels, "metric": name})
