"""A Ray whose actors are simulated: slow, killed, hung, lost with their machine, or out of order.

It stands for the modules ``ray`` and ``nodes`` in ``raynas.runners.ray.actor_backend``. What really
happened to each worker is kept beside what the crew is told, so that the two can be compared.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from simulation.sim_threads import Simulator, Violation

from raynas.core import Job, Measurement
from raynas.runners.base import JobOutcome

KILLED = "The actor died unexpectedly before finishing this task. ... worker process has died."
GONE = "The actor died because its node has died. Node Id: 0"
SETUP = "The actor died because of an error raised in its creation task, ...\nOSError: no toy.bin"
_GLITCHES = ("twice", "after", "earlier", "foreign", "forgets", "raises", "ends")
RAISED = "ray::Worker.evaluate() (pid=1)\nValueError: a simulated error"


@dataclass(frozen=True)
class Faults:
    """What may happen in a run; probabilities are of each occasion.

    ``deaths``: single workers, so many in all. ``massacres``: all workers that are alive, or all
    that are idle, at once. ``machines_lost``: with all that is on them. ``set_up_deaths``: times at
    which a worker, or all workers, that are being set up die; ``set_up_errors``: they raise an
    error instead, once another worker has been set up. ``hangs``: workers that say nothing for a
    while, or ever again. ``glitches``: parts with outcomes that were given before, of tasks that
    the chunk does not have, or without one that is due. ``refusals``: calls of dead actors that
    raise at once. ``mute``: what was on its way when a worker died is lost. ``doom``: seconds after
    which no worker lives, or can be set up, any more.
    """

    deaths: int = 0
    massacres: int = 0
    machines_lost: int = 0
    set_up_deaths: int = 0
    set_up_errors: int = 0
    hangs: int = 0
    slow_set_ups: float = 0.0
    glitches: int = 0
    refusals: float = 0.0
    mute: float = 0.0
    doom: float = math.inf


@dataclass(eq=False)
class Call:
    """A call to an actor, and the reference to what it says. ``number``: of the actor's calls.

    ``left``: places of a chunk whose end the driver has not read.
    """

    actor: Actor
    chunk: list[tuple[Any, Job]] | None = None
    shared: Any = None
    items: deque[Any] = field(default_factory=deque)
    error: Exception | None = None
    begun: bool = False
    after: Call | None = None
    created: float = 0.0
    left: set[int] = field(default_factory=set)

    @property
    def readable(self) -> bool:
        return bool(self.items) or self.error is not None

    def __next__(self) -> Any:
        return self


STILLBORN = 5
"""Workers in a row that die before they are ready end a crew, as its documentation says."""


@dataclass(eq=False)
class Actor:
    """A worker. ``killed``: by the crew."""

    ray: SimulatedRay
    number: int
    machine: str
    shared: Any
    alive: bool = True
    set_up: bool = False
    killed: bool = False
    hung_until: float = 0.0
    calls: deque[Call] = field(default_factory=deque)
    unread: list[Call] = field(default_factory=list)
    busy: bool = False
    known: bool = False
    reached: float = 0.0
    arrives: float = 0.0
    death: str = ""
    last: Call | None = None
    forgetful: bool = False
    mute: bool | None = None
    slow: float = 1.0
    hired: float = 0.0
    died: float = math.inf

    @property
    def ready(self) -> Any:
        return SimpleNamespace(remote=lambda: self.ray.call(self, None, None))

    @property
    def evaluate(self) -> Any:
        return SimpleNamespace(
            remote=lambda chunk, shared=None: self.ray.call(self, list(chunk), shared)
        )


class SimulatedRay:
    """``seconds``: how long an evaluation takes, by its task; ``outcomes``: what it finds."""

    def __init__(
        self,
        simulator: Simulator,
        faults: Faults,
        *,
        guilty: Callable[[Any], bool],
        outcomes: Callable[[Any, Job, Any, int], Sequence[JobOutcome]],
        seconds: float,
    ) -> None:
        self.simulator, self.rng, self.faults = simulator, simulator.rng, faults
        self.guilty, self.outcomes, self.seconds = guilty, outcomes, seconds
        self.actors: list[Actor] = []
        self.there, self.known_machines = ["m0", "m1"], ["m0", "m1"]
        # of each task: workers that died while it was at work; workers given up that had come to
        # its chunk; those of them whose sign of that was not heard; those that were dead before
        self.deaths_under: Counter[int] = Counter()
        self.blame: Counter[int] = Counter()
        self.unheard: Counter[int] = Counter()
        self.not_begun: Counter[int] = Counter()
        self.ended: set[int] = set()  # tasks whose end the driver has read
        self.given: dict[int, tuple[str, str]] = {}  # task -> architecture and version
        self.refused = 0  # calls of dead workers that raised at once
        self.deaths = 0  # of workers that the crew had not given up
        self.once = True  # none of them may be given out again
        self.dooms = self.proven = False
        self._heard_ready: list[float] = []  # when
        self._set_up_deaths, self._set_up_errors = faults.set_up_deaths, faults.set_up_errors
        self._glitches = faults.glitches
        self._schedule_faults()

    # -- as ``ray`` ------------------------------------------------------------------------------

    def remote(self, _cls: type) -> Any:
        def options(**_options: Any) -> Any:
            return SimpleNamespace(remote=self._hire)

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[Call], *, num_returns: int, timeout: float | None) -> Any:
        seconds = math.inf if timeout is None else timeout

        def enough() -> bool:
            return sum(call.readable for call in waiting) >= num_returns

        if not enough() and seconds > 0:
            self.simulator.block(enough, seconds)
        else:
            self.simulator.pause()
        ready = [call for call in waiting if call.readable]
        return ready, [call for call in waiting if not call.readable]

    def get(self, call: Call) -> Any:
        if call.actor.killed:
            raise Violation(f"worker {call.actor.number} is listened to after it was given up")
        if not call.readable:
            self.simulator.block(lambda: call.readable)
        if not call.items:
            assert call.error is not None
            raise call.error
        item = call.items.popleft()
        if call.chunk is None:
            self.proven = call.actor.known = True
            self._heard_ready.append(self.simulator.now)
            call.actor.unread.remove(call)
            return item
        for place, outcome in item[0]:
            if outcome.measurement is None and place in call.left:
                call.left.discard(place)
                self.ended.add(call.chunk[place][1].trial)
        if not call.left and call in call.actor.unread:
            call.actor.unread.remove(call)
        return item

    def kill(self, actor: Actor) -> None:
        self.simulator.pause()
        if actor.killed:
            return
        self._account(actor)
        actor.killed = True
        delay = self.rng.choice([0.0, 0.01, 0.5])
        self.simulator.at(delay, lambda: self._die(actor, KILLED))

    def blameable(self, task: int, believed: int) -> int:
        """The workers whose end may be counted against a task. That it had not begun is believed
        so often; calls that raised may have been with it."""
        return self.blame[task] + max(self.not_begun[task] + self.refused - believed, 0)

    @property
    def hopeless(self) -> bool:
        """A crew may give up: no worker can be set up any more, or so many in a row died before
        that, each hired after the one before it had died, and none was ready in between."""
        row, last = 0, -math.inf
        for actor in sorted(self.actors, key=lambda a: a.died):
            if any(last < heard <= actor.died for heard in self._heard_ready):
                row, last = 0, -math.inf
            if not actor.known and actor.died < math.inf and actor.hired >= last:
                row, last = row + 1, actor.died
            if row == STILLBORN:
                return True
        return self.dooms

    # -- as ``machines`` -------------------------------------------------------------------------

    def known(self) -> frozenset[str]:
        self.simulator.pause()
        return frozenset(self.known_machines)

    def answering(self) -> frozenset[str]:
        if len(self.known_machines) > 1 and set(self.known_machines) != set(self.there):
            self.simulator.sleep(15.0)
        return frozenset(self.there)

    # -- workers ---------------------------------------------------------------------------------

    def _hire(self, shared: Any, _gpus: float) -> Actor:
        self.simulator.pause()
        actor = Actor(self, len(self.actors), self.rng.choice(self.there), shared)
        actor.hired = self.simulator.now
        actor.slow = self.rng.choice([0.5, 1.0, 1.0, 2.0])
        self.actors.append(actor)
        slow = self.rng.random() < self.faults.slow_set_ups
        seconds = self.rng.uniform(5, 60) if slow else self.rng.uniform(0.05, 1.5)
        self.simulator.at(seconds, lambda: self._set_up(actor))
        return actor

    def _set_up(self, actor: Actor) -> None:
        if not actor.alive:
            return
        if self.dooms:
            self._die(actor, SETUP if self.rng.random() < 0.5 else KILLED)
        elif self._set_up_deaths and self.rng.random() < 0.3:
            self._set_up_deaths -= 1
            others = [a for a in self.actors if not a.set_up and a is not actor]
            for other in others if self.rng.random() < 0.5 else []:
                self._die(other, KILLED)
            self._die(actor, KILLED)
        elif self.proven and self._set_up_errors and self.rng.random() < 0.3:
            self._set_up_errors -= 1
            self._die(actor, SETUP)
        else:
            actor.set_up = True
            self._next(actor)

    def call(self, actor: Actor, chunk: list[tuple[Any, Job]] | None, shared: Any) -> Call:
        self.simulator.pause()
        if not actor.alive and self.rng.random() < self.faults.refusals:
            self.refused += 1
            raise RuntimeError(actor.death)
        for _, job in chunk or ():
            if self.once and job.trial in self.ended:
                raise Violation(f"task {job.trial} is given out though its end was heard")
        for arch, job in chunk or ():
            self.given[job.trial] = arch.id, (shared or actor.shared).version
        call = Call(actor, chunk, shared, left=set(range(len(chunk or ()))))
        call.created = self.simulator.now
        if actor.last is not None:
            actor.last.after = call
            together = actor.last.chunk is None and actor.last.created == call.created
            call.begun = together and actor.last.begun  # it lived when both were sent
        actor.last = call
        actor.unread.append(call)
        actor.reached = max(actor.reached, self.simulator.now + self._delay())  # in order
        self.simulator.at(actor.reached - self.simulator.now, lambda: self._arrive(call))
        return call

    def _arrive(self, call: Call) -> None:
        actor = call.actor
        if not actor.alive:
            self._report_death(actor, call)
        else:
            actor.calls.append(call)
            self._next(actor)

    def _next(self, actor: Actor) -> None:
        if not actor.alive or not actor.set_up or actor.busy or not actor.calls:
            return
        if actor.hung_until > self.simulator.now:
            if actor.hung_until < math.inf:
                wait = actor.hung_until - self.simulator.now
                self.simulator.at(wait, lambda: self._next(actor))
            return
        call = actor.calls.popleft()
        call.begun = True
        if call.chunk is None:
            self._say(call, actor.number + 1)
            if call.after is not None and call.after.chunk is not None:
                call.after.begun = True  # it was sent to a worker that was alive
            self._next(actor)
        else:
            actor.busy = True
            self._evaluate(call, 0, [])

    def _evaluate(self, call: Call, place: int, found: list[Any]) -> None:
        """The task at ``place`` begins; ``found``: what is not said yet."""
        actor = call.actor
        assert call.chunk is not None
        if place == len(call.chunk):
            if found:
                self._say(call, (found, 0.01))
            self._finish(call)
            actor.busy = False
            self._next(actor)
            return
        seconds = self.seconds * actor.slow * self.rng.uniform(0.5, 1.5)
        if self.guilty(call.chunk[place][0]):
            self.simulator.at(self.rng.choice([0.0, seconds]), lambda: self._die(actor, KILLED))
        else:
            self.simulator.at(seconds, lambda: self._evaluated(call, place, found))

    def _evaluated(self, call: Call, place: int, found: list[Any]) -> None:
        actor = call.actor
        if not actor.alive:
            return
        if actor.hung_until > self.simulator.now:
            if actor.hung_until < math.inf:
                wait = actor.hung_until - self.simulator.now
                self.simulator.at(wait, lambda: self._evaluated(call, place, found))
            return
        assert call.chunk is not None
        arch, job = call.chunk[place]
        shared = call.shared if call.shared is not None else actor.shared
        for outcome in self.outcomes(arch, job, shared, actor.number):
            found.append((place, outcome))
            if outcome.measurement is not None and self.rng.random() < 0.2:
                self._say(call, (found, 0.01))
                found = []
        if self._glitches and self.rng.random() < 0.3:
            self._glitches -= 1
            if not self._glitch(call, place, found):
                return
        if found and self.rng.random() < 0.5:
            self._say(call, (found, 0.01))
            found = []
        self._evaluate(call, place + 1, found)

    def _glitch(self, call: Call, place: int, found: list[Any]) -> bool:
        """Something that no correct worker does; gives whether it goes on with the chunk."""
        kind = self.rng.choice(_GLITCHES)
        if kind == "twice":
            found.append((place, JobOutcome()))
        elif kind == "after":
            found += [(place, JobOutcome(failure="ValueError: late")), (place, JobOutcome())]
        elif kind == "earlier":
            found += [(0, JobOutcome(Measurement(1, {"val_accuracy": -1.0}))), (0, JobOutcome())]
            if place == 0 or call.actor.forgetful:
                del found[-2:]
        elif kind == "foreign":
            found.append((place + 1000, JobOutcome()))
        elif kind == "forgets":
            call.actor.forgetful = True
            found[:] = [f for f in found if f[0] != place or f[1].measurement is not None]
        else:
            if kind == "raises":
                self._fail(call, RuntimeError(RAISED))
            else:
                self._finish(call)
            call.actor.busy = False
            self._next(call.actor)
            return False
        return True

    # -- what reaches the driver -----------------------------------------------------------------

    def _delay(self) -> float:
        return self.rng.choice([0.0, 0.001, 0.001, 0.01, 0.2])

    def _due(self, actor: Actor) -> float:
        """What an actor says arrives in order."""
        actor.arrives = max(actor.arrives, self.simulator.now + self._delay())
        return actor.arrives - self.simulator.now

    def _say(self, call: Call, item: Any) -> None:
        actor = call.actor

        def arrive() -> None:
            if not self._is_mute(actor):
                call.items.append(item)

        self.simulator.at(self._due(actor), arrive)

    def _is_mute(self, actor: Actor) -> bool:
        """Whether what it had sent when it died is lost."""
        if actor.alive:
            return False
        if actor.mute is None:
            actor.mute = self.rng.random() < self.faults.mute
        return actor.mute

    def _finish(self, call: Call) -> None:
        self._fail(call, StopIteration())

    def _fail(self, call: Call, error: Exception) -> None:
        def arrive() -> None:
            if not self._is_mute(call.actor):
                call.error = call.error or error

        self.simulator.at(self._due(call.actor), arrive)

    def _report_death(self, actor: Actor, call: Call) -> None:
        def arrive() -> None:
            call.error = call.error or RuntimeError(actor.death)

        self.simulator.at(self._due(actor) + self.rng.choice([0.0, 0.1, 2.0]), arrive)

    def _die(self, actor: Actor, text: str) -> None:
        if not actor.alive:
            return
        actor.alive, actor.death, actor.died = False, text, self.simulator.now
        self.deaths += not actor.killed
        for call in actor.unread:
            if call.chunk is not None and call.begun and actor.busy and call.left:
                self._count_death(call)
                break
        for call in actor.unread:
            self._report_death(actor, call)

    def _count_death(self, call: Call) -> None:
        """Of the task that is at work; what was said of it may not have been heard."""
        assert call.chunk is not None
        for place in call.left:
            if self.guilty(call.chunk[place][0]):
                self.deaths_under[call.chunk[place][1].trial] += 1
                return

    def _account(self, actor: Actor) -> None:
        """The crew gives it up: which tasks may be blamed for that?"""
        front = next((c for c in actor.unread if c.chunk is not None and c.left), None)
        if front is None:
            return
        assert front.chunk is not None
        asked = [c for c in actor.unread if c.chunk is None]
        for place in front.left:
            number = front.chunk[place][1].trial
            self.blame[number] += front.begun
            self.unheard[number] += front.begun and bool(asked)
            self.not_begun[number] += not front.begun

    # -- faults at times that the seed draws -----------------------------------------------------

    def _schedule_faults(self) -> None:
        faults, at = self.faults, self.simulator.at
        for count, fault in (
            (faults.deaths, self._one_dies),
            (faults.massacres, self._many_die),
            (faults.machines_lost, self._lose_machine),
            (faults.hangs, self._one_hangs),
        ):
            for _ in range(count):
                at(self._moment(), fault)
        if faults.doom < math.inf:
            at(faults.doom, self._doom)

    def _moment(self) -> float:
        return self.rng.choice([self.rng.uniform(0, 3), self.rng.uniform(0, 40)])

    def _living(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.alive and actor.set_up]

    def _one_dies(self) -> None:
        if living := self._living():
            self._die(self.rng.choice(living), self.rng.choice([KILLED, GONE]))

    def _many_die(self) -> None:
        idle = self.rng.random() < 0.5
        for actor in self._living():
            if not (idle and actor.busy):
                self._die(actor, KILLED)

    def _lose_machine(self) -> None:
        machine = self.rng.choice(self.there)
        self.there.remove(machine)
        new = f"m{len(self.known_machines) + self.rng.randrange(10**6)}"
        self.there.append(new)
        self.known_machines.append(new)
        for actor in self.actors:
            if actor.machine == machine:
                self._die(actor, self.rng.choice([KILLED, GONE]))
        self.simulator.at(self.rng.uniform(0, 30), lambda: self.known_machines.remove(machine))

    def _one_hangs(self) -> None:
        # one that hangs while it is set up cannot be told from one that waits for a machine
        if living := [actor for actor in self._living() if actor.known]:
            actor = self.rng.choice(living)
            seconds = math.inf if self.rng.random() < 0.3 else self.rng.uniform(1, 60)
            actor.hung_until = self.simulator.now + seconds

    def _doom(self) -> None:
        self.dooms = True
        for actor in self._living():
            self._die(actor, KILLED)
