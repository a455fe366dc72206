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
        for some in in_batches(index, batch)
    ]


def in_batches(images: Tensor, batch: int = BATCH) -> tuple[Tensor, ...]:
    """Split (n, ...) into batches of ``batch``; a last one of one image joins the one before.

    A single image may give a batch norm one value per channel, which has no variance.
    """
    sizes = [batch] * (len(images) // batch)
    rest = len(images) % batch
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return torch.split(images, sizes)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every batch norm of ``network`` the mean of its statistics over ``batches``.

    A batch counts by the number of values that its statistics come from, so that a small last one
    weighs little. Weights stay as they are; the network is left in eval mode.

    Args:
        network: With batch norms of any kind; changed in place.
        batches: Images (b, c, h, w).
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    handles = [norm.register_forward_pre_hook(_BySize()) for norm in norms]
    try:
        for images in batches:
            network(images)
    finally:
        for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
            handle.remove()
            norm.momentum = momentum
    network.eval()


class _BySize:
    """Sets a batch norm's momentum so that its statistics become a mean weighted by size."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]
        self._seen += values
        norm.momentum = values / self._seen  # type: ignore[assignment]
