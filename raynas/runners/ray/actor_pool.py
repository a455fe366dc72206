"""This module evaluates architectures by persistent Ray actors, in chunks.

It is for evaluations of milliseconds: a call to an actor costs about one, so an actor gets several
jobs by one call, and the next chunk before it has finished the last. Outcomes come back while the
chunk is worked on. An actor that dies costs the jobs that it had not reported.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raynas.core import Architecture, Job, RaynasError, UserError
from raynas.evaluators.abilities import load_assets, weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.runners.base import JobOutcome, on_device, steps_of_many
from raynas.runners.failures import FailureTracker, cause, no_measurement, no_setup
from raynas.runners.gpus import worker_device
from raynas.runners.placement import ResourceRequest
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.spaces.base import SearchSpace

environment.prepare()  # before Ray is imported

import ray  # noqa: E402

#: seconds of work for one call to an actor, and the most jobs in it: a sampler that learns should
#: not be asked for hundreds of proposals before it is told the first result
_CHUNK_SECONDS, _CHUNK = 0.25, 32
#: outcomes that arrive within so many seconds are sent (and stored) together
_STREAM_SECONDS = 0.05
#: the longest time in seconds until a change from outside (Ctrl-C) is noticed
_LOOK_SECONDS = 0.2
#: the run ends after so many workers in a row that die before they are ready, each started after
#: the one before it had died; those that were lost together count as one
_STILLBORN = 5
#: so often a task is not blamed for a worker that died before it said that it came to the task, or
#: that could not be given it; the last messages of such a worker may be lost
_UNHEARD = 2
#: seconds of work that a worker needs to be worth a new machine, and the most workers that wait
#: for machines
_WORTH_SECONDS, _MOST_WAITING = 60.0, 64
#: after so many idle seconds a worker is asked for a sign of life
_PING_SECONDS = 5.0

Part = tuple[list[tuple[int, JobOutcome]], float]  # pairs (index in the chunk, outcome), seconds


@dataclass(frozen=True)
class SharedContext:
    """A payload on its way to workers.

    Images and the evaluator's assets stay in the object store, one copy on each machine.

    Attributes:
        space: The search space.
        evaluator: The evaluator, not set up yet.
        view: A reference to the data view.
        assets: A reference to the evaluator's assets; None if it has none.
        version: The version of the assets, if they may change during the search.
    """

    space: SearchSpace
    evaluator: Evaluator
    view: Any
    assets: Any = None
    version: str = ""


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

    def again(self, task: ActorTask) -> None:
        """Take note that a task is started once more.

        Args:
            task: The task; its job has the new attempt.
        """

    def rest(self, seconds: float) -> None:
        """Wait for a task, while nothing is under way.

        Args:
            seconds: The longest time to wait.
        """
        time.sleep(seconds)

    def share(self, workers: int) -> int | None:
        """Return the most tasks to give to one worker at once.

        The last tasks are then spread evenly.

        Args:
            workers: The number of workers.

        Returns:
            A number of tasks; None sets no limit.
        """
        return None

    @property
    def left(self) -> int:
        """The number of tasks still to come, for the decision to ask for more machines."""
        return 0


class ActorWorker:
    """The code of an actor: it keeps data and evaluator, and evaluates chunks of jobs.

    Args:
        shared: The payload.
        gpus: The share of a GPU; 0 for the CPU.
    """

    def __init__(self, shared: SharedContext, gpus: float) -> None:
        self._device, self._share = worker_device(gpus), ResourceRequest(gpus)
        self._evaluators = {shared.version: ready_evaluator(shared)}
        self._first = shared.version

    def ready(self) -> int:
        """Return the id of the actor's process, once it is set up."""
        return os.getpid()

    @ray.method(num_returns="streaming")
    def evaluate(
        self, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None = None
    ) -> Iterator[Part]:
        """Evaluate a chunk of jobs.

        Only the outcomes of a job that is under way are ever split between two parts.

        Args:
            chunk: The architectures, each with its job.
            shared: The payload to evaluate with; None takes the one of the set-up.

        Yields:
            Parts: pairs of an index in the chunk and an outcome, and the seconds that they took.
        """
        evaluator = self._evaluator(shared)
        tasks = [(arch, on_device(job, self._device)) for arch, job in chunk]
        found: list[tuple[int, JobOutcome]] = []
        began = time.monotonic()
        for place, outcome in steps_of_many(evaluator, tasks, self._share):
            found.append((place, outcome))
            late = time.monotonic() - began >= _STREAM_SECONDS
            if late and not _last_step(outcome, tasks[place][1]):
                yield found, time.monotonic() - began
                found, began = [], time.monotonic()
        if found:
            yield found, time.monotonic() - began

    def _evaluator(self, shared: SharedContext | None) -> Evaluator:
        """Return the evaluator of a payload; those of the two last versions are kept."""
        if shared is None:
            return self._evaluators[self._first]
        evaluator = self._evaluators.pop(shared.version, None) or ready_evaluator(shared)
        self._evaluators[shared.version] = evaluator
        while len(self._evaluators) > 2:
            del self._evaluators[next(iter(self._evaluators))]
        return evaluator


def ready_evaluator(shared: SharedContext) -> Evaluator:
    """Set up an evaluator with data and assets, which need not lie on this machine's disk.

    If the object store has lost the assets, the evaluator reads them from their files.

    Args:
        shared: The payload.

    Returns:
        The evaluator, set up.

    Raises:
        RaynasError: If the files hold another version now.
    """
    evaluator = shared.evaluator
    if shared.assets is not None:
        try:
            load_assets(evaluator, ray.get(shared.assets))
        except ray.exceptions.ObjectLostError:
            if _version(evaluator) != shared.version:
                raise RaynasError(f"weights {shared.version} are lost") from None
    evaluator.setup(shared.space, ray.get(shared.view))
    return evaluator


def _version(evaluator: Evaluator) -> str | None:
    """Return the version of the weights that this machine sees, if any."""
    try:
        return weights_version_of(evaluator)
    except UserError:
        return None


def _last_step(outcome: JobOutcome, job: Job) -> bool:
    """Return True if the job is done after this outcome, so that it must not look as under way."""
    return outcome.measurement is not None and outcome.measurement.step >= job.max_step


class ActorBackend(ABC):
    """The operations that a pool needs of the system that runs its actors.

    An actor carries out its calls in their order. Its messages are awaited by reference: an answer,
    or a stream of parts.
    """

    @abstractmethod
    def hire(self, shared: SharedContext, gpus: float, options: Mapping[str, Any]) -> Any:
        """Start a :class:`ActorWorker`.

        Args:
            shared: The payload.
            gpus: The share of a GPU; 0 for the CPU.
            options: Ray's options of the actor.

        Returns:
            The actor, before it is set up.
        """

    @abstractmethod
    def ready(self, actor: Any) -> Any:
        """Ask the actor for the id of its process.

        Args:
            actor: The actor.

        Returns:
            The answer to await.
        """

    @abstractmethod
    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None
    ) -> Any:
        """Have the actor evaluate a chunk.

        Args:
            actor: The actor.
            chunk: The architectures, each with its job.
            shared: The payload to evaluate with; None takes the one of the set-up.

        Returns:
            The stream of parts to await.
        """

    @abstractmethod
    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Wait until one of several references can be read.

        Args:
            awaited: The references.
            seconds: The longest time to wait.

        Returns:
            All references that can be read.
        """

    @abstractmethod
    def answer(self, awaited: Any) -> int:
        """Read an answer that has arrived.

        Args:
            awaited: The reference.

        Returns:
            The id of the actor's process.

        Raises:
            Exception: The error that ended the actor.
        """

    @abstractmethod
    def part(self, awaited: Any) -> Part:
        """Read the next part of a stream.

        Args:
            awaited: The stream.

        Returns:
            Pairs of an index in the chunk and an outcome, and the seconds that they took.

        Raises:
            Exception: The error that ended the actor or the evaluation.
        """

    @abstractmethod
    def kill(self, actor: Any) -> None:
        """End the actor at once, if it is not dead yet.

        Args:
            actor: The actor.
        """


class RayActors(ActorBackend):
    """The actors of the Ray that this process has joined."""

    def hire(self, shared: SharedContext, gpus: float, options: Mapping[str, Any]) -> Any:
        """Start a Ray actor."""
        actor: Any = ray.remote(ActorWorker)
        return actor.options(**options).remote(shared, gpus)

    def ready(self, actor: Any) -> Any:
        """Ask the actor for the id of its process."""
        return actor.ready.remote()

    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None
    ) -> Any:
        """Have the actor evaluate a chunk, as a streaming call."""
        return actor.evaluate.remote(chunk, *([] if shared is None else [shared]))

    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Wait until one of several object references can be read."""
        ray.wait(list(awaited), num_returns=1, timeout=seconds)
        ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        return ready

    def answer(self, awaited: Any) -> int:
        """Read an answer that has arrived."""
        process: int = ray.get(awaited)
        return process

    def part(self, awaited: Any) -> Part:
        """Read the next part of a stream."""
        part: Part = ray.get(next(awaited))
        return part

    def kill(self, actor: Any) -> None:
        """End the actor at once."""
        ray.kill(actor)


@dataclass(eq=False)
class _Chunk:
    """Tasks that an actor was given by one call.

    ``left``: index -> task that has not ended. ``sign``: the message that the actor comes to this
    chunk, None once it has arrived; a chunk that it has not come to has not killed it. ``parts``:
    the stream of outcomes.
    """

    left: dict[int, ActorTask]
    sign: Any
    parts: Any


@dataclass(eq=False)
class _Hand:
    """An actor handle: an actor and the chunks that it was given.

    ``number``: how many actors were started before it. ``starting``: the answer to await when it is
    set up, or asked if it is still there. ``heard``: when it last sent a message, or got something
    to do. ``node``: the machine that was chosen for it, if one was. ``fate``: the error that ended
    it, once known. ``refused``: it could not be given anything, and has said nothing since.
    """

    actor: Any
    number: int
    starting: Any
    heard: float
    node: str | None = None
    chunks: deque[_Chunk] = field(default_factory=deque)
    process: int = 0
    fate: Exception | None = None
    refused: bool = False

    @property
    def able(self) -> bool:
        """True if it may be given tasks: it answered when it was last asked."""
        return self.starting is None and self.fate is None and not self.refused

    @contextlib.contextmanager
    def surviving(self) -> Iterator[None]:
        """Take an error in this context as the end of this actor, and of no other."""
        try:
            yield
        except Exception as error:
            self.fate = error

    @property
    def awaited(self) -> Any:
        """The reference of its next message; None when it has nothing to say."""
        if self.starting is not None or not self.chunks:
            return self.starting
        chunk = self.chunks[0]
        return chunk.parts if chunk.sign is None else chunk.sign


class ActorPool:
    """A pool of actors with one payload, which replaces dead actors and grows with the cluster.

    An actor says when it comes to a chunk, so that no task is blamed for the end of an actor that
    had died before. An actor that is given up is never listened to again: what it says later of a
    task cannot be taken for the outcome of the next attempt. The actors live until :meth:`dismiss`.

    Args:
        shared: The payload.
        options: Ray's options of each actor (``num_cpus``, ``num_gpus``). Actors that reserve
            nothing are spread over the machines here.
        size: Returns the number of actors that there may be now.
        retries: How often a task whose worker died is started again, if it is not put in quarantine
            before (see :class:`~raynas.runners.failures.FailureTracker`). If the worker had several
            tasks, they are tried one by one, since only one of them is the cause.
        ahead: False gives an actor one task at a time, and asks for none before that has ended.
        patience: Seconds without a message after which an actor is taken for dead; None waits.
        gpus: 0 keeps actors off a GPU, more lets them use one; None as ``options`` say.
        grows: Returns True if an autoscaler brings machines for actors that do not fit on those
            there are.
        backend: Runs the actors; None takes the Ray that this process has joined.
    """

    def __init__(
        self,
        shared: SharedContext,
        options: Mapping[str, float],
        size: Callable[[], int],
        *,
        retries: int,
        ahead: bool = True,
        patience: float | None = None,
        gpus: float | None = None,
        grows: Callable[[], bool] = lambda: False,
        backend: ActorBackend | None = None,
    ) -> None:
        self._grows = grows
        self._backend = backend or RayActors()
        self._options: dict[str, Any] = dict(options)
        self._shared, self._gpus = shared, options["num_gpus"] if gpus is None else gpus
        self._size, self._retries, self._ahead = size, retries, ahead
        self._patience = patience
        self._hands: list[_Hand] = []
        self._alone: deque[ActorTask] = deque()  # suspects: each is sent alone
        self._back: deque[ActorTask] = deque()  # tasks of dead workers that had not begun them
        self._hired = 0
        self._proved = False  # an actor was set up
        self._stillborn = self._stillborn_before = (
            0  # in a row; the number of actors started by then
        )
        self._jobs = self._seconds = 0.0  # of the last jobs; older jobs count less

    def carry_out(self, source: TaskSource) -> None:
        """Evaluate tasks until the source is over.

        Args:
            source: Gives the tasks and takes the outcomes.

        Raises:
            UserError: If workers cannot be set up.
        """
        while not source.over:
            self._man(self._wanted(source))
            self._hand_out(source)
            self._ping()
            found = self._listen(source)
            self._end_silent()
            if found:
                source.take(found)
            for hand in [hand for hand in self._hands if hand.fate is not None]:
                self._bury(hand, source)

    @property
    def shared(self) -> SharedContext:
        """The payload that workers are set up with."""
        return self._shared

    def renew(self, shared: SharedContext) -> None:
        """Set up workers that are started from now on with another payload.

        Args:
            shared: The payload.
        """
        self._shared = shared

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are set up."""
        return [hand.process for hand in list(self._hands) if hand.process]

    def dismiss(self) -> None:
        """End all workers at once, with what they are doing."""
        hands, self._hands = self._hands, []
        with contextlib.ExitStack() as all_of_them:  # the others are ended, too, if one cannot be
            for hand in hands:
                all_of_them.callback(self._backend.kill, hand.actor)

    def _wanted(self, source: TaskSource) -> int:
        """Return the number of actors to have.

        As many as fit on the machines; if there may be more machines, so many that each actor has
        some work left.
        """
        fit = self._size()
        if not (self._ahead and self._jobs and self._grows()):
            return fit
        worth = int(source.left * self._seconds / self._jobs / _WORTH_SECONDS)
        return max(fit, min(worth, fit + _MOST_WAITING))

    def _man(self, wanted: int) -> None:
        waiting = [hand for hand in reversed(self._hands) if not hand.process]
        for hand in waiting[
            : max(len(self._hands) - wanted, 0)
        ]:  # no machine came for it: it still waits
            self._hands.remove(hand)
            self._backend.kill(hand.actor)
        while len(self._hands) < wanted:
            self._hands.append(self._hire())

    def _hire(self) -> _Hand:
        options, node = self._options, None
        if not any(options.values()):
            taken = Counter(hand.node for hand in self._hands if hand.node)
            node = machines.freest(taken, gpus=self._gpus > 0)
        if node is not None:
            options = {**options, "scheduling_strategy": machines.near(node)}
        actor = self._backend.hire(self._shared, self._gpus, options)
        self._hired += 1
        ready = self._backend.ready(actor)
        return _Hand(actor, self._hired - 1, ready, time.monotonic(), node)

    def _hand_out(self, source: TaskSource) -> None:
        """Give each actor one chunk first, then one more to go on with if the tasks are short."""
        for have in range(2 if self._paced() > 1 else 1):
            if have and self._alone:  # a suspect goes to an idle actor
                return
            for hand in self._hands:
                if hand.able and len(hand.chunks) == have:
                    tasks = self._chunk(source, self._chunk_size(source))
                    if not tasks:
                        return
                    try:
                        self._give(hand, tasks)
                    except Exception as error:
                        self._refused(hand, tasks, error, source)
                        return

    def _give(self, hand: _Hand, tasks: Sequence[ActorTask]) -> None:
        """Give an actor a chunk; it answers just before it comes to the chunk."""
        if not hand.chunks:
            hand.heard = time.monotonic()
        sign = self._backend.ready(hand.actor)
        jobs = [(task.arch, task.job) for task in tasks]
        parts = self._backend.evaluate(hand.actor, jobs, tasks[0].shared)
        hand.chunks.append(_Chunk(dict(enumerate(tasks)), sign, parts))

    def _refused(
        self, hand: _Hand, tasks: Sequence[ActorTask], error: Exception, source: TaskSource
    ) -> None:
        """Try each of the tasks alone: the worker is dead, or one of them cannot be sent.

        A worker that has something to do will show by that whether it is dead.
        """
        hand.refused = True
        if not hand.chunks:
            hand.fate = error
        self._ask_idle()  # workers are often lost together
        for task in tasks:
            task.suspect, task.unheard = True, task.unheard + 1
            if len(tasks) == 1 and task.unheard > _UNHEARD:
                self._blame(tasks, str(error), source)
            else:
                self._alone.append(task)

    def _ping(self) -> None:
        """Ask idle actors for a sign of life, to replace dead ones before they are needed."""
        self._ask_idle(time.monotonic() - _PING_SECONDS)

    def _ask_idle(self, before: float = math.inf) -> None:
        """Ask idle actors for a sign of life; they get no tasks until they have answered.

        Args:
            before: Only those are asked whose last message is older, in seconds of the monotonic
                clock.
        """
        for hand in self._hands:
            if hand.able and not hand.chunks and hand.heard < before:
                with hand.surviving():
                    self._ask(hand)

    def _ask(self, hand: _Hand) -> None:
        hand.heard, hand.starting = time.monotonic(), self._backend.ready(hand.actor)

    def _paced(self) -> int:
        """Return the number of tasks that fill the time of a chunk."""
        if not self._ahead or not self._jobs:
            return 1
        return min(int(_CHUNK_SECONDS * self._jobs / max(self._seconds, 1e-6)), _CHUNK)

    def _chunk_size(self, source: TaskSource) -> int:
        if not self._ahead:
            return 1
        size = max(self._paced(), self._shared.evaluator.preferred_batch)
        most = source.share(len(self.processes))
        return max(1, size if most is None else min(size, most))

    def _chunk(self, source: TaskSource, size: int) -> list[ActorTask]:
        """Take tasks for one call, all with the same payload."""
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

    def _listen(self, source: TaskSource) -> list[tuple[ActorTask, JobOutcome]]:
        """Return the outcomes that have arrived; wait a moment if there are none."""
        found: list[tuple[ActorTask, JobOutcome]] = []
        for hand in self._speaking(source):
            with hand.surviving():
                found += self._hear(hand)
            self._check_setup(hand)
        return found

    def _check_setup(self, hand: _Hand) -> None:
        """Check that the first actors could be set up.

        Raises:
            UserError: For an error in a set-up before any other has worked: the next would fail,
                too.
        """
        if hand.fate is not None and not self._proved:
            in_setup, reason = cause(str(hand.fate))
            if in_setup:
                raise no_setup(reason)

    def _end_silent(self) -> None:
        """Give up actors that have something to do and have said nothing for too long."""
        if self._patience is None:
            return
        since = time.monotonic() - self._patience
        for hand in self._hands:
            if hand.process and hand.awaited is not None and hand.heard < since:
                hand.fate = hand.fate or TimeoutError(no_measurement(self._patience))

    def _speaking(self, source: TaskSource) -> list[_Hand]:
        hands = [hand for hand in self._hands if hand.awaited is not None and hand.fate is None]
        lost = any(hand.fate is not None for hand in self._hands)
        if not hands:
            source.rest(0.0 if lost else _LOOK_SECONDS)
            return []
        awaited = {id(hand.awaited): hand for hand in hands}
        waiting = [hand.awaited for hand in hands]
        ready = self._backend.wait(waiting, 0.0 if lost else _LOOK_SECONDS)
        return [awaited[id(reference)] for reference in ready]

    def _hear(self, hand: _Hand) -> list[tuple[ActorTask, JobOutcome]]:
        """Read the next message of an actor.

        Raises:
            Exception: The error of the backend if the actor is dead.
        """
        hand.heard, hand.refused = time.monotonic(), False
        if hand.starting is not None:
            hand.process = self._backend.answer(hand.starting)
            hand.starting, self._stillborn, self._proved = None, 0, True
            return []
        chunk = hand.chunks[0]
        if chunk.sign is not None:
            self._backend.answer(chunk.sign)
            chunk.sign = None
            if not self._backend.wait([chunk.parts], 0.0):
                return []
        part, seconds = self._backend.part(chunk.parts)
        found: list[tuple[ActorTask, JobOutcome]] = []
        for place, outcome in part:
            task = chunk.left.get(place)
            if task is None:  # it has ended already: an evaluator may report that twice
                continue
            found.append((task, outcome))
            if outcome.measurement is None:
                del chunk.left[place]
        if not chunk.left:
            hand.chunks.popleft()
        self._jobs = 0.9 * self._jobs + sum(o.measurement is None for _, o in found)
        self._seconds = 0.9 * self._seconds + seconds
        return found

    def _bury(self, hand: _Hand, source: TaskSource) -> None:
        error = str(hand.fate)
        self._hands.remove(hand)
        self._backend.kill(hand.actor)
        if not hand.process:
            self._count_stillborn(hand, error)
            return
        self._ask_idle()  # workers are often lost together
        for place, chunk in enumerate(hand.chunks):
            tasks = [task for task in chunk.left.values() if not task.closed]
            if chunk.sign is None:
                self._blame(tasks, error, source)
            elif place > 0:
                self._take_back(tasks)
            else:
                self._unheard(tasks, error, source)

    def _count_stillborn(self, hand: _Hand, error: str) -> None:
        """Count an actor that died before it was set up.

        Raises:
            UserError: After too many in a row.
        """
        if hand.number < self._stillborn_before:  # started before the last one counted had died
            return
        self._stillborn, self._stillborn_before = self._stillborn + 1, self._hired
        if self._stillborn >= _STILLBORN:
            raise no_setup(cause(error)[1])

    def _unheard(self, tasks: Sequence[ActorTask], error: str, source: TaskSource) -> None:
        """Take back tasks of a worker that died before it said that it came to them.

        This is believed only some times, or such a task would end one worker after the other. The
        worker may have begun the task, so the next start is another attempt.
        """
        for task in tasks:
            task.unheard += 1
        believed = [task for task in tasks if task.unheard <= _UNHEARD]
        for task in believed:
            self._next_attempt(task, source)
        self._take_back(believed)
        self._blame([task for task in tasks if task.unheard > _UNHEARD], error, source)

    def _take_back(self, tasks: Sequence[ActorTask]) -> None:
        for task in tasks:
            (self._alone if task.suspect else self._back).append(task)

    def _blame(self, begun: Sequence[ActorTask], error: str, source: TaskSource) -> None:
        """Try tasks again one by one, or give one up: one of them may have killed its worker."""
        _, reason = cause(error)
        for task in begun:
            task.suspect = True
            task.deaths.count(error, machines.known)
            verdict = task.deaths.verdict(self._retries, reason, machines.answering)
            if verdict and len(begun) == 1:
                source.lose(task, verdict)
                continue
            self._next_attempt(task, source)
            self._alone.append(task)

    @staticmethod
    def _next_attempt(task: ActorTask, source: TaskSource) -> None:
        task.job = replace(task.job, attempt=task.job.attempt + 1)
        source.again(task)
