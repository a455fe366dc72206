"""What a network costs before it is trained. torch is imported with the first count."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.costs.count import MacCounter, count_network
    from raynas.costs.latency import Latency, latency_ms, measure_latency
    from raynas.costs.table import LatencyTable, TableError

_HOME = {
    "Latency": "latency",
    "LatencyTable": "table",
    "MacCounter": "count",
    "TableError": "table",
    "count_network": "count",
    "latency_ms": "latency",
    "measure_latency": "latency",
}

__all__ = [
    "Latency", "LatencyTable", "MacCounter", "TableError", "count_network", "latency_ms",
    "measure_latency",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"raynas.costs.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
