"""The contract of a sampler: ask and tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from raynas.core import Architecture, Problem, Trial
from raynas.spaces.base import SearchSpace


class Sampler(ABC):
    """Proposes architectures; knows neither Ray nor torch.

    Subclasses are dataclasses whose init fields are settings. The search numbers the trials,
    removes duplicates and checks bounds; a sampler only proposes and listens.
    """

    name: ClassVar[str]
    #: It has a fixed list of proposals, each made once. However many of them break bounds, none is
    #: replaced by a random draw.
    finite: ClassVar[bool] = False

    @abstractmethod
    def setup(self, space: SearchSpace, problem: Problem) -> None:
        """Start from nothing for this space and problem. Called again, it forgets all.

        Raises: UserError when the sampler cannot work in this space (names the cure).
        """

    @abstractmethod
    def ask(self, number: int) -> Architecture:
        """The proposal for trial ``number``; the same seed and history give the same proposal.

        Raises: SpaceExhausted when nothing new is left to propose.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """How the trial of an earlier ``ask(trial.number)`` ended (see TrialState).

        Told exactly once per ask. STOPPED trials carry their curve; INFEASIBLE ones their
        violations and perhaps no measurement; FAILED ones must not draw or repel the search.
        """

    @abstractmethod
    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history after ``setup``, in the order of the trials' numbers.

        Ended trials are as if asked and told; RUNNING ones as if asked: they will be told. A number
        may be missing: its trial was lost, or it repeated an architecture that was known, was
        answered from that, and is not stored. A sampler that repeats itself restores the latter
        (see :class:`~raynas.samplers.repeats.Repeats`).
        """
