"""What a runner sees of a search: jobs go out, measurements come in."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from raynas.core import Architecture, Decision, Job, Measurement, Trial
from raynas.search.context import Payload, Status


class JobSource(ABC):
    """The jobs of a search, or of any other set of trials, for a runner to carry out.

    A runner asks :meth:`next` whenever a worker is free, hands over what the worker says by
    :meth:`report`, :meth:`complete`, :meth:`fail` or :meth:`no_memory` with the very job that the
    worker has, and ends when it is :attr:`done`. What comes for a job that is not the current one
    of its trial changes nothing: the trial ended, was paused, or another worker has it now.
    """

    payload: Payload
    waits_for: str = ""  # all of it, as its runner knows

    @abstractmethod
    def next(self) -> Job | None:
        """Return a job to start now, or None: :attr:`done` says whether to wait or to end."""

    @abstractmethod
    def join(self) -> None:
        """Tell the retention who has checkpoints; ``next`` does it where it was not done."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing runs and nothing more will be started."""

    @abstractmethod
    def report(
        self,
        job: Job,
        measurement: Measurement,
        *,
        after: int | None = 0,
        host: str = "",
        device: str = "cpu",
    ) -> Decision:
        """Take a measurement, store it, decide.

        A step that is known already is not stored twice.

        Args:
            job: The job of the worker that measured.
            measurement: What it found.
            after: The step that the worker had measured before this one; 0 when it began from the
                start; None when it went on from what an earlier worker had left: the distances of
                the steps before show whether one is missing. A measurement that does not follow on
                what is stored would leave a hole in the curve: the trial is started again from the
                start, and fails the second time, unless nothing of it is stored.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Whether the worker goes on. After PAUSE or STOP it is free.
        """

    @abstractmethod
    def complete(self, job: Job) -> None:
        """The evaluator has nothing more to say."""

    @abstractmethod
    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """The trial crashed, diverged, or does not fit (``infeasible``)."""

    @abstractmethod
    def no_memory(self, job: Job, reason: str, room: str = "", *, last: bool = False) -> None:
        """The trial did not fit into the ``room`` that it had.

        It is started once more, with more, and is INFEASIBLE if that is not enough, or if there is
        no more (``last``). The first time is stored, too.
        """

    @abstractmethod
    def again(self, job: Job) -> None:
        """The job's worker is gone: its trial is to be started again, from its checkpoint."""

    @abstractmethod
    def restarted(self, job: Job) -> None:
        """The runner gave the job to another worker by itself; ``job`` has the new attempt."""

    @abstractmethod
    def together(self) -> contextlib.AbstractContextManager[None]:
        """What is reported within is stored by one append, which costs as much as one row.

        Trials that ended within are at rest, and the sampler hears of them, after it.
        """

    @abstractmethod
    def interrupt(self, error: BaseException | None = None) -> None:
        """Start nothing more; what runs stays RUNNING in the store, to be resumed.

        Args:
            error: What went wrong, for the runner to raise.
        """

    @property
    @abstractmethod
    def interrupted(self) -> bool:
        """Whether :meth:`interrupt` was called."""

    @property
    @abstractmethod
    def error(self) -> BaseException | None:
        """The first error that it was interrupted with."""

    @property
    @abstractmethod
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that workers have now, by number of the trial."""

    @property
    @abstractmethod
    def trials(self) -> Mapping[int, Trial]:
        """All trials by number."""

    @property
    @abstractmethod
    def breadth(self) -> int:
        """The most workers that could be busy at once, if there were as many."""

    @property
    @abstractmethod
    def timed(self) -> bool:
        """Whether something is timed while its trials run."""

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """The folder that holds the trials' checkpoints, for messages."""

    @abstractmethod
    def status(self) -> Status:
        """Return what a live view shows."""

    @property
    def live(self) -> tuple[int, ...]:
        """Numbers of the trials that a worker has now."""
        return tuple(self.jobs)

    def arch(self, number: int) -> Architecture:
        """Return the architecture of a trial."""
        return self.trials[number].arch

    def requeue_live(self) -> None:
        """The runner lost its workers: what ran is to be started again."""
        for job in list(self.jobs.values()):
            self.again(job)
