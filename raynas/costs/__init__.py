"""This package counts, estimates and measures the costs of a network before it is trained.

torch is imported when the first name of the package is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raynas.core.renamed import renamed_names

if TYPE_CHECKING:
    from raynas.costs.count import MacCounter, count_network
    from raynas.costs.latency import LatencyMeasurement, latency_ms, measure_latency
    from raynas.costs.memory import TrainingMemory, training_memory
    from raynas.costs.table import LatencyTable, TableError

_HOME = {
    "LatencyMeasurement": "latency",
    "LatencyTable": "table",
    "MacCounter": "count",
    "TrainingMemory": "memory",
    "TableError": "table",
    "count_network": "count",
    "latency_ms": "latency",
    "measure_latency": "latency",
    "training_memory": "memory",
}

__all__ = [
    "LatencyMeasurement",
    "LatencyTable",
    "MacCounter",
    "TrainingMemory",
    "TableError",
    "count_network",
    "latency_ms",
    "measure_latency",
    "training_memory",
]


_renamed = renamed_names(__name__, Latency="LatencyMeasurement", Memory="TrainingMemory")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return _renamed(name)
