"""Weights that a proxy's definition draws anew, beside the network's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raynas.proxies.engine.probe import Probe

Spread = Callable[[torch.Size], float]
"""Standard deviation for a weight of this shape."""


def drawn(probe: Probe, generator: torch.Generator, spread: Spread) -> dict[str, Tensor]:
    """All parameters: weights ~ N(0, spread^2) in the order of their names, biases 0, norms 1."""
    norms = {
        f"{name}.weight" if name else "weight"
        for name, module in probe.network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
    }
    found: dict[str, Tensor] = {}
    for name, old in sorted(probe.parameters.items()):
        if old.dim() >= 2:
            new = torch.randn(old.shape, generator=generator) * spread(old.shape)
            found[name] = probe.laid_out(new.to(old))
        elif name in norms:
            found[name] = torch.ones_like(old)
        elif name.endswith("bias"):
            found[name] = torch.zeros_like(old)
        else:
            found[name] = old.detach()
    return found
