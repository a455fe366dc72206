"""This module has the supernet: one network that holds every architecture of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from raynas.core import Architecture, Option, UserError
from raynas.layers import Arch, Elastic, Region

if TYPE_CHECKING:
    from raynas.spaces.base import InputShape, SearchSpace


class Supernet(nn.Module):
    """A network that holds every architecture of a space: (n, *input_shape) -> (n, num_classes).

    The architecture is an argument: only training changes the state between calls.

    Args:
        space: The space of the architectures.
        body: The elastic network.
        input_shape: (channels, height, width) of an image.
        num_classes: The number of classes.
    """

    def __init__(
        self, space: SearchSpace, body: Elastic, input_shape: InputShape, num_classes: int
    ) -> None:
        super().__init__()
        self.space, self.input_shape, self.num_classes = space, input_shape, num_classes
        self.body = body

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Return the logits of the subnet ``arch``.

        Args:
            x: (n, channels, height, width).
            arch: An architecture of the space, or choice -> option.

        Returns:
            Logits (n, num_classes).

        Raises:
            UserError: The architecture is of another space.
            UserError: The number of image channels differs from ``input_shape``.
        """
        if x.shape[1] != self.input_shape[0]:
            raise UserError(
                f"images of {x.shape[1]} channels for a supernet of {self.input_shape[0]}",
                hint="build the supernet with the data's input shape",
            )
        logits: Tensor = self.body(x, self.values(arch))
        return logits

    def values(self, arch: Arch) -> dict[str, Option]:
        """Return the options of an architecture.

        Args:
            arch: An architecture of the space, or choice -> option.

        Returns:
            Choice -> option.

        Raises:
            UserError: The architecture is not of the space.
        """
        if isinstance(arch, Architecture) and arch.space != self.space.name:
            raise UserError(
                f"architecture {arch} is of space {arch.space!r}, not of {self.space.name!r}",
                hint="take the supernet and its weights of the architecture's own space",
            )
        return dict(self.space.architecture(arch))

    def extract(self, arch: Arch) -> nn.Module:
        """Return the plain network of ``arch`` with copies of its weights and statistics.

        In eval mode it computes the same as the supernet for ``arch``. It has the same classes, and
        the same names of parameters and buffers, as the result of ``space.build``.

        Args:
            arch: An architecture of the space, or choice -> option.

        Returns:
            A network in the mode (train or eval) of the supernet.

        Raises:
            UserError: The architecture is not of the space.
        """
        network = self.body.plain(self.values(arch), self.input_shape[0])
        return network.train(self.training)

    def fresh(self, arch: Arch) -> nn.Module:
        """Return the plain network of ``arch`` with new initial weights.

        Args:
            arch: An architecture of the space, or choice -> option.

        Returns:
            A network in train mode.

        Raises:
            UserError: The architecture is not of the space.
        """
        network = self.extract(arch)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        return network.train()

    def active(self, arch: Arch) -> dict[str, Region]:
        """Return the regions of all parameters that ``arch`` uses.

        Args:
            arch: An architecture of the space, or choice -> option.

        Returns:
            Name of a parameter -> region.

        Raises:
            UserError: The architecture is not of the space.
        """
        found = self.body.active(self.values(arch), self.input_shape[0])
        return {f"body.{name}": region for name, region in found.items()}

    def used(self, arch: Arch) -> set[str]:
        """Return the names of the parameters that ``arch`` uses, whole or in part.

        Args:
            arch: An architecture of the space, or choice -> option.

        Returns:
            Names as in ``named_parameters``.

        Raises:
            UserError: The architecture is not of the space.
        """
        return set(self.active(arch))

    def sort_channels(self) -> None:
        """Move the most important channels to the front, by L1 norm.

        The output of the largest network stays the same.
        """
        self.body.sort_channels()
