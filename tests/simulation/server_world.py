"""Worlds in which a seed decides all that can happen to a server of subnets and its callers.

The real server, desk and crew run in simulated threads on a simulated Ray. Replicas die, hang, are
lost together, or answer what nobody asked; callers cancel, time out, are interrupted, wait in
callbacks, come and go; weights are renewed meanwhile. After every step, and at the end, what was
promised is compared with what happened:

* every request is answered once, by its own architecture and version, or its caller is told why;
* nothing waits for ever, and everything ends;
* a task is not evaluated by more workers that die than its retries allow, and none fails that had
  not begun on as many;
* the server lives as long as replicas can be set up, and ends with its reason where they cannot.

    python tests/simulation/server_world.py --seeds 100000 --first 0
    python tests/simulation/server_world.py --seed 17
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "fakes")]

import concurrent.futures._base as futures_module

from simulation import sim_threads
from simulation.sim_ray import Faults, SimulatedRay
from simulation.sim_threads import Simulator, Violation
from toys import ToySpace

from raynas.core import Architecture, Job, Measurement, RaynasError, UserError
from raynas.runners.base import JobOutcome, Resources
from raynas.runners.ray import actor_backend, actor_worker, actors
from raynas.runners.ray import actor_pool as crew_module
from raynas.runners.ray import server as server_module
from raynas.runners.ray.actor_pool import ActorPool
from raynas.runners.ray.server import EvaluationContext, ServerBusy, SubnetAnswer, SupernetServer
from raynas.runners.ray.shared_context import SharedContext

try:
    from raynas.runners.ray import futures as callbacks_module
except ImportError:  # an older server
    callbacks_module = None  # type: ignore[assignment]

SPACE = ToySpace()
ARCHS = list(SPACE.enumerate())[:30]
#: seconds after the last caller has left in which everything must be answered
_LATE = 3000.0
#: so often a task is believed that it had not begun on a worker that died
SIGNS_LOST = 2
_HAND = crew_module.ActorHandle
_FAULTS = tuple(field.name for field in fields(Faults))


@dataclass(frozen=True)
class Settings:
    """What a seed has drawn."""

    faults: Faults
    replicas: int
    queue: int
    retries: int
    patience: float | None
    crowd: int
    seconds: float
    callers: int
    actions: int
    pool: int
    guilty: frozenset[str]
    failing: frozenset[str]
    habits: frozenset[str]


#: what callers may do beside asking and waiting
HABITS = ("cancel", "raise", "exit", "ask again", "wait in callback", "sleep in callback",
          "interrupt", "time out", "renew", "leave", "large")  # fmt: skip


def some(rng: random.Random, most: int, share: float = 0.3) -> int:
    """Up to so many, or most often none."""
    return rng.randint(1, most) if rng.random() < share else 0


def draw_faults(rng: random.Random, *, hangs: bool) -> Faults:
    """Each kind is there in some worlds and not in others."""
    return Faults(
        deaths=some(rng, 6),
        massacres=some(rng, 2),
        machines_lost=some(rng, 2, 0.2),
        set_up_deaths=some(rng, 2, 0.2),  # fewer in all than end a crew
        set_up_errors=some(rng, 2, 0.2),
        hangs=some(rng, 3) if hangs else 0,
        slow_set_ups=rng.choice([0.0, 0.0, 0.3]),
        glitches=some(rng, 4, 0.2),
        refusals=rng.choice([0.0, 0.0, 0.5]),
        mute=rng.choice([0.0, 0.0, 0.5]),
        doom=rng.uniform(0, 30) if rng.random() < 0.05 else math.inf,
    )


def draw(rng: random.Random) -> Settings:
    """Each fault and habit is there in some worlds and not in others."""

    patience = rng.choice([None, None, rng.uniform(20, 60)])
    faults = draw_faults(rng, hangs=patience is not None)
    pool = rng.randint(1, 12)
    names = [arch.id for arch in ARCHS[:pool]]
    return Settings(
        faults=faults,
        replicas=rng.randint(1, 5),
        queue=rng.randint(1, 10),
        retries=rng.randint(0, 3),
        patience=patience,
        crowd=rng.choice([1, 1, 3]),
        seconds=rng.choice([0.001, 0.02, 0.5, 2.0]),
        callers=rng.randint(1, 4),
        actions=rng.randint(1, 6),
        pool=pool,
        guilty=frozenset(rng.sample(names, some(rng, min(pool, 2), 0.25))),
        failing=frozenset(rng.sample(names, some(rng, min(pool, 2), 0.2))),
        habits=frozenset(h for h in HABITS if rng.random() < 0.25),
    )


def restrict(settings: Settings, only: Sequence[str]) -> Settings:
    """Leave out all faults and habits but these, by their names."""
    nothing = Faults()
    kept = {name: getattr(settings.faults if name in only else nothing, name) for name in _FAULTS}
    return replace(settings, faults=Faults(**kept), habits=settings.habits & set(only))


@dataclass(frozen=True)
class SimulatedEvaluator:
    """As much of an evaluator as a server needs in this process."""

    version: str = "v0"
    preferred_batch: int = 1
    max_step: int = 1
    serial: bool = False

    def bind_weights(self, folder: Path) -> SimulatedEvaluator:
        return replace(self, version=folder.name)


@contextlib.contextmanager
def in_place(
    simulator: Simulator,
    ray: SimulatedRay,
    threading: sim_threads.Threading,
    more: Sequence[tuple[Any, str, Any]] = (),
) -> Iterator[None]:
    """Put the simulated Ray, threads and clock where the real ones are; ``more``: module, name and
    what stands for it."""

    def hand(*given: Any, **named: Any) -> Any:
        made = _HAND(*given, **named)
        made.heard = simulator.now  # an older one reads the real clock
        return made

    places: list[tuple[Any, str, Any]] = [
        (actor_backend, "ray", ray),
        (actor_worker, "ray", ray),
        (actor_backend, "machines", ray),
        (crew_module, "time", sim_threads.Time(simulator)),
        (actor_worker, "time", sim_threads.Time(simulator)),
        (actors, "time", sim_threads.Time(simulator)),
        (crew_module, "_LOOK_SECONDS", 1.0),  # so that fewer steps pass while nothing happens
        (crew_module, "ActorHandle", hand),
        (futures_module, "threading", threading),
        *more,
    ]
    if callbacks_module is not None:
        places.append((callbacks_module, "threading", threading))
    kept = [(module, name, getattr(module, name)) for module, name, _ in places]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of callbacks that are meant to fail
    try:
        for module, name, stand_in in places:
            setattr(module, name, stand_in)
        yield
    finally:
        for module, name, real in kept:
            setattr(module, name, real)
        logging.disable(level)


def value(arch_id: str, version: str) -> float:
    """What an evaluation finds: another for each architecture and version."""
    text = f"{arch_id} {version}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2.0**48


class _Cluster:
    """Stands for the cluster runner that a server hires by."""

    world: World

    def __init__(self, resources: Resources, *_: Any) -> None:
        self.resources = resources
        self.closed = False
        self.world.cluster = self

    def open(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def share(self, payload: EvaluationContext) -> SharedContext:
        if self.closed:
            raise Violation("weights are shared after the end")
        evaluator: Any = payload.evaluator
        return SharedContext(payload.space, evaluator, None, None, evaluator.version)

    def hire(self, payload: EvaluationContext, *, patience: float | None = None) -> ActorPool:
        size = self.resources.concurrent
        assert size is not None
        options = {"num_cpus": 1.0, "num_gpus": 0.0}
        self.world.crew = ActorPool(
            self.share(payload),
            options,
            lambda: size,
            retries=self.resources.retries,
            patience=patience,
        )
        return self.world.crew


@dataclass(eq=False)
class Asked:
    """A future that a caller got. ``versions``: that were current while it was asked for."""

    arch: Architecture
    future: Future[SubnetAnswer]
    versions: tuple[str, ...]
    cancelled: bool = False


class World:
    """One server, its replicas and its callers."""

    def __init__(self, seed: int, only: Sequence[str] | None = None) -> None:
        self.rng = random.Random(seed)
        settings = draw(self.rng)
        self.settings = settings = settings if only is None else restrict(settings, only)
        self.simulator = Simulator(self.rng, switching=self.rng.choice([0.05, 0.3]))
        self.threading = sim_threads.Threading(self.simulator)
        self.ray = SimulatedRay(
            self.simulator,
            settings.faults,
            guilty=lambda arch: arch.id in settings.guilty,
            outcomes=self._outcomes,
            seconds=settings.seconds,
        )
        self.asked: list[Asked] = []
        self.callbacks_due = self.callbacks_run = 0
        self.versions = ["v0"]
        self.closing = False
        self.reached: set[str] = set()
        self.crew: Any = None
        self.cluster: Any = None
        self.server: Any = None
        self.callers: list[sim_threads.Process] = []

    # -- a run -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises: Violation, with what went wrong."""
        cluster = type("Cluster", (_Cluster,), {"world": self})
        server = [
            (server_module, "threading", self.threading),
            (server_module, "ActorRunner", cluster),
            (server_module, "_check", lambda _payload: None),
        ]
        with in_place(self.simulator, self.ray, self.threading, server):
            self.simulator.checks.append(self._check_step)
            main = self.simulator.spawn("main", self._main)
            self.simulator.run(main)

    def _main(self) -> None:
        settings, simulator = self.settings, self.simulator
        evaluator: Any = SimulatedEvaluator(preferred_batch=settings.crowd)
        payload = EvaluationContext(SPACE, evaluator, None)  # type: ignore[arg-type]
        resources = Resources(concurrent=settings.replicas, retries=settings.retries)
        server = SupernetServer(
            payload, resources, queue=settings.queue, patience=settings.patience
        )
        self.server = server
        for number in range(settings.callers):
            caller = simulator.spawn(f"caller {number}", self._caller)
            self.callers.append(caller)
        if "interrupt" in settings.habits:
            simulator.spawn("interrupts", self._interrupts)
        callers = list(self.callers)
        simulator.block(lambda: all(caller.done for caller in callers))
        for caller in callers:
            if caller.error is not None:
                raise caller.error
        self._check_answers()
        self.closing = True
        server.close()
        self._check_end()

    # -- callers ---------------------------------------------------------------------------------

    def _caller(self) -> None:
        rng = self.rng
        for _ in range(self.settings.actions):
            self.simulator.sleep(rng.choice([0.0, 0.01, 0.5, rng.uniform(0, 20)]))
            try:
                self._act()
            except KeyboardInterrupt:
                pass
            except UserError as error:
                self._is_the_end(error)

    def _act(self) -> None:
        rng, habits = self.rng, self.settings.habits
        if "renew" in habits and rng.random() < 0.2:
            version = f"v{len(self.versions)}"
            self.versions.append(version)
            self.server.update(Path(version))
            return
        if rng.random() < 0.1:
            self.server.health()
            return
        mine = self._ask(self._some_archs(), self._patience())
        if rng.random() < 0.3:
            for asked in mine:
                self._call_back(asked)
        if "cancel" in habits and rng.random() < 0.5:
            self.simulator.sleep(rng.choice([0.0, 0.05, 1.0]))
            for asked in rng.sample(mine, rng.randint(0, len(mine))):
                asked.cancelled = asked.future.cancel() or asked.cancelled
        if "leave" in habits and rng.random() < 0.3:
            return
        for asked in mine:
            self._wait(asked)

    def _some_archs(self) -> list[Architecture]:
        most = 14 if "large" in self.settings.habits else 5
        pool = ARCHS if "large" in self.settings.habits else ARCHS[: self.settings.pool]
        return self.rng.choices(pool, k=self.rng.randint(1, most))

    def _patience(self) -> float | None:
        if "time out" not in self.settings.habits:
            return None
        return self.rng.choice([None, 0.0, 0.3, 5.0])

    def _ask(self, archs: Sequence[Architecture], wait: float | None) -> list[Asked]:
        before = len(self.versions)
        try:
            futures = self.server.submit(archs, wait)
        except ServerBusy:
            if wait is None:
                raise Violation("Busy was raised though the caller would have waited") from None
            return []
        versions = tuple(self.versions[max(before - 2 - self.settings.callers, 0) :])
        mine = [Asked(a, f, versions) for a, f in zip(archs, futures, strict=True)]
        self.asked += mine
        return mine

    def _wait(self, asked: Asked) -> None:
        limited = "time out" in self.settings.habits and self.rng.random() < 0.5
        try:
            asked.future.result(self.rng.choice([0.0, 1.0]) if limited else None)
        except TimeoutError:
            if not limited:
                raise Violation("a wait without a limit has timed out") from None
        except CancelledError:
            if not asked.cancelled:
                raise Violation(
                    f"{asked.arch}: cancelled by another caller of the same request"
                ) from None

    def _call_back(self, asked: Asked) -> None:
        habits = [h for h in HABITS if h in self.settings.habits]
        kinds = [h for h in habits if h in _CALLBACKS] or ["count"]
        kind = self.rng.choice(kinds)

        def callback(_future: Future[SubnetAnswer]) -> None:
            try:
                if kind in _CALLBACKS:
                    _CALLBACKS[kind](self, asked)
            finally:
                self.callbacks_run += 1

        self.callbacks_due += 1
        with contextlib.suppress(SystemExit):  # its own, where the answer is there already
            asked.future.add_done_callback(callback)

    def _interrupts(self) -> None:
        """Ctrl-C in callers that wait for room or for an answer."""
        for _ in range(5):
            self.simulator.sleep(self.rng.uniform(0, 5))
            waiting = [c for c in self.callers if not c.done and c.interruptible]
            if waiting:
                self.rng.choice(waiting).interrupt = KeyboardInterrupt()

    # -- what was promised -----------------------------------------------------------------------

    @property
    def doomed(self) -> bool:
        return self.ray.hopeless

    def _is_the_end(self, error: Exception) -> None:
        """A caller was told that the server has ended; is that so?"""
        if not self.doomed:
            raise Violation(f"the server ended though replicas can be hired: {error}")
        self.reached.add("doom")

    def _check_step(self) -> None:
        if self.server is None:
            return
        desk = self.server._desk
        most = max(self.settings.queue, 14)
        if len(desk.waiting) > most:
            raise Violation(f"{len(desk.waiting)} wait in a queue of {self.settings.queue}")
        thread = self.server._thread.process
        if thread is not None and thread.done and not self.closing:
            if thread.error is not None:
                raise Violation(f"the server's thread died: {thread.error!r}")
            if not self.doomed:
                raise Violation(f"the server ended though replicas can be hired: {desk._ended!r}")

    def _check_answers(self) -> None:
        simulator = self.simulator

        def answered() -> bool:
            return all(asked.future.done() for asked in self.asked)

        if not simulator.block(answered, _LATE):
            late = [str(a.arch) for a in self.asked if not a.future.done()]
            raise Violation(f"not answered: {late}")
        if not simulator.block(lambda: self.callbacks_run == self.callbacks_due, _LATE):
            raise Violation(f"{self.callbacks_run} of {self.callbacks_due} callbacks were run")
        if not answered():  # what a callback has asked for
            return self._check_answers()
        for asked in self.asked:
            self._check_answer(asked)
        return None

    def _check_answer(self, asked: Asked) -> None:
        if asked.future.cancelled():
            if not asked.cancelled:
                raise Violation(f"{asked.arch}: cancelled by another caller of the same request")
            return None
        error = asked.future.exception(0)
        if error is not None:
            assert isinstance(error, Exception)
            return self._is_the_end(error)
        answer = asked.future.result(0)
        name = f"{asked.arch} by {answer.version}"
        if answer.arch != asked.arch or answer.version not in asked.versions:
            raise Violation(f"{asked.arch} by {asked.versions} got the answer {name}")
        if answer.failure:
            return self._check_failure(asked, answer)
        found = answer.measurement
        if found is None or found.values["val_accuracy"] != value(asked.arch.id, answer.version):
            raise Violation(f"{name}: the answer of another")
        if asked.arch.id in self.settings.guilty | self.settings.failing:
            raise Violation(f"{name}: an answer where none can be")
        return None

    def _check_failure(self, asked: Asked, answer: SubnetAnswer) -> None:
        if answer.failure.startswith("ValueError: bad"):
            if asked.arch.id not in self.settings.failing:
                raise Violation(f"{asked.arch} has the failure of another: {answer.failure}")
            return
        if not answer.failure.startswith("its worker died"):
            raise Violation(f"{asked.arch} failed without a reason: {answer.failure}")
        self.reached.add("failed")
        needed = min(self.settings.retries + 1, 2)
        ray = self.ray
        key = asked.arch.id, answer.version
        tasks = [task for task, of in ray.given.items() if of == key]
        # a sign of a begin may be lost, so that without one there is blame in the end, too
        most = max((ray.blameable(task, SIGNS_LOST) for task in tasks), default=0)
        if most < needed:
            raise Violation(
                f"{asked.arch} (tasks {tasks}) was given up for {most} workers that died under it: "
                f"{answer.failure}"
            )

    def _check_end(self) -> None:
        ray, retries = self.ray, self.settings.retries
        for number, deaths in ray.deaths_under.items():
            most = max(retries + 1, 2) + min(ray.unheard[number], SIGNS_LOST)
            if deaths > most:
                raise Violation(f"{deaths} workers died under task {number}, {most} may")
        left = [a.number for a in ray.actors if a.alive and not a.killed]
        if left:
            raise Violation(f"workers {left} are left over")
        if not self.cluster.closed:
            raise Violation("the cluster is still open")
        try:
            self.server.submit(ARCHS[:1])
        except UserError:
            return
        raise Violation("a server that was closed takes a request")

    def _outcomes(self, arch: Architecture, job: Job, shared: Any, _actor: int) -> list[JobOutcome]:
        if arch.id in self.settings.failing:
            return [JobOutcome(failure="ValueError: bad")]
        found = Measurement(1, {"val_accuracy": value(arch.id, shared.version)})
        return [JobOutcome(found), JobOutcome()]


def _raise(_world: World, _asked: Asked) -> None:
    raise ValueError("a callback that fails")


def _exit(_world: World, _asked: Asked) -> None:
    raise SystemExit("a callback that wants to end all")


def _ask_again(world: World, asked: Asked) -> None:
    with contextlib.suppress(UserError):
        world._ask([asked.arch, world.rng.choice(ARCHS)], None)


def _wait_in_callback(world: World, _asked: Asked) -> None:
    with contextlib.suppress(RaynasError):
        world.server.evaluate([world.rng.choice(ARCHS)])


def _sleep(world: World, _asked: Asked) -> None:
    world.simulator.sleep(world.rng.uniform(0, 30))


_CALLBACKS: dict[str, Callable[[World, Asked], None]] = {
    "raise": _raise,
    "exit": _exit,
    "ask again": _ask_again,
    "wait in callback": _wait_in_callback,
    "sleep in callback": _sleep,
}


def make_world(kind: str, seed: int, only: Sequence[str] | None = None) -> Any:
    """A world of a server, or of the actors of a search."""
    if kind == "server":
        return World(seed, only)
    from simulation.actors_world import ActorsWorld

    return ActorsWorld(seed)


def check(seed: int, kind: str = "server", only: Sequence[str] | None = None) -> str:
    """What goes wrong with a seed; empty when nothing does."""
    try:
        make_world(kind, seed, only).run()
    except Violation as violation:
        return str(violation)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def run_seed(seed: int) -> str:
    """What goes wrong with a seed; empty when nothing does."""
    return check(seed)


def replay(seed: int, kind: str = "server") -> list[str]:
    """Play one world, and tell how it ends."""
    world = make_world(kind, seed)
    world.run()
    return [f"seed {seed}: clean, {world.simulator.steps} steps"]


def main() -> int:
    """Try seeds; print those that fail, by what went wrong."""
    import argparse
    import time

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=("server", "actors"), default="server")
    parser.add_argument("--only", help="of a server: no faults and habits but these, by commas")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="replay one, with the traceback of what it finds")
    parser.add_argument("--most", type=int, default=10, help="end after so many that fail")
    given = parser.parse_args()
    only = None if given.only is None else given.only.split(",")
    if given.seed is not None:
        world = make_world(given.world, given.seed, only)
        world.run()
        print(f"seed {given.seed}: clean, {world.simulator.steps} steps")
        return 0
    began, failed = time.monotonic(), 0
    for seed in range(given.first, given.first + given.seeds):
        wrong = check(seed, given.world, only)
        if wrong:
            failed += 1
            print(f"seed {seed}: {wrong}", flush=True)
            if failed >= given.most:
                break
        if (seed + 1 - given.first) % 1000 == 0:
            print(f"tried to seed {seed}: {failed} failed", flush=True)
    tried = seed + 1 - given.first
    print(f"{tried} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    from simulation import server_world  # the same module for both worlds

    raise SystemExit(server_world.main())
