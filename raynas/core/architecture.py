"""This module has choices, options and the architecture, which is a frozen, hashable value."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raynas.core.errors import UserError
from raynas.core.fields import brief
from raynas.core.renamed import renamed_names

Option = str | int | float | bool


class ChoiceError(UserError, ValueError):
    """An error that says that a choice has unusable options."""


@dataclass(frozen=True)
class Choice:
    """A decision of a search space: a name and the options that it may take.

    ``ordered`` says that neighboring options are alike (a width, a depth), so that samplers may
    treat the option's index as a number; operations have no order. Ordered options that are numbers
    are sorted in ascending order. Other ordered options, such as words, must be given from the
    smallest to the largest: the first and the last make the smallest and the largest network.

    Options are texts, numbers, True, False or None; numbers of numpy become Python's. A space with
    a text form of its own may use other hashable values.

    Attributes:
        name: The name, unique in its space.
        options: The options, at least one.
        ordered: True when neighboring options are alike.

    Raises:
        UserError: There are no options, two of them are equal, or one is NaN or mutable, such as a
            list.

    Example:
        >>> Choice("width", (32, 8, 16), ordered=True).options
        (8, 16, 32)
        >>> len(Choice("op", ("conv", "pool")))
        2
    """

    name: str
    options: tuple[Option, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        given: object = self.options
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ChoiceError(
                f"choice {self.name!r} has options={brief(given)}",
                expected="a tuple of texts and numbers",
            )
        object.__setattr__(self, "options", tuple(map(_plain, given)))
        if not self.options:
            raise ChoiceError(f"choice {self.name!r} has no options", hint="give at least one")
        for at, option in enumerate(self.options):
            if not _is_one_value(option):
                raise ChoiceError(
                    f"choice {self.name!r} has the option {brief(option)}",
                    expected="texts and numbers; no NaN, and nothing that can be changed, as lists",
                    hint="name it by a text, and look up what it stands for in build()",
                )
            if option in self.options[:at]:
                raise ChoiceError(
                    f"choice {self.name!r} repeats an option: {brief(option)}",
                    expected="each option once; 1, 1.0 and True are equal",
                )
        numbers = [o for o in self.options if isinstance(o, int | float) and math.isfinite(o)]
        if self.ordered and len(numbers) == len(self.options):
            object.__setattr__(self, "options", tuple(sorted(numbers)))

    def __len__(self) -> int:
        return len(self.options)


def _plain(option: Any) -> Any:
    """Return an option as a Python value, spelled as numpy does: 0.1 for a float32 of 0.1."""
    if isinstance(option, np.floating):
        return float(str(option))
    if isinstance(option, np.generic):
        return option.item()
    return option


def _is_one_value(option: object) -> bool:
    """Return True when the option is hashable and equal to itself."""
    try:
        hash(option)
        return bool(option == option)
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, eq=False)
class Architecture(Mapping[str, Option]):
    """A point of a search space: a mapping from choice to option, in the order of the choices.

    Architectures are made by ``space.architecture(text_or_values)``. Two architectures are equal
    when their spaces, values and the types of the values are equal; they then have one ``id``.
    Isomorphic cells are equal only after ``space.canonical``.

    Attributes:
        space: The name of the search space.
        pairs: (choice name, option) for every choice, in the order of the choices.
        text: The text form of the space.

    Example:
        >>> arch = Architecture("toy", (("width", 8), ("depth", 2)), "width=8,depth=2")
        >>> arch["width"], list(arch), arch.text
        (8, ['width', 'depth'], 'width=8,depth=2')
    """

    space: str
    pairs: tuple[tuple[str, Option], ...]
    text: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Architecture):
            return NotImplemented
        if self.space != other.space or self.pairs != other.pairs:
            return False
        # 1 == 1.0 == True
        return all(type(a) is type(b) for a, b in zip(self.options, other.options, strict=True))

    def __hash__(self) -> int:
        return hash((self.space, self.pairs))

    @cached_property
    def id(self) -> str:
        """An identifier that depends on the space and the values only.

        Returns:
            Twelve hexadecimal digits.
        """
        line = self.space + "|" + "|".join(f"{k}={v!r}" for k, v in self.pairs)
        return hashlib.blake2b(line.encode(), digest_size=6).hexdigest()

    @property
    def options(self) -> tuple[Option, ...]:
        """The options, in the order of the choices.

        Returns:
            One option per choice.
        """
        return tuple(option for _, option in self.pairs)

    @cached_property
    def _by_name(self) -> dict[str, Option]:
        return dict(self.pairs)

    def __getitem__(self, name: str) -> Option:
        return self._by_name[name]

    def __getstate__(self) -> dict[str, object]:
        """Return the fields without cached values, since architectures are sent to workers."""
        return {"space": self.space, "pairs": self.pairs, "text": self.text}

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Costs:
    """The costs of an architecture before it is trained. 1 MAC = 1 multiply-add = 2 FLOPs.

    Attributes:
        params: The number of trainable weights.
        macs: The multiply-adds of one forward pass of one input.
        layers: The depth as the search space counts it; None where the space does not count it.
    """

    params: int
    macs: int
    layers: int | None = None


@dataclass(frozen=True)
class ArchitectureGraph:
    """A drawing of an architecture: named nodes and labeled arrows.

    Attributes:
        nodes: The names of the nodes.
        edges: (source, target, label) of each arrow; source and target are indices into ``nodes``.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]


__getattr__ = renamed_names(__name__, Graph="ArchitectureGraph")
