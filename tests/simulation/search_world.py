"""Deterministic simulation of searches: the real controller and order on simulated workers.

A seed decides everything: the search, how fast workers are, in which order their messages arrive,
which of them die, are taken for dead and go on nevertheless, or speak late, when the driver is
killed (between any two rows, before or after an append), interrupted, resumed or extended. After
every step the world checks what must hold; see :class:`World`.

``python tests/simulate.py search --seeds 100000`` tries many seeds and prints those that fail;
``python tests/simulate.py search --seed 7`` replays one with its trace.

The manner is that of FoundationDB's and TigerBeetle's simulators.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from toys import ToyData, ToySpace, noise, quality

from raynas.core import (
    Architecture,
    Bound,
    Choice,
    Job,
    Measurement,
    Metric,
    Objective,
    Trial,
    TrialState,
)
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import DataView
from raynas.evaluators.base import Evaluator
from raynas.runners.base import JobOutcome, deliver, steps, steps_of_many
from raynas.samplers import Random, RegularizedEvolution
from raynas.schedulers import (
    ASHA,
    PASHA,
    Hyperband,
    NoStopping,
    PromotionASHA,
    SuccessiveHalving,
)
from raynas.search.builder import SearchSetup, build_ordered_search, build_retraining, build_search
from raynas.search.checkpoints import CheckpointFolders
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.job_source import JobSource
from raynas.search.retention import CheckpointRetention, Checkpoints
from raynas.search.trial_numbers import NumberPlan
from raynas.spaces.base import SearchSpace

#: so many events are more than any search needs
MOST_EVENTS = 20_000

SCHEDULERS: dict[str, Callable[[], Any]] = {
    "none": NoStopping,
    "asha": lambda: ASHA(min_step=1, factor=2),
    "promotion": lambda: PromotionASHA(min_step=1, factor=2),
    "pasha": lambda: PASHA(epsilon=0.0),
    "hyperband": lambda: Hyperband(factor=2),
    "halving": lambda: SuccessiveHalving(factor=2, size=4),
    "halving that waits": lambda: SuccessiveHalving(factor=2, size=4, overlap=False),
}


class Killed(BaseException):
    """The driver's process is gone."""


class Violation(Exception):
    """Something that must hold does not."""


@cache
def _parsed(text: str) -> Architecture:
    return ToySpace(depth=4).architecture(text)


@cache
def _choices() -> tuple[Choice, ...]:
    return ToySpace(depth=4).choices


@dataclass(frozen=True)
class Space(ToySpace):
    """A small space whose architectures are made once: most of the time would go there."""

    depth: int = 4

    @property
    def choices(self) -> tuple[Choice, ...]:
        return _choices()

    def architecture(self, options: Mapping[str, Any] | str) -> Architecture:
        return _parsed(options) if isinstance(options, str) else super().architecture(options)


SPACE = Space()
_TEXTS = tuple(arch.text for arch in SPACE.enumerate())


@dataclass
class Simulated(Evaluator):
    """Curves with checkpoints, or, if ``lightweight``, without; it refuses those of others.

    ``fault``: architecture text -> ``crash``, ``nan``, ``memory``, ``tight``, ``short``.
    ``every``: so many steps are from one measurement to the next; the last step is measured, too.
    """

    name: ClassVar[str] = "simulated"
    max_step: int = 4
    fault: Mapping[str, str] = field(default_factory=dict)
    lightweight: bool = False  # type: ignore[misc]
    every: int = 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (VAL_ACCURACY,)

    def setup(self, space: SearchSpace, view: DataView) -> None: ...

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        kept, fault = self._kept(arch, job), self.fault.get(arch.text, "")
        first = kept + 1 if job.stored is None else min(job.stored, kept) + 1
        again = kept in job.pauses or kept == job.max_step
        untold = range(first, kept + 1) or ([kept] if again and kept else [])
        for step in filter(self._due, untold):
            yield self._measured(arch, job, step)
        for step in range(kept + 1, job.max_step + 1):
            if fault == "crash" and step == 2:
                raise RuntimeError("a simulated crash")
            if step == 2 and (fault == "memory" or (fault == "tight" and not job.more_memory)):
                raise MemoryError("simulated")
            if fault == "short" and step == max(3, self.every + 1):
                return
            if fault == "nan" and step == 2:
                yield Measurement(step, {VAL_ACCURACY.name: float("nan")}, 1.0)
                return
            early = step in job.pauses or step == job.max_step
            if early:
                self._keep(arch, job, step)
            if self._due(step):
                yield self._measured(arch, job, step)
            if not early and noise(f"{arch.text}{step} is due") < 0.5:
                self._keep(arch, job, step)

    def _due(self, step: int) -> bool:
        return step == due(step - 1, self.every, self.max_step)

    @staticmethod
    def _measured(arch: Architecture, job: Job, step: int) -> Measurement:
        return Measurement(step, {VAL_ACCURACY.name: truth(arch, job.seed, step)}, 1.0)

    def _kept(self, arch: Architecture, job: Job) -> int:
        file = job.workdir / "state" if job.workdir else None
        if file is None or not file.exists():
            return 0
        label, _, step = file.read_text().rpartition(" ")
        if label != f"{arch.text} {job.seed}":
            raise RuntimeError(f"a checkpoint of another training: {label}")
        return int(step)

    def _keep(self, arch: Architecture, job: Job, step: int) -> None:
        if job.workdir is not None:
            job.workdir.mkdir(parents=True, exist_ok=True)
            (job.workdir / "state").write_text(f"{arch.text} {job.seed} {step}")


def due(step: int, every: int, max_step: int) -> int:
    """The step that is measured next after ``step``."""
    return min(step - step % every + every, max_step)


def truth(arch: Architecture, seed: int, step: int) -> float:
    """The value of a measurement, whoever makes it."""
    return quality(arch) * (1 - 0.6**step) + noise(f"{arch.text}{seed}{step}")


@dataclass(frozen=True)
class Plan:
    """The search of one seed."""

    scheduler: str
    lanes: int | None
    workers: int
    trials: int
    more: int
    max_step: int
    quick: bool
    learns: bool
    baseline: bool
    finalists: int
    bounded: bool
    fault: Mapping[str, str]
    trouble: float  # how often things go wrong
    quota: int | None
    every: int = 1

    @classmethod
    def drawn(cls, rng: random.Random) -> Plan:
        kinds = ("crash", "nan", "memory", "tight", "short")
        faulty = rng.sample(_TEXTS, rng.choice([0, 0, 3, 8]))
        return cls(
            scheduler=rng.choice(list(SCHEDULERS)),
            lanes=rng.choice([None, None, 1, 2, 4]),
            workers=rng.randint(1, 5),
            trials=rng.randint(3, 12),
            more=rng.choice([0, 0, 4]),
            max_step=rng.choice([4, 5, 9]),
            quick=rng.random() < 0.4,
            learns=rng.random() < 0.4,
            baseline=rng.random() < 0.3,
            finalists=rng.choice([0, 0, 2]),
            bounded=rng.random() < 0.2,
            fault={text: rng.choice(kinds) for text in faulty},
            trouble=rng.choice([0.0, 0.03, 0.1]),
            quota=rng.choice([0, 3, None]),
        )


@dataclass(eq=False)
class Stream:
    """A worker with a job: what it has said and nobody has heard yet."""

    job: Job
    outcomes: Iterator[JobOutcome]
    said: list[JobOutcome] = field(default_factory=list)
    ended: bool = False
    stoppable: bool = True

    def work(self) -> None:
        """Say one thing more."""
        outcome = next(self.outcomes, None)
        if outcome is None:
            self.ended = True
            self.said.append(JobOutcome())
            return
        self.ended = outcome.measurement is None
        self.said.append(outcome)


class Store:
    """Rows in memory; the driver may die before or after an append."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: list[dict[str, Any]] = []
        self.session = 0

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._world.may_die("before an append")
        new = [{**row, "session": self.session} for row in rows]
        self.rows += new
        for row in new:
            self._world.check_row(row)
        self._world.may_die("after an append")

    def trials(self, stage: str, arm: str, space: SearchSpace) -> list[Trial]:
        """The stored trials as a resume reads them: of a step the latest word counts."""
        found: dict[int, Trial] = {}
        last: dict[int, tuple[Any, ...]] = {}
        counted: dict[tuple[int, int], tuple[Any, ...]] = {}
        curves: dict[int, dict[int, Measurement]] = {}
        for row in self.rows:
            if (row["stage"], row["arm"]) != (stage, arm):
                continue
            number, step = row["trial"], row["step"]
            when = (row["session"], row["attempt"])
            arch = space.architecture(row["arch"])
            trial = found.setdefault(
                number, Trial(number, space.architecture(row["proposal"]), arch)
            )
            trial.seed = row["seed"]
            trial.costs = {n: row[n] for n in ("params", "macs") if row[n] is not None}
            order = (*when, step is None, step or 0)
            if order >= last.get(number, ()):
                last[number] = order
                trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
                trial.attempt = row["attempt"]
            if step is not None and when >= counted.get((number, step), (0, 0)):
                counted[number, step] = when
                values = {k: row[k] for k in (VAL_ACCURACY.name,) if k in row}
                curve = curves.setdefault(number, {})
                curve[step] = Measurement(step, values, row["seconds"])
        for number, curve in curves.items():
            found[number].measurements = [curve[step] for step in sorted(curve)]
        return [found[number] for number in sorted(found)]

    @property
    def numbers(self) -> set[int]:
        return {row["trial"] for row in self.rows}


class World:
    """One seed's run, from its start through kills and resumes to its end.

    What must hold, always: a number has one architecture, seed, stage and arm; every stored value
    is the one that its architecture, seed and step have; a curve has no hole; nothing is stored
    twice in a session; a trial that ended goes on in a later session at most, and then of a
    deterministic search. In the end: every session and the run ended, every trial is at rest, the
    budget was met, nothing failed that had no fault, and in deterministic order the table is that
    of one worker to which nothing happened.
    """

    def __init__(self, seed: int, plan: Plan | None = None, *, calm: bool = False) -> None:
        self.rng = random.Random(seed)
        drawn = Plan.drawn(self.rng)
        self.plan = plan or drawn
        self.calm = calm
        self.store = Store(self)
        self.trace: list[str] = []
        self.events = 0
        self.ghosts: list[tuple[JobSource | None, Stream]] = []
        self.space = SPACE
        self.folder = Path(tempfile.mkdtemp(prefix="raynas-sim-", dir=_scratch()))
        self._alive = True
        self._seen: dict[tuple[int, int | None], int] = {}
        self._who: dict[int, tuple[Any, ...]] = {}
        self._ended: dict[int, int] = {}  # number -> session in which it ended
        self._steps: dict[int, int] = {}

    def say(self, text: str) -> None:
        self.trace.append(text)

    # -- what is checked at every row --------------------------------------------------------------

    def check_row(self, row: Mapping[str, Any]) -> None:
        number, step, session = row["trial"], row["step"], row["session"]
        self.say(f"  row {number} step {step} {row['state']} {row['message'] or ''}")
        who = (row["arch"], row["seed"], row["stage"], row["arm"])
        if self._who.setdefault(number, who) != who:
            raise Violation(f"number {number} is {self._who[number]} and {who}")
        if self._ended.get(number) == session:
            raise Violation(f"trial {number} has a row after its end")
        if number in self._ended and self.plan.lanes is None:
            raise Violation(f"trial {number} goes on after its end in an earlier session")
        self._ended.pop(number, None)
        if step is not None:
            self._check_step(row, number, step)
        if row["state"] != TrialState.RUNNING:
            self._ended[number] = session

    def _check_step(self, row: Mapping[str, Any], number: int, step: int) -> None:
        have = self._steps.get(number, 0)
        if step != due(have, self.plan.every, self.plan.max_step):
            raise Violation(f"trial {number} has step {step} after step {have}")
        self._steps[number] = step
        value = row.get(VAL_ACCURACY.name)
        expected = truth(self.space.architecture(row["arch"]), row["seed"], step)
        if value is not None and value != expected:
            raise Violation(f"trial {number} step {step}: {value} is not {expected}")

    def may_die(self, when: str) -> None:
        if not self.calm and self._alive and self.rng.random() < self.plan.trouble / 5:
            self.say(f"KILL {when}")
            raise Killed

    # -- the run -----------------------------------------------------------------------------------

    def go(self) -> None:
        """Raises: Violation."""
        try:
            self._sessions(self.plan.trials)
            if self.plan.more:
                self.say("EXTEND")
                self._sessions(self.plan.trials + self.plan.more)
            self._check_end()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _sessions(self, trials: int) -> None:
        rows = idle = 0
        while idle < 200:
            idle, rows = (0 if len(self.store.rows) > rows else idle + 1), len(self.store.rows)
            self.store.session += 1
            self.say(f"SESSION {self.store.session}")
            try:
                if self._session(trials):
                    return
            except Killed:
                continue
        raise Violation("200 sessions without a row, and no end")

    def _session(self, trials: int) -> bool:
        """One start of the driver; whether all is done."""
        retention = CheckpointRetention(Checkpoints(quota=self.plan.quota))
        main = self._search("main", trials, retention)
        if main is None:
            return False
        if self.plan.baseline and self._search("base", trials, retention) is None:
            return False
        best = [trial.arch for trial in main.best[: self.plan.finalists]]
        if best:
            setup = self._setup("final", "main", retention, keep=4)
            return self._carry_out(build_retraining(setup, best, 2))
        return True

    def _search(self, arm: str, trials: int, retention: CheckpointRetention) -> Any:
        sampler = RegularizedEvolution(population=4, sample=2) if self.plan.learns else Random()
        setup = self._setup("search", arm, retention, keep=max(self.plan.finalists, 1))
        parts: dict[str, Any] = {
            "sampler": sampler,
            "fallback": Random(),
            "scheduler": SCHEDULERS[self.plan.scheduler](),
            "limits": SearchLimits(trials=trials),
            "run": "simulated",
            "bounds": (Bound("params", max=150.0),) if self.plan.bounded else (),
        }
        if self.plan.lanes:
            ordered = build_ordered_search(setup, lanes=self.plan.lanes, **parts)
            return ordered.controller if self._carry_out(ordered) else None
        search = build_search(setup, **parts)
        return search if self._carry_out(search) else None

    def _setup(
        self, stage: str, arm: str, retention: CheckpointRetention, keep: int
    ) -> SearchSetup:
        past = self.store.trials(stage, arm, self.space)
        plan = self.plan
        evaluator = Simulated(plan.max_step, plan.fault, plan.quick, plan.every)
        return SearchSetup(
            payload=EvaluationContext(self.space, evaluator, _VIEW),
            rows=self.store,
            stage=stage,
            arm=arm,
            objectives=(Objective(),),
            seed=len(arm),
            past=past,
            numbers=NumberPlan.of(past, self.store.numbers),
            keep=keep,
            folders=CheckpointFolders(self.folder, None, self.store.session),
            retention=retention,
        )

    def _carry_out(self, work: JobSource) -> bool:
        """Until the work is done; False when it was interrupted."""
        work.join()
        busy: list[Stream] = []
        try:
            while not work.done:
                self._event(work, busy)
                if work.interrupted:
                    self.say("INTERRUPTED")
                    return False
            return True
        finally:  # who works on does not know yet that nobody listens
            self.ghosts += [(None, stream) for stream in busy]

    # -- what happens ------------------------------------------------------------------------------

    def _event(self, work: JobSource, busy: list[Stream]) -> None:
        self.events += 1
        if self.events > MOST_EVENTS:
            raise Violation("the run does not end")
        if not self.calm and self.rng.random() < self.plan.trouble:
            self._trouble(work, busy)
            return
        if self.ghosts and self.rng.random() < 0.2:
            self._haunt()
        if len(busy) < self.plan.workers and self.rng.random() < 0.5 and self._employ(work, busy):
            return
        if busy:
            self._proceed(work, busy, self.rng.choice(busy))
        elif not self._employ(work, busy) and not work.done:
            raise Violation("nothing runs, nothing is done, and there is no job")

    def _employ(self, work: JobSource, busy: list[Stream]) -> bool:
        job = work.next()
        if job is None:
            return False
        self.say(f"job {job.trial} ticket {job.ticket} attempt {job.attempt}")
        busy.append(self._stream(work, job))
        return True

    def _stream(self, work: JobSource, job: Job) -> Stream:
        evaluator, arch = work.payload.evaluator, work.arch(job.trial)
        if not self.plan.quick:
            return Stream(job, steps(evaluator, arch, job))
        found = (o for _, o in steps_of_many(evaluator, [(arch, job)]))
        return Stream(job, found, stoppable=False)

    def _proceed(self, work: JobSource, busy: list[Stream], stream: Stream) -> None:
        ahead = self.rng.random() < 0.4
        if not stream.ended and (ahead or not stream.said):
            stream.work()
            if ahead:
                return
        self._hear(work, busy, stream)

    def _hear(self, work: JobSource, busy: list[Stream], stream: Stream) -> None:
        outcome = stream.said.pop(0)
        last = stream.ended and not stream.said
        goes_on = deliver(work, stream.job, outcome)
        if last and outcome.measurement is None:
            busy.remove(stream)
        elif not goes_on and stream.stoppable:
            busy.remove(stream)
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        """The worker stops; what it had said meanwhile may still arrive."""
        stream.outcomes.close()  # type: ignore[attr-defined]
        stream.ended = True

    def _trouble(self, work: JobSource, busy: list[Stream]) -> None:
        kind = self.rng.choice(("kill", "death", "zombie", "restart", "all lost", "interrupt"))
        if kind == "kill":
            self.say("KILL")
            raise Killed
        if kind == "interrupt":
            if self.rng.random() < 0.3:
                work.interrupt()
            return
        if not busy:
            return
        if kind == "all lost":
            self.say("ALL WORKERS LOST")
            self.ghosts += [(work, stream) for stream in busy]
            busy.clear()
            work.requeue_live()
            return
        stream = self.rng.choice(busy)
        self.say(f"{kind} of the worker of {stream.job.trial}")
        busy.remove(stream)
        if kind == "zombie":
            self.ghosts.append((work, stream))
        if kind == "restart":
            self._restart(work, busy, stream)
        else:
            work.again(stream.job)

    def _restart(self, work: JobSource, busy: list[Stream], stream: Stream) -> None:
        """The runner starts the job again by itself, as an actor pool does."""
        job = stream.job
        new = _next_attempt(job)
        work.restarted(new)
        self.ghosts.append((work, stream))
        busy.append(self._stream(work, new))

    def _haunt(self) -> None:
        """A worker that was taken for dead goes on, or is heard late."""
        work, stream = self.rng.choice(self.ghosts)
        if self.rng.random() < 0.2:
            self.ghosts.remove((work, stream))
            return
        if not stream.ended:
            stream.work()
        if stream.said and work is not None and not work.interrupted and self.rng.random() < 0.5:
            self.say(f"late news of {stream.job.trial}")
            deliver(work, stream.job, stream.said.pop(0))

    # -- the end -----------------------------------------------------------------------------------

    def _check_end(self) -> None:
        rows = self.store.rows
        last = {}
        for row in rows:
            last[row["trial"]] = row
        for number, row in last.items():
            if row["state"] == TrialState.RUNNING:
                raise Violation(f"trial {number} is RUNNING in the end")
            fault = self.plan.fault.get(row["arch"], "")
            if row["state"] == TrialState.FAILED and fault not in ("crash", "nan"):
                raise Violation(f"trial {number} FAILED: {row['message']}")
        self._check_budget(last)
        if self.plan.lanes and not self.calm:
            self._check_order()

    def _check_budget(self, last: Mapping[int, Mapping[str, Any]]) -> None:
        evaluated: Counter[str] = Counter()
        for number, row in last.items():
            beyond = row["state"] == TrialState.INFEASIBLE and not self._steps.get(number)
            if row["stage"] == "search" and not (beyond and "memory" not in (row["message"] or "")):
                evaluated[row["arm"]] += 1
        wanted = self.plan.trials + self.plan.more
        for arm, count in evaluated.items():
            if count > wanted or (count < wanted and not self.plan.bounded):
                raise Violation(f"{count} trials of {arm}, not {wanted}")

    def _check_order(self) -> None:
        """The table is that of one worker to which nothing happened."""
        calm = World(0, _undisturbed(self.plan), calm=True)
        calm.go()
        mine, theirs = (_table(world.store.rows) for world in (self, calm))
        if mine != theirs:
            odd = sorted(set(mine.items()) ^ set(theirs.items()), key=repr)[:4]
            raise Violation(f"the table depends on the workers: {odd}")


def _next_attempt(job: Job) -> Job:
    return replace(job, attempt=job.attempt + 1)


def _undisturbed(plan: Plan) -> Plan:
    return replace(plan, workers=1, trouble=0.0)


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
    """Of the main search the steps and ends, by architecture."""
    found: dict[Any, Any] = {}
    for row in rows:
        if (row["stage"], row["arm"]) == ("search", "main"):
            if row["step"] is not None:
                found[row["arch"], row["step"]] = row.get(VAL_ACCURACY.name)
            found[row["arch"], "state"] = row["state"]
    return found


_VIEW = ToyData().search_view(0)


def _scratch() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def plan_of(seed: int) -> Plan:
    """Of a seed. How sparsely steps are measured is drawn apart, so that seeds that were found
    before measures were sparse are what they were."""
    plan = Plan.drawn(random.Random(seed))
    return replace(plan, every=random.Random(f"{seed} every").choice((1, 1, 2, 3)))


def run_seed(seed: int, every: int | None = None) -> str:
    """What went wrong with a seed; empty when nothing did. ``every``: replaces the plan's."""
    plan = plan_of(seed)
    world = World(seed, plan if every is None else replace(plan, every=every))
    try:
        world.go()
    except Violation as error:
        return str(error)
    except Exception as error:  # the code under test broke
        return f"{type(error).__name__}: {error}"
    return ""


def replay(seed: int) -> Iterator[str]:
    """What happened with a seed, line by line."""
    world = World(seed, plan_of(seed))
    yield str(world.plan)
    try:
        world.go()
        problem = "nothing went wrong"
    except (Violation, Exception) as error:
        problem = f"{type(error).__name__}: {error}"
    yield from world.trace
    yield problem
