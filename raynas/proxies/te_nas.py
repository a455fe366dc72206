"""TE-NAS: trainability by the neural tangent kernel, expressivity by linear regions.

W. Chen, X. Gong, Z. Wang, "Neural Architecture Search on ImageNet in Four GPU Hours: A
Theoretically Inspired Perspective", ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.core import InvalidScore, UserError
from raynas.core.fields import check_fields
from raynas.core.ranks import Table, rank_sum
from raynas.proxies.base import Proxy
from raynas.proxies.engine.passes import PassRecording
from raynas.proxies.engine.probe import Needs, Probe, ends_all


@dataclass(frozen=True)
class TENAS(Proxy):
    """Sum of two ranks: condition number of the tangent kernel, and number of linear regions.

    ``tenas_ntk``: minus the logarithm of the condition number of the kernel (gradients of the
    summed logits with respect to all weights). ``tenas_regions``: the number of different ReLU
    patterns of small patches of images.

    Attributes:
        images: Number of images of the kernel, at least 2.
        patches: Number of patches, at least 2.
        side: Height and width of a patch in pixels, at least 1.

    Raises:
        UserError: When a setting is below its least value.
    """

    name: ClassVar[str] = "tenas"
    needs: ClassVar[Needs] = Needs.GRADIENTS  # for its own passes, in the exact memory format

    images: int = 16
    patches: int = 1000
    side: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images < 2 or self.patches < 2 or self.side < 1:
            raise UserError(
                f"TENAS(images={self.images}, patches={self.patches}, side={self.side})",
                expected="images and patches from 2, side from 1",
            )

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of the two numbers that are ranked."""
        return ("tenas_ntk", "tenas_regions")

    def rank_scores(self, table: Table) -> NDArray[np.float64]:
        """Return (n,) sums of two ranks, comparable within ``table`` only."""
        return rank_sum([table[part] for part in self.part_names])

    def measure(self, probe: Probe) -> Mapping[str, float]:
        """Return the two numbers of one network.

        Args:
            probe: The network and a batch.

        Returns:
            Part -> number.

        Raises:
            InvalidScore: When two images of the batch are equal.
            InvalidScore: When the tangent kernel is singular.
            InvalidScore: When the network does not accept patches of this size.
            InvalidScore: When the network calls no ReLU.
        """
        probe.refuse_equal_images()
        return {"tenas_ntk": -self._log_condition(probe), "tenas_regions": self._regions(probe)}

    def _log_condition(self, probe: Probe) -> float:
        logits = probe.run(probe.images[: self.images], gradients=True).logits
        weights = [probe.parameters[name] for name in probe.weight_names]
        rows = [_row(total, weights) for total in logits.sum(dim=1)]
        gradients = torch.stack(rows)
        kernel = (gradients @ gradients.T).double().cpu().numpy()
        values = np.linalg.eigvalsh(kernel)
        if not values[0] > 0:
            raise InvalidScore("the tangent kernel is singular")
        return math.log(values[-1] / values[0])

    def _regions(self, probe: Probe) -> float:
        try:
            found = probe.run(self._cut(probe), watch=PassRecording.PATTERNS)
        except (RuntimeError, ValueError) as error:  # torch raises these when sizes do not fit
            if ends_all(error):
                raise
            raise InvalidScore(
                f"the network does not take patches of {self.side} x {self.side} pixels: {error}"
            ) from error
        if found.codes is None or not found.activations["relu"]:
            raise InvalidScore("no ReLU was called: no linear regions")
        return float(len(np.unique(found.codes.numpy().round(6), axis=0)))

    def _cut(self, probe: Probe) -> Tensor:
        """Return (patches, c, side, side) from random locations of the batch's images."""
        n, _, height, width = probe.images.shape
        generator = torch.Generator().manual_seed(probe.seed)
        which, top, left = (
            torch.randint(limit, (self.patches,), generator=generator).tolist()
            for limit in (n, max(height - self.side, 0) + 1, max(width - self.side, 0) + 1)
        )
        cut = [
            probe.images[i, :, y : y + self.side, x : x + self.side]
            for i, y, x in zip(which, top, left, strict=True)
        ]
        return torch.stack(cut)


def _row(total: Tensor, weights: list[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(total, weights, retain_graph=True, allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None])
