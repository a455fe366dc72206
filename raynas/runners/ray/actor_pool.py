"""Persistent Ray actors that evaluate architectures in chunks and stream what they find.

For evaluations of milliseconds: a call to an actor costs about one, so an actor gets several jobs
by one call, and the next chunk before it has finished the last. What is found comes back while
the chunk is worked on. An actor that dies costs the jobs that it had not reported.
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
from raynas.evaluators.base import Evaluator
from raynas.runners.base import Outcome, on_device, steps_of_many
from raynas.runners.failures import Deaths, cause, no_measurement, no_setup
from raynas.runners.gpus import worker_device
from raynas.runners.placement import Share
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.spaces.base import SearchSpace

environment.prepare()  # before Ray is imported

import ray  # noqa: E402

#: what one call to an actor is worth, and the most jobs in it: a sampler that learns should not
#: be asked for hundreds of proposals before it hears of the first
_CHUNK_SECONDS, _CHUNK = 0.25, 32
#: outcomes of quicker evaluations travel (and are stored) together
_STREAM_SECONDS = 0.05
#: how long a change from outside (Ctrl-C) may go unnoticed
_LOOK_SECONDS = 0.2
#: so many workers in a row that die before they are ready, each hired after the one before it had
#: died, end the run; those that were lost together are one
_STILLBORN = 5
#: so often a task is not blamed for a worker that died and had not said that it came to it, or that
#: could not even be given it; what such a worker said may be lost
_UNHEARD = 2
#: what a worker must have to do that a machine is waited for, and the most that wait
_WORTH_SECONDS, _MOST_WAITING = 60.0, 64
#: after so much idleness a worker is asked whether it is still there
_PING_SECONDS = 5.0

Part = tuple[list[tuple[int, Outcome]], float]  # (place in the chunk, outcome)s, seconds they took


@dataclass(frozen=True)
class Shared:
    """A payload on its way to workers; images and the evaluator's assets stay in the object
    store, one copy a node. ``version``: of the assets, where they may change under way."""

    space: SearchSpace
    evaluator: Evaluator
    view: Any
    assets: Any = None
    version: str = ""


@dataclass(eq=False)
class Task:
    """A job for any worker.

    ``suspect``: was under way, or behind what was, when a worker died, one of its ``deaths``.
    ``shared``: what it is evaluated with, if that is not the crew's.
    ``unheard``: workers that died with it and had not said that they came to it, or that could not
    be given it.
    ``closed``: its source wants nothing more of it, and it is not started again.
    """

    arch: Architecture
    job: Job
    shared: Shared | None = None
    suspect: bool = False
    deaths: Deaths = field(default_factory=Deaths)
    unheard: int = 0
    closed: bool = False


class Source(ABC):
    """Where a crew gets its tasks from, and who hears of them."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Nothing more is wanted: all is done, or it was interrupted."""

    @abstractmethod
    def next(self) -> Task | None:
        """A task, or None when there is none now."""

    @abstractmethod
    def take(self, found: Sequence[tuple[Task, Outcome]]) -> None:
        """Outcomes that arrived together. One without a measurement is its task's last; there is
        one such outcome of a task, or it is lost, never both."""

    @abstractmethod
    def lose(self, task: Task, message: str) -> None:
        """The task is given up."""

    def again(self, task: Task) -> None:
        """The task is started once more; its job has the new attempt."""

    def rest(self, seconds: float) -> None:
        """Nothing is under way: wait so long for a task, or a little less."""
        time.sleep(seconds)

    def share(self, workers: int) -> int | None:
        """The most tasks to hand out at once, so that the last ones are spread evenly."""
        return None

    @property
    def left(self) -> int:
        """How many tasks are still to come, as far as more machines are worth having for them."""
        return 0


class Worker:
    """In an actor: keeps data and evaluator, and evaluates what it is given."""

    def __init__(self, shared: Shared, gpus: float) -> None:
        self._device, self._share = worker_device(gpus), Share(gpus)
        self._evaluators = {shared.version: ready_evaluator(shared)}
        self._first = shared.version

    def ready(self) -> int:
        """Its process, once it is set up."""
        return os.getpid()

    @ray.method(num_returns="streaming")
    def evaluate(
        self, chunk: Sequence[tuple[Architecture, Job]], shared: Shared | None = None
    ) -> Iterator[Part]:
        """What is found, in parts. Only what is under way is ever split."""
        evaluator = self._evaluator(shared)
        tasks = [(arch, on_device(job, self._device)) for arch, job in chunk]
        found: list[tuple[int, Outcome]] = []
        began = time.monotonic()
        for place, outcome in steps_of_many(evaluator, tasks, self._share):
            found.append((place, outcome))
            late = time.monotonic() - began >= _STREAM_SECONDS
            if late and not _last_step(outcome, tasks[place][1]):
                yield found, time.monotonic() - began
                found, began = [], time.monotonic()
        if found:
            yield found, time.monotonic() - began

    def _evaluator(self, shared: Shared | None) -> Evaluator:
        """Of the two versions that were asked for last."""
        if shared is None:
            return self._evaluators[self._first]
        evaluator = self._evaluators.pop(shared.version, None) or ready_evaluator(shared)
        self._evaluators[shared.version] = evaluator
        while len(self._evaluators) > 2:
            del self._evaluators[next(iter(self._evaluators))]
        return evaluator


def ready_evaluator(shared: Shared) -> Evaluator:
    """The evaluator, set up with data and assets, which need not lie on this machine's disk.

    What the store has lost, an evaluator reads from where its assets came from.

    Raises: RaynasError when something else is there now.
    """
    evaluator = shared.evaluator
    if shared.assets is not None:
        try:
            evaluator.equip(ray.get(shared.assets))
        except ray.exceptions.ObjectLostError:
            if _version(evaluator) != shared.version:
                raise RaynasError(f"weights {shared.version} are lost") from None
    evaluator.setup(shared.space, ray.get(shared.view))
    return evaluator


def _version(evaluator: Evaluator) -> str | None:
    """Of the weights that this machine sees, if any."""
    try:
        return evaluator.weights_version()
    except UserError:
        return None


def _last_step(outcome: Outcome, job: Job) -> bool:
    """The end follows at once: a job that is done must not look as if it were under way."""
    return outcome.measurement is not None and outcome.measurement.step >= job.max_step


class ActorBackend(ABC):
    """What a crew needs of the system that runs its actors.

    An actor carries out its calls in their order. What it says is awaited by reference: an answer,
    or a stream of parts.
    """

    @abstractmethod
    def hire(self, shared: Shared, gpus: float, options: Mapping[str, Any]) -> Any:
        """Start a :class:`Worker`; gives the actor, before it is set up."""

    @abstractmethod
    def ready(self, actor: Any) -> Any:
        """Ask the actor for its process; gives the answer to await."""

    @abstractmethod
    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: Shared | None
    ) -> Any:
        """Have the actor evaluate a chunk; gives the stream of parts to await."""

    @abstractmethod
    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Wait until one of them can be read, at most ``seconds``; gives all that can be."""

    @abstractmethod
    def answer(self, awaited: Any) -> int:
        """Read an answer that is there. Raises: what ended the actor."""

    @abstractmethod
    def part(self, awaited: Any) -> Part:
        """Read the next part of a stream. Raises: what ended the actor, or the evaluation."""

    @abstractmethod
    def kill(self, actor: Any) -> None:
        """End the actor at once, if it is not dead yet."""


class RayActors(ActorBackend):
    """Actors of the Ray that this process has joined."""

    def hire(self, shared: Shared, gpus: float, options: Mapping[str, Any]) -> Any:
        actor: Any = ray.remote(Worker)
        return actor.options(**options).remote(shared, gpus)

    def ready(self, actor: Any) -> Any:
        return actor.ready.remote()

    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: Shared | None
    ) -> Any:
        return actor.evaluate.remote(chunk, *([] if shared is None else [shared]))

    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        ray.wait(list(awaited), num_returns=1, timeout=seconds)
        ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        return ready

    def answer(self, awaited: Any) -> int:
        process: int = ray.get(awaited)
        return process

    def part(self, awaited: Any) -> Part:
        part: Part = ray.get(next(awaited))
        return part

    def kill(self, actor: Any) -> None:
        ray.kill(actor)


@dataclass(eq=False)
class _Chunk:
    """Tasks on their way; ``left``: place -> task that has not ended.

    ``sign``: what the actor says when it comes to this chunk, None once it has. What it has not
    come to has not killed it. ``parts``: what it finds.
    """

    left: dict[int, Task]
    sign: Any
    parts: Any


@dataclass(eq=False)
class _Hand:
    """An actor and what it has to do.

    ``number``: of the actors that were hired before it. ``starting``: what it answers when it is
    set up, or still there. ``heard``: when it last said something, or got something to do.
    ``node``: the machine that was chosen for it, if one was. ``fate``: what it died of, once that
    is known. ``refused``: it could not be given anything, and has said nothing since.
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
        """Whether it may be given something: it was there when it was last asked."""
        return self.starting is None and self.fate is None and not self.refused

    @contextlib.contextmanager
    def surviving(self) -> Iterator[None]:
        """An error of what is done with it is its end, and no other's."""
        try:
            yield
        except Exception as error:
            self.fate = error

    @property
    def awaited(self) -> Any:
        """What it will say next; None when it has nothing to say."""
        if self.starting is not None or not self.chunks:
            return self.starting
        chunk = self.chunks[0]
        return chunk.parts if chunk.sign is None else chunk.sign


class Crew:
    """``size()`` actors with a payload, kept until ``dismiss``; dead ones are replaced, and more
    hired when there may be more.

    ``options``: of Ray, for each actor (``num_cpus``, ``num_gpus``); those that book nothing are
    spread over the machines by us. ``retries``: a task whose
    worker died is started again so often, if it is not in quarantine before (see ``deaths``); of
    several that a worker had, one by one, since only one is guilty. ``ahead=False``: one task at a
    time, and nothing is asked for before it ended.
    ``patience``: a worker that has said nothing for so many seconds is taken for dead.
    ``gpus``: 0 keeps workers off a GPU, else they use one; as the options say if not given.
    ``grows``: whether an autoscaler brings machines for workers that do not fit on those there are.

    A worker says when it comes to a chunk, so that no task is blamed for the end of one that had
    died before. A worker that is given up is never listened to again: what it says later of a task
    cannot be taken for the next attempt's outcome.
    """

    def __init__(
        self,
        shared: Shared,
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
        self._alone: deque[Task] = deque()  # suspects: each is a chunk of its own
        self._back: deque[Task] = deque()  # others of dead workers, which had not begun them
        self._hired = 0
        self._proved = False  # one was set up
        self._stillborn = self._stillborn_before = 0  # in a row; of those hired until the last
        self._jobs = self._seconds = 0.0  # of the last jobs, older ones count less

    def carry_out(self, source: Source) -> None:
        """Until ``source.over``. Raises: UserError when workers cannot be set up."""
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
    def shared(self) -> Shared:
        """What workers are set up with."""
        return self._shared

    def renew(self, shared: Shared) -> None:
        """Workers that are hired from now on are set up with this."""
        self._shared = shared

    @property
    def processes(self) -> list[int]:
        """Of the workers that are set up."""
        return [hand.process for hand in list(self._hands) if hand.process]

    def dismiss(self) -> None:
        """End all workers at once, with what they are doing."""
        hands, self._hands = self._hands, []
        with contextlib.ExitStack() as all_of_them:  # also when one cannot be ended
            for hand in hands:
                all_of_them.callback(self._backend.kill, hand.actor)

    def _wanted(self, source: Source) -> int:
        """As many workers as fit on the machines, and where there may be more machines, so many
        that each has some work left."""
        fit = self._size()
        if not (self._ahead and self._jobs and self._grows()):
            return fit
        worth = int(source.left * self._seconds / self._jobs / _WORTH_SECONDS)
        return max(fit, min(worth, fit + _MOST_WAITING))

    def _man(self, wanted: int) -> None:
        waiting = [hand for hand in reversed(self._hands) if not hand.process]
        for hand in waiting[: max(len(self._hands) - wanted, 0)]:  # no machine came for it
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

    def _hand_out(self, source: Source) -> None:
        """First one chunk for each, then one more to go on with, if they are quick."""
        for have in range(2 if self._paced() > 1 else 1):
            if have and self._alone:  # a suspect goes to one that has nothing else
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

    def _give(self, hand: _Hand, tasks: Sequence[Task]) -> None:
        """The actor answers whether it is there just before it comes to the chunk."""
        if not hand.chunks:
            hand.heard = time.monotonic()
        sign = self._backend.ready(hand.actor)
        jobs = [(task.arch, task.job) for task in tasks]
        parts = self._backend.evaluate(hand.actor, jobs, tasks[0].shared)
        hand.chunks.append(_Chunk(dict(enumerate(tasks)), sign, parts))

    def _refused(
        self, hand: _Hand, tasks: Sequence[Task], error: Exception, source: Source
    ) -> None:
        """The worker is dead, or one of the tasks cannot be sent: each is tried alone.

        One that has something to do will tell by that whether it is dead.
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
        """One that died while it had nothing to do is replaced before it is needed."""
        self._ask_idle(time.monotonic() - _PING_SECONDS)

    def _ask_idle(self, before: float = math.inf) -> None:
        """Whether the idle ones are there that were heard ``before``; they get nothing until they
        have answered."""
        for hand in self._hands:
            if hand.able and not hand.chunks and hand.heard < before:
                with hand.surviving():
                    self._ask(hand)

    def _ask(self, hand: _Hand) -> None:
        hand.heard, hand.starting = time.monotonic(), self._backend.ready(hand.actor)

    def _paced(self) -> int:
        """The tasks that fill a chunk's time."""
        if not self._ahead or not self._jobs:
            return 1
        return min(int(_CHUNK_SECONDS * self._jobs / max(self._seconds, 1e-6)), _CHUNK)

    def _chunk_size(self, source: Source) -> int:
        if not self._ahead:
            return 1
        size = max(self._paced(), self._shared.evaluator.crowd)
        most = source.share(len(self.processes))
        return max(1, size if most is None else min(size, most))

    def _chunk(self, source: Source, size: int) -> list[Task]:
        """Tasks for one call, all with the same payload."""
        if self._alone:
            return [self._alone.popleft()]
        tasks: list[Task] = []
        while len(tasks) < size:
            task = self._back.popleft() if self._back else source.next()
            if task is None:
                break
            if tasks and task.shared is not tasks[0].shared:
                self._back.appendleft(task)
                break
            tasks.append(task)
            if task.job.more_memory:  # not before others
                break
        return tasks

    def _listen(self, source: Source) -> list[tuple[Task, Outcome]]:
        """What has arrived; waits a moment when there is nothing."""
        found: list[tuple[Task, Outcome]] = []
        for hand in self._speaking(source):
            with hand.surviving():
                found += self._hear(hand)
            self._check_setup(hand)
        return found

    def _check_setup(self, hand: _Hand) -> None:
        """Raises: UserError for an error in a set-up before any other has worked: the next would
        fail, too."""
        if hand.fate is not None and not self._proved:
            in_setup, reason = cause(str(hand.fate))
            if in_setup:
                raise no_setup(reason)

    def _end_silent(self) -> None:
        """Workers that have something to do and have said nothing for too long."""
        if self._patience is None:
            return
        since = time.monotonic() - self._patience
        for hand in self._hands:
            if hand.process and hand.awaited is not None and hand.heard < since:
                hand.fate = hand.fate or TimeoutError(no_measurement(self._patience))

    def _speaking(self, source: Source) -> list[_Hand]:
        hands = [hand for hand in self._hands if hand.awaited is not None and hand.fate is None]
        lost = any(hand.fate is not None for hand in self._hands)
        if not hands:
            source.rest(0.0 if lost else _LOOK_SECONDS)
            return []
        awaited = {id(hand.awaited): hand for hand in hands}
        waiting = [hand.awaited for hand in hands]
        ready = self._backend.wait(waiting, 0.0 if lost else _LOOK_SECONDS)
        return [awaited[id(reference)] for reference in ready]

    def _hear(self, hand: _Hand) -> list[tuple[Task, Outcome]]:
        """Raises: what the backend raises when the actor is dead."""
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
        found: list[tuple[Task, Outcome]] = []
        for place, outcome in part:
            task = chunk.left.get(place)
            if task is None:  # it has ended: an evaluator may say so twice
                continue
            found.append((task, outcome))
            if outcome.measurement is None:
                del chunk.left[place]
        if not chunk.left:
            hand.chunks.popleft()
        self._jobs = 0.9 * self._jobs + sum(o.measurement is None for _, o in found)
        self._seconds = 0.9 * self._seconds + seconds
        return found

    def _bury(self, hand: _Hand, source: Source) -> None:
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
        """Raises: UserError after too many in a row."""
        if hand.number < self._stillborn_before:  # lost with the one that was counted, or late
            return
        self._stillborn, self._stillborn_before = self._stillborn + 1, self._hired
        if self._stillborn >= _STILLBORN:
            raise no_setup(cause(error)[1])

    def _unheard(self, tasks: Sequence[Task], error: str, source: Source) -> None:
        """The worker died before it said that it came to these. That is not believed for ever, or
        a task of which nothing is heard would end one worker after the other. It may have begun,
        so that the next is another attempt."""
        for task in tasks:
            task.unheard += 1
        believed = [task for task in tasks if task.unheard <= _UNHEARD]
        for task in believed:
            self._next_attempt(task, source)
        self._take_back(believed)
        self._blame([task for task in tasks if task.unheard > _UNHEARD], error, source)

    def _take_back(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            (self._alone if task.suspect else self._back).append(task)

    def _blame(self, begun: Sequence[Task], error: str, source: Source) -> None:
        """One of these may have killed its worker."""
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
    def _next_attempt(task: Task, source: Source) -> None:
        task.job = replace(task.job, attempt=task.job.attempt + 1)
        source.again(task)
