"""What a network costs before it is trained. torch is imported with the first count."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.costs.count import MacCounter, count_network
    from raynas.costs.latency import latency_ms
    from raynas.costs.memory import Memory, training_memory

_HOME = {
    "MacCounter": "count",
    "Memory": "memory",
    "count_network": "count",
    "latency_ms": "latency",
    "training_memory": "memory",
}
__all__ = ["MacCounter", "Memory", "count_network", "latency_ms", "training_memory"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
