"""This module finds the blocks that a network is a chain of, and records what they give."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the parts that a network is a chain of.

    These are modules that consist of modules or, when there are none, convolutions.
    Containers (lists, sequences) are opened; a residual or search cell is a block.

    Args:
        network: Any network.

    Returns:
        The blocks, in the order of the network's modules.
    """
    opened = list(_opened(network))
    made = [m for m in opened if any(True for _ in m.children())]
    return made or [m for m in opened if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            yield from _opened(child)
        else:
            yield child


@contextlib.contextmanager
def watched_blocks(network: nn.Module, into: list[Tensor], watch: bool) -> Iterator[None]:
    """Append the input of the first block that is called, and the output of every block.

    The network continues with copies, since it may change them in place.

    Args:
        network: The network that runs within the block of code.
        into: The list that the feature maps, (n, c, h, w), are appended to.
        watch: Whether anything is recorded.

    Yields:
        None.
    """
    handles = []

    def took(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if into or not inputs or not _is_map(inputs[0]):
            return None
        into.append(inputs[0])
        return inputs[0].clone(), *inputs[1:]

    def gave(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor | None:
        if not _is_map(output):
            return None
        into.append(output)
        copy: Tensor = output.clone()
        return copy

    if watch:
        for block in blocks_of(network):
            handles += [block.register_forward_pre_hook(took), block.register_forward_hook(gave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4
