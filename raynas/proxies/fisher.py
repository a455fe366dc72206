"""Fisher: how much the loss would change without each channel.

L. Theis, I. Korshunova, A. Tejani, F. Huszar, "Faster gaze prediction with dense networks and
Fisher pruning", 2018; as a proxy: J. Turner et al., "BlockSwap", ICLR 2020, and Abdelfattah et
al., ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class Fisher(Proxy):
    """Sum over channels of half the mean squared (activation x gradient), times their weights.

    Activations are the outputs of convolutions and linear layers, summed over space. A channel
    counts once for each of its weights.
    """

    name: ClassVar[str] = "fisher"
    needs: ClassVar[Needs] = Needs.LAYERS

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch with labels.

        Raises:
            InvalidScore: When the network calls no convolution or linear layer.
        """
        if not probe.layers:
            raise InvalidScore("no convolution or linear layer was called")
        total = 0.0
        for layer, gradient in zip(probe.layers, probe.output_gradients, strict=True):
            products = layer.output.detach() * gradient
            if products.dim() > 2:
                channels = products.movedim(-1, 1) if _is_linear(layer.weight) else products
                products = channels.flatten(2).sum(2)
            saliency = 0.5 * products.square().mean(0)
            total += float(saliency.sum()) * layer.weight[0].numel()
        return total


def _is_linear(weight: object) -> bool:
    return getattr(weight, "ndim", 0) == 2
