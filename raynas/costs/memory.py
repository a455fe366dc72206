"""This module computes the memory of a network's training step from shapes alone.

Weights, gradients and momentum, and the tensors that automatic differentiation saves for the
backward pass (each once), are exact. Rounding by the allocator, workspaces of convolutions and the
framework itself are not included.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raynas.core import UserError
from raynas.core.renamed import renamed_names


@dataclass(frozen=True)
class TrainingMemory:
    """The bytes of a training step, divided into a fixed part and a part per image.

    Attributes:
        fixed: Bytes of weights, gradients, momentum and buffers.
        per_image: Bytes that one image adds: saved activations, and the gradient of the largest
            one.

    Example:
        >>> TrainingMemory(fixed=1000, per_image=10).at(batch=32)
        1320
    """

    fixed: int
    per_image: int

    def at(self, batch: int) -> int:
        """Return the memory of a batch.

        Args:
            batch: The number of images, 1 or more.

        Returns:
            Bytes.

        Raises:
            UserError: ``batch`` is below 1.
        """
        if batch < 1:
            raise UserError(f"memory of a batch of {batch} images", expected="1 or more")
        return self.fixed + batch * self.per_image


def training_memory(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> TrainingMemory:
    """Return the memory of a training step of SGD with momentum in float32.

    Nothing is allocated: the network is built, and forward passes are made, on the meta device; a
    network that does not work there runs on the CPU.

    Args:
        build: Returns the network; called once or twice.
        input_shape: The shape of one input without the batch, such as (channels, height, width).

    Returns:
        Bytes of the fixed part and per image.

    Raises:
        Exception: ``build`` or the forward pass raised it on the CPU.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return _memory_on("meta", build, input_shape)
        except Exception:  # any kind of error: the CPU works or raises the error to report
            return _memory_on("cpu", build, input_shape)


def _memory_on(
    device: str, build: Callable[[], nn.Module], input_shape: tuple[int, ...]
) -> TrainingMemory:
    with torch.device(device):
        network = build().train()
        one, two = (_saved(network, torch.zeros(n, *input_shape)) for n in (2, 4))
    weights = sum(_bytes(p) for p in network.parameters())
    trained = sum(_bytes(p) for p in network.parameters() if p.requires_grad)
    buffers = sum(_bytes(b) for b in network.buffers())
    per_image = max(two - one, 0) // 2
    return TrainingMemory(weights + 2 * trained + buffers + max(one - 2 * per_image, 0), per_image)


def _saved(network: nn.Module, images: Tensor) -> int:
    """Return the bytes saved for the backward pass, with those of the largest tensor twice."""
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, Tensor] = {}  # storage -> a tensor that keeps it alive: keys stay unique

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(images)
    sizes = [t.untyped_storage().nbytes() for t in kept.values()]
    del output
    return sum(sizes) + max(sizes, default=0)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


__getattr__ = renamed_names(__name__, Memory="TrainingMemory")
