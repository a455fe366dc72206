"""What raynas tells Ray Tune's controller, without a Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from integration.toy_runs import Table, search
from toys import Curves

from raynas.core import Job, Measurement
from raynas.runners.base import JobOutcome, Resources
from raynas.runners.placement import ResourceAllocator, ResourceRequest
from raynas.runners.ray import tune
from raynas.runners.ray import tune_search as tune_module
from raynas.runners.ray.nodes import CachedQuery
from raynas.runners.ray.tune_callbacks import TrialRecords
from raynas.runners.ray.tune_search import TuneHooks, WorkScheduler, WorkSearcher
from raynas.samplers.random import Random


@dataclass(eq=False)
class FakeTrial:
    number: int
    status: str = "PENDING"
    PENDING = "PENDING"
    error_file = None
    job: Job | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {"job": self.job or Job(self.number, 0, 1)}


@dataclass
class FakeController:
    _trials: list[FakeTrial] = field(default_factory=list)
    _stopped_trials: set[FakeTrial] = field(default_factory=set)
    _failed_trials: set[FakeTrial] = field(default_factory=set)
    _trials_to_cache: set[FakeTrial] = field(default_factory=set)
    _resetting_trials: set[FakeTrial] = field(default_factory=set)
    _reuse_actors: bool = True

    def get_trials(self) -> list[FakeTrial]:
        return self._trials


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> TuneHooks:
    for name in ("known", "answering"):
        monkeypatch.setattr(tune_module.machines, name, lambda: frozenset("a"))
    found = TuneHooks(
        search(Random(), Curves(2), Table(), trials=9),
        ResourceAllocator(ResourceRequest(), (0, 0)),
        Resources(),
    )
    found.leaving = CachedQuery(frozenset)  # there is no Ray to ask
    return found


def test_a_free_worker_goes_to_the_newest_trial_since_older_ones_have_theirs_on_the_way(
    hooks: TuneHooks,
) -> None:
    running, old, new = FakeTrial(0, "RUNNING"), FakeTrial(1), FakeTrial(2)
    scheduler = WorkScheduler(hooks)
    assert scheduler.choose_trial_to_run(FakeController([running, old, new])) is new
    assert scheduler.choose_trial_to_run(FakeController([running])) is None


def test_trials_that_ended_are_struck_out_of_tunes_books(hooks: TuneHooks) -> None:
    ended, failed, running = FakeTrial(0, "TERMINATED"), FakeTrial(1, "ERROR"), FakeTrial(2)
    controller = FakeController(
        [ended, failed, running], {ended}, {failed}, {ended, failed, running}
    )
    scheduler, books = WorkScheduler(hooks), TrialRecords(hooks)
    hooks.work.interrupt()  # a death has no consequences then
    for trial in (ended, failed, running):
        books.on_trial_start(0, controller._trials, trial)
    scheduler.on_trial_complete(controller, ended, {})
    scheduler.on_trial_error(controller, failed)
    books.on_step_end(1, controller._trials)
    assert controller == FakeController([running], set(), set(), {running})
    assert set(hooks.heard) == {2}


def test_tune_keeps_the_last_trial_lest_it_looks_for_some_in_its_files(hooks: TuneHooks) -> None:
    last = FakeTrial(0, "TERMINATED")
    controller = FakeController([last], {last})
    WorkScheduler(hooks).on_trial_complete(controller, last, {})
    books = TrialRecords(hooks)
    books.on_step_end(1, controller._trials)
    assert controller._trials == [last]
    controller._trials.append(FakeTrial(1))
    books.on_step_end(2, controller._trials)
    assert last not in controller._trials


def test_no_more_trials_are_given_out_than_there_are_slots_now(hooks: TuneHooks) -> None:
    slots = [1]
    searcher = WorkSearcher(hooks, lambda: slots[0])
    assert searcher.set_max_concurrency(tune._PENDING)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    slots[0] = 3  # a machine has joined
    assert isinstance(searcher.suggest("b"), dict)
    assert isinstance(searcher.suggest("c"), dict)
    assert searcher.suggest("d") is None


def test_trials_leave_a_machine_that_is_to_go_and_nobody_gets_their_workers(
    hooks: TuneHooks,
) -> None:
    hooks.leaving = CachedQuery(lambda: frozenset({"doomed"}))
    scheduler, searcher = WorkScheduler(hooks), WorkSearcher(hooks, lambda: 9)
    assert all(isinstance(searcher.suggest(name), dict) for name in "abc")
    controller, said, jobs = FakeController(), {}, dict(hooks.work.jobs)
    for number, node in enumerate(("doomed", "safe", "doomed")):
        last = 2 if number == 2 else 1
        for step in range(1, last + 1):
            found = JobOutcome(Measurement(step, {"val_accuracy": 50.0}, 1.0))
            result = {"outcome": found, "node": node if step == last else "safe"}
            said[number] = scheduler.on_trial_result(
                controller, FakeTrial(number, job=jobs[number]), result
            )
        scheduler.on_trial_complete(controller, FakeTrial(number), {"node": node})
        assert controller._reuse_actors == (node == "safe")
    assert said == {0: "STOP", 1: "CONTINUE", 2: "STOP"}
    trials = hooks.work.trials
    assert [(trials[n].attempt, trials[n].step) for n in range(3)] == [(1, 1), (0, 1), (0, 2)]
    handed_on = hooks.work.next()
    assert handed_on is not None
    assert handed_on.trial == 0  # the last one had ended before


def test_a_worker_that_was_lost_before_it_had_the_trial_is_no_death_of_it(hooks: TuneHooks) -> None:
    scheduler, searcher = WorkScheduler(hooks), WorkSearcher(hooks, lambda: 1)
    for attempt in range(hooks.resources.retries + 3):
        assert isinstance(searcher.suggest(str(attempt)), dict)
        (running,) = hooks.work.live
        assert (running, hooks.work.trials[running].attempt) == (0, attempt)
        trial = FakeTrial(0, job=hooks.work.jobs[0])
        controller = FakeController([trial, FakeTrial(1)], _resetting_trials={trial})
        scheduler.on_trial_error(controller, trial)
        assert hooks.work.error is None
        TrialRecords(hooks).on_step_end(attempt, controller._trials)
        assert controller._resetting_trials == set()
    for attempt in ("once", "twice"):  # with the trial at work
        assert not hooks.work.trials[0].state.ended
        assert isinstance(searcher.suggest(attempt), dict)
        trial = FakeTrial(0, job=hooks.work.jobs[0])
        scheduler.on_trial_error(FakeController(), trial)
    assert hooks.work.trials[0].message.startswith("its worker died 2 times")
    assert "quarantine" in hooks.work.trials[0].message
