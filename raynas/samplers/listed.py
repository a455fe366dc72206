"""Fixed lists instead of a search: named architectures, or every one of a space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import Architecture, Problem, SpaceExhausted, Trial, UserError
from raynas.core.fields import check_fields
from raynas.samplers.base import Sampler
from raynas.samplers.distinct import Distinct
from raynas.spaces.base import SearchSpace


@dataclass
class _Finite(Sampler):
    """Proposes a list in its order; of isomorphic architectures the first one only."""

    finite: ClassVar[bool] = True

    _space: SearchSpace = field(init=False, repr=False, compare=False)
    _distinct: Distinct = field(init=False, repr=False, compare=False)
    _left: Iterator[Architecture] = field(init=False, repr=False, compare=False)

    def setup(self, space: SearchSpace, problem: Problem) -> None:
        self._space, self._distinct = space, Distinct(space, problem.seed)
        self._left = iter(self._all(space))

    @abstractmethod
    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        """The list; isomorphic ones may be in it."""

    def ask(self, number: int) -> Architecture:
        for arch in self._left:
            if self._distinct.claim(arch):
                return arch
        raise SpaceExhausted(
            f"all {len(self._distinct)} architectures of its list in space {self._space.name!r} "
            "have been proposed"
        )

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""

    def replay(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            self._distinct.replay(trial)


@dataclass
class Listed(_Finite):
    """These ``architectures`` (text forms of the space), in this order.

    Raises at setup: UserError for a text that is not of the space, or no text at all.
    """

    name: ClassVar[str] = "listed"
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        if not self.architectures:
            raise UserError("listed: no architecture", cure="name some: Listed((text, ...))")
        return [space.architecture(text) for text in self.architectures]


@dataclass
class Exhaustive(_Finite):
    """Every architecture of the space, each once up to isomorphism, in the space's own order.

    Raises at setup: UserError when the space has more than ``most`` architectures.
    """

    name: ClassVar[str] = "exhaustive"
    most: ClassVar[int] = 2_000_000

    def _all(self, space: SearchSpace) -> Iterable[Architecture]:
        if space.size > self.most:
            raise UserError(
                f"exhaustive: space {space.name!r} has {space.size:,} architectures",
                allowed=f"up to {self.most:,}",
                cure="take a sampler that draws, such as Random, or make the space smaller",
            )
        return space.enumerate()
