"""AZ-NAS: four views of a network, ranked together.

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
from raynas.proxies.engine.passes import Watch
from raynas.proxies.engine.probe import Needs, Probe
from raynas.proxies.macs import multiply_adds


@dataclass(frozen=True)
class AZNAS(Proxy):
    """Sum of the logarithms of four ranks: what goes through a network's blocks, and its MACs.

    ``aznas_expressivity``: summed entropy of the channels' principal components, block by
    block; ``aznas_progressivity``: its smallest growth from a block to the next;
    ``aznas_trainability``: how close the blocks' Jacobians are to keeping lengths;
    ``aznas_complexity``: multiply-adds. On ``images`` images and with weights from N(0, 1) and
    N(0, 2 / fan-in). Blocks are the modules made of modules, such as cells.
    """

    name: ClassVar[str] = "aznas"
    needs: ClassVar[Needs] = Needs.GRADIENTS  # of passes of its own, in the exact memory format

    images: int = 64

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images < 2:
            raise UserError(f"AZNAS(images={self.images})", allowed="from 2")

    @property
    def parts(self) -> tuple[str, ...]:
        kinds = ("expressivity", "progressivity", "trainability", "complexity")
        return tuple(f"aznas_{kind}" for kind in kinds)

    def combine(self, table: Table) -> NDArray[np.float64]:
        return log_rank_sum([table[part] for part in self.parts])

    def measure(self, probe: Probe) -> Mapping[str, float]:
        generator = torch.Generator().manual_seed(probe.seed)
        weights = drawn(probe, generator, lambda shape: (2 / shape[1:].numel()) ** 0.5)
        images = torch.randn((self.images, *probe.images.shape[1:]), generator=generator)
        images = images.to(probe.images).requires_grad_()  # the first block may take them
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        maps = probe.run(images, parameters=leaves, watch=Watch.BLOCKS, gradients=True).blocks
        if len(maps) < 2:
            raise InvalidScore("the network has no chain of blocks that give feature maps")
        entropies = np.array([_entropy(m.detach()) for m in maps])
        gains = [_gain(a, b, generator) for a, b in pairwise(maps)]
        found = (entropies.sum(), np.diff(entropies).min(), np.mean(gains), multiply_adds(probe))
        return dict(zip(self.parts, map(float, found), strict=True))


def _entropy(features: Tensor) -> float:
    """Of the variances' shares along the principal components of the channels."""
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    rows = rows - rows.mean(dim=0)
    variances = torch.linalg.eigvalsh((rows.T @ rows / len(rows)).double())
    if not float(variances.sum()) > 0:
        raise InvalidScore("a block gives constant features")
    shares = (variances / variances.sum()).clamp(min=0)
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def _gain(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    """2 - s - 1 / s, s the largest singular value of the block's mean Jacobian; at most 0.

    Estimated by sending random signs back through the block.
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
    """``back`` with the pixels of a stride as channels, so that it has the size of ``signs``."""
    if back.shape[2:] == signs.shape[2:]:
        return back
    stride = round(back.shape[2] / signs.shape[2])
    sizes = [stride * side for side in signs.shape[2:]]
    if stride < 1 or list(back.shape[2:]) != sizes:
        raise InvalidScore(
            f"a block turns {tuple(back.shape[2:])} pixels into {tuple(signs.shape[2:])}, "
            "which is no whole stride"
        )
    return F.pixel_unshuffle(back, stride)
