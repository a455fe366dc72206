"""Batch norm statistics of one subnet: those that it inherits are of all subnets mixed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raynas.core import rng_for
from raynas.training.augment import DeviceView, as_input
from raynas.training.recipe import Recipe

BATCH = 128


def calibration_batches(
    data: DeviceView, recipe: Recipe, count: int, seed: int, batch: int = BATCH
) -> list[Tensor]:
    """``count`` training images as they are, drawn by ``seed``, in batches (b, c, h, w)."""
    drawn = rng_for(seed, "calibration").permutation(len(data.train))[:count]
    index = torch.as_tensor(drawn, device=data.mean.device)
    return [
        as_input(data.normalise(data.train.pixels[some]), recipe)
        for some in torch.split(index, batch)
    ]


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every batch norm of ``network`` the mean of its statistics over ``batches``.

    Weights stay as they are; the network is left in eval mode.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
        norm.train()
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
