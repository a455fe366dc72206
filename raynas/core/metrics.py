"""This module has the measured quantities: name, unit, direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["max", "min"]
SCORE_UNIT = "score"
"""The unit of proxies' scores, by which reports recognize them."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its column in the store, its unit and its direction.

    Attributes:
        name: The name of the column in the store.
        unit: The unit, which goes to the schema of the store.
        direction: "max" or "min".
        doc: A description in a few words.
    """

    name: str
    unit: str
    direction: Direction
    doc: str = ""

    def on_test(self) -> Metric:
        """Return the same quantity on the test data.

        Returns:
            The metric on the test data; the metric itself when it is not measured on validation
                data.
        """
        if self.name == (name := on_test(self.name)):
            return self
        known = {metric.name: metric for metric in (TEST_ACCURACY, TEST_LOSS)}
        return known.get(name) or replace(self, name=name, doc=f"{self.doc} (on the test data)")


def on_test(name: str) -> str:
    """Return the name that a metric of a search has on the test data.

    Args:
        name: The name of a metric.

    Returns:
        The name with the prefix ``test_`` instead of ``val_``; names without that prefix stay.

    Example:
        >>> on_test("val_accuracy"), on_test("params")
        ('test_accuracy', 'params')
    """
    return f"test_{name.removeprefix('val_')}" if name.startswith("val_") else name


VAL_ACCURACY = Metric("val_accuracy", "%", "max", "share of validation images classified right")
VAL_LOSS = Metric("val_loss", "nats", "min", "mean cross entropy on the validation images")
TEST_ACCURACY = Metric("test_accuracy", "%", "max", "share of test images right; finalists only")
TEST_LOSS = Metric("test_loss", "nats", "min", "mean cross entropy on the test images")
TRAIN_ACCURACY = Metric("train_accuracy", "%", "max", "share of augmented training images right")
TRAIN_LOSS = Metric("train_loss", "nats", "min", "mean training loss of the step")
PARAMS = Metric("params", "weights", "min", "trainable weights of the network")
MACS = Metric("macs", "multiply-adds", "min", "multiply-adds of one forward pass of one image")
LATENCY = Metric("latency_ms", "ms", "min", "median time of a forward pass on the device")
LATENCY_IQR = Metric("latency_iqr_ms", "ms", "min", "interquartile range of a forward pass's time")
SECONDS = Metric("seconds", "s", "min", "time the worker spent on this measurement")
