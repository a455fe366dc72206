"""Persistent Ray actors that evaluate architectures in chunks and stream what they find.

For evaluations of milliseconds: a call to an actor costs about one, so an actor gets several jobs
by one call, and the next chunk before it has finished the last. What is found comes back while
the chunk is worked on. An actor that dies costs the jobs that it had not reported.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from raynas.core import Architecture, Job, RaynasError, UserError
from raynas.evaluators.base import Evaluator
from raynas.runners import environment, machines
from raynas.runners.base import Outcome, on_device, steps_of_many
from raynas.runners.deaths import Deaths, cause, no_measurement, no_setup
from raynas.runners.gpus import worker_device
from raynas.runners.placement import Share
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
#: so many workers in a row that die before they are ready end the run
_STILLBORN = 5
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


@dataclass
class Task:
    """A job for any worker.

    ``suspect``: was under way, or behind what was, when a worker died, one of its ``deaths``.
    ``shared``: what it is evaluated with, if that is not the crew's.
    """

    arch: Architecture
    job: Job
    shared: Shared | None = None
    suspect: bool = False
    deaths: Deaths = field(default_factory=Deaths)


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
        """Outcomes that arrived together. One without a measurement is its task's last."""

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


@dataclass(eq=False)
class _Chunk:
    """Tasks on their way; ``left``: place -> task that has not ended."""

    parts: Any
    left: dict[int, Task]


@dataclass(eq=False)
class _Hand:
    """An actor and what it has to do. ``starting``: what it answers when it is set up.

    ``heard``: when it last said something, or got something to do. ``node``: the machine that was
    chosen for it, if one was.
    """

    actor: Any
    starting: Any
    node: str | None = None
    chunks: deque[_Chunk] = field(default_factory=deque)
    process: int = 0
    heard: float = field(default_factory=time.monotonic)

    @property
    def awaited(self) -> Any:
        """What it will say next; None when it has nothing to say."""
        if self.starting is not None:
            return self.starting
        return self.chunks[0].parts if self.chunks else None

    def give(self, tasks: Sequence[Task]) -> None:
        chunk = [(task.arch, task.job) for task in tasks]
        other = [tasks[0].shared] if tasks[0].shared is not None else []
        parts = self.actor.evaluate.remote(chunk, *other)
        if not self.chunks:
            self.heard = time.monotonic()
        self.chunks.append(_Chunk(parts, dict(enumerate(tasks))))


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
    ) -> None:
        self._grows = grows
        self._options: dict[str, Any] = dict(options)
        self._shared, self._gpus = shared, options["num_gpus"] if gpus is None else gpus
        self._size, self._retries, self._ahead = size, retries, ahead
        self._patience = patience
        self._hands: list[_Hand] = []
        self._alone: deque[Task] = deque()  # suspects: each is a chunk of its own
        self._back: deque[Task] = deque()  # others of dead workers, which had not begun them
        self._stillborn = 0
        self._jobs = self._seconds = 0.0  # of the last jobs, older ones count less

    def carry_out(self, source: Source) -> None:
        """Until ``source.over``. Raises: UserError when workers cannot be set up."""
        while not source.over:
            self._man(self._wanted(source))
            self._hand_out(source)
            self._ping()
            found, dead = self._listen(source)
            if found:
                source.take(found)
            for hand, error in dead:
                self._bury(hand, error, source)

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
        for hand in self._hands:
            ray.kill(hand.actor)
        self._hands = []

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
            ray.kill(hand.actor)
        while len(self._hands) < wanted:
            self._hands.append(self._hire())

    def _hire(self) -> _Hand:
        options, node = self._options, None
        if not any(options.values()):
            taken = Counter(hand.node for hand in self._hands if hand.node)
            node = machines.freest(taken, gpus=self._gpus > 0)
        if node is not None:
            options = {**options, "scheduling_strategy": machines.near(node)}
        actor: Any = ray.remote(Worker).options(**options).remote(self._shared, self._gpus)
        return _Hand(actor, actor.ready.remote(), node)

    def _hand_out(self, source: Source) -> None:
        """First one chunk for each, then one more to go on with, if they are quick."""
        for have in range(2 if self._paced() > 1 else 1):
            for hand in self._hands:
                if hand.starting is None and len(hand.chunks) == have:
                    tasks = self._chunk(source, self._chunk_size(source))
                    if not tasks:
                        return
                    hand.give(tasks)

    def _ping(self) -> None:
        """One that died while it had nothing to do is replaced before it is needed."""
        now = time.monotonic()
        for hand in self._hands:
            if hand.awaited is None and hand.heard < now - _PING_SECONDS:
                hand.heard, hand.starting = now, hand.actor.ready.remote()

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

    def _listen(
        self, source: Source
    ) -> tuple[list[tuple[Task, Outcome]], list[tuple[_Hand, Exception]]]:
        """What has arrived, and who has died; waits a moment when there is nothing."""
        found: list[tuple[Task, Outcome]] = []
        dead: list[tuple[_Hand, Exception]] = []
        for hand in self._speaking(source):
            try:
                found += self._hear(hand)
            except Exception as error:
                dead.append((hand, error))
        return found, dead + self._silent([hand for hand, _ in dead])

    def _silent(self, dead: Sequence[_Hand]) -> list[tuple[_Hand, Exception]]:
        """Workers that have something to do and have said nothing for too long."""
        if self._patience is None:
            return []
        since = time.monotonic() - self._patience
        awaited = [h for h in self._hands if h.process and h.awaited is not None]
        silent = [h for h in awaited if h.heard < since and h not in dead]
        return [(h, TimeoutError(no_measurement(self._patience))) for h in silent]

    def _speaking(self, source: Source) -> list[_Hand]:
        awaited = {id(hand.awaited): hand for hand in self._hands if hand.awaited is not None}
        if not awaited:
            source.rest(_LOOK_SECONDS)
            return []
        waiting = [hand.awaited for hand in awaited.values()]
        ray.wait(waiting, num_returns=1, timeout=_LOOK_SECONDS)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [awaited[id(reference)] for reference in ready]

    def _hear(self, hand: _Hand) -> list[tuple[Task, Outcome]]:
        """Raises: what Ray raises when the actor is dead."""
        hand.heard = time.monotonic()
        if hand.starting is not None:
            hand.process = ray.get(hand.starting)
            hand.starting, self._stillborn = None, 0
            return []
        chunk = hand.chunks[0]
        part, seconds = ray.get(next(chunk.parts))
        found = [(chunk.left[place], outcome) for place, outcome in part]
        ended = [place for place, outcome in part if outcome.measurement is None]
        for place in ended:
            del chunk.left[place]
        if not chunk.left:
            hand.chunks.popleft()
        self._jobs = 0.9 * self._jobs + len(ended)
        self._seconds = 0.9 * self._seconds + seconds
        return found

    def _bury(self, hand: _Hand, error: Exception, source: Source) -> None:
        self._hands.remove(hand)
        ray.kill(hand.actor)
        in_setup, reason = cause(str(error))
        if hand.starting is not None:
            self._stillborn += 1
            if in_setup or self._stillborn >= _STILLBORN:
                raise no_setup(reason)
            return
        begun, *untouched = [list(chunk.left.values()) for chunk in hand.chunks]
        for task in chain(*untouched):
            (self._alone if task.suspect else self._back).append(task)
        for task in begun:
            task.suspect = True
            task.deaths.count(str(error), machines.known)
            verdict = task.deaths.verdict(self._retries, reason, machines.answering)
            if verdict and len(begun) == 1:
                source.lose(task, verdict)
                continue
            task.job = replace(task.job, attempt=task.job.attempt + 1)
            source.again(task)
            self._alone.append(task)
