"""This module has the contract of an elastic layer: all architectures use slices of its weights.

The elastic dimensions are those of Once-for-All (H. Cai et al., "Once-for-All: Train One Network
and Specialize it for Efficient Deployment", ICLR 2020). The architecture is an argument of the
forward pass and no state is kept between passes, so calls for different architectures may
alternate.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from raynas.core import Choice, Option, UserError
from raynas.core.ability import has
from raynas.core.renamed import renamed_names

Arch = Mapping[str, Option]
"""An architecture, or any mapping from choice to option."""

Region = tuple[slice, ...]
"""The part of a tensor that an architecture uses: ``tensor[region]``; ``()`` is all of it."""


@dataclass(frozen=True)
class ElasticPart:
    """A module that runs within another one.

    Attributes:
        name: The name of its attribute in the outer module, such as "steps.0".
        module: The module.
        width_in: The number of input channels.
    """

    name: str
    module: nn.Module
    width_in: int


@runtime_checkable
class HasParts(Protocol):
    """An elastic module that is made of other modules."""

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Return the modules within this one that ``arch`` runs, in the order of the forward pass.

        Args:
            arch: The architecture.
            width_in: The number of input channels.
        """


@runtime_checkable
class OwnsParameters(Protocol):
    """An elastic module with parameters of its own."""

    def own(self, arch: Arch, width_in: int) -> dict[str, Region]:
        """Return the regions of this module's own parameters that ``arch`` uses, parts excluded.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            Name of a parameter -> region.
        """


@runtime_checkable
class SortsChannels(Protocol):
    """An elastic module that sorts channels in its own way."""

    def sort_own_channels(self) -> None:
        """Move the most important channels to the front, here and in the modules within."""


class Elastic(nn.Module, ABC):
    """A layer, a composite of layers, or a whole network whose sizes depend on the architecture.

    A subclass defines the methods that are abstract here, and those of :class:`HasParts`,
    :class:`OwnsParameters` and :class:`SortsChannels` that apply to it.

    The number of input channels (the second dimension of ``x``; the last one of linear layers) is
    read from the input: all layers use the weights of their leading channels.
    """

    @abstractmethod
    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Compute the output for ``arch`` with the slices of the weights that it uses.

        Args:
            x: (n, channels, height, width), or (..., features) for linear layers.
            arch: The architecture.

        Returns:
            The output, with ``width_out`` channels.
        """

    @abstractmethod
    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        """Return a plain module with copies of the slices that ``arch`` uses.

        In eval mode it computes the same as ``forward``.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            A module without anything elastic in it.
        """

    @abstractmethod
    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            The number of output channels.
        """

    def active(self, arch: Arch, width_in: int) -> dict[str, Region]:
        """Return the regions of all parameters that ``arch`` uses, parts included.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            Name of a parameter, as in ``named_parameters``, -> region.
        """
        found = dict(self.own(arch, width_in)) if has(self, OwnsParameters) else {}
        for part in parts_of(self, arch, width_in):
            if isinstance(part.module, Elastic):
                inner = part.module.active(arch, part.width_in)
            else:
                inner = {name: () for name, _ in part.module.named_parameters()}
            found.update({f"{part.name}.{name}": region for name, region in inner.items()})
        return found

    def sort_channels(self) -> None:
        """Move the most important channels to the front wherever widths are elastic.

        The largest network computes the same as before; smaller ones use the most important
        channels. The modules within this one sort their channels, unless this one has a way of its
        own.
        """
        if has(self, SortsChannels):
            self.sort_own_channels()
        else:
            sort_children(self)


def parts_of(module: Elastic, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
    """Return the modules within an elastic one that ``arch`` runs.

    Args:
        module: An elastic module.
        arch: The architecture.
        width_in: The number of input channels of ``module``.

    Returns:
        The inner modules in the order of the forward pass; a layer has none.
    """
    return module.parts(arch, width_in) if has(module, HasParts) else iter(())


def run(module: nn.Module, x: Tensor, arch: Arch) -> Tensor:
    """Call a module, with the architecture where the module is elastic.

    Args:
        module: An elastic or a plain module.
        x: The input.
        arch: The architecture.

    Returns:
        The output of the module.
    """
    out: Tensor = module(x, arch) if isinstance(module, Elastic) else module(x)
    return out


def plain_of(module: nn.Module, arch: Arch, width_in: int) -> nn.Module:
    """Return the plain module for ``arch``; a module that is not elastic is copied as it is.

    Args:
        module: An elastic or a plain module.
        arch: The architecture.
        width_in: The number of input channels.

    Returns:
        A copy without gradients.
    """
    if isinstance(module, Elastic):
        return module.plain(arch, width_in)
    twin = copy.deepcopy(module)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def width_after(module: nn.Module, arch: Arch, width_in: int) -> int:
    """Return the number of output channels of a module.

    Args:
        module: An elastic or a plain module.
        arch: The architecture.
        width_in: The number of input channels.

    Returns:
        The number of output channels; modules without a width of their own keep ``width_in``.

    Raises:
        UserError: The module is ``nn.Flatten``, whose output depends on the image's size.
    """
    if isinstance(module, Elastic):
        return module.width_out(arch, width_in)
    if isinstance(module, nn.Flatten):
        raise UserError(
            "nn.Flatten in a supernet has an output that depends on the size of the image",
            hint="use raynas.layers.Flatten(positions), with the positions of a channel",
        )
    for name in ("out_channels", "out_features"):
        if hasattr(module, name):
            return int(getattr(module, name))
    if isinstance(module, nn.Sequential):
        for inner in module:
            width_in = width_after(inner, arch, width_in)
    return width_in


def sort_channels(module: nn.Module) -> None:
    """Call ``sort_channels()`` on the elastic modules within ``module``.

    Args:
        module: An elastic or a plain module; changed in place.
    """
    if isinstance(module, Elastic):
        module.sort_channels()
    else:
        sort_children(module)


def sort_children(module: nn.Module) -> None:
    """Call ``sort_channels()`` on the elastic modules within ``module``, but not on itself.

    Args:
        module: An elastic or a plain module; changed in place.
    """
    for child in module.children():
        sort_channels(child)


@dataclass(frozen=True)
class ElasticSize:
    """A number of channels, a kernel's side or a depth that depends on the architecture.

    Attributes:
        options: All values that it may take; they are sorted in ascending order.
        of: Returns the value for an architecture; None for a fixed one.

    Example:
        >>> width = ElasticSize((16, 8), lambda arch: arch["width"])
        >>> width.most, width({"width": 8})
        (16, 8)
    """

    options: tuple[int, ...]
    of: Callable[[Arch], int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))

    @property
    def most(self) -> int:
        """The largest option.

        Returns:
            The number that the weights are allocated for.
        """
        return self.options[-1]

    def __call__(self, arch: Arch) -> int:
        """Return the value for ``arch``."""
        return self.most if self.of is None else self.of(arch)


Sized = int | Choice | ElasticSize
"""A size of a layer: a fixed number, a choice whose options are integers, or a Size."""


def size(value: Sized) -> ElasticSize:
    """Return the size that ``value`` describes.

    Args:
        value: A fixed number, a choice whose options are integers, or a Size.

    Returns:
        A Size.

    Raises:
        UserError: The options of a choice are not integers.
    """
    if isinstance(value, ElasticSize):
        return value
    if isinstance(value, Choice):
        if any(type(option) is not int for option in value.options):
            raise UserError(
                f"choice {value.name!r} is not a size: its options are {value.options}",
                expected="integers; or a Size that makes one from the architecture",
            )
        return ElasticSize(tuple(int(o) for o in value.options), _Option(value.name))
    return ElasticSize((value,))


@dataclass(frozen=True)
class _Option:
    """The option of one choice; a class instead of a lambda, so that supernets can be pickled."""

    name: str

    def __call__(self, arch: Arch) -> int:
        return int(arch[self.name])


def filled(
    make: Callable[..., nn.Module],
    tensors: Mapping[str, Tensor],
    source: nn.Module | None = None,
    **sizes: Any,
) -> Any:
    """Return a module that holds copies of tensors; no initial weights are drawn.

    Args:
        make: The type of the module; called with ``sizes`` and ``device``.
        tensors: Name in the module's state -> tensor.
        source: The module that the tensors are cut from; parameters that are frozen in it are
            frozen in the result. None freezes nothing.
        sizes: Keyword arguments of ``make``.

    Returns:
        The module.
    """
    module = make(**sizes, device="meta")
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    module.load_state_dict(copies, assign=True)
    given = {} if source is None else dict(source.named_parameters())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in given or given[name].requires_grad)
    return module


__getattr__ = renamed_names(__name__, Part="ElasticPart", Size="ElasticSize")
