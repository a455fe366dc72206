"""Calls of a space's own code for one architecture, such that an error costs that one only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from raynas.core import Architecture, RaynasError, failure_message
from raynas.spaces.base import InputShape, SearchSpace


class ArchitectureError(RaynasError):
    """A space's own code raised for one architecture; others may be fine.

    Attributes:
        infeasible: The space says that this architecture has no network.
    """

    def __init__(self, message: str, *, infeasible: bool = False) -> None:
        super().__init__(message)
        self.infeasible = infeasible


@contextlib.contextmanager
def one_architecture(where: str) -> Iterator[None]:
    """Turn any error within into an :class:`ArchitectureError`.

    Args:
        where: What is called, for the message.
    """
    try:
        yield
    except ArchitectureError:
        raise
    except Exception as error:
        message, infeasible = failure_message(error, where)
        raise ArchitectureError(message, infeasible=infeasible) from error


def checked_canonical(space: SearchSpace, arch: Architecture) -> Architecture:
    """Return the canonical form of ``arch``.

    Raises:
        ArchitectureError: ``space.canonical`` raised.
    """
    with one_architecture("canonical()"):
        return space.canonical(arch)


def canonical_or_itself(space: SearchSpace, arch: Architecture) -> Architecture:
    """Return the canonical form of ``arch``, or ``arch`` where ``space.canonical`` raises.

    For those who compare architectures. Whoever evaluates one uses :func:`checked_canonical`.
    """
    try:
        return checked_canonical(space, arch)
    except ArchitectureError:
        return arch


def checked_costs(
    space: SearchSpace, arch: Architecture, input_shape: InputShape, num_classes: int
) -> dict[str, float]:
    """Return the costs that the space counts, by name.

    Raises:
        ArchitectureError: ``space.costs`` raised, or the ``build`` or forward pass that it needs.
    """
    with one_architecture("costs()"):
        costs = space.costs(arch, input_shape, num_classes)
        known = {name: cost for name, cost in vars(costs).items() if cost is not None}
        for name, cost in known.items():
            if not _is_count(cost):
                raise ValueError(f"{name} is {cost!r}, not a whole number from 0 up")
        return known


def _is_count(cost: object) -> bool:
    try:
        return 0 <= cost < _MOST and cost == int(cost)  # type: ignore[operator, call-overload]
    except (TypeError, ValueError):
        return False


#: what a column of whole numbers holds
_MOST = 2**63
