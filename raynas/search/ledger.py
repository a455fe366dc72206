"""The trials of a search: their states, and which of them a worker has."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from raynas.core import OUT_OF_MEMORY, Job, Trial, TrialState
from raynas.core.failures import is_failure_message


class TrialLedger:
    """All trials by number, each in one place: waiting, with a worker, paused, or at rest.

    Args:
        past: The stored trials. Those that did not end wait for a worker. What ran out of memory
            before is known from the stored message, here and nowhere else.

    Attributes:
        trials: All of them.
        open: Those that have not ended.
        jobs: What workers have now, by number of the trial.
        paused: Numbers of those that wait for the scheduler.
        waiting: Those that go on as soon as a worker is free.
        counts: How many there are in each state, of those that count.
    """

    def __init__(self, past: Iterable[Trial]) -> None:
        self.trials: dict[int, Trial] = {trial.number: trial for trial in past}
        self.counts: Counter[str] = Counter(t.state for t in self.trials.values())
        self.open = {n: t for n, t in self.trials.items() if not t.state.ended}
        self.jobs: dict[int, Job] = {}
        self.paused: set[int] = set()
        for trial in self.trials.values():
            recall_failure(trial)
        self.waiting = deque(t for t in self.trials.values() if not t.state.ended)
        for trial in self.waiting:  # one that was only scored was never started
            trial.attempt += trial.step > 0 or trial.oom_retries > 0
        self._tickets = 0

    def ticket(self) -> int:
        """Return a ticket that no job of this search has had."""
        self._tickets += 1
        return self._tickets

    def add(self, trial: Trial) -> None:
        """Enter a new trial, which is RUNNING."""
        self.trials[trial.number] = self.open[trial.number] = trial
        self.counts[TrialState.RUNNING] += 1

    def enter_at_rest(self, trial: Trial) -> None:
        """Enter a trial that ended before its evaluation began; it counts nowhere."""
        self.trials[trial.number] = trial

    def assign(self, job: Job) -> None:
        """A worker has the trial now."""
        self.paused.discard(job.trial)
        self.jobs[job.trial] = job

    def is_current(self, job: Job) -> bool:
        """Whether ``job`` is what a worker has of its trial now, and no earlier one."""
        now = self.jobs.get(job.trial)
        return now is not None and (now.ticket, now.attempt) == (job.ticket, job.attempt)

    def restarted(self, job: Job) -> None:
        """A runner gave the job to another worker by itself, as a new attempt."""
        now = self.jobs.get(job.trial)
        if now is not None and now.ticket == job.ticket:
            self.jobs[job.trial] = job
            self.trials[job.trial].attempt = job.attempt

    def requeue(self, job: Job) -> None:
        """The job's worker is gone: the trial waits for another, as a new attempt."""
        trial = self.trials[job.trial]
        del self.jobs[job.trial]
        trial.attempt += 1
        self.waiting.append(trial)

    def pause(self, number: int) -> None:
        """No worker has the trial until it is said that it goes on."""
        self.jobs.pop(number, None)
        self.paused.add(number)

    def wait_again(self, paused: Iterable[int]) -> None:
        """Stored trials that were paused are no trials that a killed driver left."""
        self.paused.update(paused)
        for trial in [t for t in self.waiting if t.number in self.paused]:
            self.waiting.remove(trial)
            trial.attempt -= 1

    def resume(self, number: int) -> None:
        """A paused trial goes on as soon as a worker is free."""
        self.waiting.append(self.trials[number])

    def move(self, trial: Trial, state: TrialState, message: str) -> None:
        """Give the trial a state; one at rest has no worker."""
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state, trial.message = state, message
        if state.ended:
            self.jobs.pop(trial.number, None)
            self.open.pop(trial.number, None)
            self.paused.discard(trial.number)

    @property
    def running(self) -> int:
        """How many trials have not ended."""
        return len(self.open)


def recall_failure(trial: Trial) -> None:
    """Fill in the fields of a stored trial that its row tells by message and state."""
    short = trial.message.startswith(OUT_OF_MEMORY)
    if not trial.state.ended:
        trial.oom_retries = max(trial.oom_retries, int(short))
    elif trial.state is TrialState.FAILED or (
        trial.state is TrialState.INFEASIBLE and is_failure_message(trial.message)
    ):
        trial.failure = trial.failure or trial.message
