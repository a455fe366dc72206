"""Plain: the first-order change of the loss when all weights shrink.

M. Mozer, P. Smolensky, "Skeletonization", NIPS 1988; as a proxy: Abdelfattah et al., ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class Plain(Proxy):
    """Sum over weights of w dL/dw, L the cross entropy of the batch."""

    name: ClassVar[str] = "plain"
    needs: ClassVar[Needs] = Needs.GRADIENTS

    def measure(self, probe: Probe) -> float:
        """Return the sum over weights of w dL/dw."""
        weights = probe.weights
        return sum(float((weights[n].detach() * g).sum()) for n, g in probe.gradients.items())
