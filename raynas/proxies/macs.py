"""The multiply-adds of a forward pass, a baseline beside the number of weights."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

from raynas.core import InvalidScore
from raynas.costs import MacCounter
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Probe


@dataclass(frozen=True)
class MACs(Proxy):
    """Multiply-adds of one forward pass of one image."""

    name: ClassVar[str] = "macs"

    def measure(self, probe: Probe) -> float:
        """Return the multiply-adds of one forward pass of one image."""
        return multiply_adds(probe)


def multiply_adds(probe: Probe) -> float:
    """Count multiply-adds while one image goes through the network.

    Args:
        probe: The network and a batch, of which the first image is used.

    Returns:
        The number of multiply-adds; it does not matter whether the outputs are valid logits.
    """
    with MacCounter() as counter, contextlib.suppress(InvalidScore):
        probe.run(probe.images[:1], norm="off")
    return float(counter.macs)
