"""This module calls a space's own code such that an error affects one architecture only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from raynas.core import Architecture, RaynasError, failure_message
from raynas.spaces.base import InputShape, SearchSpace


class ArchitectureError(RaynasError):
    """An error of a space's own code for one architecture; other architectures may work.

    Attributes:
        infeasible: True when the space says that this architecture has no network.
    """

    def __init__(self, message: str, *, infeasible: bool = False) -> None:
        super().__init__(message)
        self.infeasible = infeasible


@contextlib.contextmanager
def one_architecture(where: str) -> Iterator[None]:
    """Turn any error in the block into an :class:`ArchitectureError`.

    Args:
        where: The name of the called function, for the message.

    Yields:
        None.

    Raises:
        ArchitectureError: The block raised an error.
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

    Args:
        space: The space of the architecture.
        arch: An architecture.

    Returns:
        The canonical form.

    Raises:
        ArchitectureError: ``space.canonical`` raised an error.
    """
    with one_architecture("canonical()"):
        return space.canonical(arch)


def canonical_or_itself(space: SearchSpace, arch: Architecture) -> Architecture:
    """Return the canonical form of ``arch``, or ``arch`` where ``space.canonical`` raises an error.

    Use it for comparing architectures, and :func:`checked_canonical` for evaluating them.

    Args:
        space: The space of the architecture.
        arch: An architecture.

    Returns:
        An architecture.
    """
    try:
        return checked_canonical(space, arch)
    except ArchitectureError:
        return arch


def checked_costs(
    space: SearchSpace, arch: Architecture, input_shape: InputShape, num_classes: int
) -> dict[str, float]:
    """Return the costs that the space counts, by name.

    Args:
        space: The space of the architecture.
        arch: An architecture.
        input_shape: (channels, height, width) of an image.
        num_classes: The number of classes.

    Returns:
        Name of a cost -> value, a whole number from 0 up; costs of None are left out.

    Raises:
        ArchitectureError: ``space.costs`` raised an error, or the ``build`` or forward pass that it
            needs.
        ArchitectureError: A cost is not a whole number from 0 up.
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


#: a column of whole numbers holds values below it
_MOST = 2**63
