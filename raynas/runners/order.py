"""A search whose table does not depend on how many workers it has, or on how fast they are.

Results take effect in a logical order: as if ``lanes`` equally fast workers, in step, measured one
step per tick. What arrives before its turn waits. So proposals and decisions see the same results
whatever really happened, with one worker or with many. A trial that reaches a rung before its turn
is laid aside with its checkpoint, such that no worker trains what may be stopped, where that is
possible; the rest of the price is told by :class:`Toll`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raynas.core import Decision, Job, Measurement, Trial, TrialState, UserError
from raynas.core.prices import in_multiply_adds
from raynas.runners.search import Search
from raynas.runners.work import Payload, Rows, Status, was_short


@dataclass
class _Lane:
    """A logical worker: its tick, and the trial that it has."""

    index: int
    tick: int = 0
    trial: int | None = None

    @property
    def turn(self) -> tuple[int, bool, int]:
        """What happens first: results, then starts; of equals the lower lane."""
        idle = self.trial is None
        return self.tick + (not idle), idle, self.index


@dataclass(frozen=True)
class _Event:
    """What is known of a trial before its turn: a measurement, or how it ended."""

    measurement: Measurement | None = None
    host: str = ""
    device: str = "cpu"
    failure: str | None = None
    infeasible: bool = False


@dataclass
class Toll:
    """What the order cost: ``kept`` and ``dropped`` seconds of workers, and how often a trial was
    ``aside``, waiting for its turn."""

    kept: float = 0.0
    dropped: float = 0.0
    aside: int = 0

    def __str__(self) -> str:
        share = self.dropped / max(self.kept + self.dropped, 1e-9)
        return (
            f"in order: {share:.1%} of the workers' time for results that were not wanted in the "
            f"end; trials laid aside {self.aside} times"
        )


class OrderedSearch(Search):
    """See the module. ``lanes``: logical workers; more real ones find nothing to do.

    ``past``: the stored trials of this arm. A resume goes through the search once more with what is
    stored, from the first proposal on, so sampler and scheduler are where they were.
    """

    def __init__(
        self, payload: Payload, rows: Rows, *, lanes: int, past: Iterable[Trial] = (), **common: Any
    ) -> None:
        self._stored = _unbroken(past)
        self._sink = _New(rows, self._stored)
        super().__init__(payload, self._sink, past=(), **common)
        scorer = self.screening.screen.evaluator if self.screening else payload.evaluator
        step = max(payload.evaluator.passes(payload.view), 1.0)
        self._score_share = scorer.passes(payload.view) / step
        self._lanes = [_Lane(i) for i in range(lanes)]
        self._early: dict[int, deque[_Event]] = {
            number: deque(_events(trial)) for number, trial in self._stored.items()
        }
        self._jobs: dict[int, Job] = {}  # of trials that a lane has
        self._ready: deque[int] = deque()
        self._physical: set[int] = set()  # a worker has them
        self._aside: set[int] = set()
        self._met: set[int] = set()  # trials that began in this session
        self.toll = Toll()

    # -- what runners call ---------------------------------------------------------------------

    def next(self) -> Job | None:
        self._advance()
        if self.interrupted or not self._ready:
            return None
        number = self._ready.popleft()
        self._physical.add(number)
        return self._jobs[number]

    def report(
        self, number: int, measurement: Measurement, *, host: str = "", device: str = "cpu"
    ) -> Decision:
        if not self._is_news(number, measurement):
            wanted = number in self._jobs
            return Decision.CONTINUE if wanted else self._off(number, measurement)
        self._early.setdefault(number, deque()).append(_Event(measurement, host, device))
        self._advance()
        if number not in self._jobs:
            self._physical.discard(number)
            return Decision.STOP
        if self._early[number] and self._may_rest(number, measurement.step):
            self._physical.discard(number)
            self._aside.add(number)
            self.toll.aside += 1
            return Decision.PAUSE
        return Decision.CONTINUE

    def complete(self, number: int) -> None:
        self._ends(number, _Event())

    def fail(self, number: int, message: str, *, infeasible: bool = False) -> None:
        self._ends(number, _Event(failure=message, infeasible=infeasible))

    def no_memory(self, number: int, reason: str, room: str = "", *, last: bool = False) -> None:
        """The second try is no event: only how it ends has its turn."""
        if number in self._jobs:
            super().no_memory(number, reason, room, last=last)
        else:
            self._physical.discard(number)

    def again(self, number: int) -> None:
        self._physical.discard(number)
        job = self._jobs.get(number)
        if job is None:
            return
        trial = self.trials[number]
        trial.attempt = job.attempt + 1
        self._jobs[number] = replace(job, attempt=trial.attempt, more_memory=was_short(trial))
        self._ready.appendleft(number)

    @property
    def live(self) -> tuple[int, ...]:
        return tuple(sorted(self._physical))

    @property
    def breadth(self) -> int:
        return min(super().breadth, len(self._lanes))

    # -- the order -----------------------------------------------------------------------------

    def _advance(self) -> None:
        """All that can happen with what is known, one after the other."""
        while not self.interrupted:
            lane = min(self._lanes, key=lambda lane: lane.turn)
            if lane.trial is None:
                if not self._start(lane):
                    break
            elif not self._step(lane, lane.trial):
                break
        self._hand_out()

    def _start(self, lane: _Lane) -> bool:
        """A new trial for an idle lane; without one it waits for the next result.

        False: nothing will happen any more.
        """
        job = super().next()
        if job is not None:
            lane.trial = job.trial
            self._jobs[job.trial] = self._prepared(job)
            return True
        busy = [other.tick + 1 for other in self._lanes if other.trial is not None]
        if not busy:
            return False
        lane.tick = min(busy)
        return True

    def _prepared(self, job: Job) -> Job:
        """It keeps a checkpoint at every rung. After a resume it begins anew, since its last
        checkpoint may be ahead of what is stored.

        Raises: UserError when a resumed search goes another way than the stored one.
        """
        trial, stored = self.trials[job.trial], self._stored.get(job.trial)
        self._check_proposal(trial, stored)
        if self._stored and job.trial not in self._met and (not stored or not stored.state.ended):
            trial.attempt = stored.attempt + 1 if stored else 0
            if stored and was_short(stored):
                trial.message = stored.message
            self.discard(trial)
        self._met.add(job.trial)
        rungs = (rung.step for rung in self.rungs())
        pauses = tuple(sorted({*job.pauses, *rungs})) if job.workdir else ()
        job = replace(job, attempt=trial.attempt, pauses=pauses, more_memory=was_short(trial))
        return replace(job, stored=None)  # what waits for its turn is known, too

    def _check_proposal(self, trial: Trial, stored: Trial | None) -> None:
        now = trial.arch
        if stored is not None and stored.arch != now:
            raise UserError(
                f"trial {trial.number} was {stored.arch.text}, and is {now.text} in this session",
                cure="proposals depend on versions: resume with those of the first session",
            )

    def _step(self, lane: _Lane, number: int) -> bool:
        """The next result of a lane's trial takes effect. False when it is not known yet."""
        early = self._early.get(number)
        if not early:
            return False
        event = early.popleft()
        lane.tick += 1
        self._apply(number, event)
        if self.trials[number].state.ended or number in self._paused:
            lane.trial = None
            self._release(number)
        elif number in self._aside and not early:
            self._aside.discard(number)
            self._ready.append(number)
        return True

    def _apply(self, number: int, event: _Event) -> None:
        if event.measurement is not None:
            self.toll.kept += event.measurement.seconds
            super().report(number, event.measurement, host=event.host, device=event.device)
        elif event.failure is not None:
            super().fail(number, event.failure, infeasible=event.infeasible)
        else:
            super().complete(number)
        if self.trials[number].state.ended:
            self._settle()  # the sampler must have heard of it before the next proposal

    def _release(self, number: int) -> None:
        """No lane has the trial any more: what else is known of it is not wanted."""
        self._jobs.pop(number, None)
        self._aside.discard(number)
        if number in self._ready:
            self._ready.remove(number)
        if not self._stored.get(number):
            left = self._early.pop(number, deque())
            self.toll.dropped += sum(e.measurement.seconds for e in left if e.measurement)

    def _hand_out(self) -> None:
        """Trials that wait for a worker, not for their turn."""
        known = self._physical | self._aside | set(self._ready)
        lanes = sorted(self._lanes, key=lambda lane: lane.turn)
        waiting = [lane.trial for lane in lanes if lane.trial is not None]
        self._ready.extend(n for n in waiting if n not in known and not self._early.get(n))

    # -- what arrives --------------------------------------------------------------------------

    def _is_news(self, number: int, measurement: Measurement) -> bool:
        trial = self.trials[number]
        early = self._early.get(number)
        last = early[-1].measurement if early else trial.last
        if number not in self._jobs or (early and last is None):
            return False
        return measurement.step > (last.step if last else 0)

    def _off(self, number: int, measurement: Measurement) -> Decision:
        self._physical.discard(number)
        self.toll.dropped += measurement.seconds
        return Decision.STOP

    def _may_rest(self, number: int, step: int) -> bool:
        return step in self._jobs[number].pauses and step < self.max_step

    def _ends(self, number: int, event: _Event) -> None:
        self._physical.discard(number)
        if number in self._jobs:
            self._early.setdefault(number, deque()).append(event)
            self._advance()

    def status(self) -> Status:
        limit = self.limits.seconds
        share = self.paid / limit if limit else 0.0
        return replace(super().status(), seconds=self.spent, max_seconds=None, progress=share)

    def _price(self, trial: Trial, measurement: Measurement) -> float:
        """In multiply-adds where they are known: seconds are never the same twice."""
        return in_multiply_adds(trial, measurement, self._score_share)


class _New:
    """Rows that are not stored yet."""

    def __init__(self, rows: Rows, stored: Mapping[int, Trial]) -> None:
        self._rows = rows
        self._have = {(t.number, m.step) for t in stored.values() for m in t.measurements}
        self._ended = {t.number for t in stored.values() if t.state.ended}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if new := [row for row in rows if not self._is_there(row)]:
            self._rows.append(new)

    def _is_there(self, row: Mapping[str, Any]) -> bool:
        known = (row["trial"], row["step"]) in self._have
        return known or (row["step"] is None and row["trial"] in self._ended)


def _unbroken(past: Iterable[Trial]) -> dict[int, Trial]:
    """By number. Of one that lacks a step that others have (its fragment was torn), what it found
    before: decisions need all of a curve, so it goes on from there."""
    found = {trial.number: trial for trial in past}
    steps = sorted({m.step for trial in found.values() for m in trial.measurements})
    for number, trial in found.items():
        have = [m.step for m in trial.measurements]
        first = next((s for s in steps if 0 < s < trial.step and s not in have), None)
        if first is not None:
            before = [m for m in trial.measurements if m.step < first]
            state = TrialState.RUNNING
            found[number] = replace(trial, measurements=before, state=state, message="")
    return found


def _events(trial: Trial) -> list[_Event]:
    """What is stored of a trial, as it happened."""
    found = [_Event(m) for m in trial.measurements if m.step > 0]
    if trial.state in (TrialState.FAILED, TrialState.INFEASIBLE):
        infeasible = trial.state is TrialState.INFEASIBLE
        found.append(_Event(failure=trial.message, infeasible=infeasible))
    elif trial.state is TrialState.COMPLETE:
        found.append(_Event())
    return found
