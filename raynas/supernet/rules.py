"""Published rules for the subnets that one training step of a supernet runs.

A step is a list of passes, each the forward and backward of one subnet on the same images. Their
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
class SubnetPass:
    """The forward and backward pass of one subnet.

    Attributes:
        arch: The subnet.
        taught: Whether it learns from the predictions of the step's first subnet, without dropout,
            and not from the labels.
    """

    arch: Architecture
    taught: bool = False


@dataclass(frozen=True)
class Phase:
    """A point of the training from which choices may have smaller options.

    Attributes:
        epoch: The first epoch of the phase, from 1.
        opens: The last word of the names of the choices, as ``kernel`` for ``s1_b1_kernel``.
        options: How many options of these choices are open, the last ones; None opens all.
        sort: Whether the channels with the largest weights are moved to the front before, so that
            small widths keep them.

    Raises:
        UserError: When ``epoch`` or ``options`` is below 1.

    Example:
        >>> phase = Phase(epoch=3, opens="kernel", options=2)
        >>> phase.fits("s1_b1_kernel"), phase.fits("s1_depth")
        (True, False)
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
                expected="both at least 1; options=None for all options",
            )

    def fits(self, choice: str) -> bool:
        """Return whether the phase opens a choice.

        Args:
            choice: The name of the choice.
        """
        return choice == self.opens or choice.endswith(f"_{self.opens}")


@dataclass(frozen=True)
class OpenOptions:
    """The part of a search space that may be drawn at the moment.

    Attributes:
        space: The search space.
        options: Choice -> its open options.
        smallest: The smallest subnet of this part.
        largest: The largest subnet of the space.
        whole: Whether all options are open, so that the space's own draws can be used.
    """

    space: SearchSpace
    options: Mapping[str, tuple[Option, ...]]
    smallest: Architecture
    largest: Architecture
    whole: bool = True

    @classmethod
    def of(cls, space: SearchSpace) -> OpenOptions:
        """Return the whole of ``space``.

        Args:
            space: The search space.
        """
        return cls(space, {c.name: c.options for c in space.choices}, *space.extremes())

    def opened(self, phases: Sequence[Phase], epoch: int) -> OpenOptions:
        """Return the part that ``phases`` have opened at ``epoch``.

        Choices that no phase names are fully open. Before its first phase a choice has the option
        of the largest subnet (H. Cai et al., "Once-for-All", ICLR 2020: the full network first,
        then kernels, depths, widths).

        Args:
            phases: Of the training.
            epoch: From 1.

        Raises:
            UserError: When a phase opens no choice of the space.
        """
        for phase in phases:
            if not any(phase.fits(name) for name in self.options):
                words = {name.rpartition("_")[2]: None for name in self.options}
                raise UserError(
                    f"a phase opens {phase.opens!r}; space {self.space.name!r} has no such choice",
                    expected=", ".join(words),
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
        """Draw one subnet.

        With ``canonical`` each class of isomorphic subnets is equally likely where the space knows
        its classes; else draws are uniform over the options of every choice. A draw is repeated
        when the space's own code raises.

        Args:
            rng: The generator; it is advanced.
            canonical: Whether the subnet is in canonical form.

        Returns:
            The subnet.

        Raises:
            UserError: When the space's code raises in each of 100 draws.
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
            hint="fix the space's canonical()",
        )

    def _drawn(self, rng: np.random.Generator, canonical: bool) -> Architecture:
        if self.whole and canonical:
            return self.space.sample_canonical(rng)
        drawn = self.space.architecture(
            {name: some[int(rng.integers(len(some)))] for name, some in self.options.items()}
        )
        return self.space.canonical(drawn) if canonical else drawn


class Rule(ABC):
    """A rule that draws the subnets of one training step; subclasses are frozen dataclasses.

    Attributes:
        decays_norms: Whether the recipe's weight decay may apply to norms and biases under this
            rule.
    """

    #: whether the recipe's weight decay may apply to norms and biases
    decays_norms: ClassVar[bool] = True

    @abstractmethod
    def passes(self, reach: OpenOptions, rng: np.random.Generator) -> list[SubnetPass]:
        """Draw the passes of one step.

        Args:
            reach: The open part of the space.
            rng: The generator; it is advanced.

        Returns:
            The passes in their order; only the first can teach the others.
        """


@dataclass(frozen=True)
class SinglePath(Rule):
    """One subnet per step, drawn uniformly.

    Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling",
    ECCV 2020.

    Attributes:
        canonical: Whether one of the cells that compute the same stands for all of them (X. Ning et
            al., "Evaluating Efficient Performance Estimators of Neural Architectures", NeurIPS
            2021).
    """

    canonical: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def passes(self, reach: OpenOptions, rng: np.random.Generator) -> list[SubnetPass]:
        """Return one pass of a drawn subnet."""
        return [SubnetPass(reach.draw(rng, self.canonical))]


@dataclass(frozen=True)
class StrictFairness(Rule):
    """Every option of every choice in the same number of passes of each step.

    X. Chu, B. Zhang, R. Xu, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
    Architecture Search", ICCV 2021: with m options per choice, m passes whose k-th takes the k-th
    option of a random permutation, drawn anew for each choice and step. m is the largest number of
    options in the space. A choice with fewer options uses several permutations until the m passes
    are full, so some of its options, different ones in each step, are used once more than the
    others. Subnets are used as drawn: the canonical form of a cell would remove options from it.
    """

    def passes(self, reach: OpenOptions, rng: np.random.Generator) -> list[SubnetPass]:
        """Return one pass per option of the choice with the most options."""
        count = max(len(some) for some in reach.options.values())
        columns = {name: _deal(some, count, rng) for name, some in reach.options.items()}
        space = reach.space
        return [
            SubnetPass(space.architecture({name: dealt[k] for name, dealt in columns.items()}))
            for k in range(count)
        ]


def _deal(options: Sequence[Option], count: int, rng: np.random.Generator) -> list[Option]:
    """Return (count,) options, permutation after permutation."""
    dealt: list[Option] = []
    while len(dealt) < count:
        dealt += [options[int(k)] for k in rng.permutation(len(options))]
    return dealt[:count]


@dataclass(frozen=True)
class Sandwich(Rule):
    """The largest subnet, ``random`` drawn ones and the smallest.

    J. Yu, T. Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019;
    J. Yu et al., "BigNAS", ECCV 2020. Norms and biases are not decayed.

    Attributes:
        random: Number of drawn subnets, at least 0.
        distil: Whether all but the largest learn from the predictions of the largest (in-place
            distillation).

    Raises:
        UserError: When ``random`` is below 0.
    """

    decays_norms: ClassVar[bool] = False

    random: int = 2
    distil: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.random < 0:
            raise UserError(f"Sandwich(random={self.random})", expected="a whole number from 0 up")

    def passes(self, reach: OpenOptions, rng: np.random.Generator) -> list[SubnetPass]:
        """Return the passes of the largest, the drawn and the smallest subnets."""
        drawn = [reach.draw(rng) for _ in range(self.random)]
        rest = [SubnetPass(arch, self.distil) for arch in (*drawn, reach.smallest)]
        return [SubnetPass(reach.largest), *rest]
