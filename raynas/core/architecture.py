"""Choices, options and the architecture: a frozen, hashable value."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

Option = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """One decision of a search space.

    ``ordered`` says that neighbouring options are alike (a width, a depth), so that samplers
    may treat the option's index as a number; operations have no order. Ordered options that are
    numbers ascend, in whatever order they are given; others, as words, are to be given from the
    smallest to the largest: the first and the last make the smallest and the largest network.
    """

    name: str
    options: tuple[Option, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"choice {self.name!r} has no options; give at least one")
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"choice {self.name!r} repeats an option: {self.options}")
        numbers = [o for o in self.options if isinstance(o, int | float) and math.isfinite(o)]
        if self.ordered and len(numbers) == len(self.options):
            object.__setattr__(self, "options", tuple(sorted(numbers)))

    def __len__(self) -> int:
        return len(self.options)


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
