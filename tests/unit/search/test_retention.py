"""Which checkpoints stay: the quota of a whole experiment, and who is spared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from integration.drivers import experiment_file, quiet
from integration.toy_runs import Table, search
from toys import Curves, ToySpace, noise

from raynas.core import (
    Architecture,
    Job,
    Measurement,
    Objective,
    Trial,
    TrialState,
    UserError,
)
from raynas.core.pareto import pareto_front
from raynas.experiment import load
from raynas.pipeline import launch
from raynas.runners.local import LocalRunner
from raynas.samplers.random import Random
from raynas.schedulers import ASHA, PromotionASHA
from raynas.schedulers.rungs import RungScheduler
from raynas.search.controller import SearchController
from raynas.search.job_source import JobSource
from raynas.search.retention import CheckpointRetention, Checkpoints
from raynas.store.remote import RemoteFolder

pytestmark = pytest.mark.usefixtures("undrawn")

ARCH = ToySpace().architecture("x=0,y=0,op=a")
BOTH = (Objective(), Objective("params", "min"))


class Keeping(Curves):
    """Has a checkpoint of every step that it hands over. Each step has an order of its own."""

    @staticmethod
    def _value(arch: Architecture, job: Job, step: int) -> float:
        return 100 * noise(f"{arch.text}{step} of {job.max_step}")

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        for measurement in super().evaluate(arch, job):
            self._keep(job, measurement.step)
            yield measurement


class Watched(Table):
    """Looks at the folders whenever rows are stored."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look = look

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        super().append(rows)
        self.look()


def kept(place: Path | RemoteFolder) -> set[int]:
    """Numbers of the trials with checkpoints."""
    if isinstance(place, RemoteFolder):
        return {int(name.partition("/")[0]) for name in place.names()}
    return {int(folder.name) for folder in place.iterdir()} if place.is_dir() else set()


def front(work: JobSource) -> set[int]:
    """Numbers of the COMPLETE trials that no other dominates, worked out anew."""
    complete = [t for t in work.trials.values() if t.state is TrialState.COMPLETE]
    points = [[o.sign * t.values()[o.metric] for o in work.objectives] for t in complete]
    return {complete[i].number for i in pareto_front(points)}  # type: ignore[arg-type]


def rung_leaders(work: SearchController, top: int) -> set[int]:
    """The best of each rung by what is stored, worked out anew (one objective)."""
    assert isinstance(work.scheduler, RungScheduler)
    found: set[int] = set()
    for rung in work.scheduler.rungs():
        there = {
            t.number: m.values["val_accuracy"]
            for t in work.trials.values()
            for m in t.measurements
            if m.step == rung.step
        }
        found |= set(sorted(there, key=lambda n: (-there[n], n))[:top])
    return found


# -- the books ---------------------------------------------------------------------------------


@dataclass
class Fake:
    """An owner whose trials are worth as much as their number."""

    best: tuple[Trial, ...] = ()
    unfinished: int = 0
    led: frozenset[int] = frozenset()
    gone: list[int] = field(default_factory=list)

    def leaders(self, top: int) -> Collection[int]:
        return sorted(self.led)[:top]

    def worth(self, trial: Trial) -> tuple[float, ...]:
        return (trial.number,)

    def discard(self, trial: Trial) -> None:
        self.gone.append(trial.number)


def rested(number: int) -> Trial:
    return Trial(number, ARCH, ARCH, state=TrialState.STOPPED)


@given(
    quota=st.integers(0, 12),
    unfinished=st.integers(0, 6),
    numbers=st.lists(st.integers(0, 30), unique=True, max_size=20),
    data=st.data(),
)
def test_beyond_the_quota_the_best_and_leaders_stay(
    quota: int, unfinished: int, numbers: list[int], data: st.DataObject
) -> None:
    some = st.sets(st.sampled_from(numbers)) if numbers else st.just(set())
    best, led = data.draw(some), data.draw(some)
    owner = Fake(tuple(rested(n) for n in best), unfinished, frozenset(led))
    retention = CheckpointRetention(Checkpoints(quota, top=99))
    retention.join(owner, [rested(n) for n in numbers])
    left = set(numbers) - set(owner.gone)
    safe = best | led if quota else best
    assert safe <= left
    assert len(owner.gone) == len(set(owner.gone))
    assert unfinished + len(left) <= quota or left == safe
    assert not owner.gone or unfinished + len(left) >= quota  # no more than must go
    assert all(number < other for number in owner.gone for other in left - safe)


def test_one_quota_holds_for_all_works_of_an_experiment() -> None:
    first, second = Fake(), Fake(unfinished=1)
    retention = CheckpointRetention(Checkpoints(quota=3))
    retention.join(first, [rested(n) for n in (1, 2)])
    retention.join(second, [])
    assert first.gone == []
    retention.rests(second, rested(9))
    assert (first.gone, second.gone) == ([1], [])


@pytest.mark.parametrize(("setting", "name"), [({"quota": -1}, "quota=-1"), ({"top": -1}, "top")])
def test_a_quota_below_nothing_is_refused(setting: dict[str, int], name: str) -> None:
    with pytest.raises(UserError, match=rf"checkpoints\.{name}"):
        Checkpoints(**setting)


# -- searches ----------------------------------------------------------------------------------


def searched(
    folder: Path, checkpoints: Checkpoints, *, keep: int = 2, **settings: Any
) -> SearchController:
    """A search in this process; at every row no more trials than allowed have checkpoints."""

    def look() -> None:
        here = kept(folder)
        open_ = {t.number for t in work.trials.values() if not t.state.ended}
        if checkpoints.quota is not None:
            safe = set(work.checkpoints.leaders(checkpoints.top)) if checkpoints.quota else set()
            assert len(here - open_ - safe) <= checkpoints.quota + keep + 1  # one ends now

    rows = Watched(look)
    work = search(
        Random(), Keeping(8), rows, trials=40, folder=folder, keep=keep,
        retention=CheckpointRetention(checkpoints), **settings,
    )  # fmt: skip
    LocalRunner().run(work)
    return work


def test_the_best_of_each_rung_stay_where_the_quota_holds_them(tmp_path: Path) -> None:
    quota = 12
    work = searched(tmp_path, Checkpoints(quota, top=3), scheduler=ASHA(1, 2))
    leaders = rung_leaders(work, 3)
    assert len(work.scheduler.rungs()) == 3
    assert any(work.trials[n].state is TrialState.STOPPED for n in leaders)
    assert leaders <= kept(tmp_path)
    assert len(kept(tmp_path)) == quota


def test_the_best_of_each_rung_stay_beyond_a_quota_too_small_for_them(tmp_path: Path) -> None:
    work = searched(tmp_path, Checkpoints(3, top=2), scheduler=ASHA(1, 2))
    best = {t.number for t in work.best}
    safe = best | rung_leaders(work, 2) | front(work)
    assert len(safe) > 3
    last = max(work.trials)  # room was made for it when it began, and nobody came after it
    assert safe <= kept(tmp_path) <= safe | {last}


def test_the_pareto_front_of_two_objectives_stays(tmp_path: Path) -> None:
    work = searched(tmp_path, Checkpoints(quota=6), objectives=BOTH, keep=0)
    assert 2 <= len(front(work)) <= 6
    accuracies = sorted(t.values()["val_accuracy"] for t in work.trials.values())
    lows = [work.trials[n].values()["val_accuracy"] for n in front(work)]
    assert min(lows) < accuracies[-8]  # it is there for its size
    assert front(work) <= kept(tmp_path)
    assert len(kept(tmp_path)) == 6


def test_of_two_objectives_the_best_of_each_rung_stay(tmp_path: Path) -> None:
    work = searched(tmp_path, Checkpoints(15, top=2), objectives=BOTH, scheduler=ASHA(2, 2))
    assert len(work.scheduler.rungs()) == 2
    assert set(work.scheduler.leaders(2)) | front(work) <= kept(tmp_path)
    assert len(kept(tmp_path)) == 15


@pytest.mark.parametrize("quota", [0, 4])
def test_what_waits_to_go_on_is_never_touched(quota: int, tmp_path: Path) -> None:
    def look() -> None:
        for trial in work.trials.values():
            if trial.number in work.scheduler.paused():
                assert trial.number in kept(tmp_path)

    rows = Watched(look)
    work = search(
        Random(), Keeping(8), rows, trials=20, folder=tmp_path, scheduler=PromotionASHA(1, 2),
        retention=CheckpointRetention(Checkpoints(quota)),
    )  # fmt: skip
    LocalRunner().run(work)
    assert max(t.step for t in work.trials.values()) == 8
    safe = rung_leaders(work, 3) | front(work) if quota else set()
    assert len(kept(tmp_path)) == max(quota, len(safe | {t.number for t in work.best}))


def test_what_runs_is_never_touched_and_counts(tmp_path: Path) -> None:
    work = search(
        Random(), Curves(max_step=2), Table(), trials=9, folder=tmp_path, keep=0,
        retention=CheckpointRetention(Checkpoints(quota=3)),
    )  # fmt: skip
    jobs = [job for job in (work.next() for _ in range(3)) if job is not None]
    for job in jobs:
        assert job.workdir is not None
        job.workdir.mkdir()
    for step in (1, 2):
        work.report(work.jobs[0], Measurement(step, {"val_accuracy": 50.0}))
    for step in (1, 2):
        work.report(work.jobs[1], Measurement(step, {"val_accuracy": 60.0}))
    assert work.trials[0].state is work.trials[1].state is TrialState.COMPLETE
    assert kept(tmp_path) == {0, 1, 2}
    assert work.next() is not None  # a second runs, so the worse one at rest must make room
    assert kept(tmp_path) == {1, 2}


def test_without_a_quota_all_that_may_be_of_use_stays(tmp_path: Path) -> None:
    work = searched(tmp_path, Checkpoints(None), scheduler=ASHA(1, 2))
    assert kept(tmp_path) == {t.number for t in work.trials.values()}


def test_a_trial_that_failed_keeps_nothing(tmp_path: Path) -> None:
    faults = {f"x={x},y={y},op=a": "crash" for x in range(6) for y in range(6)}
    rows = Table()
    work = search(
        Random(), Keeping(4, fault=faults), rows, trials=20, folder=tmp_path,
        retention=CheckpointRetention(Checkpoints(None)),
    )  # fmt: skip
    LocalRunner().run(work)
    failed = {t.number for t in work.trials.values() if t.state is TrialState.FAILED}
    assert failed
    assert not failed & kept(tmp_path)


def test_on_shared_storage_the_quota_holds_too_and_a_resume_may_lower_it(tmp_path: Path) -> None:
    remote = RemoteFolder((tmp_path / "storage").as_uri())

    def run(quota: int, past: Sequence[Trial]) -> SearchController:
        work = search(
            Random(),
            Keeping(8),
            Table(),
            trials=30,
            folder=tmp_path / "here",
            mirror=remote,
            scheduler=ASHA(1, 2),
            retention=CheckpointRetention(Checkpoints(quota, top=1)),
            past=past,
            keep=2,
        )
        work.join()
        if not work.done:
            LocalRunner().run(work)
        return work

    first = run(9, ())
    assert len(kept(remote)) == 9
    assert rung_leaders(first, 1) <= kept(remote)
    again = run(6, list(first.trials.values()))
    assert len(kept(remote)) == 6
    assert rung_leaders(again, 1) | {t.number for t in again.best} <= kept(remote)


# -- a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["here", "file"])
def test_a_run_keeps_to_its_quota_and_may_be_resumed_with_another(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    file = experiment_file(tmp_path, trials=24, scheduler="ASHA(2, 2)", steps=8)
    where = tmp_path / "run" if place == "here" else (tmp_path / "storage").as_uri()
    folder = launch.start(
        load(file, {"checkpoints.quota": 7}), where, lambda *_: LocalRunner(),
        overrides={"checkpoints.quota": 7}, smoke=False, console=quiet(),
    )  # fmt: skip

    def there() -> set[int]:
        return kept(folder.remote.below("checkpoints") if folder.remote else folder.checkpoints)

    assert len(there()) == 7
    assert folder.info.description["checkpoints"]["quota"] == 7
    before = there()
    launch.resume(
        folder.path, lambda *_: LocalRunner(),
        more_trials=1, overrides={"checkpoints.quota": 4}, console=quiet(),
    )  # fmt: skip
    assert len(there()) == 4
    assert len(there() - before) <= 1
