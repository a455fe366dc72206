"""Threads, locks and a clock that a seed decides about.

Threads are greenlets of one real thread: exactly one runs, and another can go on only where the
running one takes a lock, waits, sleeps or calls the simulated system. Which one, and when, is drawn
from a random generator, so that a seed gives the same run again. Time passes only while all wait.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
from collections.abc import Callable
from typing import Any

import greenlet


class Violation(AssertionError):
    """Something happened that must not happen, whatever the seed."""


class Process:
    """A simulated thread. ``blocked_by``: what it waits for, None when it can go on."""

    def __init__(self, simulator: Simulator, name: str, target: Callable[[], object]) -> None:
        self.name, self.done = name, False
        self.error: BaseException | None = None
        self.blocked_by: Callable[[], object] | None = None
        self.deadline = math.inf
        self.interruptible = self.came_true = False
        self.interrupt: BaseException | None = None
        self._target = target
        self.greenlet = greenlet.greenlet(self._run, parent=simulator.hub)

    def _run(self) -> None:
        try:
            self._target()
        except greenlet.GreenletExit:
            pass
        except BaseException as error:
            self.error = error
        self.done = True

    def ready(self, now: float) -> bool:
        """Whether it can go on."""
        until = self.blocked_by
        if until is None or until():
            self.came_true = True
            return True
        self.came_true = False
        return self.deadline <= now or self.interrupt is not None


class Simulator:
    """Runs processes and timed events in an order that ``rng`` draws.

    ``switching``: the probability that another process may go on at a point where it could.
    ``limit``: of steps, after which a run counts as one that does not end.
    """

    def __init__(self, rng: random.Random, switching: float = 0.3, limit: int = 60_000) -> None:
        self.rng, self.now = rng, 0.0
        self.steps, self.limit, self.switching = 0, limit, switching
        self.hub = greenlet.getcurrent()
        self.running: Process | None = None
        self.processes: list[Process] = []
        self.over = False
        self.checks: list[Callable[[], None]] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    # -- what simulated code calls ---------------------------------------------------------------

    def spawn(self, name: str, target: Callable[[], object]) -> Process:
        """Start a process; it runs when it is drawn."""
        process = Process(self, name, target)
        self.processes.append(process)
        return process

    def at(self, seconds: float, event: Callable[[], object]) -> None:
        """Have ``event`` happen after so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def block(
        self,
        until: Callable[[], object],
        seconds: float = math.inf,
        *,
        interruptible: bool = False,
    ) -> bool:
        """Wait; gives whether it came true, rather than that the time was over."""
        if self.over:
            raise greenlet.GreenletExit
        process = self.running
        if process is None:  # outside of the simulation nobody else can run
            return bool(until())
        process.blocked_by, process.deadline = until, self.now + seconds
        process.interruptible = interruptible
        self.hub.switch()
        process.blocked_by, process.deadline, process.interruptible = None, math.inf, False
        if self.over:
            raise greenlet.GreenletExit
        if process.interrupt is not None:
            error, process.interrupt = process.interrupt, None
            raise error
        return process.came_true

    def pause(self) -> None:
        """A point where another process may go on."""
        if self.running is not None and self.rng.random() < self.switching:
            self.block(lambda: True)

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        self.block(lambda: False, seconds)

    # -- the loop --------------------------------------------------------------------------------

    def run(self, main: Process) -> None:
        """Until ``main`` is done. Raises: Violation when it cannot be, or would never be."""
        try:
            while not main.done:
                self._step()
            if main.error is not None:
                raise main.error
        finally:
            self._end()

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.limit:
            raise Violation(f"it does not end: {self.limit} steps")
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        ready = [p for p in self.processes if p.ready(self.now)]
        if ready:
            self._go_on(ready[int(self.rng.random() * len(ready))] if len(ready) > 1 else ready[0])
        else:
            self._wait()
        for check in self.checks:
            check()

    def _go_on(self, process: Process) -> None:
        self.running = process
        process.greenlet.switch()
        self.running = None
        if process.done:
            self.processes.remove(process)

    def _wait(self) -> None:
        due = min([p.deadline for p in self.processes], default=math.inf)
        if self._events:
            due = min(due, self._events[0][0])
        if due == math.inf:
            stuck = ", ".join(sorted(p.name for p in self.processes if not p.done))
            raise Violation(f"these wait for ever: {stuck}")
        self.now = due

    def _end(self) -> None:
        self.over = True
        for process in self.processes:
            if not process.done and process.greenlet:
                self.running = process
                process.greenlet.throw(greenlet.GreenletExit)
        self.running = None


class SimulatedCondition:
    """As ``threading.Condition`` over a lock that its owner may take again."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._owner: Process | None = None
        self._depth = 0
        self._tokens: list[list[bool]] = []

    def __enter__(self) -> bool:
        self._simulator.pause()
        self._acquire()
        return True

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None

    def acquire(self) -> bool:
        return self.__enter__()

    def release(self) -> None:
        self.__exit__()

    def _acquire(self) -> None:
        me = self._simulator.running
        if self._depth and self._owner is not me:
            self._simulator.block(lambda: not self._depth)
        self._owner = me
        self._depth += 1

    def wait(self, timeout: float | None = None) -> bool:
        token, depth = [False], self._depth
        self._tokens.append(token)
        self._owner, self._depth = None, 0
        try:
            seconds = math.inf if timeout is None else max(timeout, 0.0)
            self._simulator.block(lambda: token[0], seconds, interruptible=True)
        finally:
            self._tokens = [other for other in self._tokens if other is not token]
            self._acquire()
            self._depth = depth
        return token[0]

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else self._simulator.now + timeout
        result = predicate()
        while not result:
            left = None if end is None else end - self._simulator.now
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        for token in self._tokens[:n]:
            token[0] = True
        del self._tokens[:n]

    def notify_all(self) -> None:
        self.notify(len(self._tokens))


class SimulatedThread:
    """As ``threading.Thread``, as far as it is used."""

    def __init__(
        self,
        simulator: Simulator,
        target: Callable[..., object],
        args: tuple[Any, ...] = (),
        name: str = "a thread",
    ) -> None:
        self._simulator, self._name = simulator, name
        self._target = lambda: target(*args)
        self.process: Process | None = None

    def start(self) -> None:
        self.process = self._simulator.spawn(self._name, self._target)
        self._simulator.pause()

    def join(self, timeout: float | None = None) -> None:
        process = self.process
        if process is not None:
            seconds = math.inf if timeout is None else timeout
            self._simulator.block(lambda: process.done, seconds)

    def is_alive(self) -> bool:
        return self.process is not None and not self.process.done


class Threading:
    """What stands for the module ``threading``. ``started``: its threads, in order."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.started: list[SimulatedThread] = []

    def Condition(self) -> SimulatedCondition:
        return SimulatedCondition(self._simulator)

    def Thread(self, *, target: Any, args: Any = (), name: str = "", daemon: Any = None) -> Any:
        thread = SimulatedThread(self._simulator, target, args, name)
        self.started.append(thread)
        return thread

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Time:
    """What stands for the module ``time``."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.sleep = simulator.sleep

    def monotonic(self) -> float:
        return self._simulator.now
