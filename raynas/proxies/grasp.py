"""GraSP: how much each weight contributes to the gradient flow.

C. Wang, G. Zhang, R. Grosse, "Picking Winning Tickets Before Training by Preserving Gradient
Flow", ICLR 2020; as a proxy: Abdelfattah et al., ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class GraSP(Proxy):
    """Minus the sum over weights of w (H g), g the gradient of the loss, H its Hessian."""

    name: ClassVar[str] = "grasp"
    needs: ClassVar[Needs] = Needs.CURVATURE

    def measure(self, probe: Probe) -> float:
        """Return minus the sum over weights of w (H g)."""
        weights = probe.weights
        return -sum(float((weights[n].detach() * h).sum()) for n, h in probe.curvature.items())
