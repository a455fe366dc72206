"""Batch norm statistics of one subnet, in place of the inherited ones, which mix all subnets."""

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
    """Return training images without augmentation, in batches.

    Args:
        data: The images.
        recipe: Its memory format is used.
        count: Number of images; fewer when there are fewer.
        seed: Of the draw.
        batch: Images per batch.

    Returns:
        Batches (b, channels, height, width) float32, normalised.
    """
    drawn = rng_for(seed, "calibration").permutation(len(data.train))[:count]
    index = torch.as_tensor(drawn, device=data.mean.device)
    return [
        as_input(data.normalise(data.train.pixels[some]), recipe)
        for some in in_batches(index, batch)
    ]


def in_batches(images: Tensor, batch: int = BATCH) -> tuple[Tensor, ...]:
    """Split images into batches; a last batch of one image is joined to the batch before it.

    A single image may give a batch norm one value per channel, which has no variance.

    Args:
        images: (n, ...).
        batch: Images per batch.

    Returns:
        Batches (b, ...).
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

    A batch is weighted by the number of values that its statistics come from, so that a small last
    one counts little. Weights are not changed; the network is left in eval mode.

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
    """A hook that makes a batch norm's statistics a mean weighted by size, by its momentum."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]
        self._seen += values
        norm.momentum = values / self._seen  # type: ignore[assignment]
