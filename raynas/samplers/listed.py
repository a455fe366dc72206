"""This module has samplers of fixed lists: named architectures, or every one of a space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, SearchProblem, SpaceExhausted, Trial, UserError
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import ArchitectureDeduplicator
from raynas.spaces.base import SearchSpace


@dataclass
class _Finite(Sampler):
    """A sampler that proposes a list in its order; of isomorphic architectures only the first."""

    finite: ClassVar[bool] = True

    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: ArchitectureDeduplicator = field(init=False, repr=False, compare=False)
    _left: Iterator[Architecture] = field(init=False, repr=False, compare=False)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start at the beginning of the list."""
        self._space, self._distinct = space, ArchitectureDeduplicator(space, problem.seed)
        self._left = iter(self._all(space))

    @abstractmethod
    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        """Return the list; isomorphic architectures may be in it."""

    def ask(self, number: int) -> Architecture:
        """Return the next architecture of the list."""
        for arch in self._left:
            if self._distinct.claim(arch):
                return arch
        raise SpaceExhausted(
            f"all {len(self._distinct)} architectures of its list in space {self._space.name!r} "
            "have been proposed"
        )

    def tell(self, trial: Trial) -> None:
        """Do nothing: results do not change the list."""

    def replay(self, trials: Iterable[Trial]) -> None:
        """Skip the architectures of stored trials."""
        for trial in trials:
            self._distinct.replay(trial)


@dataclass
class Listed(_Finite):
    """A sampler that proposes the given architectures in their order.

    Attributes:
        architectures: Text forms of the space.

    Raises:
        UserError: At ``setup``, a text is not of the space, or there is none.
    """

    name: ClassVar[str] = "listed"
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        if not self.architectures:
            raise UserError(
                "Listed: no architectures were given", hint="give some: Listed((text, ...))"
            )
        return [space.architecture(text) for text in self.architectures]


@dataclass
class Exhaustive(_Finite):
    """A sampler that proposes every architecture of the space, each once up to isomorphism.

    The order is the space's own.

    Attributes:
        most: The largest space it accepts, in architectures.

    Raises:
        UserError: At ``setup``, the space has more than ``most`` architectures.
    """

    name: ClassVar[str] = "exhaustive"
    most: ClassVar[int] = 2_000_000

    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        if space.size > self.most:
            raise UserError(
                f"exhaustive: space {space.name!r} has {space.size:,} architectures",
                expected=f"up to {self.most:,}",
                hint="use a sampler that draws architectures, such as Random, or make the space "
                "smaller",
            )
        return space.enumerate()
