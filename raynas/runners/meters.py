"""Gauges and counters that Ray's own endpoint serves to Prometheus."""

from __future__ import annotations

from typing import Any

from raynas.runners import environment

environment.prepare()  # before Ray is imported

from ray.util import metrics  # noqa: E402


def make_meter(kind: str, name: str, text: str, labels: tuple[str, ...]) -> Any:
    """See :data:`raynas.observers.prometheus.MakeMeter`."""
    made = {"gauge": metrics.Gauge, "counter": metrics.Counter}[kind]
    return made(name, description=text, tag_keys=labels)
