"""This module has the source of trials of a search: a sampler, its bounds and its screening."""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from raynas.core import (
    Bound,
    RaynasError,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
    failure_message,
    seed_for,
    violations,
)
from raynas.samplers.base import Sampler
from raynas.schedulers.base import Scheduler
from raynas.search.context import BudgetMeter, EvaluationContext, SearchInterruption
from raynas.search.failures import FirstFailures
from raynas.search.ledger import TrialLedger
from raynas.search.proposal_costs import count_costs, refuse
from raynas.search.proposers import ProposalCounts, Proposer
from raynas.search.rows import RowWriter
from raynas.search.screening import ProposalScreening, broken
from raynas.search.trial_numbers import TrialNumbers
from raynas.spaces.guard import ArchitectureError, checked_canonical


@dataclass
class ProposalPatience:
    """The limits of a search on proposals that cannot be evaluated.

    Attributes:
        duplicates: Number of known architectures in a row after which an unseen one is drawn at
            random.
        beyond_bounds: The same for proposals beyond the bounds.
        rejections: Number of proposals beyond the bounds in a row after which the search ends.
        screened: The same for candidates that did not pass the screening.
    """

    duplicates: int = 20
    beyond_bounds: int = 200
    rejections: int = 10_000
    screened: int = 1000


@final
class SamplerProposer(Proposer):
    """A proposer that asks a sampler, checks bounds, removes duplicates and screens where asked.

    A proposal of a known architecture (stored, or being evaluated) is answered from what is
    known.

    Args:
        sampler: Proposes and is told.
        fallback: Proposes where the sampler repeats itself or stays beyond the bounds.
        problem: Problem of the search, for both.
        scheduler: Says whether a new trial may start.
        screening: Scores proposals before they are evaluated, or None.
        payload: Space, evaluator and data.
        ledger: The trials of the search.
        numbers: Gives the trials' numbers.
        rows: Writes the rows of trials that are rejected or screened out.
        meter: Counts what was spent.
        interruption: The request to end the search early.
        first_failures: Ends the search when its first trials all fail.
        threads: CPU threads of a score.
        past: The stored trials.
    """

    def __init__(
        self,
        sampler: Sampler,
        fallback: Sampler,
        problem: SearchProblem,
        *,
        scheduler: Scheduler,
        screening: ProposalScreening | None,
        payload: EvaluationContext,
        ledger: TrialLedger,
        numbers: TrialNumbers,
        rows: RowWriter,
        meter: BudgetMeter,
        interruption: SearchInterruption,
        first_failures: FirstFailures,
        threads: int,
        past: Sequence[Trial],
    ) -> None:
        self.sampler, self.fallback, self.screening = sampler, fallback, screening
        self.patience = ProposalPatience()
        self._bounds: tuple[Bound, ...] = problem.bounds
        self._judged_by = {o.metric for o in problem.objectives} | {b.metric for b in self._bounds}
        self._seed, self._threads = problem.seed, threads
        self._scheduler, self._payload, self._ledger = scheduler, payload, ledger
        self._numbers, self._rows, self._meter = numbers, rows, meter
        self._interruption, self._first_failures = interruption, first_failures
        self._ready: deque[Trial] = deque()  # passed the screening, not started yet
        self._refused: deque[Trial] = deque()  # cannot be scored; they end as they begin
        self._scores = any(t.measurements and t.measurements[0].step == 0 for t in past)
        self._fallen = 0  # candidates since the last one that passed the screening
        self._exhausted, self._note = False, ""
        self._followers: dict[
            int, list[Trial]
        ] = {}  # running trial -> proposals of its architecture
        self._drawn: set[int] = set()  # trials of the fallback, which the sampler does not know
        self._rejected_rows: list[dict[str, Any]] = []
        self._rejected = self._duplicates = self._screened_out = 0
        for one in (sampler, fallback):
            one.setup(payload.space, problem)
            one.replay(past)
        self._known = {t.arch.id: t for t in past}
        for trial in past:
            self._count_past(trial)

    def _count_past(self, trial: Trial) -> None:
        if _beyond_bounds(trial):
            self._rejected += 1
        elif self.screening is not None and self.screening.held_back(trial):
            self._screened_out += 1
        else:
            return
        self._ledger.counts[trial.state] -= 1

    # -- the contract ------------------------------------------------------------------------------

    @property
    def target(self) -> int | None:
        """The number of trials to evaluate, or None without a limit."""
        return self._meter.limits.trials

    @property
    def has_room(self) -> bool:
        """True if limits, sampler and scheduler allow new trials."""
        limit = self.target
        enough = limit is not None and self._evaluated() >= limit
        return not (self._exhausted or enough or self._meter.late) and self._scheduler.admits()

    @property
    def has_ready(self) -> bool:
        """True if trials wait that passed the screening or cannot be scored."""
        return bool(self._ready or self._refused)

    @property
    def counts(self) -> ProposalCounts:
        """The numbers of proposals that were not evaluated."""
        return ProposalCounts(self._rejected, self._duplicates, self._screened_out)

    @property
    def timed(self) -> bool:
        """True if the screening measures time."""
        return self.screening is not None and self.screening.screen.evaluator.exclusive

    @property
    def note(self) -> str:
        """The reason why proposals ended unexpectedly."""
        return self._note

    def propose(self) -> Trial | None:
        """Return the next proposal that keeps the bounds and passes the screening.

        Returns:
            The trial, or None when there is none to start now.
        """
        if self.screening is None:
            return self._candidate()
        while not self.has_ready and (batch := self._candidates(self.screening.screen.batch)):
            self._screen(self.screening, batch)
        if self._ready and self._meter.late:
            self._drop_ready()
        if self._interruption.requested or not self.has_ready:
            return None
        queues = [queue for queue in (self._refused, self._ready) if queue]
        return min(queues, key=lambda queue: queue[0].number).popleft()

    def told(self, trial: Trial) -> None:
        """Tell the sampler how a trial and the proposals that repeated it ended.

        Args:
            trial: The trial.
        """
        if trial.number in self._drawn:
            self._drawn.discard(trial.number)
            self.sampler.replay([trial])
        else:
            self.sampler.tell(trial)
        for follower in self._followers.pop(trial.number, []):
            self.sampler.tell(_copy_outcome(trial, follower))

    # -- candidates --------------------------------------------------------------------------------

    def _evaluated(self) -> int:
        apart = self._rejected + self._screened_out
        return len(self._ledger.trials) - apart + len(self._ready) + len(self._refused)

    def _candidate(self) -> Trial | None:
        """Return the next new proposal within the bounds, or one that cannot be evaluated."""
        if not self.has_room:
            return None
        duplicates = rejected = 0
        finite, patience = self.sampler.finite, self.patience
        while (finite or rejected < patience.rejections) and not self._interruption.requested:
            lost = duplicates >= patience.duplicates or rejected >= patience.beyond_bounds
            try:
                trial = self._ask(self.fallback if lost and not finite else self.sampler)
            except SpaceExhausted as reason:
                self._end(str(reason))
                break
            known = self._known.get(trial.arch.id)
            if known is not None:
                # a repeat of an earlier session does not count: the sampler may be fine now
                duplicates += not self._numbers.is_lost(trial.number)
                self._answer(trial, known)
                continue
            self._known[trial.arch.id] = trial
            if not trial.failure:
                count_costs(trial, self._payload, self._judged_by)
            trial.violations = violations(self._bounds, trial.costs)
            if not broken(trial.violations):
                self._flush()
                return trial
            rejected += 1
            self._reject(trial)
        else:
            if not self._interruption.requested:
                self._end(
                    f"{rejected} proposals in a row break {', '.join(map(str, self._bounds))}; "
                    "relax the bounds or make the space smaller"
                )
        self._flush()
        return None

    def _end(self, note: str) -> None:
        self._exhausted, self._note = True, note

    def _ask(self, sampler: Sampler) -> Trial:
        number = self._numbers.take()
        try:
            proposal = sampler.ask(number)
        except SpaceExhausted:
            self._numbers.give_back(number)
            raise
        except Exception as error:
            raise _no_proposal(sampler, self._payload.space.name, number, error) from error
        if sampler is self.fallback:
            self._drawn.add(number)
        try:
            arch = checked_canonical(self._payload.space, proposal)
        except ArchitectureError as error:
            trial = Trial(number, proposal, proposal, seed=seed_for(self._seed, proposal.id))
            refuse(trial, error)
            return trial
        return Trial(number, proposal, arch, seed=seed_for(self._seed, arch.id))

    def _answer(self, trial: Trial, known: Trial) -> None:
        """Tell the sampler the result of a duplicate, now or when the first trial ends."""
        self._duplicates += 1
        if trial.number in self._drawn:  # the sampler never asked for it
            self._drawn.discard(trial.number)
        elif known.state.ended:
            self.sampler.tell(_copy_outcome(known, trial))
        else:
            self._followers.setdefault(known.number, []).append(trial)

    def _reject(self, trial: Trial) -> None:
        trial.state, trial.message = TrialState.INFEASIBLE, broken(trial.violations)
        self._ledger.enter_at_rest(trial)
        self._rejected += 1
        # proposals beyond a bound cost nothing, so their rows wait for the next fragment
        self._rejected_rows.append(self._rows.row(trial, None))
        if trial.number in self._drawn:
            self._drawn.discard(trial.number)
        else:
            self.sampler.tell(trial)
        if len(self._rejected_rows) >= 1000:
            self._flush()

    def _flush(self) -> None:
        if self._rejected_rows:
            self._rows.append(self._rejected_rows)
            self._rejected_rows = []

    # -- screening ---------------------------------------------------------------------------------

    def _candidates(self, count: int) -> list[Trial]:
        """Return up to ``count`` new proposals within the bounds; none when the search ends."""
        found: list[Trial] = []
        while max(len(found), len(self._refused)) < count:
            if (trial := self._candidate()) is None:
                break
            (self._refused if trial.failure else found).append(trial)
        return [] if self._interruption.requested or self._meter.late else found

    def _screen(self, screening: ProposalScreening, batch: Sequence[Trial]) -> None:
        """Score a batch: the best wait for their start, the others end. All are stored at once.

        The budget takes the best; they start in the order of their numbers, as after a resume.
        """
        verdicts = screening(batch, self._threads)
        limit = self.target
        room = math.inf if limit is None else limit - self._evaluated()
        kept: list[Trial] = []
        rows = []
        for v in verdicts:
            trial = v.trial
            for measurement in trial.measurements:
                self._meter.pay(trial, measurement)
            trial.violations = violations(self._bounds, trial.values())
            if v.goes_on and len(kept) >= room:
                trial.state, trial.message = TrialState.STOPPED, "screened: the budget is used up"
            elif v.goes_on:
                kept.append(trial)
            rows.append(self._rows.row(trial, trial.last, v.host, v.device))
        self._rows.append(rows)
        self._ready.extend(sorted(kept, key=lambda t: t.number))
        self._hold_back([t for t in batch if t.state.ended])
        self._scores = self._scores or any(t.measurements for t in batch)
        if not self._scores:
            self._first_failures.heard(*batch)
        self._fallen = 0 if kept else self._fallen + len(batch)
        if self._fallen >= self.patience.screened:
            self._end(
                f"{self._fallen} candidates in a row did not pass the screening; the last one: "
                f"{batch[-1].message}"
            )

    def _drop_ready(self) -> None:
        """Stop the trials that passed the screening, because no time is left to start them."""
        for trial in self._ready:
            trial.state, trial.message = TrialState.STOPPED, "screened: the time is used up"
        self._rows.append([self._rows.row(trial, None) for trial in self._ready])
        dropped = list(self._ready)
        self._ready.clear()
        self._hold_back(dropped)

    def _hold_back(self, trials: Iterable[Trial]) -> None:
        """Count stored trials that were screened out, and tell the sampler."""
        for trial in trials:
            self._ledger.enter_at_rest(trial)
            self._screened_out += 1
            self.told(trial)


def _no_proposal(sampler: Sampler, space: str, number: int, error: Exception) -> RaynasError:
    """Return the error of a sampler that raised, in one line that says where it arose."""
    if isinstance(error, RaynasError):
        return error
    last = traceback.extract_tb(error.__traceback__)[-1]
    text, _ = failure_message(error)
    return UserError(
        f"sampler {sampler.name!r} cannot propose trial {number} of space {space!r}: {text} "
        f"({last.filename}, line {last.lineno})",
        hint="fix it, then continue with `raynas resume`",
    )


def _beyond_bounds(trial: Trial) -> bool:
    """Return whether a stored trial was never evaluated, since its costs were too high."""
    infeasible = trial.state is TrialState.INFEASIBLE
    return infeasible and not trial.measurements and not trial.failure


def _copy_outcome(known: Trial, asked: Trial) -> Trial:
    """Return ``asked`` with what is known of its architecture."""
    return replace(known, number=asked.number, proposal=asked.proposal)
