"""This module evaluates architectures by persistent Ray actors, in chunks.

It is for evaluations of milliseconds: a call to an actor costs about one, so an actor gets several
jobs by one call, and the next chunk before it has finished the last. Outcomes come back while the
chunk is worked on. An actor that dies costs the jobs that it had not reported.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import final

from raynas.runners.base import JobOutcome
from raynas.runners.failures import cause, no_measurement, no_setup
from raynas.runners.ray.actor_backend import ActorBackend, RayActors
from raynas.runners.ray.actor_handle import ActorChunk, ActorHandle
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tasks import ActorTask, TaskPace, TaskQueue, TaskSource

#: the longest time in seconds until a change from outside (Ctrl-C) is noticed
_LOOK_SECONDS = 0.2
#: the run ends after so many workers in a row that die before they are ready, each started after
#: the one before it had died; those that were lost together count as one
_STILLBORN = 5
#: seconds of work that a worker needs to be worth a new machine, and the most workers that wait
#: for machines
_WORTH_SECONDS, _MOST_WAITING = 60.0, 64
#: after so many idle seconds a worker is asked for a sign of life
_PING_SECONDS = 5.0


@final
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
        self._options = dict(options)
        self._shared, self._gpus = shared, options["num_gpus"] if gpus is None else gpus
        self._size, self._ahead, self._patience = size, ahead, patience
        self._handles: list[ActorHandle] = []
        self._queue, self._pace = TaskQueue(self._backend, retries), TaskPace()
        self._hired = 0
        self._proved = False  # an actor was set up
        # in a row; the number of actors started by then
        self._stillborn = self._stillborn_before = 0

    def carry_out(self, source: TaskSource) -> None:
        """Evaluate tasks until the source is over.

        Args:
            source: Gives the tasks and takes the outcomes.

        Raises:
            UserError: If workers cannot be set up.
        """
        while not source.over:
            self._resize(self._wanted(source))
            self._hand_out(source)
            # idle actors give a sign of life, so that dead ones are replaced before they are needed
            self._ask_idle(time.monotonic() - _PING_SECONDS)
            found = self._listen(source)
            self._end_silent()
            if found:
                source.take(found)
            for handle in [handle for handle in self._handles if handle.fate is not None]:
                self._bury(handle, source)

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
        return [handle.process for handle in list(self._handles) if handle.process]

    def dismiss(self) -> None:
        """End all workers at once, with what they are doing."""
        handles, self._handles = self._handles, []
        with contextlib.ExitStack() as all_of_them:  # the others are ended, too, if one cannot be
            for handle in handles:
                all_of_them.callback(self._backend.kill, handle.actor)

    def _wanted(self, source: TaskSource) -> int:
        """Return the number of actors to have.

        As many as fit on the machines; if there may be more machines, so many that each actor has
        some work left.
        """
        fit = self._size()
        if not (self._ahead and self._pace.known and self._grows()):
            return fit
        worth = int(self._pace.seconds_of(source.left) / _WORTH_SECONDS)
        return max(fit, min(worth, fit + _MOST_WAITING))

    def _resize(self, wanted: int) -> None:
        """Start actors up to a number, or end those that still wait for a machine."""
        waiting = [handle for handle in reversed(self._handles) if not handle.process]
        for handle in waiting[: max(len(self._handles) - wanted, 0)]:
            self._handles.remove(handle)
            self._backend.kill(handle.actor)
        while len(self._handles) < wanted:
            self._handles.append(self._hire())

    def _hire(self) -> ActorHandle:
        node = None
        if not any(self._options.values()):
            taken = Counter(handle.node for handle in self._handles if handle.node)
            node = self._backend.freest_node(taken, gpus=self._gpus > 0)
        actor = self._backend.hire(self._shared, self._gpus, self._options, node)
        self._hired += 1
        ready = self._backend.ready(actor)
        return ActorHandle(actor, self._hired - 1, ready, time.monotonic(), node)

    def _hand_out(self, source: TaskSource) -> None:
        """Give each actor one chunk first, then one more to go on with if the tasks are short."""
        for have in range(2 if self._ahead and self._pace.chunk > 1 else 1):
            if have and self._queue.has_suspects:  # a suspect goes to an idle actor
                return
            for handle in self._handles:
                if handle.able and len(handle.chunks) == have:
                    tasks = self._queue.chunk(source, self._chunk_size(source))
                    if not tasks:
                        return
                    try:
                        self._give(handle, tasks)
                    except Exception as error:
                        self._refused(handle, tasks, error, source)
                        return

    def _give(self, handle: ActorHandle, tasks: Sequence[ActorTask]) -> None:
        """Give an actor a chunk; it answers just before it comes to the chunk."""
        if not handle.chunks:
            handle.heard = time.monotonic()
        sign = self._backend.ready(handle.actor)
        jobs = [(task.arch, task.job) for task in tasks]
        parts = self._backend.evaluate(handle.actor, jobs, tasks[0].shared)
        handle.chunks.append(ActorChunk(dict(enumerate(tasks)), sign, parts))

    def _refused(
        self, handle: ActorHandle, tasks: Sequence[ActorTask], error: Exception, source: TaskSource
    ) -> None:
        """Take note that a worker is dead, or that one of some tasks cannot be sent.

        A worker that has something to do will show by that whether it is dead.
        """
        handle.refused = True
        if not handle.chunks:
            handle.fate = error
        self._ask_idle()  # workers are often lost together
        self._queue.refused(tasks, str(error), source)

    def _ask_idle(self, before: float = math.inf) -> None:
        """Ask idle actors for a sign of life; they get no tasks until they have answered.

        Args:
            before: Only those are asked whose last message is older, in seconds of the monotonic
                clock.
        """
        for handle in self._handles:
            if handle.able and not handle.chunks and handle.heard < before:
                with handle.surviving():
                    self._ask(handle)

    def _ask(self, handle: ActorHandle) -> None:
        handle.heard, handle.starting = time.monotonic(), self._backend.ready(handle.actor)

    def _chunk_size(self, source: TaskSource) -> int:
        if not self._ahead:
            return 1
        size = max(self._pace.chunk, self._shared.evaluator.preferred_batch)
        most = source.share(len(self.processes))
        return max(1, size if most is None else min(size, most))

    def _listen(self, source: TaskSource) -> list[tuple[ActorTask, JobOutcome]]:
        """Return the outcomes that have arrived; wait a moment if there are none."""
        found: list[tuple[ActorTask, JobOutcome]] = []
        for handle in self._speaking(source):
            with handle.surviving():
                found += self._hear(handle)
            self._check_setup(handle)
        return found

    def _check_setup(self, handle: ActorHandle) -> None:
        """Check that the first actors could be set up.

        Raises:
            UserError: For an error in a set-up before any other has worked: the next would fail,
                too.
        """
        if handle.fate is not None and not self._proved:
            in_setup, reason = cause(str(handle.fate))
            if in_setup:
                raise no_setup(reason)

    def _end_silent(self) -> None:
        """Give up actors that have something to do and have said nothing for too long."""
        if self._patience is None:
            return
        since = time.monotonic() - self._patience
        for handle in self._handles:
            if handle.process and handle.awaited is not None and handle.heard < since:
                handle.fate = handle.fate or TimeoutError(no_measurement(self._patience))

    def _speaking(self, source: TaskSource) -> list[ActorHandle]:
        handles = [h for h in self._handles if h.awaited is not None and h.fate is None]
        lost = any(handle.fate is not None for handle in self._handles)
        if not handles:
            source.rest(0.0 if lost else _LOOK_SECONDS)
            return []
        awaited = {id(handle.awaited): handle for handle in handles}
        waiting = [handle.awaited for handle in handles]
        ready = self._backend.wait(waiting, 0.0 if lost else _LOOK_SECONDS)
        return [awaited[id(reference)] for reference in ready]

    def _hear(self, handle: ActorHandle) -> list[tuple[ActorTask, JobOutcome]]:
        """Read the next message of an actor.

        Raises:
            Exception: The error of the backend if the actor is dead.
        """
        handle.heard, handle.refused = time.monotonic(), False
        if handle.starting is not None:
            handle.process = self._backend.answer(handle.starting)
            handle.starting, self._stillborn, self._proved = None, 0, True
            return []
        chunk = handle.chunks[0]
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
            handle.chunks.popleft()
        self._pace.add(sum(o.measurement is None for _, o in found), seconds)
        return found

    def _bury(self, handle: ActorHandle, source: TaskSource) -> None:
        error = str(handle.fate)
        self._handles.remove(handle)
        self._backend.kill(handle.actor)
        if not handle.process:
            self._count_stillborn(handle, error)
            return
        self._ask_idle()  # workers are often lost together
        for place, chunk in enumerate(handle.chunks):
            tasks = [task for task in chunk.left.values() if not task.closed]
            if chunk.sign is None:
                self._queue.blame(tasks, error, source)
            elif place > 0:
                self._queue.take_back(tasks)
            else:
                self._queue.not_begun(tasks, error, source)

    def _count_stillborn(self, handle: ActorHandle, error: str) -> None:
        """Count an actor that died before it was set up.

        Raises:
            UserError: After too many in a row.
        """
        if handle.number < self._stillborn_before:  # started before the last one counted had died
            return
        self._stillborn, self._stillborn_before = self._stillborn + 1, self._hired
        if self._stillborn >= _STILLBORN:
            raise no_setup(cause(error)[1])
