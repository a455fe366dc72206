"""What a network costs before it is trained. torch is imported with the first count."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.costs.count import count_network

__all__ = ["count_network"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from raynas.costs import count

        return getattr(count, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
