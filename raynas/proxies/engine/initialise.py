"""Weights that the definition of a proxy draws anew, beside the network's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raynas.proxies.engine.probe import Probe

Spread = Callable[[torch.Size], float]
"""A function from the shape of a weight to the standard deviation of its values."""


def drawn(probe: Probe, generator: torch.Generator, spread: Spread) -> dict[str, Tensor]:
    """Draw new values for the parameters of a network.

    Weights are drawn from N(0, spread^2) in the order of their names, biases are 0 and the weights
    of norms 1. Other one-dimensional parameters keep their values.

    Args:
        probe: The network.
        generator: A CPU generator; it is advanced.
        spread: Gives the standard deviation for the shape of a weight.

    Returns:
        Name -> tensor, for all parameters.
    """
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
