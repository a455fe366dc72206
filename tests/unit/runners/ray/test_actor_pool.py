"""How a crew deals out work and buries the dead, on a Ray that is made of generators."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.toy_runs import Script, Table, search
from toys import Curves, ToyData, ToySpace

from raynas.core import Job, Measurement, RaynasError, UserError
from raynas.runners.base import JobOutcome
from raynas.runners.failures import FailureTracker, cause, died, machine_gone
from raynas.runners.local import LocalRunner
from raynas.runners.ray import actor_backend, actor_worker
from raynas.runners.ray import actor_pool as crew_module
from raynas.runners.ray.actor_pool import ActorPool
from raynas.runners.ray.actor_worker import ActorWorker
from raynas.runners.ray.actors import _Jobs
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tasks import ActorTask, TaskSource

SPACE = ToySpace()
ARCH = SPACE.architecture("x=0,y=0,op=a")
GONE = (
    "The actor died because its node has died. Node Id: 0\n\tthe actor's node was preempted: spot"
)
KILLED = "The actor died unexpectedly before finishing this task. ... worker process has died."
SETUP = "The actor died because of an error raised in its creation task, ...\nOSError: no toy.bin"


@dataclass
class Parts:
    """What a call to an actor streams; an exception among it is raised by ``get``."""

    parts: Iterator[Any]
    mute: bool = False

    def __next__(self) -> Any:
        return next(self.parts)


ONE = SimpleNamespace(
    known=lambda: frozenset("a"), answering=lambda: frozenset("a"), freest=lambda *_, **__: None
)


@dataclass
class FakeRay:
    """Actors in this process. ``kills``: trial -> how often it kills its worker.

    ``seconds``: what a job seems to take. ``births``: of the first workers, what goes wrong.
    """

    kills: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.01
    births: deque[Exception | None] = field(default_factory=deque)
    chunks: list[list[int]] = field(default_factory=list)
    payloads: Counter[str] = field(default_factory=Counter)
    mute: int = 0  # calls that are never answered
    alive: list[object] = field(default_factory=list)

    def remote(self, _cls: type) -> FakeRay:
        return self

    def options(self, **_options: float) -> Any:
        return SimpleNamespace(remote=self._hire)

    def _hire(self, _shared: SharedContext, _gpus: float) -> Any:
        birth = self.births.popleft() if self.births else None
        actor = SimpleNamespace(
            ready=SimpleNamespace(remote=lambda: birth or self._ready(actor)),
            evaluate=SimpleNamespace(remote=lambda *given: self._call(actor, *given)),
        )
        self.alive.append(actor)
        return actor

    def _ready(self, actor: object) -> object:
        there = any(other is actor for other in self.alive)
        return SimpleNamespace() if there else RuntimeError(KILLED)

    def _call(
        self, actor: object, chunk: Sequence[tuple[Any, Job]], shared: SharedContext | None = None
    ) -> Parts:
        self.chunks.append([job.trial for _, job in chunk])
        self.payloads[shared.version if shared else ""] += 1
        if self.mute:
            self.mute -= 1
            return Parts(iter(()), mute=True)
        return Parts(self._work(actor, chunk))

    def _work(self, actor: object, chunk: Sequence[tuple[Any, Job]]) -> Iterator[Any]:
        for place, (_, job) in enumerate(chunk):
            if actor not in self.alive or self.kills[job.trial] > 0:
                self.kills[job.trial] -= actor in self.alive
                self.alive = [a for a in self.alive if a is not actor]
                yield RuntimeError(KILLED)
            measured = JobOutcome(Measurement(1, {"val_accuracy": float(job.trial)}))
            yield [(place, measured), (place, JobOutcome())], self.seconds

    def wait(self, waiting: list[Any], *, num_returns: int, timeout: float) -> Any:
        return [w for w in waiting if not (isinstance(w, Parts) and w.mute)], []

    def get(self, found: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, actor: object) -> None:
        self.alive = [a for a in self.alive if a is not actor]


@dataclass
class Numbers(TaskSource):
    """Tasks 0 .. ``count`` - 1; remembers how each ended, and the most that were out at once."""

    count: int
    given: int = 0
    most: int = 0
    ends: dict[int, str] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        return len(self.ends) == self.count

    def next(self) -> ActorTask | None:
        if self.given == self.count:
            return None
        self.given += 1
        self.most = max(self.most, self.given - len(self.ends))
        return ActorTask(ARCH, Job(self.given - 1, 0, 1))

    def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
        for task, outcome in found:
            if outcome.measurement is None:
                assert task.job.trial not in self.ends, "ended twice"
                self.ends[task.job.trial] = "done"

    def again(self, task: ActorTask) -> None:
        self.attempts[task.job.trial] += 1
        assert self.attempts[task.job.trial] == task.job.attempt

    def lose(self, task: ActorTask, message: str) -> None:
        assert task.job.trial not in self.ends, "ended twice"
        self.ends[task.job.trial] = message

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def share(self, workers: int) -> int | None:
        return None

    @property
    def left(self) -> int:
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay()
    monkeypatch.setattr(actor_backend, "ray", ray)
    monkeypatch.setattr(actor_backend, "machines", ONE)
    return ray


def crew(
    size: int = 2, retries: int = 2, *, ahead: bool = True, patience: float | None = None
) -> ActorPool:
    options: Mapping[str, float] = {"num_cpus": 1.0, "num_gpus": 0.0}
    shared = SharedContext(SPACE, Curves(), None)
    return ActorPool(shared, options, lambda: size, retries=retries, ahead=ahead, patience=patience)


def test_chunks_grow_to_a_quarter_of_a_second_and_two_wait_at_most(fake: FakeRay) -> None:
    numbers = Numbers(500)
    crew().carry_out(numbers)
    sizes = [len(chunk) for chunk in fake.chunks]
    assert sizes[:2] == [1, 1]
    assert max(sizes) == 25  # of 10 ms
    assert numbers.most <= 2 * 2 * 25
    fake.chunks.clear()
    fake.seconds = 1e-6
    numbers = Numbers(1000)
    crew().carry_out(numbers)
    assert max(map(len, fake.chunks)) == 32
    assert [n for chunk in fake.chunks for n in chunk] == list(range(1000))


def test_slow_evaluations_are_handed_out_one_by_one_and_none_waits(fake: FakeRay) -> None:
    fake.seconds, numbers = 0.4, Numbers(20)
    crew(3).carry_out(numbers)
    assert {len(chunk) for chunk in fake.chunks} == {1}
    assert numbers.most == 3


@pytest.mark.usefixtures("fake")
def test_without_looking_ahead_there_is_one_at_a_time() -> None:
    numbers = Numbers(50)
    crew(1, ahead=False).carry_out(numbers)
    assert numbers.most == 1


def test_who_likes_a_crowd_gets_one_and_no_second_to_wait(fake: FakeRay) -> None:
    fake.seconds, numbers, team = 0.4, Numbers(50), crew(2)
    team.shared.evaluator.preferred_batch = 8  # type: ignore[misc]
    team.carry_out(numbers)
    assert [len(chunk) for chunk in fake.chunks] == [8] * 6 + [2]
    assert numbers.most == 16


def test_tasks_of_two_payloads_are_never_in_one_chunk(fake: FakeRay) -> None:
    other = SharedContext(SPACE, Curves(), None, version="other")

    class Mixed(Numbers):
        def next(self) -> ActorTask | None:
            task = super().next()
            if task is not None and task.job.trial % 5 >= 3:
                task.shared = other
            return task

    numbers, team = Mixed(60), crew(2)
    team.shared.evaluator.preferred_batch = 8  # type: ignore[misc]
    team.carry_out(numbers)
    assert sorted(n for chunk in fake.chunks for n in chunk) == list(range(60))
    assert all(len({n % 5 >= 3 for n in chunk}) == 1 for chunk in fake.chunks)
    assert fake.payloads.keys() == {"", "other"}


def test_a_worker_that_says_nothing_is_replaced(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(crew_module.time, "monotonic", lambda: float(next(clock)))
    fake.mute = 1
    numbers = Numbers(3)
    crew(1, patience=50.0).carry_out(numbers)
    assert numbers.ends == dict.fromkeys(range(3), "done")
    assert numbers.attempts[0] == 1
    assert len(fake.chunks) >= 3


@pytest.mark.parametrize("retries", [0, 9])
def test_of_a_chunk_only_the_guilty_one_fails(fake: FakeRay, retries: int) -> None:
    numbers = Numbers(200)
    fake.kills[100] = 99
    crew(retries=retries).carry_out(numbers)
    message = died(2, cause(KILLED)[1])
    message += "; in quarantine, no third worker gets it" if retries else ""
    assert {n: end for n, end in numbers.ends.items() if end != "done"} == {100: message}
    shared = next(chunk for chunk in fake.chunks if 100 in chunk)
    assert len(shared) > 1
    assert [chunk for chunk in fake.chunks if 100 in chunk][1:] == [[100]]
    begun = set(shared[shared.index(100) :])
    assert {n for n, attempts in numbers.attempts.items() if attempts} == begun


@settings(max_examples=60, deadline=None)
@given(
    kills=st.dictionaries(st.integers(0, 79), st.integers(1, 9), max_size=12),
    size=st.integers(1, 4),
    retries=st.integers(0, 3),
    seconds=st.sampled_from([1e-4, 0.02, 1.0]),
)
def test_whoever_dies_everything_ends_once_and_the_innocent_are_done(
    kills: dict[int, int], size: int, retries: int, seconds: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ray = FakeRay(Counter(kills), seconds)
        patch.setattr(actor_backend, "ray", ray)
        patch.setattr(actor_backend, "machines", ONE)
        numbers, team = Numbers(80), crew(size, retries)
        team.carry_out(numbers)
        team.dismiss()
    assert ray.alive == []
    assert set(numbers.ends) == set(range(80))
    for number, end in numbers.ends.items():
        if not kills.get(number):
            assert end == "done"
        elif kills[number] > 1:  # one worker may have been killed by another task, too
            assert end.startswith("its worker died")


def test_more_are_hired_when_machines_join_and_none_for_those_that_left(fake: FakeRay) -> None:
    class Joining(Numbers):
        def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
            super().take(found)
            most.append(len(fake.alive))
            size[0] = 2 if len(self.ends) < 60 else 5 if len(self.ends) < 300 else 1

    size, most = [2], list[int]()
    numbers = Joining(400)
    shared = SharedContext(SPACE, Curves(max_step=1), ToyData().search_view(0))
    team = ActorPool(shared, {"num_cpus": 1.0, "num_gpus": 0.0}, lambda: size[0], retries=2)
    fake.kills[350] = 1
    team.carry_out(numbers)
    assert set(numbers.ends.values()) == {"done"}
    assert most[0] == 2
    assert max(most) == 5
    assert len(fake.alive) == 4  # the dead one was of a machine that left


def test_workers_that_cannot_be_set_up_end_the_run_at_once(fake: FakeRay) -> None:
    fake.births.append(RuntimeError(SETUP))
    with pytest.raises(UserError, match=r"workers cannot be set up: OSError: no toy\.bin"):
        crew().carry_out(Numbers(3))
    assert fake.chunks == []


def test_workers_that_are_killed_while_they_start_are_replaced_some_times(fake: FakeRay) -> None:
    fake.births.extend([RuntimeError(KILLED)] * 4)
    numbers = Numbers(3)
    crew(1).carry_out(numbers)
    assert set(numbers.ends.values()) == {"done"}
    fake.births.extend([RuntimeError(KILLED)] * 5)
    with pytest.raises(UserError, match="workers cannot be set up: it was killed"):
        crew(1).carry_out(Numbers(3))


def test_workers_that_start_on_one_machine_and_are_lost_with_it_are_one(fake: FakeRay) -> None:
    fake.births.extend([RuntimeError(KILLED)] * 8)
    numbers = Numbers(3)
    crew(8).carry_out(numbers)
    assert set(numbers.ends.values()) == {"done"}


class Quiet(Numbers):
    """Tasks 0 to 9, then a rest in which all workers are lost ``losses`` times, then the others."""

    losses: int = 1
    all_die: Any = None

    def next(self) -> ActorTask | None:
        if self.given < 10 or not self.losses:
            return super().next()
        if len(self.ends) == 10:
            self.losses -= 1
            self.all_die()
        return None

    def rest(self, seconds: float) -> None: ...


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("ping", [0.0, 1e9])
def test_idle_workers_that_are_lost_together_cost_nothing(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, retries: int, ping: float
) -> None:
    monkeypatch.setattr(crew_module, "_PING_SECONDS", ping)
    numbers = Quiet(60)
    numbers.all_die = lambda: fake.alive.clear()
    crew(8, retries).carry_out(numbers)
    assert numbers.ends == dict.fromkeys(range(60), "done")


def test_an_error_in_a_set_up_ends_nothing_once_another_has_worked(fake: FakeRay) -> None:
    numbers = Quiet(20)

    def lose() -> None:
        fake.alive.clear()
        fake.births.extend([RuntimeError(SETUP)] * 4)

    numbers.all_die = lose
    crew(1).carry_out(numbers)
    assert numbers.ends == dict.fromkeys(range(20), "done")
    numbers = Quiet(20)

    def doom() -> None:
        fake.alive.clear()
        fake.births.extend([RuntimeError(SETUP)] * 5)

    numbers.all_die = doom
    with pytest.raises(UserError, match=r"workers cannot be set up: OSError: no toy\.bin"):
        crew(1).carry_out(numbers)


@pytest.mark.parametrize("wrong", ["twice in a part", "twice in two", "foreign", "never"])
def test_what_a_worker_says_twice_counts_once_and_what_it_forgets_is_repeated(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    work, faults = fake._work, [1]

    def faulty(actor: object, chunk: Sequence[tuple[Any, Job]]) -> Iterator[Any]:
        for found, seconds in work(actor, chunk):
            if len(chunk) > 1 and faults:
                faults.pop()
                again = [(found[-1][0] + 1000 * (wrong == "foreign"), JobOutcome())]
                yield (found[:-1] if wrong == "never" else found + again), seconds
                if wrong == "twice in two":
                    yield again, seconds
            else:
                yield found, seconds
        yield StopIteration()

    monkeypatch.setattr(fake, "_work", faulty)
    numbers = Numbers(60)
    crew(2).carry_out(numbers)
    assert not faults
    assert numbers.ends == dict.fromkeys(range(60), "done")
    assert sum(numbers.attempts.values()) == (wrong == "never")


@pytest.mark.parametrize("refused", ["ready", "evaluate"])
def test_a_call_that_fails_is_the_worker_s_end_and_no_task_s(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    hire, refusals = fake._hire, [2]

    def hired(shared: SharedContext, gpus: float) -> Any:
        actor = hire(shared, gpus)
        call = getattr(actor, refused).remote

        def remote(*given: Any) -> Any:
            if refusals[0] and numbers.given > 10:
                refusals[0] -= 1
                raise RuntimeError(KILLED)
            return call(*given)

        setattr(actor, refused, SimpleNamespace(remote=remote))
        return actor

    monkeypatch.setattr(fake, "_hire", hired)
    numbers = Numbers(60)
    crew(2, retries=0).carry_out(numbers)
    assert refusals == [0]
    assert numbers.ends == dict.fromkeys(range(60), "done")
    assert not numbers.attempts


def test_a_task_that_cannot_be_sent_fails_alone(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = fake._call

    def refuse(actor: object, chunk: Sequence[tuple[Any, Job]], *shared: SharedContext) -> Parts:
        if any(job.trial == 30 for _, job in chunk):
            raise TypeError("cannot pickle")
        return call(actor, chunk, *shared)

    monkeypatch.setattr(fake, "_call", refuse)
    numbers = Numbers(60)
    crew(2).carry_out(numbers)
    assert {n for n, end in numbers.ends.items() if end != "done"} == {30}
    assert numbers.ends[30].startswith("its worker died 2 times: cannot pickle")


def test_all_workers_are_ended_also_when_one_cannot_be(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = crew(3)
    team.carry_out(Numbers(9))
    kill, first = fake.kill, fake.alive[0]

    def stubborn(actor: object) -> None:
        kill(actor)
        if actor is first:
            raise RuntimeError("no such actor")

    monkeypatch.setattr(fake, "kill", stubborn)
    with pytest.raises(RuntimeError, match="no such actor"):
        team.dismiss()
    assert fake.alive == []


def test_what_is_not_wanted_any_more_is_not_started_again(fake: FakeRay) -> None:
    class Stopping(Numbers):
        def next(self) -> ActorTask | None:
            task = super().next()
            if task is not None and task.job.trial == 20:
                task.closed = True
                self.ends[20] = "stopped"
            return task

    numbers = Stopping(60)
    fake.kills[20] = 1
    crew(1).carry_out(numbers)
    assert numbers.ends == {**dict.fromkeys(range(60), "done"), 20: "stopped"}
    assert not numbers.attempts[20]


def test_a_search_stores_attempts_and_tells_of_every_end(fake: FakeRay) -> None:
    fake.kills.update({0: 1, 1: 9})
    rows, sampler = Table(), Script([a.text for a in SPACE.enumerate()][:12])
    crew(retries=1).carry_out(_Jobs(search(sampler, Curves(max_step=1), rows)))
    ends = {row["trial"]: (row["state"], row["attempt"]) for row in rows}
    expected = dict.fromkeys(range(12), ("COMPLETE", 0))
    assert ends == {**expected, 0: ("COMPLETE", 1), 1: ("FAILED", 1)}
    messages = {row["trial"]: row["message"] for row in rows if row["message"]}
    assert messages == {1: died(2, cause("")[1])}
    assert set(sampler.told) == set(range(12))


def test_a_worker_streams_its_parts_and_splits_only_what_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(crew_module.time, "monotonic", lambda: 0.03 * next(clock))
    monkeypatch.setattr(actor_worker.ray, "get", lambda view: view)
    faults = {"x=0,y=1,op=a": "crash", "x=0,y=2,op=a": "short"}
    shared = SharedContext(SPACE, Curves(max_step=3, fault=faults), ToyData().search_view(0))
    worker = ActorWorker(shared, 0.0)
    chunk = [(SPACE.architecture(f"x=0,y={y},op=a"), Job(y, 0, 3)) for y in range(4)]
    parts = list(worker.evaluate(chunk))
    assert len(parts) > 4
    assert all(seconds > 0 for _, seconds in parts)
    streamed = [item for found, _ in parts for item in found]
    for place in range(4):
        own = [outcome for p, outcome in streamed if p == place]
        assert [o.measurement is None for o in own] == [False] * (len(own) - 1) + [True]
    assert [place for place, _ in streamed] == sorted(place for place, _ in streamed)
    for found, _ in parts:
        last = found[-1][1].measurement
        assert last is None or last.step < 3
    rows, here, script = Table(), Table(), [arch.text for arch, _ in chunk]
    work = search(Script(script), Curves(max_step=3, fault=faults), rows)
    jobs = [work.next() for _ in chunk]
    tasks = [ActorTask(arch, job) for (arch, _), job in zip(chunk, jobs, strict=True)]
    _Jobs(work).take([(tasks[place], outcome) for place, outcome in streamed])
    LocalRunner().run(search(Script(script), Curves(max_step=3, fault=faults), here))
    same = ("trial", "step", "state", "message")
    assert [[row[c] for c in same] for row in rows] == [[row[c] for c in same] for row in here]


def test_a_machine_that_is_taken_away_is_no_fault_of_the_task() -> None:
    deaths, all_there = FailureTracker(), lambda: frozenset("ab")
    for text in [GONE, KILLED, GONE]:
        deaths.count(text, all_there)
        assert deaths.verdict(3, "it is gone", all_there) == ""
    deaths.progress()
    for _ in range(3):
        deaths.count(GONE, all_there)
        assert deaths.verdict(3, "it is gone", all_there) == ""
    deaths.count(KILLED, all_there)
    assert deaths.verdict(4, "it crashed", all_there) == ""
    told = deaths.verdict(3, "it crashed", all_there)
    assert told == "its worker died 4 times: it crashed"
    deaths.count(KILLED, all_there)
    told = deaths.verdict(9, "it crashed", all_there)
    assert told.startswith("its worker died 5 times: it crashed; in qua")
    assert [machine_gone(text) for text in (GONE, KILLED, SETUP, "")] == [True, False, False, False]


def test_a_crash_was_the_machines_where_one_was_lost_meanwhile() -> None:
    """Ray says the same of both, until it gives the machine up."""
    deaths, machines = FailureTracker(), [*"abc"]

    def there() -> frozenset[str]:
        return frozenset(machines)

    for lost in "ab":
        deaths.count(KILLED, there)
        machines.remove(lost)
        assert deaths.verdict(9, "it crashed", there) == ""
    deaths.count(KILLED, there)
    assert deaths.verdict(9, "it crashed", there) == ""
    machines.append("d")  # another joins
    deaths.count(KILLED, there)
    assert "quarantine" in deaths.verdict(9, "it crashed", there)


def test_a_second_try_with_more_memory_is_a_chunk_s_last(fake: FakeRay) -> None:
    class Some(Numbers):
        def next(self) -> ActorTask | None:
            task = super().next()
            if task is not None and task.job.trial == 100:
                task.job = replace(task.job, more_memory=True)
            return task

    crew().carry_out(Some(200))
    assert next(chunk for chunk in fake.chunks if 100 in chunk)[-1] == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GONE, (False, "its machine is gone")),
        (SETUP, (True, "OSError: no toy.bin")),
        (KILLED, (False, cause("")[1])),
        ("ray::Worker.evaluate() (pid=1)\nTypeError: cannot pickle", (False, "TypeError: cannot "
         "pickle")),
    ],
)  # fmt: skip
def test_who_is_to_blame_for_a_death(text: str, expected: tuple[bool, str]) -> None:
    assert cause(text) == expected


@dataclass
class Equipped(Curves):
    """Notes what it was given; ``file``: the version of what it would read by itself."""

    file: str = "v1"
    given: dict[str, Any] | None = None

    def load_assets(self, assets: Mapping[str, Any]) -> None:
        self.given = dict(assets)

    def weights_version(self) -> str:
        return self.file


class Store:
    """Ray's object store; ``lost``: what it does not have any more."""

    exceptions = ray.exceptions

    def __init__(self, lost: str = "") -> None:
        self._lost = lost

    def get(self, reference: str) -> Any:
        if reference == self._lost:
            raise ray.exceptions.ObjectLostError("0" * 56, None, "")
        return {"numbers": 1} if reference == "assets" else ToyData().search_view(0)


def test_a_worker_gets_assets_from_the_store_or_reads_the_same_version_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ready(version: str) -> Any:
        return actor_worker.ready_evaluator(
            SharedContext(SPACE, Equipped(), "view", "assets", version)
        )

    monkeypatch.setattr(actor_worker, "ray", Store())
    assert ready("v1").given == {"numbers": 1}
    monkeypatch.setattr(actor_worker, "ray", Store(lost="assets"))
    assert ready("v1").given is None
    with pytest.raises(RaynasError, match="weights v0 are lost"):
        ready("v0")


def test_a_worker_keeps_the_two_versions_that_were_asked_for_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor_worker, "ray", Store())
    shared = [SharedContext(SPACE, Equipped(), "view", "assets", f"v{n}") for n in range(3)]
    worker = ActorWorker(shared[0], gpus=0.0)
    assert worker._evaluator(None) is worker._evaluator(shared[0]) is shared[0].evaluator
    for number in (1, 0, 2, 0):
        assert worker._evaluator(shared[number]) is shared[number].evaluator
    assert list(worker._evaluators) == ["v2", "v0"]
