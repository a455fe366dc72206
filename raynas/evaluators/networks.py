"""This module builds networks with seeded weights, and checks that they fit the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raynas.core import Architecture, UserError, seed_for
from raynas.data.base import DataView
from raynas.spaces.base import InputShape, SearchSpace

if TYPE_CHECKING:
    from torch import nn


def check_seconds(owner: str, seconds: float) -> None:
    """Check the training time between two checkpoints.

    Args:
        owner: Name of the evaluator's class, for the message.
        seconds: The time in seconds, 0 or more.

    Raises:
        UserError: ``seconds`` is negative.
    """
    if seconds < 0:
        raise UserError(f"{owner} has checkpoint_seconds={seconds:g}", expected="0 or more")


def build_network(
    space: SearchSpace, arch: Architecture, input_shape: InputShape, num_classes: int, seed: int
) -> nn.Module:
    """Build the network with initial weights that depend on ``seed`` alone.

    Args:
        space: The space of the architecture.
        arch: The architecture.
        input_shape: Shape of one image: (channels, height, width).
        num_classes: Number of classes.
        seed: Seed of the initial weights.

    Returns:
        The network on the CPU.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "init"))
        return space.build(arch, input_shape, num_classes)


def check_network(space: SearchSpace, arch: Architecture, view: DataView) -> None:
    """Build the network and run it on two training images.

    Args:
        space: The space of the architecture.
        arch: The architecture.
        view: Training and held-out images.

    Raises:
        UserError: The network fails, or its output is not (2, classes) logits.
    """
    import torch
    from torch import nn

    from raynas.training.augment import some_images

    network = build_network(space, arch, view.input_shape, view.num_classes, seed=0)
    wanted = f"a network for input {view.input_shape} and {view.num_classes} classes"
    if not isinstance(network, nn.Module):
        raise UserError(
            f"space {space.name!r} builds {type(network).__name__!r} for {arch.text!r}",
            expected=f"a torch.nn.Module, {wanted}",
            hint="see the space's build()",
        )
    network.eval()
    try:
        with torch.inference_mode():
            output = network(some_images(view, 2))
    except Exception as error:
        raise UserError(
            f"the network that space {space.name!r} builds for {arch.text!r} fails on input "
            f"(2, {', '.join(map(str, view.input_shape))}): {type(error).__name__}: {error}",
            expected=wanted,
            hint="see the space's build()",
        ) from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (2, view.num_classes):
        raise UserError(
            f"the network that space {space.name!r} builds for {arch.text!r} gives {shape} "
            "for two images",
            expected=f"logits of shape (2, {view.num_classes})",
            hint="see num_classes in the space's build()",
        )
