"""AZ-NAS: four measures of a network whose ranks are combined.

J. Lee, B. Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search",
CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raynas.core import InvalidScore, UserError
from raynas.core.fields import check_fields
from raynas.core.ranks import Table, log_rank_sum
from raynas.proxies.base import Proxy
from raynas.proxies.engine.initialise import drawn
from raynas.proxies.engine.passes import PassRecording
from raynas.proxies.engine.probe import Needs, Probe
from raynas.proxies.macs import multiply_adds


@dataclass(frozen=True)
class AZNAS(Proxy):
    """Sum of the logarithms of four ranks: expressivity, progressivity, trainability, complexity.

    ``aznas_expressivity``: summed entropy of the channels' principal components, block by block.
    ``aznas_progressivity``: the smallest growth of that entropy from a block to the next.
    ``aznas_trainability``: how close the blocks' Jacobians are to keeping lengths.
    ``aznas_complexity``: multiply-adds. Images are drawn from N(0, 1) and weights from
    N(0, 2 / fan-in). Blocks are the modules that consist of modules, such as cells.

    Attributes:
        images: Number of random images, at least 2.

    Raises:
        UserError: When ``images`` is below 2.
    """

    name: ClassVar[str] = "aznas"
    needs: ClassVar[Needs] = Needs.GRADIENTS  # for its own passes, in the exact memory format

    images: int = 64

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images < 2:
            raise UserError(f"AZNAS(images={self.images})", expected="from 2")

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of the four numbers that are ranked."""
        kinds = ("expressivity", "progressivity", "trainability", "complexity")
        return tuple(f"aznas_{kind}" for kind in kinds)

    def rank_scores(self, table: Table) -> NDArray[np.float64]:
        """Return (n,) sums of the logarithms of four ranks, comparable within ``table`` only."""
        return log_rank_sum([table[part] for part in self.part_names])

    def measure(self, probe: Probe) -> Mapping[str, float]:
        """Return the four numbers of one network.

        Args:
            probe: The network and a batch, of which only the size and the type of images are used.

        Returns:
            Part -> number; trainability is at most 0.

        Raises:
            InvalidScore: When the network has fewer than two blocks with feature maps.
            InvalidScore: When a block gives constant features.
            InvalidScore: When a block does not depend on the one before, or passes its gradient on
                unchanged.
            InvalidScore: When a block divides the image size by a number that is not whole.
        """
        generator = torch.Generator().manual_seed(probe.seed)
        weights = drawn(probe, generator, lambda shape: (2 / shape[1:].numel()) ** 0.5)
        images = torch.randn((self.images, *probe.images.shape[1:]), generator=generator)
        images = images.to(probe.images).requires_grad_()  # they may be the first block's input
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        maps = probe.run(
            images, parameters=leaves, watch=PassRecording.BLOCKS, gradients=True
        ).blocks
        if len(maps) < 2:
            raise InvalidScore("the network has no chain of blocks that give feature maps")
        entropies = np.array([_entropy(m.detach()) for m in maps])
        gains = [_gain(a, b, generator) for a, b in pairwise(maps)]
        found = (entropies.sum(), np.diff(entropies).min(), np.mean(gains), multiply_adds(probe))
        return dict(zip(self.part_names, map(float, found), strict=True))


def _entropy(features: Tensor) -> float:
    """Return the entropy of the variances' shares along the channels' principal components."""
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    rows = rows - rows.mean(dim=0)
    variances = torch.linalg.eigvalsh((rows.T @ rows / len(rows)).double())
    if not float(variances.sum()) > 0:
        raise InvalidScore("a block gives constant features")
    shares = (variances / variances.sum()).clamp(min=0)
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def _gain(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    """Return 2 - s - 1 / s, at most 0, s the largest singular value of the block's mean Jacobian.

    It is estimated by sending random signs back through the block.
    """
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
    (back,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    if back is None or not bool(back.any()):
        raise InvalidScore("a block does not depend on the one before")
    if back.shape == signs.shape and bool((back == signs).all()):
        raise InvalidScore("a block passes its gradient on unchanged: trainability is -inf")
    back = _folded(back, signs)
    channels_in, channels_out = (g.permute(0, 2, 3, 1).flatten(0, 2) for g in (back, signs))
    jacobian = channels_in.T @ channels_out / len(channels_out)
    s = float(torch.linalg.matrix_norm(jacobian.double(), ord=2))
    return 2 - s - 1 / (s + 1e-6)


def _folded(back: Tensor, signs: Tensor) -> Tensor:
    """Return ``back`` with the pixels of a stride as channels, in the image size of ``signs``."""
    if back.shape[2:] == signs.shape[2:]:
        return back
    stride = round(back.shape[2] / signs.shape[2])
    sizes = [stride * side for side in signs.shape[2:]]
    if stride < 1 or list(back.shape[2:]) != sizes:
        raise InvalidScore(
            f"a block turns {tuple(back.shape[2:])} pixels into {tuple(signs.shape[2:])}, "
            "which is not a whole stride"
        )
    return F.pixel_unshuffle(back, stride)
