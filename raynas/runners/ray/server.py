"""This module serves subnets of a trained supernet to any number of callers.

The weights lie in Ray's object store, one copy on each machine; every actor has its own copy of
them, of the calibration and of the validation images on its device. Requests of tens of
architectures are cut into chunks and dealt out by a
:class:`~raynas.runners.ray.actor_pool.ActorPool`. It replaces actors that die or fall silent, and
evaluates again what they had not answered.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raynas.core import Architecture, Job, Measurement, RaynasError, UserError
from raynas.core.describe import fresh
from raynas.evaluators.abilities import bound_to, check_architecture
from raynas.runners.base import JobOutcome, Resources
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.futures import CallbackThread
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tasks import ActorTask, TaskSource
from raynas.search.context import EvaluationContext
from raynas.spaces.guard import checked_canonical

#: the most answers that are remembered; one takes a few hundred bytes
_KNOWN = 100_000


class ServerBusy(RaynasError):
    """An error that says that the queue of a server is full; ask again later, or wait longer."""


@dataclass(frozen=True)
class SubnetAnswer:
    """The measurement of one architecture by one version of the weights.

    Attributes:
        arch: The architecture in its canonical form.
        version: The version of the weights.
        measurement: The values; None if the evaluation failed.
        failure: Why it failed; empty if it did not.
    """

    arch: Architecture
    version: str
    measurement: Measurement | None = None
    failure: str = ""


@dataclass(frozen=True)
class ServerHealth:
    """The state of a server at one moment.

    Attributes:
        version: The version of the weights in use.
        processes: Process ids of the replicas that are ready.
        waiting: Architectures in the queue.
        under_way: Architectures that a replica works on.
        answered: Evaluations answered since the start, remembered answers not counted.
        restarted: Evaluations that were begun again because their replica died.
    """

    version: str
    processes: tuple[int, ...]
    waiting: int
    under_way: int
    answered: int
    restarted: int


class SupernetServer:
    """A server for subnets of a supernet: several replicas behind one object.

    Callers may be threads. An answer is identified by the version of the weights and the canonical
    architecture (its resolution is a part of it); calibration seed and images are the same for all.
    Equal requests share one evaluation, and an evaluation that dies with its replica is repeated,
    by the same weights.

    Since equal requests share a future, it cannot be cancelled: ``cancel`` returns False, and a
    caller that does not need the answer any more just ignores it. Callbacks of futures run in a
    thread of their own, one after the other. The server lives as long as replicas can be set up.
    When it ends, all callers, also later ones, are told the reason.

    Args:
        payload: The space, the evaluator and the data view; the evaluator must have its weights.
        resources: Resources of one replica; ``concurrent`` is the number of replicas.
        queue: The most architectures that wait for a replica; a caller that brings more waits, too.
        patience: Seconds without a message after which a replica is replaced, so more than it needs
            for a chunk; None waits as long as the replica lives.
        address: The Ray cluster; None starts Ray on this machine.
        modules: Python modules whose code workers cannot import.

    Raises:
        UserError: If the weights cannot be used, or Ray cannot be reached.
    """

    def __init__(
        self,
        payload: EvaluationContext,
        resources: Resources | None = None,
        *,
        queue: int = 1024,
        patience: float | None = None,
        address: str | None = None,
        modules: tuple[Any, ...] = (),
    ) -> None:
        self._cluster = ActorRunner(resources or Resources(), address, modules)
        _check(payload)
        self._cluster.open()
        self._payload = payload
        try:
            self._crew = self._cluster.hire(payload, patience=patience)
        except BaseException:
            self._cluster.close()
            raise
        self._callbacks = CallbackThread()
        self._desk = _Desk(queue, self._callbacks.future)
        self._thread = threading.Thread(target=self._serve, name="supernet server", daemon=True)
        self._thread.start()

    def submit(
        self, archs: Sequence[Architecture], wait: float | None = None
    ) -> list[Future[SubnetAnswer]]:
        """Ask for architectures without waiting for the answers.

        The answers are by the weights of this moment. Either all architectures find room in the
        queue or none does; callers get room in the order in which they came.

        Args:
            archs: Architectures of the server's space.
            wait: Seconds to wait for room in the queue; None waits as long as it takes.

        Returns:
            A future for each architecture.

        Raises:
            Busy: If there was no room in time.
            UserError: If an architecture is of another space, or the server has ended.
            ArchitectureError: If the space has no canonical form of an architecture.
        """
        space = self._payload.space
        for arch in archs:
            if arch.space != space.name:
                raise UserError(
                    f"architecture {arch} is of space {arch.space!r}, not of {space.name!r}",
                    hint="ask a server of the architecture's own space",
                )
        canonical = [checked_canonical(space, arch) for arch in archs]
        return self._desk.ask(canonical, self._crew.shared, wait)

    def evaluate(
        self, archs: Sequence[Architecture], wait: float | None = None
    ) -> list[SubnetAnswer]:
        """Ask for architectures and wait for the answers.

        Args:
            archs: Architectures of the server's space.
            wait: Seconds to wait for room in the queue; None waits as long as it takes.

        Returns:
            The answers, in the order of ``archs``.

        Raises:
            Busy: If there was no room in time.
            UserError: If an architecture is of another space, or the server has ended.
            ArchitectureError: If the space has no canonical form of an architecture.
        """
        return [future.result() for future in self.submit(archs, wait)]

    def update(self, weights: Path) -> str:
        """Answer later requests by other weights.

        Requests made before are answered by the former weights.

        Args:
            weights: The folder or file of the new weights, as the evaluator takes it.

        Returns:
            The version of the new weights.

        Raises:
            UserError: If the weights cannot be used (it names the file; the former ones stay in
                use), or the server has ended.
        """
        self._desk.check()
        payload = replace(self._payload, evaluator=bound_to(self._payload.evaluator, weights))
        _check(payload)
        shared = self._cluster.share(payload)
        self._payload = payload
        self._crew.renew(shared)
        return shared.version

    @property
    def version(self) -> str:
        """The version of the weights by which a request would be answered now."""
        return self._crew.shared.version

    def health(self) -> ServerHealth:
        """Return the state of the server.

        Returns:
            Counts of requests, and the replicas that are ready.

        Raises:
            UserError: If the server has ended, with the reason.
        """
        desk = self._desk
        desk.check()
        with desk.room:
            return ServerHealth(
                self.version,
                tuple(self._crew.processes),
                len(desk.waiting),
                len(desk.asked) - len(desk.waiting),
                desk.answered,
                desk.restarted,
            )

    def close(self) -> None:
        """End the replicas; requests without an answer get an error."""
        self._desk.end(UserError("the supernet server was closed"))
        self._thread.join()
        self._callbacks.end()
        self._cluster.close()

    def __enter__(self) -> SupernetServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        reason: Exception = RaynasError("the server no longer evaluates")
        try:
            self._crew.carry_out(self._desk)
        except Exception as error:
            reason = error
        except BaseException as error:  # it ends this thread only
            reason = RaynasError(f"{type(error).__name__} in its thread")
        finally:
            self._desk.end(reason)
            self._crew.dismiss()


def _check(payload: EvaluationContext) -> None:
    """Check that the evaluator can use its weights.

    Raises:
        UserError: If it cannot; it names the file.
    """
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    check_architecture(evaluator, payload.space.extremes()[0])


@dataclass(eq=False)
class _Request:
    """One architecture by one version of the weights; ``answer`` is set once, by :func:`_tell`."""

    task: ActorTask
    answer: Future[SubnetAnswer]
    found: Measurement | None = None

    def __post_init__(self) -> None:
        self.answer.set_running_or_notify_cancel()  # not to be cancelled: others may wait for it


class _Desk(TaskSource):
    """The queue between the callers and the actor pool.

    Its state is read and changed while ``room`` is held. No code of callers runs meanwhile: futures
    get their results after it is released.

    Args:
        queue: The most architectures that wait.
        future: Makes a new future.
    """

    def __init__(self, queue: int, future: Callable[[], Future[SubnetAnswer]] = Future) -> None:
        self.room = threading.Condition()
        self.waiting: deque[_Request] = deque()
        self.asked: dict[tuple[str, str], _Request] = {}
        self.answered = self.restarted = 0
        self._queue, self._numbers, self._future = queue, 0, future
        self._line: deque[object] = deque()  # callers that wait for room
        self._known: OrderedDict[tuple[str, str], Future[SubnetAnswer]] = OrderedDict()
        self._ended: BaseException | None = None

    def ask(
        self, archs: Sequence[Architecture], shared: SharedContext, wait: float | None
    ) -> list[Future[SubnetAnswer]]:
        keys = [(shared.version, arch.id) for arch in archs]
        with self.room:
            self._wait_for_room(keys, wait)
            self.check()
            for key, arch in zip(keys, archs, strict=True):
                if key not in self._known and key not in self.asked:
                    self._numbers += 1
                    job = Job(self._numbers, seed=0, max_step=shared.evaluator.max_step)
                    self.asked[key] = _Request(ActorTask(arch, job, shared), self._future())
                    self.waiting.append(self.asked[key])
            self.room.notify_all()
            return [self._known.get(key) or self.asked[key].answer for key in keys]

    def _wait_for_room(self, keys: Sequence[tuple[str, str]], wait: float | None) -> None:
        """Wait in the order of arrival, so that small requests do not pass a large one for ever.

        Raises:
            Busy: If there was no room in time.
        """
        me = object()
        self._line.append(me)
        try:
            if not self.room.wait_for(lambda: self._fits(keys, self._line[0] is me), wait):
                others = len(self._line) - 1
                behind = f", and {others} callers wait for room" if others else ""
                raise ServerBusy(
                    f"{len(self.waiting)} architectures wait, up to {self._queue} may{behind}"
                )
        finally:  # also if the caller is interrupted
            self._line.remove(me)
            self.room.notify_all()

    def _fits(self, keys: Sequence[tuple[str, str]], first: bool) -> bool:
        new = {key for key in keys if key not in self._known and key not in self.asked}
        if not new or self._ended is not None:
            return True
        have = len(self.waiting)  # a request larger than the limit is admitted alone
        return first and (not have or have + len(new) <= self._queue)

    def check(self) -> None:
        """Check that the server has not ended.

        Raises:
            UserError: If nothing is answered any more.
        """
        if (reason := self._ended) is not None:
            raise UserError(f"the supernet server has ended: {reason}") from reason

    def end(self, reason: BaseException) -> None:
        """Give the reason to all callers that wait, and to later ones; the first reason counts."""
        with self.room:
            if self._ended is None:
                self._ended = reason
            unanswered = list(self.asked.values())
            self.asked.clear()
            self.waiting.clear()
            self.room.notify_all()
        for request in unanswered:
            _tell(request.answer, self._ended)

    # -- called by the pool -------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._ended is not None

    def next(self) -> ActorTask | None:
        with self.room:
            if not self.waiting:
                return None
            task = self.waiting.popleft().task
            self.room.notify_all()
            return task

    @property
    def left(self) -> int:
        return 0  # the number of replicas is fixed

    def rest(self, seconds: float) -> None:
        with self.room:
            self.room.wait_for(lambda: self.waiting or self._ended is not None, seconds)

    def share(self, workers: int) -> int:
        return -(-len(self.waiting) // max(workers, 1))

    def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
        for task, outcome in found:
            if outcome.measurement is not None:
                self._note(task, outcome.measurement)
            else:
                self._close(task, outcome.failure)

    def again(self, task: ActorTask) -> None:
        with self.room:
            self.restarted += 1
        self._note(task, None)

    def lose(self, task: ActorTask, message: str) -> None:
        self._close(task, message)

    def _request(self, task: ActorTask) -> _Request | None:
        """Return the request of the task; another task may answer an equal request, later."""
        request = self.asked.get(_key(task))
        return request if request is not None and request.task is task else None

    def _note(self, task: ActorTask, found: Measurement | None) -> None:
        with self.room:
            if request := self._request(task):
                request.found = found

    def _close(self, task: ActorTask, failure: str) -> None:
        key = _key(task)
        with self.room:
            request = self._request(task)
            if request is None:
                return
            del self.asked[key]
            self.answered += 1
            found = None if failure else request.found
            failure = failure or ("" if found else "the evaluator ended without a measurement")
            if not failure:  # a failure may be temporary: it is tried again when asked again
                self._known[key] = request.answer
                if len(self._known) > _KNOWN:
                    self._known.popitem(last=False)
        _tell(request.answer, SubnetAnswer(task.arch, key[0], found, failure))


def _tell(future: Future[SubnetAnswer], answer: SubnetAnswer | BaseException) -> None:
    """Set the result of a future; one that a caller has already set is left alone."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(answer, SubnetAnswer):
            future.set_result(answer)
        else:
            future.set_exception(answer)


def _key(task: ActorTask) -> tuple[str, str]:
    assert task.shared is not None
    return task.shared.version, task.arch.id
