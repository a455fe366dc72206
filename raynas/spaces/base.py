"""This module has the contract of a search space; a user's own space is a subclass of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from raynas.core import (
    Architecture,
    ArchitectureGraph,
    Choice,
    Costs,
    Option,
    UserError,
    unknown_option,
)
from raynas.core.ability import has
from raynas.spaces.abilities import (
    DrawsArchitectures,
    DrawsCanonical,
    HasCanonicalForm,
    HasClosedFormCosts,
    HasDiagram,
    HasMoreFeatures,
    HasTextForm,
    KnowsExtremes,
    MakesMutants,
)

if TYPE_CHECKING:
    from torch import nn


InputShape = tuple[int, int, int]


class HasSubnets(Protocol):
    """The protocol of a supernet; :class:`raynas.spaces.supernet.Supernet` implements it."""

    def fresh(self, arch: Mapping[str, Option]) -> nn.Module:
        """Return the plain network of ``arch`` with new initial weights.

        Args:
            arch: The architecture.

        Returns:
            (n, *input_shape) -> logits (n, num_classes).
        """


class SearchSpace(ABC):
    """A search space: named choices, and a network for each combination of their options.

    A subclass defines ``name``, ``choices``, and ``build`` or ``supernet``. What else it may
    define, such as a text form of its own, is listed in :mod:`raynas.spaces.abilities`; the methods
    here ask for it. A subclass written for raynas 0.1, which replaces ``format``, ``canonical`` and
    the like, works as before. Subclasses are (frozen) dataclasses, so that ``--set
    space.channels=8`` and the experiment's fingerprint see their settings.

    Attributes:
        name: The name of the space in experiments and in the store.

    Example:
        >>> class Widths(SearchSpace):
        ...     name = "widths"
        ...     choices = (Choice("width", (8, 16), ordered=True),)
        >>> space = Widths()
        >>> space.architecture("width=8")["width"], space.size
        (8, 2)
        >>> [str(arch) for arch in space.enumerate()]
        ['width=8', 'width=16']
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """The choices, in a fixed order.

        Returns:
            One choice or more.
        """

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> nn.Module:
        """Return the network of an architecture.

        The default takes it from the supernet, with new initial weights.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            A network (n, *input_shape) -> logits (n, num_classes).

        Raises:
            UserError: The space defines neither ``build`` nor ``supernet``.
        """
        return self.supernet(input_shape, num_classes).fresh(arch)

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> HasSubnets:
        """Return one network that holds all architectures.

        Args:
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            A network that is called as ``supernet(images, arch)``: (n, *input_shape) -> logits (n,
                num_classes).

        Raises:
            UserError: The space has no supernet.
        """
        raise UserError(
            f"space {self.name!r} has no supernet",
            hint="define its supernet() from the layers of raynas.layers, or search by training",
        )

    @property
    def size(self) -> int:
        """The number of architectures, isomorphic ones counted separately.

        Returns:
            The product of the numbers of options.
        """
        size = 1
        for choice in self.choices:
            size *= len(choice)
        return size

    def architecture(self, values: str | Mapping[str, Option] | Architecture) -> Architecture:
        """Return the architecture for a text form or a mapping.

        Args:
            values: The text form, or choice -> option for every choice.

        Returns:
            The architecture, with the options as the space spells them: 3, not 3.0 or True.

        Raises:
            UserError: A choice or an option is unknown, or a choice is missing; the message names
                the choice, the value and what is allowed.
        """
        if isinstance(values, Architecture):
            values = dict(values)
        if isinstance(values, str):
            values = self.parse(values)
        known = {c.name: c for c in self.choices}
        for name in values:
            if name not in known:
                raise unknown_option(f"choice in space {self.name!r}", name, known)
        pairs: list[tuple[str, Option]] = []
        for name, choice in known.items():
            if name not in values:
                raise UserError(
                    f"architecture of space {self.name!r} lacks choice {name!r}",
                    expected=", ".join(map(str, choice.options)),
                )
            try:
                at = choice.options.index(values[name])
            except ValueError:
                raise unknown_option(f"option for {name!r}", values[name], choice.options) from None
            # the option as the space spells it: 3, not 3.0 or True
            pairs.append(_pair(name, choice.options[at]))
        return Architecture(self.name, tuple(pairs), self.format(dict(pairs)))

    def format(self, values: Mapping[str, Option]) -> str:
        """Return the text form of an architecture; :meth:`parse` is its inverse.

        Args:
            values: Choice -> option.

        Returns:
            The space's :meth:`~raynas.spaces.abilities.HasTextForm.to_text`; by default
            "name=option,name=option".
        """
        if has(self, HasTextForm):
            return self.to_text(values)
        return ",".join(f"{name}={values[name]}" for name in (c.name for c in self.choices))

    def parse(self, text: str) -> dict[str, Option]:
        """Return the options of an architecture's text form; :meth:`format` is its inverse.

        Args:
            text: The text form.

        Returns:
            Choice -> option; the default does not check that all choices are there.

        Raises:
            UserError: The text is malformed, or a choice or an option is unknown.
        """
        if has(self, HasTextForm):
            return self.from_text(text)
        values: dict[str, Option] = {}
        known = {c.name: c for c in self.choices}
        for part in text.split(","):
            name, equals, option = part.partition("=")
            if not equals:
                raise UserError(
                    f"malformed architecture {text!r}: {part!r} is not 'choice=option'",
                    expected=", ".join(known),
                )
            name = name.strip()
            if name not in known:
                raise unknown_option(f"choice in space {self.name!r}", name, known)
            spelled = {str(o): o for o in known[name].options}
            if option.strip() not in spelled:
                raise unknown_option(f"option for {name!r}", option.strip(), spelled)
            values[name] = spelled[option.strip()]
        return values

    def canonical(self, arch: Architecture) -> Architecture:
        """Return one representative of all architectures that compute the same function.

        Args:
            arch: An architecture of this space.

        Returns:
            The representative; ``arch`` itself by default.
        """
        return self.canonical_form(arch) if has(self, HasCanonicalForm) else arch

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, by default uniform over the options of every choice.

        Args:
            rng: The source of randomness.

        Returns:
            An architecture, not necessarily a canonical one.
        """
        if has(self, DrawsArchitectures):
            return self.draw(rng)
        return self.architecture(
            {c.name: c.options[int(rng.integers(len(c)))] for c in self.choices}
        )

    def sample_canonical(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical architecture.

        Args:
            rng: The source of randomness.

        Returns:
            The canonical form of :meth:`sample` by default, which is not uniform over canonical
                ones.
        """
        if has(self, DrawsCanonical):
            return self.draw_canonical(rng)
        return self.canonical(self.sample(rng))

    def extremes(self) -> tuple[Architecture, Architecture]:
        """Return the smallest and the largest architecture.

        By default ordered choices have their first or last option, the others the one that has the
        fewest or the most parameters, and then MACs, chosen one after the other.

        Returns:
            (smallest, largest), in canonical form where there is one.
        """
        if has(self, KnowsExtremes):
            return self.smallest_and_largest()
        return self._extreme(0), self._extreme(-1)

    def _extreme(self, end: int) -> Architecture:
        arch = self.architecture({c.name: c.options[end] for c in self.choices})
        for choice in self.choices:
            if not choice.ordered and len(choice) > 1:
                others = [self.architecture({**arch, choice.name: o}) for o in choice.options]
                priced = [(price, one) for one in others if (price := self._price(one))]
                if priced:
                    arch = sorted(priced, key=lambda pair: pair[0])[end][1]
        try:
            return self.canonical(arch)
        except Exception:  # a user's code: this architecture has no canonical form
            return arch

    def _price(self, arch: Architecture) -> tuple[int, int] | None:
        """Return params and MACs; None where the architecture has no network."""
        try:
            costs = self.costs(arch)
        except Exception:  # any kind of error of a user's code
            return None
        return costs.params, costs.macs

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a changed architecture.

        By default one choice is changed, uniform over choices and other options.

        Args:
            arch: An architecture of this space.
            rng: The source of randomness.

        Returns:
            The changed architecture; ``arch`` itself where every choice has one option only.
        """
        if has(self, MakesMutants):
            return self.mutant(arch, rng)
        open_choices = [c for c in self.choices if len(c) > 1]
        if not open_choices:
            return arch
        choice = open_choices[int(rng.integers(len(open_choices)))]
        others = [o for o in choice.options if o != arch[choice.name]]
        return self.architecture({**arch, choice.name: others[int(rng.integers(len(others)))]})

    def neighbors(self, arch: Architecture) -> Iterator[Architecture]:
        """Yield every architecture that differs from ``arch`` in one choice.

        Args:
            arch: An architecture of this space.

        Yields:
            Architectures in the order of choices and options.
        """
        for choice in self.choices:
            for option in choice.options:
                if option != arch[choice.name]:
                    yield self.architecture({**arch, choice.name: option})

    def enumerate(self) -> Iterator[Architecture]:
        """Yield every architecture; use it for small spaces only.

        Yields:
            Architectures, with the last choice changing fastest.
        """
        import itertools

        names = [c.name for c in self.choices]
        for options in itertools.product(*(c.options for c in self.choices)):
            yield self.architecture(dict(zip(names, options, strict=True)))

    def encode(self, arch: Architecture) -> NDArray[np.float32]:
        """Return a numeric encoding of an architecture.

        Args:
            arch: An architecture of this space.

        Returns:
            (d,) float32: an ordered choice as its index scaled to [0, 1], others one-hot.
        """
        parts: list[float] = []
        for choice in self.choices:
            index = choice.options.index(arch[choice.name])
            if choice.ordered:
                parts.append(index / max(len(choice) - 1, 1))
            else:
                parts.extend(float(i == index) for i in range(len(choice)))
        return np.asarray(parts, dtype=np.float32)

    def features(self, arch: Architecture) -> NDArray[np.float32]:
        """Return the features from which a model may learn.

        They are the encoding, the count of each option over unordered choices with the same
        options, the logarithms of params and MACs where the space has a closed form of them, and
        what the space adds, such as the paths of a graph.

        Args:
            arch: An architecture of this space.

        Returns:
            (d,) float32, similar for architectures that behave similarly.
        """
        parts = [self.encode(arch), _counts(self.choices, arch)]
        if has(self, HasClosedFormCosts) or type(self).costs is not SearchSpace.costs:
            costs = self.costs(arch)
            parts.append(np.log1p([costs.params, costs.macs]).astype(np.float32))
        if has(self, HasMoreFeatures):
            parts.append(self.more_features(arch))
        return np.concatenate(parts)

    def costs(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Costs:
        """Return the costs of an architecture.

        The default builds the network on the meta device and counts.

        Args:
            arch: An architecture of this space.
            input_shape: (channels, height, width) of an image.
            num_classes: The number of classes.

        Returns:
            Trainable weights, and the multiply-adds of one image.
        """
        if has(self, HasClosedFormCosts):
            return self.closed_form_costs(arch, input_shape, num_classes)
        return counted_costs(self, arch, input_shape, num_classes)

    def graph(self, arch: Architecture) -> ArchitectureGraph:
        """Return a drawing of an architecture for reports.

        Args:
            arch: An architecture of this space.

        Returns:
            The chain of its choices by default.
        """
        if has(self, HasDiagram):
            return self.diagram(arch)
        nodes = ("in", *(f"{name} = {option}" for name, option in arch.items()), "out")
        return ArchitectureGraph(nodes, tuple((i, i + 1, "") for i in range(len(nodes) - 1)))


def counted_costs(
    space: SearchSpace, arch: Architecture, input_shape: InputShape, num_classes: int
) -> Costs:
    """Return the costs of an architecture by building its network on the meta device.

    Args:
        space: The space of the architecture.
        arch: The architecture.
        input_shape: (channels, height, width) of an image.
        num_classes: The number of classes.

    Returns:
        Trainable weights, and the multiply-adds of one image.
    """
    from raynas.costs import count_network

    return count_network(lambda: space.build(arch, input_shape, num_classes), input_shape)


@lru_cache(maxsize=10_000, typed=True)
def _pair(name: str, option: Option) -> tuple[str, Option]:
    """Return one shared pair for all architectures, since a search keeps many of them."""
    return name, option


def _counts(choices: Sequence[Choice], arch: Architecture) -> NDArray[np.float32]:
    """Return the count of each option over unordered choices with the same options."""
    alike: dict[tuple[Option, ...], list[Option]] = {}
    for choice in choices:
        if not choice.ordered:
            alike.setdefault(choice.options, []).append(arch[choice.name])
    groups = [(options, taken) for options, taken in alike.items() if len(taken) > 1]
    counts = [taken.count(option) for options, taken in groups for option in options]
    return np.asarray(counts, dtype=np.float32)
