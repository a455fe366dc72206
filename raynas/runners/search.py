"""A search as work: what the sampler proposes goes out, within bounds, each architecture once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raynas.core import (
    Bound,
    Decision,
    Measurement,
    Problem,
    SpaceExhausted,
    Trial,
    TrialState,
    seed_for,
    violations,
)
from raynas.core.prices import ExpectedPrice, Price, in_seconds
from raynas.runners.screening import Screening, broken
from raynas.runners.work import Payload, Rows, Work, lacked_memory
from raynas.samplers.base import Sampler
from raynas.schedulers.base import Rung, Scheduler, began


@dataclass(frozen=True)
class Limits:
    """When an arm of a search ends. None: no such limit.

    ``trials``: trials evaluated; proposals beyond a bound, duplicates and those that screening
    holds back do not count.
    ``seconds``: worker time, or what else ``price`` counts. When it is spent nothing new starts;
    what runs or was paused is finished as at the end of any other arm.
    ``expected``: what trials will have cost at their ends. Those that are not ended count as this
    much of ``seconds``, so that many workers spend little more than one does.
    ``deadline``: on the work's clock; nothing is started after it.
    """

    trials: int | None = None
    seconds: float | None = None
    expected: ExpectedPrice = field(default_factory=lambda: ExpectedPrice(()))
    deadline: float | None = None
    price: Price = in_seconds


class Search(Work):
    """One arm of a search: a sampler proposes, bounds reject, a scheduler stops.

    An architecture that is known (stored, or being evaluated) is answered from what is known.
    """

    #: after so many duplicates, or proposals beyond the bounds, in a row an unseen architecture
    #: is drawn at random instead
    patience = 20
    bound_patience = 200
    #: after so many proposals beyond the bounds in a row the arm ends
    rejections = 10_000
    #: after so many candidates in a row that did not pass the screening, too
    screen_patience = 1000

    def __init__(
        self,
        payload: Payload,
        rows: Rows,
        *,
        sampler: Sampler,
        fallback: Sampler,
        scheduler: Scheduler,
        limits: Limits,
        run: str,
        bounds: tuple[Bound, ...] = (),
        screening: Screening | None = None,
        **common: Any,
    ) -> None:
        self.limits = limits  # first, since what is stored already has its price
        super().__init__(payload, rows, **common)
        self.screening = screening
        self._kept: deque[Trial] = deque()  # passed the screening, not started yet
        self._fallen = 0  # candidates since one passed it
        self.sampler, self.fallback, self.scheduler = sampler, fallback, scheduler
        self.bounds = bounds
        self.note = ""
        self._exhausted = False
        self._followers: dict[int, list[Trial]] = {}  # proposals of what is being evaluated
        self._drawn: set[int] = set()  # trials of the fallback: the sampler never asked for them
        self._rejected_rows: list[dict[str, Any]] = []
        problem = Problem(self.objectives, self.max_step, self.seed, run, bounds)
        past = sorted(self.trials.values(), key=lambda t: t.number)
        sampler.setup(payload.space, problem)
        fallback.setup(payload.space, problem)
        scheduler.setup(problem)
        sampler.replay(past)
        fallback.replay(past)
        scheduler.replay(past)
        self._wait_again(scheduler.paused())
        self._known = {t.arch.id: t for t in past}
        for trial in past:
            if self._beyond_bounds(trial):
                self.rejected += 1
            elif screening is not None and screening.held_back(trial):
                self.screened_out += 1
            else:
                continue
            self._counts[trial.state] -= 1

    def _beyond_bounds(self, trial: Trial) -> bool:
        """Whether it was never evaluated, since its costs were too high."""
        infeasible = trial.state is TrialState.INFEASIBLE
        return infeasible and not trial.measurements and not lacked_memory(trial)

    @property
    def timed(self) -> bool:
        return self.screening is not None and self.screening.screen.evaluator.serial

    @property
    def target(self) -> int | None:
        return self.limits.trials

    @property
    def max_seconds(self) -> float | None:
        return self.limits.seconds if self.limits.price is in_seconds else None

    def _price(self, trial: Trial, measurement: Measurement) -> float:
        return self.limits.price(trial, measurement)

    def _progress(self) -> float:
        return self.paid / self.limits.seconds if self.limits.seconds else 0.0

    def rungs(self) -> tuple[Rung, ...]:
        return self.scheduler.rungs()

    def _may_keep(self, trial: Trial) -> bool:
        return trial.state in (TrialState.COMPLETE, TrialState.STOPPED)

    def leaders(self, top: int) -> Collection[int]:
        return {*self._front, *self.scheduler.leaders(top)}

    def _evaluated(self) -> int:
        return len(self.trials) - self.rejected - self.screened_out + len(self._kept)

    def _more(self) -> bool:
        return bool(self._unfinished or self._kept or self._paused) or self._room()

    def _room(self) -> bool:
        """Whether there may be new trials."""
        limit = self.limits.trials
        enough = limit is not None and self._evaluated() >= limit
        return not (self._exhausted or enough or self._late()) and self.scheduler.admits()

    def _late(self) -> bool:
        """Whether the time is used up, the workers' or that on the clock: nothing new starts."""
        return self._over() or self._spent_up()

    def _over(self) -> bool:
        """Whether the deadline has passed: paused trials do not go on, either."""
        return self.limits.deadline is not None and self.clock() >= self.limits.deadline

    def _spent_up(self) -> bool:
        """Whether the workers' time is spent, or will be by the trials that have begun."""
        limit, expected = self.limits.seconds, self.limits.expected
        if limit is None:
            return False
        if self.paid + expected.most * self._counts[TrialState.RUNNING] < limit:
            return False  # whatever they have cost so far
        begun = (n for n, trial in self.trials.items() if not trial.state.ended)
        paid = [self.paid_by.get(number, 0.0) for number in begun]
        return self.paid + sum(expected(one) - one for one in paid) >= limit

    def _propose(self) -> Trial | None:
        if self.screening is None:
            return self._candidate()
        while not self._kept and (batch := self._candidates(self.screening.screen.batch)):
            self._screen(self.screening, batch)
        if self._kept and self._late():
            self._drop_kept()
        return self._kept.popleft() if self._kept and not self.interrupted else None

    def _candidates(self, count: int) -> list[Trial]:
        """Up to ``count`` new proposals within the bounds; none when the arm is at its end."""
        found: list[Trial] = []
        while len(found) < count and (trial := self._candidate()) is not None:
            found.append(trial)
        return [] if self.interrupted or self._late() else found

    def _screen(self, screening: Screening, batch: Sequence[Trial]) -> None:
        """Score a batch: the best wait for their start, the others end. All are stored at once.

        The budget takes the best; they start in the order of their numbers, as after a resume.
        """
        verdicts = screening(batch, self.threads)
        room = math.inf if self.limits.trials is None else self.limits.trials - self._evaluated()
        kept: list[Trial] = []
        rows = []
        for v in verdicts:
            trial = v.trial
            for measurement in trial.measurements:
                self._pay(trial, measurement)
            trial.violations = violations(self.bounds, trial.values())
            if v.goes_on and len(kept) >= room:
                trial.state, trial.message = TrialState.STOPPED, "screened: the budget is used up"
            elif v.goes_on:
                kept.append(trial)
            rows.append(self._row(trial, trial.last, v.host, v.device))
        self.rows.append(rows)
        self._kept.extend(sorted(kept, key=lambda t: t.number))
        self._held_back([t for t in batch if t.state.ended])
        self._fallen = 0 if kept else self._fallen + len(batch)
        if self._fallen >= self.screen_patience:
            self._exhausted = True
            self.note = (
                f"{self._fallen} candidates in a row did not pass the screening; the last one: "
                f"{batch[-1].message}"
            )

    def _drop_kept(self) -> None:
        """There is no time left to start what passed the screening."""
        for trial in self._kept:
            trial.state, trial.message = TrialState.STOPPED, "screened: the time is used up"
        self.rows.append([self._row(trial, None, "", "") for trial in self._kept])
        dropped = list(self._kept)
        self._kept.clear()
        self._held_back(dropped)

    def _held_back(self, trials: Iterable[Trial]) -> None:
        """They ended before their evaluation began, and are stored."""
        for trial in trials:
            self.trials[trial.number] = trial
            self.screened_out += 1
            self._told(trial)

    def _candidate(self) -> Trial | None:
        """The next new proposal within the bounds, or None."""
        if not self._room():
            return None
        duplicates = rejected = 0
        finite = self.sampler.finite
        while (finite or rejected < self.rejections) and not self.interrupted:
            try:
                lost = duplicates >= self.patience or rejected >= self.bound_patience
                helped = lost and not finite
                trial = self._ask(self.fallback if helped else self.sampler)
            except SpaceExhausted as reason:
                self._exhausted, self.note = True, str(reason)
                break
            known = self._known.get(trial.arch.id)
            if known is not None:
                duplicates += 1
                self._answer(trial, known)
                continue
            self._known[trial.arch.id] = trial
            trial.costs = self._costs(trial.arch)
            trial.violations = violations(self.bounds, trial.costs)
            if not _broken(trial):
                self._flush()
                return trial
            rejected += 1
            self._reject(trial)
        else:
            if not self.interrupted:
                self._exhausted = True
                self.note = (
                    f"{rejected} proposals in a row break {', '.join(map(str, self.bounds))}; "
                    "loosen the bounds or make the space smaller"
                )
        self._flush()
        return None

    def _ask(self, sampler: Sampler) -> Trial:
        number = self._number()
        try:
            proposal = sampler.ask(number)
        except SpaceExhausted:
            self._gaps.appendleft(number)
            raise
        if sampler is self.fallback:
            self._drawn.add(number)
        arch = self.payload.space.canonical(proposal)
        return Trial(number, proposal, arch, seed=seed_for(self.seed, arch.id))

    def _answer(self, trial: Trial, known: Trial) -> None:
        """Tell the sampler of a duplicate what is known, now or when the first one ends."""
        self.duplicates += 1
        if trial.number in self._drawn:  # the sampler never asked for it
            self._drawn.discard(trial.number)
        elif known.state.ended:
            self.sampler.tell(_copy_outcome(known, trial))
        else:
            self._followers.setdefault(known.number, []).append(trial)

    def _reject(self, trial: Trial) -> None:
        trial.state, trial.message = TrialState.INFEASIBLE, _broken(trial)
        self.trials[trial.number] = trial
        self.rejected += 1
        # proposals beyond a bound cost nothing, so their rows wait for the next fragment
        self._rejected_rows.append(self._row(trial, None, "", ""))
        if trial.number in self._drawn:
            self._drawn.discard(trial.number)
        else:
            self.sampler.tell(trial)
        if len(self._rejected_rows) >= 1000:
            self._flush()

    def _flush(self) -> None:
        if self._rejected_rows:
            self.rows.append(self._rejected_rows)
            self._rejected_rows = []

    def _judge(self, trial: Trial) -> tuple[TrialState, str]:
        trial.violations = violations(self.bounds, trial.values())
        state, message = super()._judge(trial)
        if state is TrialState.COMPLETE:
            broken = _broken(trial)
            return (TrialState.INFEASIBLE, broken) if broken else (state, "")
        decision = self.scheduler.decide(trial)
        if decision is Decision.STOP:
            return TrialState.STOPPED, f"{self.scheduler.name} at step {trial.step}"
        if decision is Decision.PAUSE:
            self._paused.add(trial.number)
            self._live.pop(trial.number, None)
        return state, message

    def _begin(self) -> Trial | None:
        trial = super()._begin()
        if trial is not None:
            self.scheduler.begin(trial)
        return trial

    def _wait_again(self, paused: Iterable[int]) -> None:
        """After a resume: they are no trials that a killed driver left."""
        self._paused.update(paused)
        for trial in [t for t in self._unfinished if t.number in self._paused]:
            self._unfinished.remove(trial)
            trial.attempt -= 1

    def _pauses(self) -> tuple[int, ...]:
        return tuple(self.scheduler.pauses())

    def _review(self, last: bool = False) -> None:
        if not self._paused or (self._over() and not last):
            return
        for number, decision in self.scheduler.review(last):
            trial = self.trials[number]
            if decision is Decision.CONTINUE:
                self._unfinished.append(trial)
            else:
                self._rest(trial, "")

    def _last(self) -> Trial | None:
        if self.interrupted or self._room():
            return None
        while self._paused and not self._over():
            before = len(self._paused)
            self._review(last=True)
            if self._unfinished:
                return self._unfinished.popleft()
            if len(self._paused) == before:
                break
        for number in sorted(self._paused):
            self._rest(self.trials[number], " when the search ended")
        return None

    def _rest(self, trial: Trial, when: str) -> None:
        """A paused trial will not go on."""
        self._paused.discard(trial.number)
        message = f"{self.scheduler.name} at step {trial.step}{when}"
        self._close(trial, TrialState.STOPPED, message)

    def _told(self, trial: Trial) -> None:
        if began(trial):
            self.scheduler.end(trial)
        self._tell(trial)
        for follower in self._followers.pop(trial.number, []):
            self.sampler.tell(_copy_outcome(trial, follower))

    def _tell(self, trial: Trial) -> None:
        if trial.number in self._drawn:
            self._drawn.discard(trial.number)
            self.sampler.replay([trial])
        else:
            self.sampler.tell(trial)


def _broken(trial: Trial) -> str:
    """Which bounds the trial breaks, in words; empty when it keeps them all."""
    return broken(trial.violations)


def _copy_outcome(known: Trial, asked: Trial) -> Trial:
    """``asked`` with what is known of its architecture."""
    return replace(known, number=asked.number, proposal=asked.proposal)
