"""SNIP: how much the loss would change without each weight.

N. Lee, T. Ajanthan, P. Torr, "SNIP: Single-shot Network Pruning based on Connection
Sensitivity", ICLR 2019; as a proxy: Abdelfattah et al., ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class SNIP(Proxy):
    """Sum over weights of |w dL/dw|, L the cross entropy of the batch."""

    name: ClassVar[str] = "snip"
    needs: ClassVar[Needs] = Needs.GRADIENTS

    def measure(self, probe: Probe) -> float:
        """Return the sum over weights of abs(w dL/dw)."""
        weights = probe.weights
        return sum(float((weights[n].detach() * g).abs().sum()) for n, g in probe.gradients.items())
