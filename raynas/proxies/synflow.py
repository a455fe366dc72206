"""SynFlow: how much flows from input to output when all weights are positive.

H. Tanaka, D. Kunin, D. Yamins, S. Ganguli, "Pruning neural networks without any data by
iteratively conserving synaptic flow", NeurIPS 2020; as a proxy: M. Abdelfattah et al.,
"Zero-Cost Proxies for Lightweight NAS", ICLR 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class SynFlow(Proxy):
    """Natural logarithm of the sum of w dR/dw over all weights, R the summed logits.

    It is computed in float64 with abs(w) for weights, an input of ones and batch norm switched off.
    The sum spans 60 orders of magnitude, hence the logarithm.
    """

    name: ClassVar[str] = "synflow"
    needs: ClassVar[Needs] = Needs.GRADIENTS  # for its own passes, in the exact memory format

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch, of which only the shape of images is used.

        Raises:
            InvalidScore: When the output does not depend on the input.
        """
        positive = {
            name: p.detach().abs().double().requires_grad_() if p.is_floating_point() else p
            for name, p in probe.parameters.items()
        }
        ones = torch.ones_like(probe.images[:1], dtype=torch.float64)
        flow = probe.run(ones, parameters=positive, norm="off", gradients=True).logits.sum()
        weights = [positive[name] for name in probe.weight_names]
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
        total = sum(
            float((w.detach() * g).sum())
            for w, g in zip(weights, gradients, strict=True)
            if g is not None
        )
        if not total > 0:
            raise InvalidScore("the output does not depend on the input")
        return math.log(total)
