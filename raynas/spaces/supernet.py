"""A supernet: one network that holds every architecture of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from raynas.core import Architecture, Option, UserError
from raynas.layers import Arch, Elastic, Region

if TYPE_CHECKING:
    from raynas.spaces.base import InputShape, SearchSpace


class Supernet(nn.Module):
    """``body`` with the architectures of ``space``; (n, *input_shape) -> (n, num_classes).

    The architecture is an argument: nothing is kept between calls except what training changes.
    """

    def __init__(
        self, space: SearchSpace, body: Elastic, input_shape: InputShape, num_classes: int
    ) -> None:
        super().__init__()
        self.space, self.input_shape, self.num_classes = space, input_shape, num_classes
        self.body = body

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """(n, channels, h, w) -> logits (n, num_classes) of the subnet ``arch``.

        Raises: UserError for an architecture of another space, and for other image channels.
        """
        if x.shape[1] != self.input_shape[0]:
            raise UserError(
                f"images of {x.shape[1]} channels for a supernet of {self.input_shape[0]}",
                cure="build the supernet with the data's input shape",
            )
        logits: Tensor = self.body(x, self.values(arch))
        return logits

    def values(self, arch: Arch) -> dict[str, Option]:
        """Choice -> option of ``arch``. Raises: UserError when it is not of the space."""
        if isinstance(arch, Architecture) and arch.space != self.space.name:
            raise UserError(
                f"architecture {arch} is of space {arch.space!r}, not of {self.space.name!r}",
                cure="take the supernet and its weights of the architecture's own space",
            )
        return dict(self.space.architecture(arch))

    def extract(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` with copies of its weights and statistics.

        In eval mode it computes what the supernet does for ``arch``; it is what ``space.build``
        gives: the same classes, and the same names of parameters and buffers.
        Raises: UserError for an architecture of another space.
        """
        network = self.body.plain(self.values(arch), self.input_shape[0])
        return network.train(self.training)

    def fresh(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` with initial weights of its own, in train mode."""
        network = self.extract(arch)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        return network.train()

    def active(self, arch: Arch) -> dict[str, Region]:
        """Name of each parameter that ``arch`` touches -> the region that it touches.

        Raises: UserError for an architecture of another space.
        """
        found = self.body.active(self.values(arch), self.input_shape[0])
        return {f"body.{name}": region for name, region in found.items()}

    def used(self, arch: Arch) -> set[str]:
        """The names of the parameters that ``arch`` touches, whole or in part."""
        return set(self.active(arch))

    def sort_channels(self) -> None:
        """Most important channels first, by L1 norm; the largest network stays what it is."""
        self.body.sort_channels()
