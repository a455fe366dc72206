"""The contract of an elastic layer: one set of weights from which every architecture cuts its own.

The elastic dimensions are those of Once-for-All (H. Cai et al., "Once-for-All: Train One Network
and Specialize it for Efficient Deployment", ICLR 2020). The architecture is an argument of the
forward pass and nothing is kept between passes, so requests for different ones may interleave.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from raynas.core import Choice, Option, UserError

Arch = Mapping[str, Option]
"""An architecture, or any mapping choice -> option."""

Region = tuple[slice, ...]
"""The part of a tensor that an architecture touches: ``tensor[region]``; ``()`` is all of it."""


@dataclass(frozen=True)
class Part:
    """A module that runs within another one: its attribute's name, and its input channels."""

    name: str
    module: nn.Module
    width_in: int


class Elastic(nn.Module, ABC):
    """A layer, a composite of layers, or a whole network whose sizes the architecture decides.

    Input channels (the second dimension of ``x``; the last one of linear layers) are taken from
    the input: all layers use their leading channels.
    """

    @abstractmethod
    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """The output for ``arch``, from the slices of the weights that it uses."""

    @abstractmethod
    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        """A plain module with copies of the slices that ``arch`` uses.

        In eval mode it computes what ``forward`` does for inputs with ``width_in`` channels.
        """

    @abstractmethod
    def width_out(self, arch: Arch, width_in: int) -> int:
        """The output channels for ``width_in`` input channels."""

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        """The modules within this one that ``arch`` runs. A layer has none."""
        return iter(())

    def own(self, arch: Arch, width_in: int) -> dict[str, Region]:
        """What ``arch`` touches of this module's own parameters, those of its parts left out."""
        return {}

    def active(self, arch: Arch, width_in: int) -> dict[str, Region]:
        """What ``arch`` touches: name of a parameter, as in ``named_parameters``, -> region."""
        found = dict(self.own(arch, width_in))
        for part in self.parts(arch, width_in):
            if isinstance(part.module, Elastic):
                inner = part.module.active(arch, part.width_in)
            else:
                inner = {name: () for name, _ in part.module.named_parameters()}
            found.update({f"{part.name}.{name}": region for name, region in inner.items()})
        return found

    def sort_channels(self) -> None:
        """Bring the most important channels to the front wherever widths are elastic.

        The largest network computes the same as before; smaller ones keep what matters most.
        """
        for child in self.children():
            sort_channels(child)


def run(module: nn.Module, x: Tensor, arch: Arch) -> Tensor:
    """``module(x)``, with the architecture where the module is elastic."""
    out: Tensor = module(x, arch) if isinstance(module, Elastic) else module(x)
    return out


def plain_of(module: nn.Module, arch: Arch, width_in: int) -> nn.Module:
    """``module.plain``; a module that is not elastic is copied as it is."""
    if isinstance(module, Elastic):
        return module.plain(arch, width_in)
    twin = copy.deepcopy(module)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def width_after(module: nn.Module, arch: Arch, width_in: int) -> int:
    """The output channels of ``module`` for ``width_in`` input channels.

    Raises: UserError for ``nn.Flatten``, whose output depends on the image's size.
    """
    if isinstance(module, Elastic):
        return module.width_out(arch, width_in)
    if isinstance(module, nn.Flatten):
        raise UserError(
            "nn.Flatten in a supernet: its output depends on the image's size",
            cure="use raynas.layers.Flatten(positions), with the positions of a channel",
        )
    for name in ("out_channels", "out_features"):
        if hasattr(module, name):
            return int(getattr(module, name))
    if isinstance(module, nn.Sequential):
        for inner in module:
            width_in = width_after(inner, arch, width_in)
    return width_in


def sort_channels(module: nn.Module) -> None:
    """``module.sort_channels()`` where there is something elastic in it."""
    if isinstance(module, Elastic):
        module.sort_channels()
    else:
        for child in module.children():
            sort_channels(child)


@dataclass(frozen=True)
class Size:
    """A number of channels, a kernel's side, a depth: what the architecture decides.

    ``options``: all values it may take; they ascend, in whatever order they are given. ``of``: the
    value for an architecture; None for a fixed one.
    """

    options: tuple[int, ...]
    of: Callable[[Arch], int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))

    @property
    def most(self) -> int:
        return self.options[-1]

    def __call__(self, arch: Arch) -> int:
        return self.most if self.of is None else self.of(arch)


Sized = int | Choice | Size
"""What layers take for a size: a fixed number, a choice whose options are numbers, or a Size."""


def size(value: Sized) -> Size:
    """The size that ``value`` names. Raises: UserError for what is none."""
    if isinstance(value, Size):
        return value
    if isinstance(value, Choice):
        if any(type(option) is not int for option in value.options):
            raise UserError(
                f"choice {value.name!r} is no size: its options are {value.options}",
                allowed="integers; or a Size that makes one from the architecture",
            )
        return Size(tuple(int(o) for o in value.options), _Option(value.name))
    return Size((value,))


@dataclass(frozen=True)
class _Option:
    """The option of one choice; a class and no lambda, so that supernets can be pickled."""

    name: str

    def __call__(self, arch: Arch) -> int:
        return int(arch[self.name])


def filled(
    make: Callable[..., nn.Module],
    tensors: Mapping[str, Tensor],
    source: nn.Module | None = None,
    **sizes: Any,
) -> Any:
    """A module made by ``make(**sizes)`` that holds copies of ``tensors``; nothing is drawn.

    ``source``: what the tensors are cut from; parameters that are frozen in it are frozen here.
    """
    module = make(**sizes, device="meta")
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    module.load_state_dict(copies, assign=True)
    given = {} if source is None else dict(source.named_parameters())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in given or given[name].requires_grad)
    return module
