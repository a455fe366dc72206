"""MeCo: how independent the channels of feature maps are, measured on one image.

T. Jiang, H. Wang, R. Bie, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
Eigenvalue of Correlation", NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Probe


@dataclass(frozen=True)
class MeCo(Proxy):
    """Sum over modules of the smallest eigenvalue of their channels' correlation matrix.

    It is computed on the first image of the batch. All modules that give feature maps count, also
    modules inside other modules and the modules around them.
    """

    name: ClassVar[str] = "meco"

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch, of which the first image is used.

        Raises:
            InvalidScore: When the logits do not depend on the images.
            InvalidScore: When no module gives a feature map with independent channels.
        """
        _ = probe.shared  # raises when the logits do not depend on the images
        smallest: list[float] = []

        def gave(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape[1] > 1:
                smallest.append(_smallest(output[0].flatten(1)))

        handles = [m.register_forward_hook(gave) for m in probe.network.modules()]
        try:
            probe.run(probe.images[:1])
        finally:
            for handle in handles:
                handle.remove()
        if not any(smallest):
            raise InvalidScore("no module gives a feature map with independent channels")
        return sum(smallest)


def _smallest(channels: Tensor) -> float:
    """Return the least eigenvalue for (channels, pixels); constant channels have correlation 0."""
    centred = (channels - channels.mean(dim=1, keepdim=True)).double()
    lengths = centred.norm(dim=1, keepdim=True)
    unit = torch.where(lengths > 0, centred / lengths, 0.0)
    return max(float(torch.linalg.eigvalsh(unit @ unit.T)[0]), 0.0)
