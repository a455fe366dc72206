"""This module makes gauges and counters that Ray's own endpoint serves to Prometheus."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from raynas.core import UserError
from raynas.runners.ray import environment

environment.prepare()  # before Ray is imported

from ray.util import metrics  # noqa: E402


def make_meter(kind: str, name: str, text: str, labels: tuple[str, ...]) -> Any:
    """Make a gauge or counter; see :data:`raynas.callbacks.prometheus.MakeMeter`.

    Args:
        kind: ``gauge`` or ``counter``.
        name: The name of the metric.
        text: Its description.
        labels: The names of its labels.

    Returns:
        A metric of Ray.

    Raises:
        UserError: If the packages by which Ray serves metrics are missing, so that nothing would be
            served.
    """
    if find_spec("prometheus_client") is None:
        raise UserError(
            "this installation of Ray exports no metrics", hint='pip install "ray[default]"'
        )
    made = {"gauge": metrics.Gauge, "counter": metrics.Counter}[kind]
    return made(name, description=text, tag_keys=labels)
