"""Drivers, readers and creators of one run on a simulated storage, where a seed decides everything.

    python tests/simulation/store_world.py --seeds 100000          # of which each must hold
    python tests/simulation/store_world.py --seed 123              # one again, with its trace

The real writer, lease, reader, fetch and creation of runs are at work; simulated are the storage,
the clocks and the threads. Processes are greenlets, and the seed decides how long each operation on
the storage takes and so their interleaving, and where

* a process is killed, interrupted as by Ctrl-C, or paused for long (its machine sleeps), between
  any two operations,
* an operation fails without an effect, or with one whose answer is lost, or takes effect later, or
  twice,
* a listing is some seconds old,
* a clock runs fast or slow, or jumps,
* writers never look at their claims, so that only the seals keep them apart.

Checked at every read and at the end: rows that were acknowledged are there, none twice, in one
order for all readers, by rising epochs; one creator wins; a refused start leaves no trace; every
resume ends; what does not count is removed in the end. Rows are short texts instead of Parquet.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from greenlet import GreenletExit, getcurrent, greenlet

TTL = 8.0
GRACE = 6.0
OLDEST_LISTING = 2.0  # seconds; must be less than the grace by any of the clocks
MACHINES = 3


class Violation(AssertionError):
    """Something that must never happen."""


@dataclass(frozen=True)
class Kind:
    """How long the runs of a world are: ``appends`` of a driver at least and at most, the chance of
    a compaction after each of them; whether a killed creation came before; and whether processes
    are paused and nothing else happens."""

    appends: tuple[int, int] = (1, 10)
    compact: float = 0.15
    left_over: float = 0.2
    pauses_only: bool = False


SHORT = Kind()
LONG = Kind((8, 25), 0.25, 0.0, True)
"""Merges of merged fragments by writers that sleep in the middle of them."""


# -- the world ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perils:
    """What can happen in one world: chances per operation on the storage."""

    kill: float
    interrupt: float
    pause: float
    fail: float
    old_listing: float
    jump: float
    skew: float
    blind: bool
    """Nobody renews a claim or looks at it before a write: live writers take a run from another."""

    @classmethod
    def draw(cls, rng: random.Random) -> Perils:
        """Some worlds are calm, some have one peril alone, others all of them."""
        kind = rng.randrange(6)
        level = rng.choice([0.3, 1.0, 2.0])
        on = [kind in (i, 5) for i in range(5)]
        return cls(
            kill=on[0] * level * 0.01,
            interrupt=on[0] * level * 0.005,
            pause=on[1] * level * 0.015,
            fail=on[2] * level * 0.03,
            old_listing=on[3] * 0.5,
            jump=on[4] * level * 0.005,
            skew=0.5 if on[4] else 0.0,
            blind=rng.random() < 0.25,
        )

    @classmethod
    def of_pauses(cls) -> Perils:
        return cls(0.0, 0.0, 0.01, 0.0, 0.0, 0.0, 0.0, False)

    @property
    def calm(self) -> bool:
        return not (self.kill or self.pause or self.fail or self.jump or self.blind)


@dataclass(eq=False)
class Process:
    """One of them: its clock, its machine, and what became of it."""

    world: World
    name: str
    machine: int
    rate: float = 1.0
    ahead: float = 0.0
    dead: bool = False
    asleep_until: float = 0.0
    changed: list[str] = field(default_factory=list)
    locks: list[Any] = field(default_factory=list)
    told: str = ""
    main: Any = None

    # what the store asks of its system
    def monotonic(self) -> float:
        return self.ahead + self.rate * self.world.now

    def sleep(self, seconds: float) -> None:
        self.world.wait(max(seconds, 0.0) / self.rate)

    def uniform(self, low: float, high: float) -> float:
        return self.world.rng.uniform(low, high)

    def mutex(self) -> Any:
        return Mutex(self.world)

    def every(self, seconds: float, action: Callable[[], bool], name: str) -> Callable[[], None]:
        ended: list[bool] = []

        def keep() -> None:
            self.sleep(seconds)
            while not ended and action():
                self.sleep(seconds)

        self.world.start(self, keep)
        return lambda: ended.append(True)

    def identity(self) -> Mapping[str, Any]:
        pid = next(self.world.pids)
        return {"pid": pid, "host": f"machine-{self.machine}", "token": f"{pid}"}

    def is_dead(self, holder: Mapping[str, Any]) -> bool:
        return False


class Mutex:
    """For the greenlets of one process."""

    def __init__(self, world: World) -> None:
        self._world, self._held = world, False

    def __enter__(self) -> None:
        while self._held:
            self._world.wait(0.01)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False

    acquire, release = __enter__, __exit__


class World:
    """Time, processes, and the storage they share."""

    def __init__(
        self, seed: int, code: Any, folder: Path, trace: bool = False, kind: Kind = SHORT
    ) -> None:
        self.rng = random.Random(seed)
        self.kind = kind
        self.perils = Perils.of_pauses() if kind.pauses_only else Perils.draw(self.rng)
        self.code, self.folder, self.traced = code, folder, trace
        self.now = 1000.0
        self.pids = itertools.count(1)
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.past: deque[tuple[float, dict[str, tuple[bytes, float]]]] = deque(maxlen=60)
        self.processes: list[Process] = []
        self.healed = False
        self.acknowledged: dict[str, float] = {}
        self.longest: list[str] = []
        self.creators: list[str] = []
        self.failures: list[BaseException] = []
        self.ids = itertools.count()
        self._queue: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._hub = getcurrent()

    def log(self, text: str) -> None:
        if self.traced:
            who = self.process.name if self.process else "world"
            text = text.replace(str(self.folder), "")
            print(f"{self.now - 1000:9.3f}  {who:12} {text}")

    @property
    def process(self) -> Process | None:
        return getattr(getcurrent(), "process", None)

    def spawn(self, name: str, machine: int, body: Callable[[Process], None]) -> Process:
        process = Process(self, name, machine)
        if self.perils.skew:
            process.rate = self.rng.uniform(1 - self.perils.skew, 1 + self.perils.skew)
            process.ahead = self.rng.uniform(0, 1e6)
        self.processes.append(process)
        after = self.rng.expovariate(self.rng.choice([0.5, 0.1, 0.03]))
        self.start(process, lambda: body(process), after)
        return process

    def start(self, process: Process, body: Callable[[], None], after: float = 0.0) -> None:
        def run() -> None:
            self.code.enter(process)
            try:
                body()
            except (GreenletExit, KeyboardInterrupt):
                pass
            except Exception as error:  # whatever it is, it must be looked at
                self.failures.append(error)

        green = greenlet(run, self._hub)
        green.process = process
        process.main = process.main or green
        self._push(self.now + after, green)

    def _push(self, when: float, what: Any) -> None:
        heapq.heappush(self._queue, (when, next(self._order), what))

    def wait(self, seconds: float) -> None:
        process = self.process
        if process is None:
            return
        if process.dead:
            raise GreenletExit
        self._push(self.now + seconds, getcurrent())
        self._hub.switch()
        if process.dead:
            raise GreenletExit

    def run(self, until: Callable[[], bool] = lambda: False, limit: int = 60_000) -> None:
        """Let everything happen, in the order of time."""
        for _ in range(limit):
            if self.failures:
                raise self.failures[0]
            if not self._queue or until():
                return
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if not isinstance(what, greenlet):
                what()
                continue
            process = what.process
            if process.dead:
                what.throw(GreenletExit)
            elif process.asleep_until > self.now:
                self._push(process.asleep_until, what)
            else:
                what.switch()
        raise Violation(f"after {limit} steps something still goes on")

    def kill(self, process: Process) -> None:
        self.log(f"KILL {process.name}")
        process.dead = True
        for lock in process.locks:
            lock.release()

    def peril(self) -> None:
        """Between two operations."""
        process = self.process
        if process is None or self.healed:
            return
        if self.rng.random() < self.perils.kill:
            self.kill(process)
            raise GreenletExit
        if self.rng.random() < self.perils.interrupt and getcurrent() is process.main:
            self.log("is interrupted")
            raise KeyboardInterrupt
        if self.rng.random() < self.perils.pause:
            seconds = self.rng.choice([TTL / 4, TTL, 3 * TTL, 3 * TTL, 100.0])
            seconds *= self.rng.uniform(0.5, 1.5)
            self.log(f"sleeps {seconds:.1f} s")
            process.asleep_until = self.now + seconds
        if self.rng.random() < self.perils.jump:
            process.ahead += self.rng.choice([1.0, TTL, 3600.0])
            self.log("its clock jumps")

    # -- the storage ---------------------------------------------------------------------------

    def operate(self, what: str, name: str, effect: Callable[[], Any], writes: bool) -> Any:
        """Carry out one operation, with all that can happen to it."""
        self.peril()
        self.wait(self.rng.expovariate(20.0))
        fate = self.rng.random()
        chance = 0.0 if self.healed else self.perils.fail
        try:
            if fate >= chance:
                found = effect()
                self.log(f"{what} {name}")
            elif fate < chance * 0.4 or not writes:
                self.log(f"{what} {name}: fails")
                raise OSError(5, "503 Slow Down")
            elif fate < chance * 0.6:
                with contextlib.suppress(OSError):
                    effect()
                self.log(f"{what} {name}: its answer is lost")
                raise OSError(5, "timed out")
            elif fate < chance * 0.8:
                self._later(what, name, effect)
                self.log(f"{what} {name}: will take effect later")
                raise OSError(5, "timed out")
            else:
                self._later(what, name, effect)
                found = effect()
                self.log(f"{what} {name}, and once more later")
        except OSError as error:
            if error.errno != 5:
                self.log(f"{what} {name}: {type(error).__name__}")
            raise
        finally:
            self.wait(self.rng.expovariate(20.0))
            self.peril()
        return found

    def _later(self, what: str, name: str, effect: Callable[[], Any]) -> None:
        def late() -> None:
            with contextlib.suppress(OSError):
                effect()
                self.log(f"{what} {name}: takes effect now")

        after = self.rng.choice([0.1, 3.0, 30.0]) * self.rng.expovariate(1.0)
        self._push(self.now + after, late)

    def _changed(self, name: str) -> None:
        self.past.append((self.now, dict(self.objects)))
        if self.process is not None:
            self.process.changed.append(name)

    def put(self, name: str, data: bytes, create: bool) -> None:
        if create and name in self.objects:
            raise FileExistsError(17, name)
        if name not in self.objects or self.objects[name][0] != data:
            self._changed(name)
        if not data:
            self.failures.append(Violation(f"{name} is there without its contents"))
        self.objects[name] = (data, self.now)

    def drop(self, name: str) -> None:
        if self.objects.pop(name, None) is not None:
            self._changed(name)

    def get(self, name: str) -> bytes:
        try:
            return self.objects[name][0]
        except KeyError:
            raise FileNotFoundError(2, name) from None

    def listing(self, folder: str) -> dict[str, tuple[bytes, float]]:
        known = self.objects
        if not self.healed and self.rng.random() < self.perils.old_listing:
            since = self.now - self.rng.uniform(0, OLDEST_LISTING)
            # each entry is what was there before the change at its time
            for when, before in self.past:
                if when > since:
                    known = before
                    break
        return {n: v for n, v in known.items() if not folder or n.startswith(f"{folder}/")}

    # -- what is checked -----------------------------------------------------------------------

    def acknowledge(self, row: str) -> None:
        self.acknowledged[row] = self.now
        self.log(f"acknowledged {row}")

    def check_read(self, rows: list[str], least: set[str]) -> None:
        """``least``: what was acknowledged before the read began."""
        self.log(f"sees {' '.join(rows)}")
        if len(rows) != len(set(rows)):
            raise Violation(f"rows are there twice: {rows}")
        if missing := least - set(rows):
            raise Violation(f"acknowledged rows are missing: {sorted(missing)} of {rows}")
        short, long = sorted([rows, self.longest], key=len)
        if long[: len(short)] != short:
            raise Violation(f"two reads disagree: {short} is not how {long} begins")
        self.longest = long
        epochs = [int(row.partition(".")[0]) for row in rows]
        if epochs != sorted(epochs):
            raise Violation(f"epochs go down: {rows}")


# -- the code under test -----------------------------------------------------------------------


@dataclass
class Rows:
    """In place of a table."""

    rows: list[str]

    @property
    def num_rows(self) -> int:
        return len(self.rows)


def encoded(table: Rows, **_: object) -> bytes:
    return json.dumps(table.rows).encode()


def decoded(path: Path) -> Rows:
    return Rows(json.loads(Path(path).read_bytes()))


def joined(tables: list[Rows], *_: object) -> Rows:
    return Rows([row for table in tables for row in table.rows])


def _create_whole(path: Path, data: Any) -> None:
    with path.open("xb") as file:
        file.write(data)


class Now:
    """The code as it is."""

    readers = True

    def __init__(self) -> None:
        self.world: World | None = None

    def enter(self, process: Process) -> None:
        from raynas.store.system import SYSTEM

        SYSTEM.set(process)

    @contextlib.contextmanager
    def simulated(self) -> Iterator[None]:
        from raynas.store import (
            files,
            lease,
            local_storage,
            reader,
            remote,
            run,
            storage,
            working_copies,
            writer,
        )

        def sealed_by(data: bytes) -> int | None:
            found = json.loads(data)
            return found["sealed by"] if isinstance(found, dict) else None

        def any_rows(path: Path) -> Rows:
            found = json.loads(Path(path).read_bytes())
            return Rows([] if isinstance(found, dict) else found)

        with contextlib.ExitStack() as stack:
            put = lambda target, name, new: stack.enter_context(  # noqa: E731
                mock.patch.object(target, name, new)
            )
            put(writer.Writer, "_table", lambda self, rows: Rows([r["row"](self) for r in rows]))
            put(writer, "schema_for", lambda _: None)
            put(writer, "GRACE_SECONDS", GRACE)
            put(writer, "parquet", encoded)
            put(writer, "join", joined)
            put(writer, "read_fragment", any_rows)
            put(writer, "seal", lambda _, epoch: json.dumps({"sealed by": epoch}).encode())
            put(writer, "sealed_by", sealed_by)
            put(reader, "read_fragment", any_rows)
            for name in ("check", "_touch"):
                put(lease.Lease, name, self._unless_blind(getattr(lease.Lease, name)))
            put(working_copies, "cache_folder", self._cache)
            put(os, "fsync", lambda _: None)
            put(files, "sync_folder", lambda _: None)
            for module in (remote, run, working_copies, writer, local_storage):
                if hasattr(module, "write_whole"):
                    put(module, "write_whole", lambda path, data: path.write_bytes(data))
            put(local_storage, "create_whole", _create_whole)
            put(files.FileLock, "__init__", self._lock(files.FileLock.__init__))
            for name in ("read", "write", "create", "remove", "stats"):
                plain = getattr(local_storage.LocalStorage, name)
                put(local_storage.LocalStorage, name, self._slowly(plain))
            stack.enter_context(
                mock.patch.dict(storage.OPENERS, {"sim": lambda uri: Simulated(self, uri)})
            )
            yield

    def _unless_blind(self, plain: Any) -> Any:
        def looks(*given: Any, **more: Any) -> None:
            if self.world is None or not self.world.perils.blind:
                plain(*given, **more)

        return looks

    def _cache(self) -> Path:
        assert self.world is not None
        assert self.world.process is not None
        return self.world.folder / f"machine-{self.world.process.machine}"

    def _lock(self, plain: Any) -> Any:
        def init(lock: Any, *given: Any, **more: Any) -> None:
            if self.world and self.world.process:
                self.world.process.locks.append(lock)
            lock._handle = -1
            plain(lock, *given, **more)

        return init

    def _slowly(self, plain: Any) -> Any:
        """On the disk of a machine nothing fails, but all happens between its operations."""

        def slow(*given: Any) -> Any:
            world = self.world
            if world is None or world.process is None:
                return plain(*given)
            world.peril()
            world.wait(world.rng.expovariate(1000.0))
            found = plain(*given)
            world.wait(world.rng.expovariate(1000.0))
            return found

        return slow

    # what processes do

    def create(self, uri: str, path: Path) -> None:
        from raynas.store import RunFolder

        assert self.world is not None
        RunFolder.create(path, _info(f"run-{next(self.world.pids)}"), "x = 1\n", uri)

    def folder(self, uri: str, path: Path) -> Any:
        from raynas.store import RunFolder
        from raynas.store.working_copies import fetch

        return RunFolder.open(fetch(uri) if uri else path)

    def place(self, uri: str) -> Path:
        from raynas.store import working_copies

        return working_copies.working_copy(uri) if uri else self._cache() / "run"

    def writer(self, folder: Any, merge_every: int) -> Any:
        from raynas.store import Provenance, Writer

        provenance = Provenance("", {}, "", "", 1)
        return Writer(folder, 1, provenance, merge_every=merge_every, lease_seconds=TTL)

    def rows(self, folder: Any) -> list[str]:
        from raynas.store import reader

        return joined(reader._tables(folder)).rows

    def refused(self) -> type[Exception]:
        from raynas.core import UserError

        return UserError

    def garbage(self, world: World) -> list[str]:
        """What is in the storage, and neither counts nor is a seal."""
        from raynas.store.manifest import Manifest, version_of

        names = {n.partition("/")[2] for n in world.objects if n.startswith("results/")}
        newest = max((v for n in names if (v := version_of(n))), default=0)
        if not newest:
            return []
        manifest = Manifest.from_json(world.objects[f"results/_manifest-{newest:08d}.json"][0])
        kept = {*manifest.fragments, *manifest.seals}
        return sorted(n for n in names - kept if version_of(n) != newest)


def _info(run: str) -> Any:
    from raynas.core import Metric
    from raynas.store import RunInfo

    return RunInfo(run, "r", "0123", {}, "/x.py", {}, (Metric("a", "", "max", ""),), created="now")


class Simulated:
    """The storage, as a process sees it."""

    def __init__(self, code: Now, uri: str) -> None:
        self._code, self._prefix = code, uri.removeprefix("sim://run").strip("/")

    @property
    def _world(self) -> World:
        assert self._code.world is not None
        return self._code.world

    def read(self, name: str) -> bytes:
        return self._world.operate("read", name, lambda: self._world.get(name), False)

    def write(self, name: str, data: Any) -> None:
        self._world.operate("write", name, lambda: self._world.put(name, bytes(data), False), True)

    def create(self, name: str, data: Any) -> None:
        self._world.operate("create", name, lambda: self._world.put(name, bytes(data), True), True)

    def remove(self, name: str) -> None:
        self._world.operate("remove", name, lambda: self._world.drop(name), True)

    def stats(self, folder: str = "") -> dict[str, Any]:
        from raynas.store.storage import FileStat

        found = self._world.operate("list", folder, lambda: self._world.listing(folder), False)
        return {name: FileStat(len(data), str(when), when) for name, (data, when) in found.items()}


# -- what processes do -------------------------------------------------------------------------


def drive(world: World, process: Process, uri: str, *, last: bool = False) -> None:
    """Start or resume a run; try again when refused or taken over, as a user would."""
    rng = world.rng
    for _ in range(1 if last else rng.randint(1, 4)):
        try:
            _drive_once(world, process, uri, last)
            return
        except world.code.refused() as error:
            process.told = str(error)
            world.log(f"ends: {error}")
            judge_refusal(world, process, uri)
        process.sleep(rng.uniform(0, 3 * TTL))


def _drive_once(world: World, process: Process, uri: str, last: bool) -> None:
    """Append, merge, close."""
    code, rng = world.code, world.rng
    process.changed.clear()
    path = code.place(uri)
    if not last and rng.random() < 0.6:
        code.create(uri, path)
        world.log("created the run")
        world.creators.append(process.name)
    folder = code.folder(uri, path)
    with code.writer(folder, rng.randint(2, 5)) as writer:
        for _ in range(1 if last else rng.randint(*world.kind.appends)):
            number = next(world.ids)
            row: list[str] = []

            def name(w: Any, number: int = number, row: list[str] = row) -> str:
                row.append(f"{w._session}.{number}")
                return row[0]

            writer.append([{"row": name}])
            world.acknowledge(row[0])
            if rng.random() < 0.3:
                process.sleep(rng.expovariate(0.5))
            if rng.random() < world.kind.compact:
                writer.compact()
            if rng.random() < 0.03:
                process.sleep(40.0)
    process.told = "done"


def judge_refusal(world: World, process: Process, uri: str) -> None:
    """Of one whose start or append was refused. Raises: Violation."""
    if "is being written by" in process.told and uri:
        left = [n for n in process.changed if not n.startswith(("lease/", "run.", "exp"))]
        if left:
            raise Violation(f"{process.name} was refused, and changed {left}")
    if "taken over" in process.told and world.perils.calm and not world.perils.skew:
        raise Violation(f"{process.name} lived, and was taken over")


def look(world: World, process: Process, uri: str, strict: bool) -> None:
    """Read again and again. ``strict``: on a machine that no driver is on."""
    code = world.code
    for _ in range(world.rng.randint(1, 6)):
        process.sleep(world.rng.expovariate(0.3))
        least = set(world.acknowledged) if strict else set()
        try:
            rows = code.rows(code.folder(uri, code.place(uri)))
        except code.refused() as error:
            world.log(f"reads nothing: {error}")
            if "cannot be read as a whole" in str(error) and world.perils.calm:
                raise Violation(f"a read does not end: {error}") from error
            continue
        world.check_read(rows, least)


def play(seed: int, code: Any, folder: Path, trace: bool = False, kind: Kind = SHORT) -> World:
    """One world from beginning to end. Raises: Violation."""
    world = World(seed, code, folder, trace, kind)
    code.world = world
    rng = world.rng
    uri = "sim://run" if rng.random() < 0.75 else ""
    machines = range(MACHINES) if uri else range(1)
    if rng.random() < kind.left_over:
        world.objects["experiment.py"] = (b"x = 0\n", world.now)  # a creation that was killed
    for number in range(rng.randint(2, 5)):
        machine = rng.choice(machines)
        world.spawn(f"driver-{number}", machine, lambda p: drive(world, p, uri))
    for number in range(rng.randint(1, 3) if code.readers else 0):
        strict = not uri or rng.random() < 0.8
        machine = (9 + number if strict else rng.choice(machines)) if uri else 0
        world.spawn(f"reader-{number}", machine, lambda p, s=strict: look(world, p, uri, s))
    world.run()
    finish(world, uri)
    return world


def finish(world: World, uri: str) -> None:
    """No more faults: a resume comes through, and everything is as it should be."""
    if len(world.creators) > 1:
        raise Violation(f"{world.creators} have all created the run")
    world.healed = True
    world.log("no more faults")
    machine = 20 if uri else 0

    def begin(_: Process) -> None:
        try:
            world.code.create(uri, world.code.place(uri))
        except world.code.refused() as error:
            world.log(str(error))

    if world.acknowledged and not uri:
        pass
    else:
        world.spawn("creator", machine, begin)
        world.run()
    for number in range(2):
        process = world.spawn(f"last-{number}", machine, lambda p: drive(world, p, uri, last=True))
        world.run()
        if process.told != "done":
            raise Violation(f"a resume does not come through: {process.told}")
        world.now += 100.0
    seen: list[list[str]] = []

    def read(_: Process) -> None:
        seen.append(world.code.rows(world.code.folder(uri, world.code.place(uri))))

    world.spawn("last-reader", machine + 1 if uri else 0, read)
    world.run()
    world.check_read(seen[0], set(world.acknowledged))
    if uri and len(garbage := world.code.garbage(world)) > 12:
        raise Violation(f"never removed: {garbage}")


# -- many worlds -------------------------------------------------------------------------------


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="raynas-world-", dir=parent) as folder:
        yield Path(folder)


def violations(
    seeds: Iterable[int], code: Any = None, kind: Kind = SHORT
) -> Iterator[tuple[int, BaseException]]:
    """Play the worlds of these seeds, and give back those in which something went wrong."""
    code = code or Now()
    with disk() as parent, code.simulated():
        for seed in seeds:
            folder = parent / str(seed)
            folder.mkdir()
            try:
                play(seed, code, folder, kind=kind)
            except (Exception, GreenletExit) as error:
                yield seed, error
            finally:
                code.world = None
                shutil.rmtree(folder, ignore_errors=True)


def run_seed(seed: int, kind: Kind = SHORT) -> str:
    """What goes wrong with a seed; empty when nothing does."""
    found = violations([seed], kind=kind)
    return "".join(f"{type(error).__name__}: {error}"[:300] for _, error in found)


def replay(seed: int, code: Any = None, kind: Kind = SHORT) -> list[str]:
    """Play one world, and print what happens in it."""
    code = code or Now()
    with disk() as folder, code.simulated():
        try:
            play(seed, code, folder, trace=True, kind=kind)
        finally:
            code.world = None
    return [f"seed {seed}: clean"]


def main(code: Any = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    parser.add_argument("--long", action="store_true", help="long runs, pauses and nothing else")
    given = parser.parse_args()
    kind = LONG if given.long else SHORT
    if given.seed is not None:
        replay(given.seed, code, kind)
        return
    began, found = time.perf_counter(), 0
    for seed, error in violations(range(given.first, given.first + given.seeds), code, kind):
        found += 1
        print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    took = time.perf_counter() - began
    print(f"{given.seeds} worlds from seed {given.first}, {found} with a violation, {took:.0f} s")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
