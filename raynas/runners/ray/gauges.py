"""Gauges and counters that Ray's own endpoint serves to Prometheus."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from raynas.core import UserError
from raynas.runners.ray import environment

environment.prepare()  # before Ray is imported

from ray.util import metrics  # noqa: E402


def make_meter(kind: str, name: str, text: str, labels: tuple[str, ...]) -> Any:
    """See :data:`raynas.callbacks.prometheus.MakeMeter`.

    Raises: UserError without the packages by which Ray serves metrics: it would say nothing.
    """
    if find_spec("prometheus_client") is None:
        raise UserError("this Ray serves no metrics", cure='pip install "ray[default]"')
    made = {"gauge": metrics.Gauge, "counter": metrics.Counter}[kind]
    return made(name, description=text, tag_keys=labels)
