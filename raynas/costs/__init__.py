"""This package counts, estimates and measures the costs of a network before it is trained.

torch is imported when the first name of the package is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.costs.count import MacCounter, count_network
    from raynas.costs.latency import Latency, latency_ms, measure_latency
    from raynas.costs.memory import Memory, training_memory
    from raynas.costs.table import LatencyTable, TableError

_HOME = {
    "Latency": "latency",
    "LatencyTable": "table",
    "MacCounter": "count",
    "Memory": "memory",
    "TableError": "table",
    "count_network": "count",
    "latency_ms": "latency",
    "measure_latency": "latency",
    "training_memory": "memory",
}

__all__ = [
    "Latency", "LatencyTable", "MacCounter", "Memory", "TableError", "count_network", "latency_ms",
    "measure_latency", "training_memory",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
