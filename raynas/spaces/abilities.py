"""This module lists what a search space may define beyond its choices and networks.

Each optional ability is a protocol. A space has it when it defines the methods, and inherits from
:class:`~raynas.spaces.base.SearchSpace` only. The base class asks for an ability in the method that
users call, and gives the default where it is absent:

=============================  ======================  =============================================
Called by users                Optional method         Default
=============================  ======================  =============================================
``format(values)``             ``to_text``             "name=option,name=option"
``parse(text)``                ``from_text``           the inverse of that
``canonical(arch)``            ``canonical_form``      the architecture itself
``sample(rng)``                ``draw``                uniform over the options of every choice
``sample_canonical(rng)``      ``draw_canonical``      the canonical form of a sample
``mutate(arch, rng)``          ``mutant``              one choice changed
``extremes()``                 ``smallest_and_largest`` end options of every choice
``costs(arch, ...)``           ``closed_form_costs``   the network is built and counted
``features(arch)``             ``more_features``       nothing is added
``graph(arch)``                ``diagram``             the chain of the choices
=============================  ======================  =============================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, ArchitectureGraph, Costs, Option


@runtime_checkable
class HasTextForm(Protocol):
    """A space with a text form of its own."""

    def to_text(self, values: Mapping[str, Option]) -> str:
        """Return the text form of an architecture; :meth:`from_text` is its inverse.

        Args:
            values: Choice -> option.
        """

    def from_text(self, text: str) -> dict[str, Option]:
        """Return choice -> option of a text form; :meth:`to_text` is its inverse.

        Args:
            text: The text form.

        Raises:
            UserError: The text is malformed, or a choice or an option is unknown.
        """


@runtime_checkable
class HasCanonicalForm(Protocol):
    """A space in which several architectures may compute the same function."""

    def canonical_form(self, arch: Architecture) -> Architecture:
        """Return one representative of all architectures that compute the same function.

        Args:
            arch: An architecture of this space.
        """


@runtime_checkable
class DrawsArchitectures(Protocol):
    """A space that draws samples in its own way."""

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, not necessarily a canonical one.

        Args:
            rng: The source of randomness.
        """


@runtime_checkable
class DrawsCanonical(Protocol):
    """A space that can draw its canonical architectures directly."""

    def draw_canonical(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical architecture.

        Args:
            rng: The source of randomness.
        """


@runtime_checkable
class MakesMutants(Protocol):
    """A space that changes architectures in its own way."""

    def mutant(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a changed architecture.

        Args:
            arch: An architecture of this space.
            rng: The source of randomness.
        """


@runtime_checkable
class KnowsExtremes(Protocol):
    """A space that knows its smallest and its largest architecture."""

    def smallest_and_largest(self) -> tuple[Architecture, Architecture]:
        """Return (smallest, largest), in canonical form where there is one."""


@runtime_checkable
class HasClosedFormCosts(Protocol):
    """A space that counts costs without building a network."""

    def closed_form_costs(
        self, arch: Architecture, input_shape: tuple[int, int, int], num_classes: int
    ) -> Costs:
        """Return trainable weights, and the multiply-adds of one image.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.
        """


@runtime_checkable
class HasMoreFeatures(Protocol):
    """A space that knows more features of an architecture than its options and costs."""

    def more_features(self, arch: Architecture) -> NDArray[np.float32]:
        """Return (d,) float32, such as the counts of a graph's paths.

        Args:
            arch: An architecture of this space.
        """


@runtime_checkable
class HasDiagram(Protocol):
    """A space that draws its architectures for reports."""

    def diagram(self, arch: Architecture) -> ArchitectureGraph:
        """Return a drawing of an architecture.

        Args:
            arch: An architecture of this space.
        """
