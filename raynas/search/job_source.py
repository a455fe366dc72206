"""This module has the interface between a runner and a search: jobs and measurements."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from raynas.core import Architecture, Decision, Job, Measurement, Trial
from raynas.search.context import EvaluationContext, SearchInterruption, SearchStatus


class JobSource(ABC):
    """The jobs of a search, or of any other set of trials, for a runner to carry out.

    A runner asks :meth:`next` whenever a worker is free, and passes on what the worker reports by
    :meth:`report`, :meth:`complete`, :meth:`fail` or :meth:`no_memory` with the very job that the
    worker has. It ends when the source is :attr:`done`. A report for a job that is not the current
    one of its trial changes nothing: the trial ended, was paused, or another worker has it now.

    Attributes:
        payload: Space, evaluator and data, which workers need.
        interruption: The request to end the search early.
        waits_for: Words on what all trials wait for, set by the runner; empty if nothing.
    """

    payload: EvaluationContext
    interruption: SearchInterruption
    waits_for: str = ""  # set by the runner

    @abstractmethod
    def next(self) -> Job | None:
        """Return a job to start now.

        Returns:
            The job, or None: :attr:`done` says whether to wait or to end.
        """

    @abstractmethod
    def join(self) -> None:
        """Register the trials that have checkpoints with the retention, if not done yet."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """True if nothing runs and nothing more will be started.

        Returns:
            True when the runner can end.
        """

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
            measurement: The measurement.
            after: The step that the worker had measured before this one; 0 when it began from the
                start; None when it went on from a checkpoint of an earlier worker: then the
                distances of the steps before show whether one is missing. A measurement that does
                not follow the stored ones would leave a hole in the curve: the trial is started
                again from the beginning, and fails the second time, unless nothing of it is stored.
            host: The machine that measured.
            device: The device that measured.

        Returns:
            Whether the worker goes on. After PAUSE or STOP it is free.
        """

    @abstractmethod
    def complete(self, job: Job) -> None:
        """Take the end of an evaluation that has no more measurements.

        Args:
            job: The job of the worker.
        """

    @abstractmethod
    def fail(self, job: Job, message: str, *, infeasible: bool = False) -> None:
        """Take the failure of a trial that crashed, diverged, or does not fit.

        Args:
            job: The job of the worker.
            message: The reason.
            infeasible: Whether the trial does not fit.
        """

    @abstractmethod
    def no_memory(self, job: Job, reason: str, room: str = "", *, last: bool = False) -> None:
        """Take the end of a trial that ran out of memory.

        It is started once more with more memory, and is INFEASIBLE if that is not enough, or if
        there is no more. The first time is stored, too.

        Args:
            job: The job of the worker.
            reason: The error of the worker.
            room: The memory that it had, in words.
            last: Whether there is no more memory.
        """

    @abstractmethod
    def again(self, job: Job) -> None:
        """Start the trial of a lost worker again, from its checkpoint.

        Args:
            job: The job of the lost worker.
        """

    @abstractmethod
    def restarted(self, job: Job) -> None:
        """Take the new attempt of a job that the runner gave to another worker by itself.

        Args:
            job: The job with its new attempt.
        """

    @abstractmethod
    def together(self) -> contextlib.AbstractContextManager[None]:
        """Return a block whose reports are stored by one append, which costs as much as one row.

        Trials that ended within the block take effect after it; the sampler is told of them then.

        Returns:
            A context manager.
        """

    def interrupt(self, error: BaseException | None = None) -> None:
        """Start nothing more; running trials stay RUNNING in the store, to be resumed.

        Args:
            error: The error for the runner to raise, if any; the first one counts.
        """
        self.interruption.request(error)

    @property
    def interrupted(self) -> bool:
        """True from the first call of :meth:`interrupt` on.

        Returns:
            False before.
        """
        return self.interruption.requested

    @property
    def error(self) -> BaseException | None:
        """The first error that it was interrupted with.

        Returns:
            The error, or None.
        """
        return self.interruption.error

    @property
    @abstractmethod
    def jobs(self) -> Mapping[int, Job]:
        """The jobs that workers have now.

        Returns:
            Trial number -> job.
        """

    @property
    @abstractmethod
    def trials(self) -> Mapping[int, Trial]:
        """The trials of the source, those that have ended too.

        Returns:
            Number -> trial.
        """

    @property
    @abstractmethod
    def breadth(self) -> int:
        """The largest number of workers that could be busy at once.

        Returns:
            The number, if there were as many workers.
        """

    @property
    @abstractmethod
    def timed(self) -> bool:
        """True if something is timed while its trials run.

        Returns:
            True if evaluations or scores measure time.
        """

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """The folder that holds the trials' checkpoints, for messages.

        Returns:
            The folder, or None where nothing is kept.
        """

    @abstractmethod
    def status(self) -> SearchStatus:
        """Return the state of the search for a live view.

        Returns:
            Plain values that another thread may read.
        """

    @property
    def live(self) -> tuple[int, ...]:
        """The trials that a worker has now.

        Returns:
            Their numbers.
        """
        return tuple(self.jobs)

    def arch(self, number: int) -> Architecture:
        """Return the architecture of a trial.

        Args:
            number: Number of the trial.

        Returns:
            The architecture.
        """
        return self.trials[number].arch

    def requeue_live(self) -> None:
        """Start all running trials again, because the runner lost its workers."""
        for job in list(self.jobs.values()):
            self.again(job)
