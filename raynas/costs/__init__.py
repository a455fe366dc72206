"""What a network costs before it is trained. torch is imported with the first count."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.costs.count import MacCounter, count_network
    from raynas.costs.latency import latency_ms

__all__ = ["MacCounter", "count_network", "latency_ms"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from raynas.costs import count, latency

        return getattr(latency if name == "latency_ms" else count, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
