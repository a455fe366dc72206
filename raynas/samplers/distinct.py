"""This module remembers what a sampler proposed, and replaces proposals that are not new."""

from __future__ import annotations

import numpy as np

from raynas.core import Architecture, SearchProblem, SpaceExhausted, Trial, UserError, rng_for
from raynas.spaces.base import SearchSpace
from raynas.spaces.guard import canonical_or_itself

EXACT_UP_TO = 100_000
"""Spaces of at most this many architectures are shuffled whole; larger ones are sampled."""

_TRIES = 1_000
_MUTATIONS = 64


class ArchitectureDeduplicator:
    """The set of canonical architectures that are taken, and a stream of those that are not.

    The stream depends on space and seed only. In a space of up to ``EXACT_UP_TO`` architectures
    it is a uniform shuffle of all of them in which only the first member of each class of
    isomorphic architectures is kept, so each class comes once (large classes tend to come
    earlier, as in sampling architectures uniformly without replacement). In a larger space item
    ``n`` of the stream is a draw of ``space.sample`` with a seed of its own.

    Args:
        space: The search space.
        seed: Seed of the stream.

    Example:
        >>> from raynas.spaces import NASBench201
        >>> distinct = ArchitectureDeduplicator(NASBench201(), seed=1)
        >>> arch = distinct.fresh(0)
        >>> distinct.claim(arch), distinct.claim(arch), len(distinct)
        (True, False, 1)
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._taken: set[Architecture] = set()
        self._options = [set(choice.options) for choice in space.choices]
        self._exact = space.size <= EXACT_UP_TO
        self._firsts: list[tuple[Architecture, Architecture]] = []  # (drawn, canonical)
        self._classes: set[Architecture] = set()
        self._shuffled: list[Architecture] | list[int] | None = None  # made when first needed
        self._drawn = 0
        self._last: tuple[Architecture, Architecture] | None = None  # asked for, canonical

    def __contains__(self, arch: Architecture) -> bool:
        return self._canonical(arch) in self._taken

    def __len__(self) -> int:
        return len(self._taken)

    def add(self, arch: Architecture) -> None:
        """Take ``arch``, and with it all architectures that are isomorphic to it.

        Args:
            arch: An architecture of the space.
        """
        self._taken.add(self._canonical(arch))

    def claim(self, arch: Architecture) -> bool:
        """Take ``arch``, and return whether it was new.

        Args:
            arch: An architecture of the space.

        Returns:
            True if neither it nor an isomorphic one was taken before.
        """
        before = len(self)
        self.add(arch)
        return len(self) > before

    def replay(self, trial: Trial) -> None:
        """Take the proposal of a stored trial.

        Args:
            trial: The stored trial.

        Raises:
            UserError: The proposal is not of this space (any more).
        """
        arch = trial.proposal
        names = tuple(choice.name for choice in self._space.choices)
        fits = (
            arch.space == self._space.name
            and tuple(arch) == names
            and all(o in known for o, known in zip(arch.options, self._options, strict=True))
        )
        if not fits:
            raise UserError(
                f"stored trial {trial.number} proposed {arch.text!r} of space {arch.space!r}, "
                f"which is not in the space {self._space.name!r} of this run",
                expected="the choices and options that the run was started with",
                hint="start a new run for a changed space",
            )
        self.add(arch)

    def fresh(self, number: int) -> Architecture:
        """Return item ``number`` of the stream, or the next one that is not taken.

        Args:
            number: Index in the stream, usually the number of a trial.

        Returns:
            An architecture that is not taken.

        Raises:
            SpaceExhausted: Nothing new was found.
        """
        return self._fresh_exact(number) if self._exact else self._fresh_sampled(number)

    def variant(self, arch: Architecture, rng: np.random.Generator, number: int) -> Architecture:
        """Return a mutant of ``arch`` that is not taken.

        It tries mutants one change away, then mutants several changes away, then :meth:`fresh`.

        Args:
            arch: The architecture to mutate.
            rng: Source of random numbers.
            number: Index in the stream, for :meth:`fresh`.

        Returns:
            An architecture that is not taken.

        Raises:
            SpaceExhausted: Nothing new was found.
        """
        walker = arch
        for attempt in range(2 * _MUTATIONS):
            walker = self._space.mutate(arch if attempt < _MUTATIONS else walker, rng)
            if walker not in self:
                return walker
        return self.fresh(number)

    def _canonical(self, arch: Architecture) -> Architecture:
        """Return the canonical form; that of the last argument is remembered."""
        if self._last is None or self._last[0] is not arch:
            self._last = arch, canonical_or_itself(self._space, arch)
        return self._last[1]

    def _fresh_exact(self, number: int) -> Architecture:
        if not self._has(number):
            if not self._firsts:
                raise SpaceExhausted(f"space {self._space.name!r} has no architecture")
            number %= len(self._firsts)
        start = place = number
        while self._has(place):
            if self._firsts[place][1] not in self._taken:
                return self._firsts[place][0]
            place += 1
        for drawn, canonical in self._firsts[:start]:
            if canonical not in self._taken:
                return drawn
        raise SpaceExhausted(
            f"all {len(self._firsts)} distinct architectures of space {self._space.name!r} "
            "are known; nothing is left to propose"
        )

    def _has(self, place: int) -> bool:
        """Return whether the stream has this index, after drawing as far as needed."""
        while len(self._firsts) <= place:
            drawn = self._draw()
            if drawn is None:
                return False
            canonical = canonical_or_itself(self._space, drawn)
            if canonical not in self._classes:
                self._classes.add(canonical)
                self._firsts.append((drawn, canonical))
        return True

    def _draw(self) -> Architecture | None:
        """Return the next architecture of the shuffled space, or None after the last."""
        if self._shuffled is None:
            self._shuffled = self._shuffle()
        if self._drawn == len(self._shuffled):
            return None
        drawn = self._shuffled[self._drawn]
        self._drawn += 1
        return drawn if isinstance(drawn, Architecture) else self._decode(drawn)

    def _shuffle(self) -> list[Architecture] | list[int]:
        """Return the shuffled space, as indices where possible, so that a large table is cheap."""
        rng = rng_for(self._seed, "shuffle")
        if type(self._space).enumerate is SearchSpace.enumerate:
            indices: list[int] = rng.permutation(self._space.size).tolist()
            return indices
        every = list(self._space.enumerate())  # the space leaves some combinations out
        return [every[i] for i in rng.permutation(len(every))]

    def _decode(self, index: int) -> Architecture:
        """Return item ``index`` of ``space.enumerate()``; the last choice varies fastest."""
        values = {}
        for choice in reversed(self._space.choices):
            index, digit = divmod(index, len(choice))
            values[choice.name] = choice.options[digit]
        return self._space.architecture(values)

    def _fresh_sampled(self, number: int) -> Architecture:
        rng = rng_for(self._seed, "fresh", number)
        for _ in range(_TRIES):
            arch = self._space.sample(rng)
            if arch not in self:
                return arch
        raise SpaceExhausted(
            f"{_TRIES} random architectures of space {self._space.name!r} are all known; "
            "nothing new is left to propose"
        )


def at_least(sampler: str, setting: str, value: int, least: int) -> None:
    """Check that a setting is not too low.

    Args:
        sampler: Name of the sampler's class, for the message.
        setting: Name of the setting.
        value: Its value.
        least: The lowest value that is allowed.

    Raises:
        UserError: ``value`` is below ``least``.
    """
    if value < least:
        raise UserError(f"{sampler}: {setting} = {value}", expected=f"{least} or more")


def one_objective(sampler: str, problem: SearchProblem) -> None:
    """Check that a problem has one objective.

    Args:
        sampler: Name of the sampler's class, for the message.
        problem: The search problem.

    Raises:
        UserError: There are several objectives.
    """
    if len(problem.objectives) != 1:
        raise UserError(
            f"{sampler} cannot serve {len(problem.objectives)} objectives",
            hint="give one, and Bounds for the others, or use RegularizedEvolution or NSGA2",
        )
