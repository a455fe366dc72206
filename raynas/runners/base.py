"""The contract of a runner, and the resources of a trial."""

from __future__ import annotations

import errno
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from raynas.core import Architecture, Decision, Job, Measurement, UserError, failure_message
from raynas.core.fields import check_fields
from raynas.evaluators.base import Evaluator
from raynas.runners.job_folders import job_folder
from raynas.runners.placement import Share
from raynas.search.context import Payload
from raynas.search.job_source import JobSource


@dataclass(frozen=True)
class Resources:
    """What one trial gets. They change how fast a run is, not what it finds.

    ``cpus``: CPU cores, fractions allowed; a trial computes with ``max(1, floor(cpus))`` threads.
    ``gpus``: share of a GPU (0.25: four trials on one); None takes one where there is any; "fit" as
    much as the network is predicted to need (what is quick still takes a whole one).
    ``memory``: GB of main memory that are booked for a trial; None books none; "fit" as for GPUs,
    for what trains on a CPU.
    ``concurrent``: most trials at a time; None as many as the machines hold, those that join or
    leave meanwhile counted, and those that an autoscaler brings when it is asked for more.
    ``retries``: how often a trial whose worker died is continued from its checkpoint, since it was
    measured last: one that gets on is not given up, however often its machines are taken away. One
    that crashes two workers without a measurement between is given up whatever this says.
    ``patience``: seconds without a measurement after which a worker is taken for dead; None waits.
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
            raise UserError(f"resources.cpus={self.cpus}", allowed="> 0, for instance 0.5 or 2")
        if not _is_amount(self.gpus, 0):
            allowed = '>= 0, for instance 0.25 or 1, or "fit"'
            raise UserError(f"resources.gpus={self.gpus}", allowed=allowed)
        if not _is_amount(self.memory, 1e-3):
            raise UserError(f"resources.memory={self.memory}", allowed='GB, > 0.001, or "fit"')
        if self.patience is not None and self.patience <= 0:
            raise UserError(f"resources.patience={self.patience}", allowed="seconds, > 0, or None")
        if self.concurrent is not None and self.concurrent < 1:
            raise UserError(f"resources.concurrent={self.concurrent}", allowed=">= 1")
        if self.retries < 0:
            raise UserError(f"resources.retries={self.retries}", allowed=">= 0")

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))


def _is_amount(value: object, least: float) -> bool:
    return value in (None, "fit") or (isinstance(value, int | float) and value >= least)


class Runner(ABC):
    """Carries out the jobs of a :class:`~raynas.search.job_source.JobSource` until it is done."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, work: JobSource) -> None:
        """Returns when ``work.done``, or interrupted. Raises what made it impossible (a full disk,
        say)."""

    @abstractmethod
    def evaluate(
        self, payload: Payload, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[Outcome]]:
        """Evaluate beside what runs, and wait for it: for each job its measurements, in order.

        An evaluation that failed has an outcome with the reason as its last one. Nothing is
        stored. What is set up for a payload is kept for the next call with the same object.
        """

    def clock(self) -> float:
        """Seconds on the clock of its works; a virtual runner simulates it."""
        return time.monotonic()

    def open(self) -> None:
        """Get ready: start or join a cluster. ``run`` does it too where it was not done."""

    def remarks(self) -> tuple[str, ...]:
        """What a user should know before the run begins, a sentence each."""
        return ()

    def close(self) -> None:
        """Give back what the runner holds (workers, a private cluster)."""


#: in this process: all that there is
_ALL = Share()


@dataclass(frozen=True)
class Outcome:
    """What a worker hands over: a measurement, or how the evaluation ended without one.

    ``after``: the step that the worker had measured before; 0 when it began from the start, None
    when that is not known, since it went on from what an earlier one had left.
    ``infeasible``: the space says that the architecture has no network.
    ``room``: that it had, in words, when it was ``out_of_memory``. ``peak``: the most bytes that
    it has had of the device so far; 0 when that is not known.
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
    evaluator: Evaluator, arch: Architecture, job: Job, share: Share = _ALL
) -> Generator[Outcome, None, None]:
    """Run an evaluation, turning exceptions into outcomes: the worker itself survives.

    ``share``: what it has of the machine.
    """
    host, device = socket.gethostname(), device_name(job.device)
    try:
        with job_folder(job, arch) as folder:
            after = 0 if folder.fresh else None
            for measurement in evaluator.evaluate(arch, folder.job):
                folder.push()
                yield Outcome(measurement, after, host=host, device=device)
                after = measurement.step
    except Exception as error:
        yield _failure(error, host, job, share)


def steps_of_many(
    evaluator: Evaluator, tasks: Sequence[tuple[Architecture, Job]], share: Share = _ALL
) -> Iterator[tuple[int, Outcome]]:
    """Run evaluations together; a place's last outcome, and only that, has no measurement."""
    host, device = socket.gethostname(), device_name(tasks[0][1].device) if tasks else ""
    archs, jobs = [arch for arch, _ in tasks], [job for _, job in tasks]
    left = dict.fromkeys(range(len(tasks)), 0)  # place -> its last step

    try:
        for place, found in evaluator.evaluate_many(archs, jobs):
            if isinstance(found, Measurement):
                yield place, Outcome(found, left[place], host=host, device=device)
                left[place] = found.step
            else:
                del left[place]
                failed = Outcome() if found is None else _failure(found, host, jobs[place], share)
                yield place, failed
    except Exception as error:
        for place in left:
            yield place, _failure(error, host, jobs[place], share)


def _failure(error: Exception, host: str, job: Job, share: Share) -> Outcome:
    text, infeasible = failure_message(error)
    short = _is_out_of_memory(error)
    return Outcome(
        failure=text,
        infeasible=infeasible,
        out_of_memory=short,
        room=share.in_words(job.device) if short else "",
        no_storage=isinstance(error, OSError) and _is_of_storage(error, job.workdir),
        host=host,
    )


#: no fault of an architecture: every other trial would meet the same
_NO_STORAGE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
_NO_RIGHT = {errno.EACCES, errno.EPERM}


def _is_of_storage(error: OSError, folder: Path | None) -> bool:
    """Whether the machine, not the evaluation, is at fault. ``folder``: the job's own."""
    if error.errno in _NO_RIGHT and folder is not None:
        return isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
    return error.errno in _NO_STORAGE


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def pick_device(gpus: float | Literal["fit"] | None) -> str:
    """``cuda`` when a share of a GPU is asked for and torch sees one, else ``cpu``."""
    if gpus == 0:  # a worker without a GPU need not import torch for this
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """``cpu``, or the model of the GPU."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def on_device(job: Job, device: str) -> Job:
    return replace(job, device=device)


def deliver(work: JobSource, job: Job, outcome: Outcome) -> bool:
    """Hand an outcome to the search; whether the evaluation goes on.

    Raises: UserError when the worker could not write, which ends the search, not the trial.
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
            cure="nothing stored is lost: make room, give access or allow more open files (as with "
            "`ulimit -n 4096`), then `raynas resume` goes on",
        )
    if outcome.out_of_memory:
        work.no_memory(job, outcome.failure, outcome.room)
    elif outcome.failure:
        work.fail(job, outcome.failure, infeasible=outcome.infeasible)
    else:
        work.complete(job)
    return False
