"""The number of weights: the baseline that every proxy is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Probe


@dataclass(frozen=True)
class Params(Proxy):
    """Number of trainable weights."""

    name: ClassVar[str] = "params"

    def measure(self, probe: Probe) -> float:
        """Return the number of trainable weights."""
        return float(sum(p.numel() for p in probe.network.parameters() if p.requires_grad))
