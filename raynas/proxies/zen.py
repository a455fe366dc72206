"""Zen-Score: how much the features of a network change after a small change of its input.

M. Lin, P. Wang, Z. Sun, H. Chen, X. Sun, Q. Qian, H. Li, R. Jin, "Zen-NAS: A Zero-Shot NAS for
High-Performance Image Recognition", ICCV 2021.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raynas.core import InvalidScore, UserError
from raynas.core.fields import check_fields
from raynas.proxies.base import Proxy
from raynas.proxies.engine.initialise import drawn
from raynas.proxies.engine.passes import PassRecording, PassResult
from raynas.proxies.engine.probe import Probe

MIXUP = 1e-2
"""Length of the step from an image to its neighbour, in units of a second random image."""


@dataclass(frozen=True)
class ZenScore(Proxy):
    """Logarithm of the mean change of the last feature map, plus the scales removed by batch norms.

    Weights, images and steps are drawn from N(0, 1): of the batch only the size is used. A network
    with an attribute ``residual: bool`` is scored without its residual links.

    Attributes:
        images: Number of random images, at least 2.
        repeats: Number of draws whose scores are averaged, at least 1; batch norm statistics are
            computed anew for each.

    Raises:
        UserError: When a setting is below its least value.
    """

    name: ClassVar[str] = "zen"

    images: int = 16
    repeats: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images < 2 or self.repeats < 1:
            raise UserError(
                f"ZenScore(images={self.images}, repeats={self.repeats})",
                expected="images from 2, repeats from 1",
            )

    def measure(self, probe: Probe) -> float:
        """Return the mean score over ``repeats`` draws.

        Args:
            probe: The network and a batch, of which only the shape of images is used.

        Raises:
            InvalidScore: When the network has no feature map that is pooled or flattened.
            InvalidScore: When the feature map does not depend on the input.
        """
        generator = torch.Generator().manual_seed(probe.seed)
        size = (self.images, *probe.images.shape[1:])
        total = 0.0
        with _without_links(probe.network):
            for _ in range(self.repeats):
                weights = drawn(probe, generator, _unit)
                x, e = (torch.randn(size, generator=generator) for _ in range(2))
                total += self.change(probe, weights, x, e)
        return total / self.repeats

    def change(self, probe: Probe, parameters: Mapping[str, Tensor], x: Tensor, e: Tensor) -> float:
        """Return the score for given weights, images and steps.

        Args:
            probe: The network.
            parameters: Name -> weight.
            x: Images (n, c, h, w).
            e: Steps (n, c, h, w); ``MIXUP`` times ``e`` is added to ``x``.

        Returns:
            The score.

        Raises:
            InvalidScore: When the network has no feature map that is pooled or flattened.
            InvalidScore: When the feature map does not depend on the input.
        """
        here, there = (self._pass(probe, parameters, i) for i in (x, x + MIXUP * e))
        if here.features is None or there.features is None:
            raise InvalidScore("there is no feature map that is pooled or flattened")
        moved = (here.features - there.features).abs().sum(dim=(1, 2, 3)).mean()
        if not float(moved) > 0:
            raise InvalidScore("no path from input to output: the feature map does not change")
        scales = 0.0
        for v1, v2 in zip(here.variances, there.variances, strict=True):
            # a running variance of 1 after two training passes with momentum 0.1
            scales += 0.5 * math.log(float((0.81 + 0.09 * v1 + 0.1 * v2).mean()))
        return math.log(float(moved)) + scales

    @staticmethod
    def _pass(probe: Probe, parameters: Mapping[str, Tensor], images: Tensor) -> PassResult:
        images = probe.laid_out(images.to(probe.images))
        watch = PassRecording.NORMS | PassRecording.FEATURES
        return probe.run(images, parameters=parameters, watch=watch)


def _unit(_shape: torch.Size) -> float:
    return 1.0


@contextlib.contextmanager
def _without_links(network: nn.Module) -> Iterator[None]:
    if not isinstance(before := getattr(network, "residual", None), bool):
        yield
        return
    network.residual = False  # type: ignore[assignment]
    try:
        yield
    finally:
        network.residual = before  # type: ignore[assignment]
