"""Choices, options and the architecture: a frozen, hashable value."""

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

Option = str | int | float | bool


class ChoiceError(UserError, ValueError):
    """A choice that cannot be one."""


@dataclass(frozen=True)
class Choice:
    """One decision of a search space.

    ``ordered`` says that neighbouring options are alike (a width, a depth), so that samplers
    may treat the option's index as a number; operations have no order. Ordered options that are
    numbers ascend, in whatever order they are given; others, as words, are to be given from the
    smallest to the largest: the first and the last make the smallest and the largest network.
    Options are texts, numbers, True, False or None; numbers of numpy become Python's. What a
    space gives a text form of its own may be another hashable value.
    Raises: UserError for no options, for two that are equal, and for NaN and lists.
    """

    name: str
    options: tuple[Option, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        given: object = self.options
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ChoiceError(
                f"choice {self.name!r} has options={brief(given)}",
                allowed="a tuple of texts and numbers",
            )
        object.__setattr__(self, "options", tuple(map(_plain, given)))
        if not self.options:
            raise ChoiceError(f"choice {self.name!r} has no options", cure="give at least one")
        for at, option in enumerate(self.options):
            if not _is_one_value(option):
                raise ChoiceError(
                    f"choice {self.name!r} has the option {brief(option)}",
                    allowed="texts and numbers; no NaN, and nothing that can be changed, as lists",
                    cure="name it by a text, and take what it stands for from a dict in build()",
                )
            if option in self.options[:at]:
                raise ChoiceError(
                    f"choice {self.name!r} repeats an option: {brief(option)}",
                    allowed="each option once; 1, 1.0 and True are equal",
                )
        numbers = [o for o in self.options if isinstance(o, int | float) and math.isfinite(o)]
        if self.ordered and len(numbers) == len(self.options):
            object.__setattr__(self, "options", tuple(sorted(numbers)))

    def __len__(self) -> int:
        return len(self.options)


def _plain(option: Any) -> Any:
    """An option as Python has it, spelled as numpy spells it: 0.1, not 0.10000000149 of 32 bits."""
    if isinstance(option, np.floating):
        return float(str(option))
    if isinstance(option, np.generic):
        return option.item()
    return option


def _is_one_value(option: object) -> bool:
    """Whether it is equal to itself, and stays so."""
    try:
        hash(option)
        return bool(option == option)
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, eq=False)
class Architecture(Mapping[str, Option]):
    """One point of a search space: a mapping choice -> option, in the order of the choices.

    Made by ``space.architecture(text_or_values)``; ``text`` is the space's own form of it.
    Two architectures are equal when space and values are equal, and the values of one type: they
    have one ``id`` then. Isomorphic cells are equal only after ``space.canonical``.
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
        """Twelve hexadecimal digits that depend on space and values only."""
        line = self.space + "|" + "|".join(f"{k}={v!r}" for k, v in self.pairs)
        return hashlib.blake2b(line.encode(), digest_size=6).hexdigest()

    @property
    def options(self) -> tuple[Option, ...]:
        """The options, in the order of the choices."""
        return tuple(option for _, option in self.pairs)

    @cached_property
    def _by_name(self) -> dict[str, Option]:
        return dict(self.pairs)

    def __getitem__(self, name: str) -> Option:
        return self._by_name[name]

    def __getstate__(self) -> dict[str, object]:
        """Without what can be worked out again: it travels to workers."""
        return {"space": self.space, "pairs": self.pairs, "text": self.text}

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Costs:
    """What an architecture costs before it is trained. 1 MAC = 1 multiply-add = 2 FLOPs.

    ``layers``: its depth as the search space counts it; None where the space does not.
    """

    params: int
    macs: int
    layers: int | None = None


@dataclass(frozen=True)
class Graph:
    """An architecture as a picture: named nodes and labelled arrows (source, target, label)."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]
