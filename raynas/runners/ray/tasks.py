"""This module has the tasks of a pool of actors: their source, their queue and their pace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, final

from raynas.core import Architecture, Job
from raynas.runners.base import JobOutcome
from raynas.runners.failures import FailureTracker, cause
from raynas.runners.ray.shared_context import SharedContext

#: so often a task is not blamed for a worker that died before it said that it came to the task, or
#: that could not be given it; the last messages of such a worker may be lost
_UNHEARD = 2
#: seconds of work for one call to an actor, and the most jobs in it: a sampler that learns should
#: not be asked for hundreds of proposals before it is told the first result
_CHUNK_SECONDS, _CHUNK = 0.25, 32


@dataclass(eq=False)
class ActorTask:
    """A job for any worker of a pool.

    Attributes:
        arch: The architecture.
        job: The job, with the number of the attempt.
        shared: The payload to evaluate it with; None takes that of the pool.
        suspect: True if it was under way, or behind a job that was, when a worker died.
        deaths: The deaths of workers that may be its fault.
        unheard: How many workers died with it that had not said that they came to it, or could not
            be given it.
        closed: True if its source wants nothing more of it; it is not started again.
    """

    arch: Architecture
    job: Job
    shared: SharedContext | None = None
    suspect: bool = False
    deaths: FailureTracker = field(default_factory=FailureTracker)
    unheard: int = 0
    closed: bool = False


class TaskSource(ABC):
    """A source of tasks for a pool of actors, which takes their outcomes."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """True if nothing more is wanted: all is done, or it was interrupted."""

    @abstractmethod
    def next(self) -> ActorTask | None:
        """Return the next task.

        Returns:
            A task; None if there is none now.
        """

    @abstractmethod
    def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
        """Take outcomes that arrived together.

        An outcome without a measurement is its task's last. A task has one such outcome, or it is
        lost, never both.

        Args:
            found: Tasks, each with an outcome.
        """

    @abstractmethod
    def lose(self, task: ActorTask, message: str) -> None:
        """Give a task up.

        Args:
            task: The task.
            message: The reason.
        """

    @abstractmethod
    def again(self, task: ActorTask) -> None:
        """Take note that a task is started once more.

        Args:
            task: The task; its job has the new attempt.
        """

    @abstractmethod
    def rest(self, seconds: float) -> None:
        """Wait for a task, while nothing is under way.

        Args:
            seconds: The longest time to wait.
        """

    @abstractmethod
    def share(self, workers: int) -> int | None:
        """Return the most tasks to give to one worker at once.

        The last tasks are then spread evenly.

        Args:
            workers: The number of workers.

        Returns:
            A number of tasks; None sets no limit.
        """

    @property
    @abstractmethod
    def left(self) -> int:
        """The number of tasks still to come, for the decision to ask for more machines.

        Returns:
            The number; 0 asks for none.
        """


class KnownNodes(Protocol):
    """The machines of a cluster, as :class:`TaskQueue` needs them."""

    def known_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that Ray knows."""

    def answering_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that answer now."""


@final
class TaskQueue:
    """The tasks that a pool takes up before it asks its source: those of dead workers.

    Suspects, one of which may have killed a worker, are tried one by one.

    Args:
        nodes: The machines of the cluster.
        retries: How often a task whose worker died is started again.
    """

    def __init__(self, nodes: KnownNodes, retries: int) -> None:
        self._nodes, self._retries = nodes, retries
        self._alone: deque[ActorTask] = deque()  # suspects: each is sent alone
        self._back: deque[ActorTask] = deque()  # tasks of dead workers that had not begun them

    @property
    def has_suspects(self) -> bool:
        """True if tasks wait that are sent alone.

        Returns:
            False if there are none.
        """
        return bool(self._alone)

    def chunk(self, source: TaskSource, size: int) -> list[ActorTask]:
        """Take tasks for one call, all with the same payload.

        Args:
            source: The source of tasks.
            size: The most tasks.

        Returns:
            The tasks; none if there are none now.
        """
        if self._alone:
            return [self._alone.popleft()]
        tasks: list[ActorTask] = []
        while len(tasks) < size:
            task = self._back.popleft() if self._back else source.next()
            if task is None:
                break
            if tasks and task.shared is not tasks[0].shared:
                self._back.appendleft(task)
                break
            tasks.append(task)
            if task.job.more_memory:  # nothing is sent behind it
                break
        return tasks

    def refused(self, tasks: Sequence[ActorTask], error: str, source: TaskSource) -> None:
        """Try each of some tasks alone: their worker is dead, or one of them cannot be sent.

        Args:
            tasks: The tasks of one call.
            error: The error of the call.
            source: The source of the tasks.
        """
        for task in tasks:
            task.suspect, task.unheard = True, task.unheard + 1
            if len(tasks) == 1 and task.unheard > _UNHEARD:
                self.blame(tasks, error, source)
            else:
                self._alone.append(task)

    def not_begun(self, tasks: Sequence[ActorTask], error: str, source: TaskSource) -> None:
        """Take back tasks of a worker that died before it said that it came to them.

        This is believed only some times, or such a task would end one worker after the other. The
        worker may have begun the task, so the next start is another attempt.

        Args:
            tasks: The tasks.
            error: The error that ended the worker.
            source: The source of the tasks.
        """
        for task in tasks:
            task.unheard += 1
        believed = [task for task in tasks if task.unheard <= _UNHEARD]
        for task in believed:
            _next_attempt(task, source)
        self.take_back(believed)
        self.blame([task for task in tasks if task.unheard > _UNHEARD], error, source)

    def take_back(self, tasks: Sequence[ActorTask]) -> None:
        """Take back tasks that a worker had not come to.

        Args:
            tasks: The tasks.
        """
        for task in tasks:
            (self._alone if task.suspect else self._back).append(task)

    def blame(self, begun: Sequence[ActorTask], error: str, source: TaskSource) -> None:
        """Try tasks again one by one, or give one up: one of them may have killed its worker.

        Args:
            begun: The tasks.
            error: The error that ended the worker.
            source: The source of the tasks.
        """
        _, reason = cause(error)
        for task in begun:
            task.suspect = True
            task.deaths.count(error, self._nodes.known_nodes)
            verdict = task.deaths.verdict(self._retries, reason, self._nodes.answering_nodes)
            if verdict and len(begun) == 1:
                source.lose(task, verdict)
                continue
            _next_attempt(task, source)
            self._alone.append(task)


def _next_attempt(task: ActorTask, source: TaskSource) -> None:
    task.job = replace(task.job, attempt=task.job.attempt + 1)
    source.again(task)


@final
class TaskPace:
    """The speed of a pool's workers; older tasks count less.

    Example:
        >>> pace = TaskPace()
        >>> pace.add(tasks=10, seconds=0.5)
        >>> pace.chunk, pace.seconds_of(20)
        (5, 1.0)
    """

    def __init__(self) -> None:
        self._tasks = self._seconds = 0.0

    def add(self, tasks: int, seconds: float) -> None:
        """Count tasks that were carried out.

        Args:
            tasks: The number of tasks that have ended.
            seconds: The seconds of the worker.
        """
        self._tasks = 0.9 * self._tasks + tasks
        self._seconds = 0.9 * self._seconds + seconds

    @property
    def known(self) -> bool:
        """True if tasks have ended.

        Returns:
            False before the first one has.
        """
        return self._tasks > 0

    @property
    def chunk(self) -> int:
        """The number of tasks that fill the time of one call to an actor.

        Returns:
            The number; 0 where a task takes longer.
        """
        if not self.known:
            return 1
        return min(int(_CHUNK_SECONDS * self._tasks / max(self._seconds, 1e-6)), _CHUNK)

    def seconds_of(self, tasks: int) -> float:
        """Return the seconds of one worker that some tasks will take.

        Args:
            tasks: The number of tasks.

        Returns:
            The seconds, by the pace of the last tasks; 0 while it is not known.
        """
        return tasks * self._seconds / self._tasks if self.known else 0.0
