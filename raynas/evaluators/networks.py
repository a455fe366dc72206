"""Networks as evaluators need them: with seeded weights, and seen to fit the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raynas.core import Architecture, UserError, seed_for
from raynas.data.base import View
from raynas.spaces.base import InputShape, SearchSpace

if TYPE_CHECKING:
    from torch import nn


def check_seconds(owner: str, seconds: float) -> None:
    """Check the training time between two checkpoints, in seconds.

    Args:
        owner: Name of the evaluator's class, for the message.
        seconds: From 0 up.

    Raises:
        UserError: ``seconds`` is negative.
    """
    if seconds < 0:
        raise UserError(f"{owner} has checkpoint_seconds={seconds:g}", allowed="0 or more")


def build_network(
    space: SearchSpace, arch: Architecture, input_shape: InputShape, num_classes: int, seed: int
) -> nn.Module:
    """The network with initial weights that depend on ``seed`` alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "init"))
        return space.build(arch, input_shape, num_classes)


def check_network(space: SearchSpace, arch: Architecture, view: View) -> None:
    """Build the network and show it two training images.

    Raises: UserError when that fails or gives anything but (2, classes) logits.
    """
    import torch
    from torch import nn

    from raynas.training.augment import some_images

    network = build_network(space, arch, view.input_shape, view.num_classes, seed=0)
    wanted = f"a network for input {view.input_shape} and {view.num_classes} classes"
    if not isinstance(network, nn.Module):
        raise UserError(
            f"space {space.name!r} builds {type(network).__name__!r} for {arch.text!r}",
            allowed=f"a torch.nn.Module, {wanted}",
            cure="see the space's build()",
        )
    network.eval()
    try:
        with torch.inference_mode():
            output = network(some_images(view, 2))
    except Exception as error:
        raise UserError(
            f"the network that space {space.name!r} builds for {arch.text!r} fails on input "
            f"(2, {', '.join(map(str, view.input_shape))}): {type(error).__name__}: {error}",
            allowed=wanted,
            cure="see the space's build()",
        ) from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (2, view.num_classes):
        raise UserError(
            f"the network that space {space.name!r} builds for {arch.text!r} gives {shape} "
            "for two images",
            allowed=f"logits of shape (2, {view.num_classes})",
            cure="see num_classes in the space's build()",
        )
