"""One search, struck by random faults: `make chaos`, or `python tests/chaos.py --seed 7`.

The search runs in order, over a cluster of two machines of two CPUs, and lives on an S3-compatible
server. Its table must be that of the same search undisturbed in one process, row by row. Faults:

========  =======================================================================================
actor     kill -9 of a worker that has a trial
idle      kill -9 of a worker that has none (or, where there is none, one that has)
driver    kill -9 of `raynas run`; then `raynas resume`
node      kill -9 of all processes of a machine; another joins
torn      the driver dies, too, and half of a fragment is gone: the store names it, and when it was
          moved away the search goes on
storage   a third of all requests fail for some seconds, a fifth are late; then none is answered
clock     the driver's wall clock jumps by up to a day, back or forth
========  =======================================================================================

After each fault, when results come again: no row of before is lost or changed, none is there twice,
every row is in the undisturbed table, rungs recomputed from the store are those of the decisions,
no process of a dead driver is left, and the driver's memory has not grown. A run prints its seed,
which draws the scheduler, too: one that stops trials, or one that pauses them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "fakes"))  # where pytest does not

from integration.drivers import Driver, lines, rows_of, run_here
from integration.machines import ENVIRONMENT, Cluster
from integration.storages import Server, serve
from integration.toy_runs import SAME

from raynas.core import Decision, SearchProblem, Trial
from raynas.core.describe import fresh
from raynas.experiment import load
from raynas.pipeline.history import history
from raynas.store import RunFolder
from raynas.store.fragments import list_fragments, read_fragment
from raynas.store.manifest import snapshot
from raynas.store.remote import RemoteFolder
from raynas.store.working_copies import fetch

KINDS = ("actor", "storage", "node", "driver", "clock", "idle", "torn")
SCHEDULERS = {
    "asha": "ASHA(1, 2)",
    "promotion": "PromotionASHA(1, 2)",
    "hyperband": "Hyperband(factor=2)",
    "halving": "SuccessiveHalving(factor=2, size=6)",
}
LEASE = 3
MEMORY_MB = 60.0
"""More is a leak: a driver of this search grows by a few MB, mostly in its first seconds."""

_FILE = """
from toys import Curves, ToyData, ToySpace
from raynas.experiment import Budget, Experiment, Finalists
from raynas.runners.base import Resources
from raynas.samplers import TPE
from raynas.schedulers import ASHA, Hyperband, PromotionASHA, SuccessiveHalving

def experiment():
    return Experiment(
        space=ToySpace(depth=60), data=ToyData(), deterministic_workers=4,
        evaluator=Curves(max_step=4, seconds={seconds}, log={log!r}),
        sampler=TPE(n_startup=6), scheduler={scheduler}, baselines=(), finalists=Finalists(top=0),
        budget=Budget(trials={trials}), resources=Resources(cpus=1.0, retries=50),
    )
"""

Key = tuple[int, int]
"""Trial and step; step -1 is how the trial ended."""


@dataclass
class Scene:
    """What the faults happen to."""

    folder: Path
    cluster: Cluster
    server: Server
    rng: random.Random
    calm: dict[Key, Any]
    driver: Driver
    uri: str
    seen: dict[Key, Any] = field(default_factory=dict)
    grown: float = 0.0
    _born: tuple[int, float] = (0, 0.0)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    # -- the search ----------------------------------------------------------------------------

    def resume(self) -> Driver:
        time.sleep(LEASE + 1.5)  # the dead one's lease runs out; storage counts whole seconds
        return _driver(self.folder, self.cluster, "resume", self.uri)

    def go_on(self, steps: int) -> bool:
        """Wait for so many measurements more; False when the search has ended first."""
        goal = len(lines(self.log)) + steps

        def reached() -> bool:
            return self.driver.process.poll() is not None or len(lines(self.log)) >= goal

        deadline = time.monotonic() + 240
        while not reached():
            assert time.monotonic() < deadline, f"nothing happens: {self.driver.err.read_text()}"
            time.sleep(0.05)
        ended = self.driver.process.poll()
        assert ended in (None, 0), f"exit {ended}: {self.driver.err.read_text()}"
        return ended is None

    def at_work(self) -> list[int]:
        """Workers that have measured something and are there, the last one first."""
        there = {p for machine in self.cluster.machines for p in machine.processes()}
        found = [int(line.split()[2]) for line in reversed(lines(self.log))]
        return list(dict.fromkeys(p for p in found if p in there))

    # -- faults --------------------------------------------------------------------------------

    def actor(self) -> str:
        workers = self.at_work()[:1]
        for number in workers:
            os.kill(number, signal.SIGKILL)
        return f"process {workers}"

    def idle(self) -> str:
        busy = set(self.at_work())
        found = []
        for machine in self.cluster.machines:
            for number in set(machine.processes()) - busy:
                try:
                    text = Path(f"/proc/{number}/cmdline").read_text("latin1")
                except OSError:
                    continue
                found += [number] if text.startswith("ray::IDLE") else []
        if not found:
            return f"none is idle; {self.actor()}"
        number = self.rng.choice(sorted(found))
        os.kill(number, signal.SIGKILL)
        return f"process {number}"

    def driver_dies(self) -> str:
        self._kill_driver()
        self.driver = self.resume()
        return "resumed"

    def node(self) -> str:
        machine = self.rng.choice(self.cluster.machines)
        self.cluster.kill(machine)
        new = self.cluster.join()
        new.until_ready()
        return f"{machine.ip} is gone, {new.ip} came"

    def torn(self) -> str:
        self._kill_driver()
        remote = RemoteFolder(self.uri)
        if not (names := sorted(snapshot(remote).names)):
            self.driver = self.resume()
            return "nothing is stored yet"
        name = f"results/{self.rng.choice(names)}"
        data = remote.read(name)
        remote.write(name, data[: len(data) // 2])
        time.sleep(LEASE + 1.5)
        with _driver(self.folder, self.cluster, "resume", self.uri) as refused:
            assert refused.wait(120) == 2, refused.err.read_text()
            told = refused.err.read_text()
        assert name in told, told
        assert "is torn" in told, told
        remote.write(f"{name}.torn", b"")  # the hint
        remote.remove(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "whole.parquet"
            file.write_bytes(data)
            lost = read_fragment(file).to_pylist()
        for row in lost:
            self.seen.pop((row["trial"], row["step"]), None)
        self.driver = self.resume()
        return f"{name} with {len(lost)} rows"

    def storage(self) -> str:
        weather = self.server.weather
        before = weather.failed
        weather.failing, weather.slow = 0.33, 0.2
        time.sleep(4)
        weather.failing = 1.0
        time.sleep(2)
        weather.failing = weather.slow = 0.0
        return f"{weather.failed - before} requests failed"

    def clock(self) -> str:
        jump = self.rng.uniform(-86_400, 86_400)
        (self.folder / "clock").write_text(str(jump))
        return f"{jump / 3600:+.1f} hours"

    def _kill_driver(self) -> None:
        self.driver.process.kill()
        self.driver.wait(30)
        deadline = time.monotonic() + 60
        while left := [*self.driver.processes(), *self._actors()]:
            assert time.monotonic() < deadline, f"left of a dead driver: {left}"
            time.sleep(0.1)

    def _actors(self) -> list[str]:
        """What runs on the machines for some driver."""
        every = [c for machine in self.cluster.machines for c in machine.commands()]
        own = [c for c in every if c.startswith("ray::")]
        return [c for c in own if "IDLE" not in c and "Agent" not in c]

    def strike(self, kind: str) -> str:
        faults: dict[str, Callable[[], str]] = {
            "actor": self.actor, "idle": self.idle, "driver": self.driver_dies,
            "node": self.node, "torn": self.torn, "storage": self.storage, "clock": self.clock,
        }  # fmt: skip
        return faults[kind]()

    # -- what must hold ------------------------------------------------------------------------

    def check(self) -> str:
        folder = RunFolder.open(fetch(self.uri))
        rows = _rows(folder)
        lost = [key for key, row in self.seen.items() if rows.get(key) != row]
        assert not lost, f"lost or changed: {lost}"
        foreign = [(k, row, self.calm.get(k)) for k, row in rows.items() if self.calm.get(k) != row]
        assert not foreign, f"not as undisturbed: {foreign}"
        _once(folder)
        self.seen = rows
        self._rungs(folder)
        return f"{len(rows)} of {len(self.calm)} rows, driver {self._memory():.0f} MB"

    def _rungs(self, folder: RunFolder) -> None:
        """As the store gives them, and as the decisions gave them, in the undisturbed order."""
        experiment = load(self.folder / "chaos_search.py").experiment
        past, _ = history(folder, experiment, "search", "tpe")
        problem = SearchProblem(experiment.objectives, experiment.evaluator.max_step, 0, "chaos")
        stored, decided = fresh(experiment.scheduler), fresh(experiment.scheduler)
        stored.setup(problem)
        if stored.pauses():  # its decisions depend on when it was asked, too
            return
        stored.replay(past)
        decided.setup(problem)
        by_number = {t.number: t for t in past}
        grown: dict[int, Trial] = {}
        for number, step in self.calm:
            trial = by_number.get(number)
            found = [m for m in trial.measurements if m.step == step] if trial else []
            if trial is None or not found:
                continue
            copy = grown.setdefault(number, Trial(number, trial.proposal, trial.arch))
            copy.measurements.append(found[0])
            if step < experiment.evaluator.max_step:
                stops = decided.decide(copy) is Decision.STOP
                assert stops == (self.calm[number, step][SAME.index("state")] == "STOPPED")
        assert [r.reached for r in stored.rungs()] == [r.reached for r in decided.rungs()]

    def _memory(self) -> float:
        """MB that the driver has; it may not grow while it lives."""
        try:
            pages = int(Path(f"/proc/{self.driver.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):  # it has ended
            return 0.0
        now = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        if self._born[0] != self.driver.process.pid:
            self._born = self.driver.process.pid, now
        self.grown = max(self.grown, now - self._born[1])
        assert self.grown < MEMORY_MB, f"the driver has grown by {self.grown:.0f} MB"
        return now


def _driver(folder: Path, cluster: Cluster, *command: str | Path) -> Driver:
    return Driver(
        *command, "--address", cluster.address, cwd=folder, program="integration.jumpy",
        RAYNAS_CACHE=str(folder / "cache"), RAYNAS_LEASE_SECONDS=str(LEASE),
        RAYNAS_CLOCK=str(folder / "clock"), **ENVIRONMENT,
    )  # fmt: skip


def _rows(folder: RunFolder) -> dict[Key, Any]:
    """What was measured, and how trials ended otherwise (step -1), by trial and step; without
    times, places and attempts."""
    return {
        _key(row): tuple(row[c] for c in (*SAME, "val_accuracy"))
        for row in rows_of(folder)
        if row["step"] is not None or row["state"] != "RUNNING"
    }


def _key(row: dict[str, Any]) -> Key:
    return row["trial"], -1 if row["step"] is None else row["step"]


def _once(folder: RunFolder) -> None:
    """No row is stored twice, but of a trial that lacked one and was measured anew later."""
    counted, _ = list_fragments(folder.results)
    rows = [row for f in counted for row in read_fragment(f.path).to_pylist()]
    keys = Counter((r["trial"], r["step"], r["session"]) for r in rows if r["step"] is not None)
    twice = [key for key, count in keys.items() if count > 1]
    assert not twice, f"stored twice: {twice}"


def _undisturbed(folder: Path, settings: dict[str, Any]) -> dict[Key, Any]:
    """In the order in which it was decided."""
    file = folder / "calm" / "toy.py"
    file.parent.mkdir(parents=True)
    file.write_text(_FILE.format(seconds=0.0, log="", **settings))
    found = run_here(file)
    rows = _rows(found)
    counted, _ = list_fragments(found.results)
    order = [r for f in counted for r in read_fragment(f.path).to_pylist()]
    return {key: rows[key] for r in order if (key := _key(r)) in rows}


def chaos(
    folder: Path,
    kinds: list[str],
    seed: int,
    say: Callable[[str], None] = print,
    scheduler: str = "",
) -> Scene:
    """The search with these faults; Raises: AssertionError, with what did not hold.

    ``scheduler``: a key of ``SCHEDULERS``; by default the seed draws one.
    """
    scheduler = scheduler or random.Random(seed).choice(sorted(SCHEDULERS))
    say(f"seed {seed}, {scheduler}: {', '.join(kinds)}")
    trials = 10 + 7 * len(kinds)
    settings = {"trials": trials, "scheduler": SCHEDULERS[scheduler]}
    calm = _undisturbed(folder, settings)
    file = folder / "chaos_search.py"
    file.write_text(_FILE.format(seconds=0.3, log=str(folder / "log"), **settings))
    os.environ["RAYNAS_CACHE"] = str(folder / "watcher")
    with serve() as server, Cluster(2) as cluster:
        uri = server.run("chaos")
        driver = _driver(folder, cluster, "run", file, "--output", uri)
        scene = Scene(folder, cluster, server, random.Random(seed), calm, driver, uri)
        try:
            for number, kind in enumerate(kinds, 1):
                if not scene.go_on(scene.rng.randint(2, 9)):
                    say("the search has ended before all faults")
                    break
                began = time.monotonic()
                told = scene.strike(kind)
                scene.go_on(2)
                took = time.monotonic() - began
                say(f"{number:>3} {kind:<8} {told}; {took:.0f} s; {scene.check()}")
            assert scene.driver.wait(600) == 0, scene.driver.err.read_text()
            assert scene.driver.all_gone(30), scene.driver.commands()
            scene.check()
            assert scene.seen == calm, "rows are missing"
        finally:
            scene.driver.__exit__()
    say(f"seed {seed}: all {len(calm)} rows as undisturbed; driver grew {scene.grown:.0f} MB")
    return scene


def deck(count: int, seed: int) -> list[str]:
    """Kinds in random order, each as often as the others."""
    rng, found = random.Random(seed), list[str]()
    while len(found) < count:
        found += rng.sample(KINDS, len(KINDS))
    return found[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--kinds", default="", help="these, in this order, as actor,torn")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--scheduler", default="", choices=["", *SCHEDULERS])
    given: Any = parser.parse_args()
    kinds = given.kinds.split(",") if given.kinds else deck(given.faults, given.seed)

    def say(line: str) -> None:
        print(line, flush=True)

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raynas-chaos-") as folder:
        try:
            chaos(Path(folder), kinds, given.seed, say, given.scheduler)
        except AssertionError as error:
            sys.exit(f"seed {given.seed}: {error}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
