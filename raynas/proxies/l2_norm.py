"""Norm of the weights, which depends only on their number and their initial spread.

Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Probe


@dataclass(frozen=True)
class L2Norm(Proxy):
    """Sum over layers of the Euclidean norm of the weights."""

    name: ClassVar[str] = "l2_norm"

    def measure(self, probe: Probe) -> float:
        """Return the sum of the layers' weight norms."""
        return sum(float(weight.detach().norm()) for weight in probe.weights.values())
