"""Subnets of a trained supernet as a service: any number of callers, a few actors that know all.

The weights lie in Ray's object store once a node; every actor has its own copy of them, the
calibration and the validation images on its device. Requests of tens of architectures are cut
into chunks and dealt out by a :class:`~raynas.runners.ray.actor_pool.Crew`, which replaces actors
that die or fall silent and starts over what they had not answered.
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
from raynas.runners.base import Outcome, Resources
from raynas.runners.ray.actor_pool import Shared, Source, Task
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.futures import CallbackThread
from raynas.search.context import Payload
from raynas.spaces.guard import checked_canonical

#: answers that are remembered; one is a few hundred bytes
_KNOWN = 100_000


class Busy(RaynasError):
    """The queue is full; ask again later, or be ready to wait."""


@dataclass(frozen=True)
class Answer:
    """What an architecture is worth by the weights of ``version``, or why that is not known."""

    arch: Architecture
    version: str
    measurement: Measurement | None = None
    failure: str = ""


@dataclass(frozen=True)
class Health:
    """``processes``: of the replicas that are ready; ``waiting``: architectures in the queue;
    ``under_way``: with a replica; ``answered``: since the start, remembered answers not counted;
    ``restarted``: evaluations that were begun again because their replica died."""

    version: str
    processes: tuple[int, ...]
    waiting: int
    under_way: int
    answered: int
    restarted: int


class SupernetServer:
    """Replicas behind one handle; callers may be threads.

    ``payload``: the evaluator must have its weights. ``resources``: of a replica, and in
    ``concurrent`` how many there are. ``queue``: the most architectures that wait for a replica;
    who brings more waits, too. ``patience``: a replica that says nothing for so many seconds is
    replaced, so longer than it works on a chunk; None waits for as long as it lives.

    An answer is known by the version of the weights and the canonical architecture (its resolution
    is a part of it); calibration seed and images are the same for all. Equal requests share one
    evaluation, and an evaluation that dies with its replica is repeated, by the same weights.

    Since equal requests share a future, it cannot be cancelled: ``cancel`` returns False, and who
    does not need the answer any more just leaves. Callbacks of futures run in a thread of their
    own, one after the other. The server lives as long as replicas can be set up; when it ends, all
    that is asked, and whoever asks later, is told the reason.
    Raises: UserError when the weights cannot be used or Ray not be reached.
    """

    def __init__(
        self,
        payload: Payload,
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
    ) -> list[Future[Answer]]:
        """Ask for architectures and go on; the answers are by the weights of this moment.

        ``wait``: seconds for room in the queue; None as long as it takes. All find room or none;
        who came first gets it first.
        Raises: Busy when there was none in time; UserError for an architecture of another space,
        or when the server has ended; ArchitectureError when the space has no canonical form of one.
        """
        space = self._payload.space
        for arch in archs:
            if arch.space != space.name:
                raise UserError(
                    f"architecture {arch} is of space {arch.space!r}, not of {space.name!r}",
                    cure="ask a server of the architecture's own space",
                )
        canonical = [checked_canonical(space, arch) for arch in archs]
        return self._desk.ask(canonical, self._crew.shared, wait)

    def evaluate(self, archs: Sequence[Architecture], wait: float | None = None) -> list[Answer]:
        """Ask, and wait for the answers, in the order of ``archs``. Raises: as ``submit``."""
        return [future.result() for future in self.submit(archs, wait)]

    def update(self, weights: Path) -> str:
        """Answer what is asked from now on by other weights; gives their version.

        What was asked before is answered by the former ones.
        Raises: UserError, naming the file, when they cannot be used; all stays as it was then. Also
        when the server has ended.
        """
        self._desk.check()
        payload = replace(self._payload, evaluator=self._payload.evaluator.with_prepared(weights))
        _check(payload)
        shared = self._cluster.share(payload)
        self._payload = payload
        self._crew.renew(shared)
        return shared.version

    @property
    def version(self) -> str:
        """Of the weights by which a request would be answered now."""
        return self._crew.shared.version

    def health(self) -> Health:
        """Raises: UserError when the server has ended, with the reason."""
        desk = self._desk
        desk.check()
        with desk.room:
            return Health(
                self.version,
                tuple(self._crew.processes),
                len(desk.waiting),
                len(desk.asked) - len(desk.waiting),
                desk.answered,
                desk.restarted,
            )

    def close(self) -> None:
        """End the replicas. What was not answered is not answered any more."""
        self._desk.end(UserError("the supernet server was closed"))
        self._thread.join()
        self._callbacks.end()
        self._cluster.close()

    def __enter__(self) -> SupernetServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        reason: Exception = RaynasError("nothing is evaluated any more")
        try:
            self._crew.carry_out(self._desk)
        except Exception as error:
            reason = error
        except BaseException as error:  # to be raised in this thread only
            reason = RaynasError(f"{type(error).__name__} in its thread")
        finally:
            self._desk.end(reason)
            self._crew.dismiss()


def _check(payload: Payload) -> None:
    """Raises: UserError, naming the file, when the evaluator cannot use its weights."""
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    evaluator.check(payload.space.extremes()[0])


@dataclass(eq=False)
class _Request:
    """One architecture by one version. ``answer`` is set once, by :func:`_tell`."""

    task: Task
    answer: Future[Answer]
    found: Measurement | None = None

    def __post_init__(self) -> None:
        self.answer.set_running_or_notify_cancel()  # nobody can cancel what others wait for, too


class _Desk(Source):
    """Where callers and the crew meet. Its state is read and changed while ``room`` is held.

    No code of callers runs meanwhile: futures get their results after it. ``future``: gives a new
    one.
    """

    def __init__(self, queue: int, future: Callable[[], Future[Answer]] = Future) -> None:
        self.room = threading.Condition()
        self.waiting: deque[_Request] = deque()
        self.asked: dict[tuple[str, str], _Request] = {}
        self.answered = self.restarted = 0
        self._queue, self._numbers, self._future = queue, 0, future
        self._line: deque[object] = deque()  # callers that wait for room
        self._known: OrderedDict[tuple[str, str], Future[Answer]] = OrderedDict()
        self._ended: BaseException | None = None

    def ask(
        self, archs: Sequence[Architecture], shared: Shared, wait: float | None
    ) -> list[Future[Answer]]:
        keys = [(shared.version, arch.id) for arch in archs]
        with self.room:
            self._wait_for_room(keys, wait)
            self.check()
            for key, arch in zip(keys, archs, strict=True):
                if key not in self._known and key not in self.asked:
                    self._numbers += 1
                    job = Job(self._numbers, seed=0, max_step=shared.evaluator.max_step)
                    self.asked[key] = _Request(Task(arch, job, shared), self._future())
                    self.waiting.append(self.asked[key])
            self.room.notify_all()
            return [self._known.get(key) or self.asked[key].answer for key in keys]

    def _wait_for_room(self, keys: Sequence[tuple[str, str]], wait: float | None) -> None:
        """In the order of arrival, so that a large request is not passed by small ones for ever.

        Raises: Busy when there was none in time.
        """
        me = object()
        self._line.append(me)
        try:
            if not self.room.wait_for(lambda: self._fits(keys, self._line[0] is me), wait):
                others = len(self._line) - 1
                behind = f", and {others} callers wait for room" if others else ""
                raise Busy(
                    f"{len(self.waiting)} architectures wait, up to {self._queue} may{behind}"
                )
        finally:  # also for who is interrupted
            self._line.remove(me)
            self.room.notify_all()

    def _fits(self, keys: Sequence[tuple[str, str]], first: bool) -> bool:
        new = {key for key in keys if key not in self._known and key not in self.asked}
        if not new or self._ended is not None:
            return True
        have = len(self.waiting)  # a request beyond the limit goes through alone
        return first and (not have or have + len(new) <= self._queue)

    def check(self) -> None:
        """Raises: UserError when nothing is answered any more."""
        if (reason := self._ended) is not None:
            raise UserError(f"the supernet server has ended: {reason}") from reason

    def end(self, reason: BaseException) -> None:
        """Tell all whose answers are awaited, and whoever asks later. The first reason counts."""
        with self.room:
            if self._ended is None:
                self._ended = reason
            unanswered = list(self.asked.values())
            self.asked.clear()
            self.waiting.clear()
            self.room.notify_all()
        for request in unanswered:
            _tell(request.answer, self._ended)

    # -- what the crew calls -------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._ended is not None

    def next(self) -> Task | None:
        with self.room:
            if not self.waiting:
                return None
            task = self.waiting.popleft().task
            self.room.notify_all()
            return task

    def rest(self, seconds: float) -> None:
        with self.room:
            self.room.wait_for(lambda: self.waiting or self._ended is not None, seconds)

    def share(self, workers: int) -> int:
        return -(-len(self.waiting) // max(workers, 1))

    def take(self, found: Sequence[tuple[Task, Outcome]]) -> None:
        for task, outcome in found:
            if outcome.measurement is not None:
                self._note(task, outcome.measurement)
            else:
                self._close(task, outcome.failure)

    def again(self, task: Task) -> None:
        with self.room:
            self.restarted += 1
        self._note(task, None)

    def lose(self, task: Task, message: str) -> None:
        self._close(task, message)

    def _request(self, task: Task) -> _Request | None:
        """That the task is of; another task may answer the same question, later."""
        request = self.asked.get(_key(task))
        return request if request is not None and request.task is task else None

    def _note(self, task: Task, found: Measurement | None) -> None:
        with self.room:
            if request := self._request(task):
                request.found = found

    def _close(self, task: Task, failure: str) -> None:
        key = _key(task)
        with self.room:
            request = self._request(task)
            if request is None:
                return
            del self.asked[key]
            self.answered += 1
            found = None if failure else request.found
            failure = failure or ("" if found else "the evaluator ended without a measurement")
            if not failure:  # a failure may be of the moment: it is tried again when asked again
                self._known[key] = request.answer
                if len(self._known) > _KNOWN:
                    self._known.popitem(last=False)
        _tell(request.answer, Answer(task.arch, key[0], found, failure))


def _tell(future: Future[Answer], answer: Answer | BaseException) -> None:
    """Whatever a caller has done with the future: the others are told."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(answer, Answer):
            future.set_result(answer)
        else:
            future.set_exception(answer)


def _key(task: Task) -> tuple[str, str]:
    assert task.shared is not None
    return task.shared.version, task.arch.id
