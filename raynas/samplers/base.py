"""This module defines the contract of a sampler: ask and tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from raynas.core import Architecture, SearchProblem, Trial
from raynas.spaces.base import SearchSpace


class Sampler(ABC):
    """A method that proposes architectures; it knows neither Ray nor torch.

    Subclasses are dataclasses whose init fields are settings. The search numbers the trials,
    removes duplicates and checks bounds; a sampler only proposes and learns from results.

    For each trial the search calls ``ask(number)`` once and, when the trial has ended,
    ``tell(trial)`` once. A resumed search calls ``setup``, then ``replay`` with the stored trials.

    Attributes:
        name: Name in the store and on the command line.
        finite: Whether it has a fixed list of proposals, each made once.
    """

    name: ClassVar[str]
    #: It has a fixed list of proposals, each made once. None is replaced by a random draw, even if
    #: many of them break bounds.
    finite: ClassVar[bool] = False

    @abstractmethod
    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        """Start without any history for this space and problem; a second call forgets everything.

        Args:
            space: The search space.
            problem: Objectives, bounds, last step and seed of the search.

        Raises:
            UserError: The sampler cannot work in this space; the message says what to do.
        """

    @abstractmethod
    def ask(self, number: int) -> Architecture:
        """Return the proposal for a trial.

        The same seed and history give the same proposal.

        Args:
            number: Number of the trial.

        Returns:
            The proposed architecture.

        Raises:
            SpaceExhausted: Nothing new is left to propose.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn how the trial of an earlier ``ask(trial.number)`` ended; see ``TrialState``.

        It is called exactly once per ask. STOPPED trials carry their curve. INFEASIBLE trials carry
        their violations and perhaps no measurement. FAILED trials must neither attract nor repel
        the search.

        Args:
            trial: A trial that has ended.
        """

    @abstractmethod
    def replay(self, trials: Iterable[Trial]) -> None:
        """Take over a stored history after ``setup``.

        Ended trials count as asked and told, RUNNING ones as asked: they will be told. A number may
        be missing. Either its trial was lost, or it repeated a known architecture: then it was
        answered from what was known, and is not stored. A sampler that repeats itself restores the
        latter (see :class:`~raynas.samplers.repeats.RepeatReplay`).

        Args:
            trials: Stored trials in the order of their numbers.
        """
