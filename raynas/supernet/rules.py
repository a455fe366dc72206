"""Which subnets one training step of a supernet runs: the rules that others have published.

A step is a list of passes, each the forward and backward of one subnet on the same images; their
gradients add up and the optimizer steps once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from raynas.core import Architecture, Option, UserError
from raynas.core.fields import check_fields
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import ArchitectureError, canonical_or_itself, one_architecture

_DRAWS = 100


@dataclass(frozen=True)
class Pass:
    """The forward and backward of one subnet. ``taught``: it learns from what the step's first
    subnet answers, without dropout, instead of from the labels."""

    arch: Architecture
    taught: bool = False


@dataclass(frozen=True)
class Phase:
    """From ``epoch`` on (1, 2, ...), choices whose names end in ``opens`` may be smaller.

    ``opens``: the last word of their names, as ``kernel`` for ``s1_b1_kernel``. ``options``: how
    many of their options are open, the last ones of the choice; None opens all. ``sort``: bring
    the channels with the largest weights to the front before, so that small widths keep them.
    Raises: UserError for numbers below 1.
    """

    epoch: int
    opens: str
    options: int | None = None
    sort: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.epoch < 1 or (self.options is not None and self.options < 1):
            raise UserError(
                f"phase from epoch {self.epoch} with {self.options} options of {self.opens!r}",
                allowed="both from 1 up, options=None for all",
            )

    def fits(self, choice: str) -> bool:
        return choice == self.opens or choice.endswith(f"_{self.opens}")


@dataclass(frozen=True)
class Reach:
    """What may be drawn at the moment. ``options``: of every choice those that are open.

    ``whole``: all of them are, so that the space's own draws serve.
    """

    space: SearchSpace
    options: Mapping[str, tuple[Option, ...]]
    smallest: Architecture
    largest: Architecture
    whole: bool = True

    @classmethod
    def of(cls, space: SearchSpace) -> Reach:
        """All of the space."""
        return cls(space, {c.name: c.options for c in space.choices}, *space.extremes())

    def opened(self, phases: Sequence[Phase], epoch: int) -> Reach:
        """The part that ``phases`` have opened at ``epoch``; what no phase names is all open.

        Before its first phase a choice has the option of the largest subnet (H. Cai et al.,
        "Once-for-All", ICLR 2020: the full network first, then kernels, depths, widths).
        Raises: UserError when a phase opens no choice of the space.
        """
        for phase in phases:
            if not any(phase.fits(name) for name in self.options):
                words = {name.rpartition("_")[2]: None for name in self.options}
                raise UserError(
                    f"a phase opens {phase.opens!r}; space {self.space.name!r} has no such choice",
                    allowed=", ".join(words),
                )
        options = {name: self._open(name, phases, epoch) for name in self.options}
        small = self.smallest
        smallest = {n: small[n] if small[n] in some else some[0] for n, some in options.items()}
        return replace(
            self,
            options=options,
            smallest=canonical_or_itself(self.space, self.space.architecture(smallest)),
            whole=options == self.options,
        )

    def _open(self, name: str, phases: Sequence[Phase], epoch: int) -> tuple[Option, ...]:
        mine = [phase for phase in phases if phase.fits(name)]
        begun = [phase for phase in mine if phase.epoch <= epoch]
        if mine and not begun:
            return (self.largest[name],)
        last = max(begun, key=lambda phase: phase.epoch).options if begun else None
        return self.options[name][-last:] if last else self.options[name]

    def draw(self, rng: np.random.Generator, canonical: bool = True) -> Architecture:
        """One subnet: of ``canonical`` ones each class of isomorphic ones is as likely as another
        where the space knows its classes, else uniform over the options of every choice.

        Drawn again where the space's own code raises. Raises: UserError when it always does.
        """
        for _ in range(_DRAWS):
            try:
                with one_architecture("canonical()"):
                    return self._drawn(rng, canonical)
            except ArchitectureError as error:
                reason = error
        raise UserError(
            f"{_DRAWS} random architectures of space {self.space.name!r}, one after the other, "
            f"have no canonical form: {reason}",
            cure="mend the space's canonical()",
        )

    def _drawn(self, rng: np.random.Generator, canonical: bool) -> Architecture:
        if self.whole and canonical:
            return self.space.sample_canonical(rng)
        drawn = self.space.architecture(
            {name: some[int(rng.integers(len(some)))] for name, some in self.options.items()}
        )
        return self.space.canonical(drawn) if canonical else drawn


class Rule(ABC):
    """How the subnets of one step are drawn. Subclasses are frozen dataclasses."""

    #: whether the recipe's decay may reach norms and biases under this rule
    decays_norms: ClassVar[bool] = True

    @abstractmethod
    def passes(self, reach: Reach, rng: np.random.Generator) -> list[Pass]:
        """The passes of one step, in their order; only the first can teach the others."""


@dataclass(frozen=True)
class SinglePath(Rule):
    """One subnet a step, drawn uniformly.

    Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling",
    ECCV 2020. ``canonical``: of cells that compute the same, one stands for all (X. Ning et al.,
    "Evaluating Efficient Performance Estimators of Neural Architectures", NeurIPS 2021).
    """

    canonical: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def passes(self, reach: Reach, rng: np.random.Generator) -> list[Pass]:
        return [Pass(reach.draw(rng, self.canonical))]


@dataclass(frozen=True)
class StrictFairness(Rule):
    """Every option of every choice in the same number of passes of each step.

    X. Chu, B. Zhang, R. Xu, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
    Architecture Search", ICCV 2021: with m options a choice, m passes whose k-th takes the k-th
    option of a random permutation, drawn anew for each choice and step. m is the largest number
    of options in the space; a choice with fewer goes through permutations of its own until the m
    passes are full, so some of its options, others in each step, come once more than the rest.
    Subnets are taken as drawn: the canonical form of a cell would take options away from it.
    """

    def passes(self, reach: Reach, rng: np.random.Generator) -> list[Pass]:
        count = max(len(some) for some in reach.options.values())
        columns = {name: _deal(some, count, rng) for name, some in reach.options.items()}
        space = reach.space
        return [
            Pass(space.architecture({name: dealt[k] for name, dealt in columns.items()}))
            for k in range(count)
        ]


def _deal(options: Sequence[Option], count: int, rng: np.random.Generator) -> list[Option]:
    """(count,) options, permutation after permutation."""
    dealt: list[Option] = []
    while len(dealt) < count:
        dealt += [options[int(k)] for k in rng.permutation(len(options))]
    return dealt[:count]


@dataclass(frozen=True)
class Sandwich(Rule):
    """The largest subnet, ``random`` drawn ones, the smallest.

    J. Yu, T. Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019;
    J. Yu et al., "BigNAS", ECCV 2020. ``distil``: all but the largest learn from its answers, in
    place. Norms and biases are not decayed.
    Raises: UserError for a negative number.
    """

    decays_norms: ClassVar[bool] = False

    random: int = 2
    distil: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.random < 0:
            raise UserError(f"Sandwich(random={self.random})", allowed="a whole number from 0 up")

    def passes(self, reach: Reach, rng: np.random.Generator) -> list[Pass]:
        drawn = [reach.draw(rng) for _ in range(self.random)]
        rest = [Pass(arch, self.distil) for arch in (*drawn, reach.smallest)]
        return [Pass(reach.largest), *rest]
