"""The gradient norm of a network.

M. Abdelfattah, A. Mehrotra, L. Dudziak, N. Lane, "Zero-Cost Proxies for Lightweight NAS",
ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class GradNorm(Proxy):
    """Sum over layers of the Euclidean norm of dL/dw, L the cross entropy of the batch."""

    name: ClassVar[str] = "grad_norm"
    needs: ClassVar[Needs] = Needs.GRADIENTS

    def measure(self, probe: Probe) -> float:
        """Return the sum of the layers' gradient norms."""
        return sum(float(gradient.norm()) for gradient in probe.gradients.values())
