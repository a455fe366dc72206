"""The contract of a search space. A user's own space is one subclass in one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from raynas.core import Architecture, Choice, Costs, Graph, Option, UserError, one_of

if TYPE_CHECKING:
    from torch import nn


InputShape = tuple[int, int, int]


class HasSubnets(Protocol):
    """What a space asks of its supernet; :class:`raynas.spaces.supernet.Supernet` has it."""

    def fresh(self, arch: Mapping[str, Option]) -> nn.Module:
        """Return the plain network of ``arch`` with initial weights of its own."""


class SearchSpace(ABC):
    """Named choices and ``build`` or ``supernet``. All else has a default that may be bettered.

    Subclasses are (frozen) dataclasses, so that ``--set space.channels=8`` and the experiment's
    fingerprint see their settings.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """The decisions, in a fixed order."""

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> nn.Module:
        """The network of ``arch``: (n, *input_shape) -> logits (n, num_classes).

        The default takes it from the supernet, with initial weights of its own.
        """
        return self.supernet(input_shape, num_classes).fresh(arch)

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> HasSubnets:
        """One network that holds all architectures; ``supernet(images, arch)`` are logits.

        Raises: UserError when the space has none.
        """
        raise UserError(
            f"space {self.name!r} has no supernet",
            cure="define its supernet() from the layers of raynas.layers, or search by training",
        )

    @property
    def size(self) -> int:
        """How many architectures there are, isomorphic ones counted apart."""
        size = 1
        for choice in self.choices:
            size *= len(choice)
        return size

    def architecture(self, values: str | Mapping[str, Option] | Architecture) -> Architecture:
        """The architecture for a text form, or for a mapping choice -> option.

        Raises: UserError naming the choice, the value and what is allowed.
        """
        if isinstance(values, Architecture):
            values = dict(values)
        if isinstance(values, str):
            values = self.parse(values)
        known = {c.name: c for c in self.choices}
        for name in values:
            if name not in known:
                raise one_of(f"choice in space {self.name!r}", name, known)
        pairs: list[tuple[str, Option]] = []
        for name, choice in known.items():
            if name not in values:
                raise UserError(
                    f"architecture of space {self.name!r} lacks choice {name!r}",
                    allowed=", ".join(map(str, choice.options)),
                )
            try:
                at = choice.options.index(values[name])
            except ValueError:
                raise one_of(f"option for {name!r}", values[name], choice.options) from None
            # the option as the space spells it: 3, not 3.0 or True
            pairs.append(_pair(name, choice.options[at]))
        return Architecture(self.name, tuple(pairs), self.format(dict(pairs)))

    def format(self, values: Mapping[str, Option]) -> str:
        """The text form; :meth:`parse` is its inverse."""
        return ",".join(f"{name}={values[name]}" for name in (c.name for c in self.choices))

    def parse(self, text: str) -> dict[str, Option]:
        """Choice -> option from the text form. Raises: UserError."""
        values: dict[str, Option] = {}
        known = {c.name: c for c in self.choices}
        for part in text.split(","):
            name, equals, option = part.partition("=")
            if not equals:
                raise UserError(
                    f"malformed architecture {text!r}: {part!r} is not 'choice=option'",
                    allowed=", ".join(known),
                )
            name = name.strip()
            if name not in known:
                raise one_of(f"choice in space {self.name!r}", name, known)
            spelled = {str(o): o for o in known[name].options}
            if option.strip() not in spelled:
                raise one_of(f"option for {name!r}", option.strip(), spelled)
            values[name] = spelled[option.strip()]
        return values

    def canonical(self, arch: Architecture) -> Architecture:
        """One representative for all architectures that compute the same function."""
        return arch

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the options of every choice."""
        return self.architecture(
            {c.name: c.options[int(rng.integers(len(c)))] for c in self.choices}
        )

    def sample_canonical(self, rng: np.random.Generator) -> Architecture:
        """A canonical architecture; uniform over them only where a space knows how."""
        return self.canonical(self.sample(rng))

    def extremes(self) -> tuple[Architecture, Architecture]:
        """The smallest and the largest architecture.

        Ordered choices have their first or last option, the others the one that has the fewest or
        the most parameters, and then MACs, chosen one after the other.
        """
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
        except Exception:  # a user's code: this one has no canonical form
            return arch

    def _price(self, arch: Architecture) -> tuple[int, int] | None:
        """Params and MACs; None where the architecture has no network."""
        try:
            costs = self.costs(arch)
        except Exception:  # of a user's own code, any kind
            return None
        return costs.params, costs.macs

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """``arch`` with one choice changed, uniform over choices and other options."""
        open_choices = [c for c in self.choices if len(c) > 1]
        if not open_choices:
            return arch
        choice = open_choices[int(rng.integers(len(open_choices)))]
        others = [o for o in choice.options if o != arch[choice.name]]
        return self.architecture({**arch, choice.name: others[int(rng.integers(len(others)))]})

    def neighbors(self, arch: Architecture) -> Iterator[Architecture]:
        """All architectures that differ in one choice."""
        for choice in self.choices:
            for option in choice.options:
                if option != arch[choice.name]:
                    yield self.architecture({**arch, choice.name: option})

    def enumerate(self) -> Iterator[Architecture]:
        """All architectures, the last choice fastest. Only for small spaces."""
        import itertools

        names = [c.name for c in self.choices]
        for options in itertools.product(*(c.options for c in self.choices)):
            yield self.architecture(dict(zip(names, options, strict=True)))

    def encode(self, arch: Architecture) -> NDArray[np.float32]:
        """(d,) float32: an ordered choice as its index scaled to [0, 1], others one-hot."""
        parts: list[float] = []
        for choice in self.choices:
            index = choice.options.index(arch[choice.name])
            if choice.ordered:
                parts.append(index / max(len(choice) - 1, 1))
            else:
                parts.extend(float(i == index) for i in range(len(choice)))
        return np.asarray(parts, dtype=np.float32)

    def features(self, arch: Architecture) -> NDArray[np.float32]:
        """(d,) float32: what a model may learn from, alike for architectures that do alike.

        The default is the encoding, how often each option of unordered choices with the same
        options is taken, and the logarithms of params and MACs where the space has a closed form
        of them. A space whose architectures are graphs may add their paths.
        """
        parts = [self.encode(arch), _counts(self.choices, arch)]
        if type(self).costs is not SearchSpace.costs:
            costs = self.costs(arch)
            parts.append(np.log1p([costs.params, costs.macs]).astype(np.float32))
        return np.concatenate(parts)

    def costs(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Costs:
        """Parameters and MACs. The default builds the network on the meta device and counts."""
        from raynas.costs import count_network

        return count_network(lambda: self.build(arch, input_shape, num_classes), input_shape)

    def graph(self, arch: Architecture) -> Graph:
        """A picture of ``arch`` for reports. The default is the chain of its choices."""
        nodes = ("in", *(f"{name} = {option}" for name, option in arch.items()), "out")
        return Graph(nodes, tuple((i, i + 1, "") for i in range(len(nodes) - 1)))


@lru_cache(maxsize=10_000, typed=True)
def _pair(name: str, option: Option) -> tuple[str, Option]:
    """The same one for all architectures, since a search keeps very many of them."""
    return name, option


def _counts(choices: Sequence[Choice], arch: Architecture) -> NDArray[np.float32]:
    """How often each option is taken, over unordered choices of the same options."""
    alike: dict[tuple[Option, ...], list[Option]] = {}
    for choice in choices:
        if not choice.ordered:
            alike.setdefault(choice.options, []).append(arch[choice.name])
    groups = [(options, taken) for options, taken in alike.items() if len(taken) > 1]
    counts = [taken.count(option) for options, taken in groups for option in options]
    return np.asarray(counts, dtype=np.float32)
