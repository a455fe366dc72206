"""This module has the sources of trials that need no sampler: a list, a single architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from raynas.core import Architecture, Trial
from raynas.search.context import EvaluationContext
from raynas.search.ledger import TrialLedger
from raynas.search.proposal_costs import count_costs
from raynas.search.trial_numbers import TrialNumbers


@dataclass(frozen=True)
class ProposalCounts:
    """The numbers of proposals that were not evaluated.

    Attributes:
        rejected: Proposals beyond a bound.
        duplicates: Proposals of known architectures.
        screened_out: Proposals that did not pass the screening.
    """

    rejected: int = 0
    duplicates: int = 0
    screened_out: int = 0


class Proposer(ABC):
    """A source of the trials of a search, one by one, that is told how each ended."""

    @property
    @abstractmethod
    def target(self) -> int | None:
        """The number of trials to evaluate.

        Returns:
            The number; None where it is open.
        """

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """True if there may be new trials.

        Returns:
            False when the list, the space or the limits are used up.
        """

    @property
    @abstractmethod
    def has_ready(self) -> bool:
        """True if trials wait that were proposed and not started.

        Returns:
            True if :meth:`propose` has a trial without asking a sampler.
        """

    @abstractmethod
    def propose(self) -> Trial | None:
        """Return a new trial.

        A trial with a ``failure`` cannot be evaluated, and ends as soon as it begins: the space's
        own code raised for its architecture.

        Returns:
            The trial, or None when there is none to start now.
        """

    @abstractmethod
    def told(self, trial: Trial) -> None:
        """Take the result of a trial that has ended and is stored.

        Args:
            trial: The trial.
        """

    @property
    @abstractmethod
    def counts(self) -> ProposalCounts:
        """The numbers of proposals that were not evaluated.

        Returns:
            The numbers; zeros where no sampler proposes.
        """

    @property
    @abstractmethod
    def timed(self) -> bool:
        """True if something is timed while trials run.

        Returns:
            True if a screening measures time.
        """

    @property
    @abstractmethod
    def note(self) -> str:
        """The reason why proposals ended unexpectedly.

        Returns:
            A sentence; empty if they did not.
        """


@final
class SingleProposer(Proposer):
    """A proposer of one evaluation that others need, of a supernet for instance.

    It is tried again where it failed before: a user who resumes the run has removed the cause.

    Args:
        arch: The label of the evaluation.
        seed: Seed of the trial.
        numbers: Gives its number.
        begun: Whether a stored trial of it is complete or waits.
    """

    def __init__(self, arch: Architecture, seed: int, numbers: TrialNumbers, begun: bool) -> None:
        self._arch, self._seed, self._numbers, self._begun = arch, seed, numbers, begun

    @property
    def target(self) -> int | None:
        """The number of trials, which is 1."""
        return 1

    @property
    def has_room(self) -> bool:
        """True while the trial has not begun."""
        return not self._begun

    @property
    def has_ready(self) -> bool:
        """True if trials wait that were not started; always False."""
        return False

    @property
    def counts(self) -> ProposalCounts:
        """The numbers of proposals that were not evaluated, which are zeros."""
        return ProposalCounts()

    @property
    def timed(self) -> bool:
        """True if something is timed while trials run; always False."""
        return False

    @property
    def note(self) -> str:
        """The reason why proposals ended unexpectedly; always empty."""
        return ""

    def propose(self) -> Trial | None:
        """Return the trial the first time, then None."""
        if self._begun:
            return None
        self._begun = True
        return Trial(self._numbers.take(), self._arch, self._arch, seed=self._seed)

    def told(self, trial: Trial) -> None:
        """Do nothing: no proposal depends on results."""


@final
class ListProposer(Proposer):
    """A proposer of chosen architectures with several seeds each, without those that are stored.

    Args:
        wanted: Architecture and seed of each trial.
        payload: Gives the costs.
        ledger: Has the stored trials.
        numbers: Gives the trials' numbers.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[Architecture, int]],
        payload: EvaluationContext,
        ledger: TrialLedger,
        numbers: TrialNumbers,
    ) -> None:
        have = {(t.arch.id, t.seed) for t in ledger.trials.values()}
        self._todo = deque((a, s) for a, s in wanted if (a.id, s) not in have)
        self._count, self._payload, self._numbers = len(wanted), payload, numbers

    @property
    def target(self) -> int | None:
        """The number of trials, those that are stored included."""
        return self._count

    @property
    def has_room(self) -> bool:
        """True if trials of the list are left."""
        return bool(self._todo)

    @property
    def has_ready(self) -> bool:
        """True if trials wait that were not started; always False."""
        return False

    @property
    def counts(self) -> ProposalCounts:
        """The numbers of proposals that were not evaluated, which are zeros."""
        return ProposalCounts()

    @property
    def timed(self) -> bool:
        """True if something is timed while trials run; always False."""
        return False

    @property
    def note(self) -> str:
        """The reason why proposals ended unexpectedly; always empty."""
        return ""

    def propose(self) -> Trial | None:
        """Return the next trial of the list, or None after the last."""
        if not self._todo:
            return None
        arch, seed = self._todo.popleft()
        trial = Trial(self._numbers.take(), arch, arch, seed=seed)
        count_costs(trial, self._payload, frozenset())
        return trial

    def told(self, trial: Trial) -> None:
        """Do nothing: no proposal depends on results."""
