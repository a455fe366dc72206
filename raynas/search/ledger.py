"""This module keeps the trials of a search: their states, and which of them a worker has."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from raynas.core import OUT_OF_MEMORY, Job, Trial, TrialState
from raynas.core.failures import is_failure_message


class TrialLedger:
    """The trials of a search by number, each waiting, with a worker, paused, or ended.

    Args:
        past: The stored trials. Those that did not end wait for a worker. Whether one ran out of
            memory before is read from its stored message, here only.

    Attributes:
        trials: Number -> trial, all of them.
        open: Number -> trial, those that have not ended.
        jobs: Trial number -> job that a worker has now.
        paused: Numbers of trials that wait for the scheduler.
        waiting: Trials that go on as soon as a worker is free.
        counts: State -> number of trials, of those that count.
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
        """Return a ticket that no job of this search has had.

        Returns:
            A number from 1 up.
        """
        self._tickets += 1
        return self._tickets

    def add(self, trial: Trial) -> None:
        """Enter a new trial, which is RUNNING.

        Args:
            trial: The trial.
        """
        self.trials[trial.number] = self.open[trial.number] = trial
        self.counts[TrialState.RUNNING] += 1

    def enter_at_rest(self, trial: Trial) -> None:
        """Enter a trial that ended before its evaluation began; ``counts`` do not include it.

        Args:
            trial: The trial.
        """
        self.trials[trial.number] = trial

    def assign(self, job: Job) -> None:
        """Record that a worker has the trial now.

        Args:
            job: The job of the worker.
        """
        self.paused.discard(job.trial)
        self.jobs[job.trial] = job

    def is_current(self, job: Job) -> bool:
        """Return whether a job is the one that a worker has of its trial now.

        Args:
            job: The job.

        Returns:
            False for an earlier job of the trial.
        """
        now = self.jobs.get(job.trial)
        return now is not None and (now.ticket, now.attempt) == (job.ticket, job.attempt)

    def restarted(self, job: Job) -> None:
        """Record that a runner gave the job to another worker by itself, as a new attempt.

        Args:
            job: The job with its new attempt.
        """
        now = self.jobs.get(job.trial)
        if now is not None and now.ticket == job.ticket:
            self.jobs[job.trial] = job
            self.trials[job.trial].attempt = job.attempt

    def requeue(self, job: Job) -> None:
        """Let the trial of a lost worker wait for another one, as a new attempt.

        Args:
            job: The job of the lost worker.
        """
        trial = self.trials[job.trial]
        del self.jobs[job.trial]
        trial.attempt += 1
        self.waiting.append(trial)

    def pause(self, number: int) -> None:
        """Take the trial from its worker until it is resumed.

        Args:
            number: Number of the trial.
        """
        self.jobs.pop(number, None)
        self.paused.add(number)

    def wait_again(self, paused: Iterable[int]) -> None:
        """Pause stored trials that were paused, instead of restarting them as lost ones.

        Args:
            paused: Their numbers.
        """
        self.paused.update(paused)
        for trial in [t for t in self.waiting if t.number in self.paused]:
            self.waiting.remove(trial)
            trial.attempt -= 1

    def resume(self, number: int) -> None:
        """Let a paused trial go on as soon as a worker is free.

        Args:
            number: Number of the trial.
        """
        self.waiting.append(self.trials[number])

    def move(self, trial: Trial, state: TrialState, message: str) -> None:
        """Give the trial a state; one that has ended has no worker.

        Args:
            trial: The trial.
            state: Its new state.
            message: Its new message.
        """
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state, trial.message = state, message
        if state.ended:
            self.jobs.pop(trial.number, None)
            self.open.pop(trial.number, None)
            self.paused.discard(trial.number)

    @property
    def running(self) -> int:
        """The number of trials that have not ended."""
        return len(self.open)


def recall_failure(trial: Trial) -> None:
    """Fill in the fields of a stored trial that follow from its message and state.

    Args:
        trial: The stored trial, which is changed.
    """
    short = trial.message.startswith(OUT_OF_MEMORY)
    if not trial.state.ended:
        trial.oom_retries = max(trial.oom_retries, int(short))
    elif trial.state is TrialState.FAILED or (
        trial.state is TrialState.INFEASIBLE and is_failure_message(trial.message)
    ):
        trial.failure = trial.failure or trial.message
