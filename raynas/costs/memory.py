"""How much memory a training step of a network takes, from shapes alone.

Weights, gradients and momentum, and what automatic differentiation keeps for the backward pass
(every tensor that it saves, once), are exact. What an allocator rounds up, workspaces of
convolutions and the framework itself are not in it: see ``overhead``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raynas.core import UserError


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step. ``fixed``: weights, gradients, momentum and buffers;
    ``per_image``: what one image adds (saved activations, and the largest one's gradient)."""

    fixed: int
    per_image: int

    def at(self, batch: int) -> int:
        """Bytes for ``batch`` images. Raises: UserError below 1."""
        if batch < 1:
            raise UserError(f"memory of a batch of {batch} images", allowed="1 or more")
        return self.fixed + batch * self.per_image


def training_memory(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Memory:
    """Of a step of SGD with momentum in float32, of ``build()`` on inputs of ``input_shape``.

    Nothing is allocated: the network is built, and one forward pass made, on the meta device; one
    that does not work there runs on the CPU. Raises: whatever it raises on the CPU.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return _memory_on("meta", build, input_shape)
        except Exception:  # any kind: the CPU either works or raises the error worth reading
            return _memory_on("cpu", build, input_shape)


def _memory_on(device: str, build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Memory:
    with torch.device(device):
        network = build().train()
        one, two = (_saved(network, torch.zeros(n, *input_shape)) for n in (2, 4))
    weights = sum(_bytes(p) for p in network.parameters())
    trained = sum(_bytes(p) for p in network.parameters() if p.requires_grad)
    buffers = sum(_bytes(b) for b in network.buffers())
    per_image = max(two - one, 0) // 2
    return Memory(weights + 2 * trained + buffers + max(one - 2 * per_image, 0), per_image)


def _saved(network: nn.Module, images: Tensor) -> int:
    """Bytes that one forward pass leaves for the backward pass, and the largest once more."""
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, Tensor] = {}  # storage -> a tensor that keeps it alive, so that it is unique

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
