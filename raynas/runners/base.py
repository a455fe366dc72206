"""This module holds the contract of a runner, and the resources of a trial."""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from raynas.core import Architecture, Decision, Job, Measurement, UserError, failure_message
from raynas.core.fields import check_fields
from raynas.evaluators.abilities import evaluate_many
from raynas.evaluators.base import Evaluator
from raynas.runners.job_folders import job_folder
from raynas.runners.placement import ResourceRequest
from raynas.search.context import EvaluationContext
from raynas.search.job_source import JobSource


@dataclass(frozen=True)
class Resources:
    """The resources that one trial gets.

    They change how fast a run is, not which architectures it finds.

    Attributes:
        cpus: CPU cores, fractions allowed; a trial computes with ``max(1, floor(cpus))`` threads.
        gpus: Share of a GPU (0.25: four trials on one); None takes one where there is any; "fit"
            takes as much as the network is predicted to need (lightweight evaluations still take a
            whole one).
        concurrent: The most trials at a time; None runs as many as the machines hold. Machines that
            join or leave meanwhile count, and so do those that an autoscaler brings when it is
            asked for more.
        retries: How often a trial whose worker died is continued from its checkpoint, counted since
            its last measurement: a trial that makes progress is not given up, however often its
            machines are taken away. A trial that crashes two workers without a measurement between
            is given up whatever this says.
        memory: GB of main memory that are reserved for a trial; None reserves none; "fit" as for
            GPUs, for trainings on a CPU.
        patience: Seconds without a measurement after which a worker is taken for dead; None waits
            without a limit.

    Raises:
        UserError: If ``cpus``, ``patience`` are not > 0, ``gpus`` or ``retries`` are < 0,
            ``memory`` is < 0.001 GB, ``concurrent`` is < 1, or a value has another type.

    Example:
        >>> Resources(cpus=2.5).threads
        2
        >>> Resources(gpus=0.25).gpus  # four trials share one GPU
        0.25
    """

    cpus: float = 1.0
    gpus: float | Literal["fit"] | None = None
    concurrent: int | None = None
    retries: int = 2
    memory: float | Literal["fit"] | None = None
    patience: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cpus <= 0:
            raise UserError(f"resources.cpus={self.cpus}", expected="> 0, for instance 0.5 or 2")
        if not _is_amount(self.gpus, 0):
            allowed = '>= 0, for instance 0.25 or 1, or "fit"'
            raise UserError(f"resources.gpus={self.gpus}", expected=allowed)
        if not _is_amount(self.memory, 1e-3):
            raise UserError(f"resources.memory={self.memory}", expected='GB, > 0.001, or "fit"')
        if self.patience is not None and self.patience <= 0:
            raise UserError(f"resources.patience={self.patience}", expected="seconds, > 0, or None")
        if self.concurrent is not None and self.concurrent < 1:
            raise UserError(f"resources.concurrent={self.concurrent}", expected=">= 1")
        if self.retries < 0:
            raise UserError(f"resources.retries={self.retries}", expected=">= 0")

    @property
    def threads(self) -> int:
        """The number of CPU threads that a trial computes with.

        Returns:
            ``cpus`` rounded down, at least 1.
        """
        return max(1, int(self.cpus))


def _is_amount(value: object, least: float) -> bool:
    return value in (None, "fit") or (isinstance(value, int | float) and value >= least)


class Runner(ABC):
    """The base class of what carries out the jobs of a search.

    It gets the jobs from a :class:`~raynas.search.job_source.JobSource`, and hands every outcome
    back to it. It decides nothing about trials.

    Attributes:
        name: The name of the kind of runner.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, work: JobSource) -> None:
        """Carry out jobs until ``work`` is done or interrupted.

        Args:
            work: The source of the jobs; every outcome is reported to it.

        Raises:
            UserError: If the workers cannot be set up, or cannot write their files.
            RaynasError: If the runner itself does not work any more.
        """

    @abstractmethod
    def evaluate(
        self, payload: EvaluationContext, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[JobOutcome]]:
        """Evaluate jobs beside what runs, and wait for their outcomes.

        Nothing is stored. What is set up for a payload is kept for the next call with the same
        object.

        Args:
            payload: The space, the evaluator and the data view.
            jobs: The architectures, each with its job.

        Returns:
            For each job its outcomes in the order of their steps. If an evaluation failed, its last
            outcome has the reason and no measurement.
        """

    @abstractmethod
    def clock(self) -> float:
        """Return the time on the clock of this runner.

        Returns:
            Seconds since an arbitrary moment; a virtual runner simulates them.
        """

    def open(self) -> None:
        """Start or join a cluster; ``run`` does this too if it was not done before.

        Raises:
            UserError: If the cluster cannot be started or joined.
        """

    @abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know before the run begins.

        Returns:
            Whole sentences, one for each remark; empty if there is nothing to say.
        """

    def close(self) -> None:
        """Release what the runner holds: its workers and a private cluster."""


#: the share of an evaluation in this process: the whole machine
_ALL = ResourceRequest()


@dataclass(frozen=True)
class JobOutcome:
    """The message of a worker: one measurement, or the end of an evaluation.

    An outcome without ``measurement`` and without ``failure`` says that the evaluation is complete.

    Attributes:
        measurement: The values of one step; None at the end of the evaluation.
        after: The step that the worker had measured before; 0 if it began from the start; None if
            that is not known, since it went on from the files of an earlier worker.
        failure: The reason why the evaluation failed; empty if it did not.
        out_of_memory: True if the failure was a lack of memory.
        no_storage: True if the failure was that files cannot be written; every other trial would
            meet the same.
        infeasible: True if the space says that the architecture has no network.
        host: The name of the worker's machine.
        device: ``cpu``, or the model of the GPU.
        room: The memory that the evaluation had, in words, if it was ``out_of_memory``.
        peak: The most bytes of the device that the worker's process has had so far; 0 if that is
            not known.
    """

    measurement: Measurement | None = None
    after: int | None = 0
    failure: str = ""
    out_of_memory: bool = False
    no_storage: bool = False
    infeasible: bool = False
    host: str = ""
    device: str = "cpu"
    room: str = ""
    peak: int = 0


def steps(
    evaluator: Evaluator, arch: Architecture, job: Job, share: ResourceRequest = _ALL
) -> Generator[JobOutcome, None, None]:
    """Run an evaluation and turn exceptions into outcomes, so that the worker itself survives.

    Args:
        evaluator: An evaluator that is set up.
        arch: The architecture to evaluate.
        job: The job, with the device that the worker uses.
        share: The share of the machine that the worker has; it is named if memory runs out.

    Yields:
        One outcome for each measurement; one with ``failure`` as the last if an exception ended
        the evaluation.
    """
    host, device = socket.gethostname(), device_name(job.device)
    try:
        with job_folder(job, arch) as folder:
            after = 0 if folder.fresh else None
            for measurement in evaluator.evaluate(arch, folder.job):
                folder.push()
                yield JobOutcome(measurement, after, host=host, device=device)
                after = measurement.step
    except Exception as error:
        yield _failure(error, host, job, share)


def steps_of_many(
    evaluator: Evaluator, tasks: Sequence[tuple[Architecture, Job]], share: ResourceRequest = _ALL
) -> Iterator[tuple[int, JobOutcome]]:
    """Run several evaluations together and turn exceptions into outcomes.

    Args:
        evaluator: An evaluator that is set up.
        tasks: The architectures, each with its job.
        share: The share of the machine that the worker has; it is named if memory runs out.

    Yields:
        Pairs of an index in ``tasks`` and an outcome. The last outcome of an index, and only that
        one, has no measurement.
    """
    host, device = socket.gethostname(), device_name(tasks[0][1].device) if tasks else ""
    archs, jobs = [arch for arch, _ in tasks], [job for _, job in tasks]
    left = dict.fromkeys(range(len(tasks)), 0)  # index -> its last step

    try:
        for place, found in evaluate_many(evaluator, archs, jobs):
            if isinstance(found, Measurement):
                yield place, JobOutcome(found, left[place], host=host, device=device)
                left[place] = found.step
            else:
                del left[place]
                failed = (
                    JobOutcome() if found is None else _failure(found, host, jobs[place], share)
                )
                yield place, failed
    except Exception as error:
        for place in left:
            yield place, _failure(error, host, jobs[place], share)


def _failure(error: Exception, host: str, job: Job, share: ResourceRequest) -> JobOutcome:
    text, infeasible = failure_message(error)
    short = _is_out_of_memory(error)
    return JobOutcome(
        failure=text,
        infeasible=infeasible,
        out_of_memory=short,
        room=share.in_words(job.device) if short else "",
        no_storage=isinstance(error, OSError) and _is_of_storage(error, job.workdir),
        host=host,
    )


#: errors of the machine's storage, not of an architecture: every other trial would meet them
_NO_STORAGE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
_NO_RIGHT = {errno.EACCES, errno.EPERM}


def _is_of_storage(error: OSError, folder: Path | None) -> bool:
    """Return True if the machine's storage, not the evaluation, is at fault.

    Args:
        error: The error that ended the evaluation.
        folder: The folder of the job; None if it has none.
    """
    if error.errno in _NO_RIGHT and folder is not None:
        return isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
    return error.errno in _NO_STORAGE


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def pick_device(gpus: float | Literal["fit"] | None) -> str:
    """Return the device to compute on: a GPU if one is wanted and torch sees one.

    Args:
        gpus: ``resources.gpus``; 0 keeps to the CPU.

    Returns:
        ``cuda`` or ``cpu``.

    Example:
        >>> pick_device(0)
        'cpu'
    """
    if gpus == 0:  # a worker without a GPU need not import torch for this
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """Return the name of a device for the store and for messages.

    Args:
        device: A torch name, such as ``cpu`` or ``cuda:0``.

    Returns:
        ``cpu``, or the model of the GPU.
    """
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def on_device(job: Job, device: str) -> Job:
    """Return a copy of the job that computes on another device.

    Args:
        job: The job as the search gave it out.
        device: A torch name, such as ``cpu`` or ``cuda``.

    Returns:
        The same job with ``device`` replaced.
    """
    return replace(job, device=device)


def deliver(work: JobSource, job: Job, outcome: JobOutcome) -> bool:
    """Report an outcome to the search.

    Args:
        work: The search, or another source of jobs.
        job: The job that the worker has.
        outcome: The worker's message.

    Returns:
        True if the evaluation goes on; False if it has ended, or the search stops or pauses it.

    Raises:
        UserError: If the worker could not write its files; this ends the search, not the trial.
    """
    if outcome.measurement is not None:
        decision = work.report(
            job,
            outcome.measurement,
            after=outcome.after,
            host=outcome.host,
            device=outcome.device,
        )
        return decision is Decision.CONTINUE
    if outcome.no_storage:  # the trial stays RUNNING, and goes on from its last checkpoint
        raise UserError(
            f"a worker on {outcome.host} cannot write to {work.folder}: {outcome.failure}",
            hint="stored results are safe: free space, give access or allow more open files (as "
            "with `ulimit -n 4096`), then continue with `raynas resume`",
        )
    if outcome.out_of_memory:
        work.no_memory(job, outcome.failure, outcome.room)
    elif outcome.failure:
        work.fail(job, outcome.failure, infeasible=outcome.infeasible)
    else:
        work.complete(job)
    return False
