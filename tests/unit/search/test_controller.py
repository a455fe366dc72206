"""The one place that decides: duplicates, bounds, faults, budgets, and what resuming rebuilds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from searches import make_retraining, make_search
from toys import Curves, Quick, ToyData, ToySpace, quality

from raynas.core import (
    Architecture,
    Bound,
    Costs,
    Decision,
    Job,
    Measurement,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
)
from raynas.core.prices import ExpectedPrice
from raynas.pipeline.stages import equal_cost
from raynas.runners.local import LocalRunner
from raynas.runners.placement import ResourceRequest
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.base import Scheduler
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.spaces.base import SearchSpace


@dataclass
class Script(Sampler):
    """Proposes what it was given, then nothing; remembers all it was told."""

    name: ClassVar[str] = "script"
    texts: Sequence[str] = ()
    told: list[Trial] = field(default_factory=list)
    replayed: list[Trial] = field(default_factory=list)

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        self._space, self._left = space, list(self.texts)

    def ask(self, number: int) -> Architecture:
        if not self._left:
            raise SpaceExhausted("the script is over")
        return self._space.architecture(self._left.pop(0))

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)

    def replay(self, trials: Iterable[Trial]) -> None:
        self.replayed.extend(trials)


@dataclass
class StopAt(Scheduler):
    name: ClassVar[str] = "stop_at"
    step: int = 2

    def setup(self, problem: SearchProblem) -> None: ...

    def decide(self, trial: Trial) -> Decision:
        return Decision.STOP if trial.step >= self.step else Decision.CONTINUE

    def replay(self, trials: Iterable[Trial]) -> None: ...


class Table(list[dict[str, Any]]):
    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.extend(dict(row) for row in rows)


def search(
    sampler: Sampler | None = None,
    *,
    texts: Sequence[str] = (),
    space: ToySpace | None = None,
    evaluator: Curves | None = None,
    scheduler: Scheduler | None = None,
    limits: SearchLimits | None = None,
    rows: Table | None = None,
    **more: Any,
) -> SearchController:
    payload = EvaluationContext(
        space or ToySpace(), evaluator or Curves(), ToyData().search_view(0)
    )
    return make_search(
        payload,
        rows if rows is not None else Table(),
        sampler=sampler or Script(texts),
        fallback=Random(),
        scheduler=scheduler or NoStopping(),
        limits=limits or SearchLimits(),
        run="test",
        stage="search",
        arm="script",
        objectives=more.pop("objectives", (Objective(),)),
        seed=more.pop("seed", 0),
        **more,
    )


def states(work: SearchController) -> dict[str, int]:
    return dict(work.status().counts)


def test_a_trial_is_stored_row_by_row_and_told_once() -> None:
    rows, sampler = Table(), Script(["x=1,y=2,op=a"])
    work = search(sampler, rows=rows)
    LocalRunner().run(work)
    assert [(r["step"], r["state"]) for r in rows] == [
        (1, "RUNNING"),
        (2, "RUNNING"),
        (3, "RUNNING"),
        (4, "COMPLETE"),
    ]
    assert [t.state for t in sampler.told] == [TrialState.COMPLETE]
    assert rows[0]["params"] == 60
    assert rows[0]["arch"] == "x=1,y=2,op=a"
    assert len({r["arch_id"] for r in rows}) == 1


def test_a_stopped_trial_keeps_its_curve_and_the_last_row_says_so() -> None:
    rows, sampler = Table(), Script(["x=1,y=2,op=a"])
    LocalRunner().run(search(sampler, rows=rows, scheduler=StopAt(2)))
    assert [r["state"] for r in rows] == ["RUNNING", "STOPPED"]
    assert rows[-1]["message"] == "stop_at at step 2"
    assert [m.step for m in sampler.told[0].measurements] == [1, 2]


@pytest.mark.parametrize(
    ("fault", "state", "message"),
    [
        ("nan", "FAILED", "val_accuracy is nan at step 2"),
        ("crash", "FAILED", "RuntimeError: a toy crash"),
        (
            "memory",
            "INFEASIBLE",
            f"out of memory with {ResourceRequest().in_words('cpu')}: MemoryError: toy",
        ),
        ("short", "COMPLETE", "its evaluator ended it at step 1 of 4"),
    ],
)
def test_a_fault_ends_its_trial_and_only_that(fault: str, state: str, message: str | None) -> None:
    bad, good = "x=0,y=0,op=a", "x=1,y=1,op=b"
    rows, sampler = Table(), Script([bad, good])
    LocalRunner().run(search(sampler, rows=rows, evaluator=Curves(fault={bad: fault})))
    end = [r for r in rows if r["arch"] == bad][-1]
    assert (end["state"], end["message"]) == (state, message)
    assert [r["step"] for r in rows if r["arch"] == good] == [1, 2, 3, 4]
    assert [t.state.value for t in sampler.told] == [state, "COMPLETE"]


def test_a_full_disk_at_a_worker_ends_the_search_not_the_trial() -> None:
    rows, text = Table(), "x=1,y=2,op=a"
    work = search(texts=[text], rows=rows, evaluator=Curves(fault={text: "disk"}))
    with pytest.raises(UserError, match="No space left on device; stored results are safe"):
        LocalRunner().run(work)
    assert [r["state"] for r in rows] == ["RUNNING"]
    rest = search(texts=[], rows=rows, past=trials_of(rows))
    LocalRunner().run(rest)
    assert [(r["step"], r["state"]) for r in rows][-1] == (4, "COMPLETE")


def test_a_missing_objective_is_a_failure_not_a_crash() -> None:
    work = search(texts=["x=1,y=2,op=a"])
    job = work.next()
    assert job is not None
    assert work.report(job, Measurement(1, {"train_loss": 1.0})) is Decision.STOP
    assert work.trials[0].message == "val_accuracy is missing at step 1"


def test_a_remark_says_why_an_objective_is_missing() -> None:
    work = search(texts=["x=1,y=2,op=a"])
    job = work.next()
    assert job is not None
    work.report(job, Measurement(1, {}, note="no path\nthrough the cell"))
    assert work.trials[0].state is TrialState.FAILED
    message = "val_accuracy is missing at step 1: no path through the cell"
    assert work.trials[0].message == message


def test_what_else_was_measured_outlives_a_missing_objective() -> None:
    """A proxy without a score does not take those of the others with it."""
    rows, sampler = Table(), Script(["x=1,y=2,op=a"])
    goals = (Objective("naswot"), Objective("params", "min"))
    work = search(sampler, rows=rows, objectives=goals)
    assert work.next() is not None
    values = {"synflow": 3.0, "zen": float("nan"), "naswot": float("inf")}
    told = work.report(
        work.jobs[0], Measurement(1, values, 2.5, note="no zen:\nflat"), host="h", device="d"
    )
    assert told is Decision.STOP
    (row,) = rows
    message = "naswot is inf at step 1: no zen: flat"
    assert (row["state"], row["step"], row["seconds"], row["host"], row["device"]) == (
        "FAILED", 1, 2.5, "h", "d",
    )  # fmt: skip
    assert row["message"] == message
    assert {name: row[name] for name in ("synflow", "params") if name in row} == {
        "synflow": 3.0, "params": 60,
    }  # fmt: skip
    assert not {"zen", "naswot"} & row.keys()
    assert (work.meter.spent, states(work), work.best) == (2.5, {"FAILED": 1}, ())
    (trial,) = sampler.told
    assert (trial.state, trial.step) == (TrialState.FAILED, 1)
    assert trial.values() == {"params": 60.0, "macs": 420.0, "synflow": 3.0}
    again = search(texts=["x=1,y=2,op=a"], past=[trial], objectives=goals)
    assert again.next() is None  # known, and told as it was
    assert (again.meter.spent, states(again), again.best) == (2.5, {"FAILED": 1}, ())
    assert again.proposer.sampler.told[0].message == message  # type: ignore[attr-defined]


def test_nothing_but_infinities_leaves_no_measurement() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    assert work.next() is not None
    work.report(work.jobs[0], Measurement(1, {"val_accuracy": float("-inf")}, 2.5))
    assert [(r["state"], r["step"], r["seconds"]) for r in rows] == [("FAILED", None, 0.0)]
    assert (work.trials[0].step, work.meter.spent) == (0, 0.0)


def test_a_remark_is_stored_beside_the_values_and_survives_a_resume() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], evaluator=Curves(max_step=2), rows=rows)
    assert work.next() is not None
    work.report(work.jobs[0], Measurement(1, {"val_accuracy": 50.0}, note="one score is missing"))
    work.report(work.jobs[0], Measurement(2, {"val_accuracy": 60.0}))
    assert [(r["state"], r["message"]) for r in rows] == [
        ("RUNNING", "one score is missing"),
        ("COMPLETE", None),
    ]
    past = [replace(work.trials[0], message="one score is missing")]
    again = search(texts=["x=1,y=2,op=b"], past=past, space=ToySpace(merge=True))
    LocalRunner().run(again)
    assert states(again) == {"COMPLETE": 1}
    assert [t.message for t in again.best] == ["one score is missing"]


def test_reports_together_are_one_append_and_told_after_it() -> None:
    class Appends(Table):
        sizes: ClassVar[list[int]] = []

        def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
            assert not sampler.told
            self.sizes.append(len(rows))
            super().append(rows)

    rows, sampler = Appends(), Script(["x=1,y=2,op=a", "x=1,y=2,op=b", "x=1,y=2,op=c"])
    work = search(sampler, evaluator=Curves(max_step=2), rows=rows)
    first, *_ = [work.next() for _ in range(3)]
    assert first is not None
    with work.together():
        work.report(first, Measurement(1, {"val_accuracy": 50.0}))
        assert work.report(first, Measurement(2, {"val_accuracy": 60.0})) is Decision.STOP
        assert work.report(first, Measurement(3, {"val_accuracy": 70.0})) is Decision.STOP
        work.fail(work.jobs[1], "a crash")
        assert not sampler.told
    assert rows.sizes == [3]
    assert [t.number for t in sampler.told] == [0, 1]
    assert work.live == (2,)


def test_what_was_reported_before_an_error_is_stored() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    work.next()

    def report_and_fail() -> None:
        with work.together():
            work.report(work.jobs[0], Measurement(1, {"val_accuracy": 50.0}))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        report_and_fail()
    assert [row["step"] for row in rows] == [1]


def test_a_duplicate_is_answered_from_what_is_known() -> None:
    rows, sampler = Table(), Script(["x=1,y=2,op=a", "x=1,y=2,op=b", "x=1,y=2,op=a"])
    work = search(sampler, rows=rows, space=ToySpace(merge=True))
    LocalRunner().run(work)
    assert len(rows) == 4  # op b is isomorphic to op a here: evaluated once
    assert [t.number for t in sampler.told] == [0, 1, 2]
    assert len({t.values()["val_accuracy"] for t in sampler.told}) == 1
    assert [t.proposal.text for t in sampler.told][1] == "x=1,y=2,op=b"
    assert work.status().duplicates == 2


def test_a_duplicate_of_a_running_trial_is_told_when_that_ends() -> None:
    sampler = Script(["x=1,y=2,op=a", "x=1,y=2,op=a", "x=3,y=3,op=a"])
    work = search(sampler)
    first, second = work.next(), work.next()
    assert first is not None
    assert second is not None
    assert work.arch(second.trial)["x"] == 3
    assert sampler.told == []
    work.fail(first, "gone")
    assert [(t.number, t.state) for t in sampler.told] == [
        (0, TrialState.FAILED),
        (1, TrialState.FAILED),
    ]


def test_a_sampler_that_repeats_itself_gets_help_from_random() -> None:
    sampler = Script(["x=1,y=2,op=a"] * 200)
    work = search(sampler, limits=SearchLimits(trials=5))
    LocalRunner().run(work)
    assert len({t.arch.id for t in work.trials.values()}) == 5
    helped = [t for t in sampler.replayed if t.state is TrialState.COMPLETE]
    assert len(helped) == 4  # what the fallback found is handed to the sampler
    told = [t.number for t in sampler.told]
    assert len(told) == len(set(told))


def test_an_exhausted_space_ends_the_run_and_says_so() -> None:
    work = search(Random(), space=ToySpace(depth=1), limits=SearchLimits(trials=1000))
    LocalRunner().run(work)
    assert states(work) == {"COMPLETE": 18}
    assert work.done
    assert work.note


def test_bounds_reject_before_anything_is_spent() -> None:
    rows = Table()
    work = search(
        Random(), rows=rows, bounds=(Bound("params", max=100),), limits=SearchLimits(trials=10)
    )
    LocalRunner().run(work)
    measured = {r["trial"] for r in rows if r["step"] is not None}
    assert len(measured) == 10
    rejected = [r for r in rows if r["state"] == "INFEASIBLE"]
    assert len(rejected) == work.status().rejected > 0
    assert all(r["step"] is None and r["params"] > 100 for r in rejected)
    assert all(r["params"] <= 100 for r in rows if r["trial"] in measured)
    assert rejected[0]["message"] == "breaks params <= 100"
    assert work.status().ended == 10
    bounds = (Bound("params", max=100),)
    again = search(
        Random(), bounds=bounds, limits=SearchLimits(trials=10), past=work.trials.values()
    )
    assert again.status().ended == 10


def test_bounds_that_nothing_meets_end_the_search_with_the_reason() -> None:
    work = search(Random(), bounds=(Bound("params", max=1),), limits=SearchLimits(trials=10))
    LocalRunner().run(work)
    assert work.done
    assert states(work) == {}
    assert work.status().rejected == 108
    script = Script([f"x={i % 6},y={i // 6 % 6},op=c" for i in range(30)])
    work = search(script, bounds=(Bound("params", max=1),))
    work.proposer.patience.rejections = 10
    LocalRunner().run(work)
    assert "break params <= 1; relax the bounds" in work.note


def test_a_sampler_lost_beyond_the_bounds_gets_help_from_random() -> None:
    script = Script([f"x=5,y={3 + i % 3},op={'abc'[i % 3]}" for i in range(9)] * 100)
    work = search(script, bounds=(Bound("params", max=20),), limits=SearchLimits(trials=1))
    work.proposer.patience.beyond_bounds = 3
    LocalRunner().run(work)
    assert states(work) == {"COMPLETE": 1}
    assert [t.number for t in script.told] == [0, 1, 2]  # not what random tried in vain
    assert work.status().rejected > 3
    found = [t for t in script.replayed if t.state is TrialState.COMPLETE]
    assert len(found) == 1


def test_of_equals_the_first_is_the_best() -> None:
    work = search(texts=["x=2,y=4,op=a", "x=4,y=4,op=a"], keep=1, limits=SearchLimits(trials=2))
    for _ in range(2):
        job = work.next()
        assert job is not None
        work.report(job, Measurement(4, {"val_accuracy": 50.0}))
    assert [t.number for t in work.best] == [0]


def test_a_bound_on_a_measured_metric_makes_the_trial_infeasible_at_its_end() -> None:
    rows = Table()
    bounds = (Bound("val_accuracy", max=10.0),)
    LocalRunner().run(search(texts=["x=1,y=2,op=a"], rows=rows, bounds=bounds))
    assert rows[-1]["state"] == "INFEASIBLE"
    assert rows[-1]["val_accuracy"] > 10


def test_when_worker_time_is_spent_nothing_starts_and_what_runs_is_finished() -> None:
    rows = Table()
    work = search(Random(), rows=rows, limits=SearchLimits(seconds=10.0))
    LocalRunner().run(work)
    assert work.meter.spent == 12.0  # three trials of four steps, a second a step
    assert states(work) == {"COMPLETE": 3}


def three_begun(seconds: float, *prices: float) -> SearchController:
    """Three trials of four steps of a second; the first is complete, the second half done."""
    limits = SearchLimits(seconds=seconds, expected=ExpectedPrice(prices))
    work = search(Random(), limits=limits)
    for number, steps in enumerate((4, 2, 0)):
        job = work.next()
        assert job is not None
        assert job.trial == number
        for step in range(1, steps + 1):
            work.report(job, Measurement(step, {"val_accuracy": 1.0}, 1.0))
    return work


def test_trials_that_run_count_as_what_they_will_cost() -> None:
    """4 seconds of the first trial, 4 of the second and 4 of the third make 12."""
    for seconds, starts in ((12.0, False), (12.5, True)):
        work = three_begun(seconds, 4.0)
        assert (work.next() is not None) is starts
        assert not work.done
    work = three_begun(12.0)
    assert work.next() is not None  # nothing is known of what a trial costs


def test_a_trial_that_got_far_is_expected_to_cost_as_much_as_those_that_did() -> None:
    """4 seconds, 4 as of those that cost 2 or more, and 2.5 of one of which nothing is known."""
    for seconds, starts in ((10.5, False), (10.6, True)):
        work = three_begun(seconds, 1.0, 1.0, 4.0, 4.0)
        assert (work.next() is not None) is starts


def test_a_trial_that_cost_less_than_expected_makes_room() -> None:
    work = three_begun(12.0, 4.0)
    assert work.next() is None
    work.fail(work.jobs[2], "broken")
    assert work.next() is not None


@dataclass
class Timeless(Curves):
    """Measures no time."""

    name: ClassVar[str] = "timeless"

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        for measurement in super().evaluate(arch, job):
            yield replace(measurement, seconds=0.0)


def test_without_worker_time_an_arm_costs_as_many_steps() -> None:
    main = search(Random(), evaluator=Timeless(), limits=SearchLimits(trials=5), seed=1)
    LocalRunner().run(main)
    limits = equal_cost(main)
    assert (limits.seconds, limits.expected(0.0)) == (20.0, 4.0)
    rows = Table()
    other = search(Random(), evaluator=Timeless(), limits=limits, rows=rows)
    LocalRunner().run(other)
    assert states(other) == {"COMPLETE": 5}
    assert (other.meter.paid, other.meter.spent) == (20.0, 0.0)
    assert other.status().max_seconds is None  # it is no time
    assert other.status().share == 1.0


def test_the_time_of_scores_alone_is_no_price() -> None:
    main = search(Random(), evaluator=Timeless(), limits=SearchLimits(trials=1))
    LocalRunner().run(main)
    main.trials[0].measurements.insert(0, Measurement(0, {"score": 1.0}, 9.0))
    assert equal_cost(main).seconds == 4.0


def test_a_result_of_a_trial_at_rest_changes_nothing() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    job = work.next()
    assert job is not None
    work.fail(job, "lost")
    before = list(rows)
    late = Measurement(3, {"val_accuracy": 99.0})
    assert work.report(job, late) is Decision.STOP
    work.complete(job)
    work.fail(job, "again")
    assert rows == before


def test_a_repeated_step_is_not_stored_twice() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    job = work.next()
    assert job is not None
    for step in (1, 2, 1, 2, 3):
        work.report(job, Measurement(step, {"val_accuracy": 1.0 * step}))
    assert [r["step"] for r in rows] == [1, 2, 3]


def test_working_folders_of_all_but_the_best_are_removed(tmp_path: Path) -> None:
    work = search(Random(), folder=tmp_path, keep=2, limits=SearchLimits(trials=12))
    LocalRunner().run(work)
    best = sorted(work.trials.values(), key=lambda t: -t.values()["val_accuracy"])[:2]
    assert [t.number for t in work.best] == [t.number for t in best]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{t.number:06d}" for t in best)


def test_quick_evaluations_get_no_folder(tmp_path: Path) -> None:
    job = search(texts=["x=1,y=2,op=a"], evaluator=Quick(), folder=tmp_path).next()
    assert job is not None
    assert job.workdir is None


@pytest.mark.parametrize("cut", [0, 1, 5, 13, 21, 30])
def test_a_search_cut_at_any_row_and_resumed_ends_in_the_same_table(
    cut: int, tmp_path: Path
) -> None:
    whole = Table()
    LocalRunner().run(search(Random(), rows=whole, limits=SearchLimits(trials=8)))
    half = Table(whole[:cut])
    past = trials_of(half)
    ended = {t.arch.text for t in past if t.state.ended}
    evaluator = Curves(log=str(tmp_path / "log"))
    rest = search(
        Random(), rows=half, evaluator=evaluator, limits=SearchLimits(trials=8), past=past
    )
    LocalRunner().run(rest)
    key = ["trial", "step", "arch", "seed", "state", "val_accuracy"]
    assert [[r[k] for k in key] for r in half] == [[r[k] for k in key] for r in whole]
    again = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert not ended & again  # nothing that was finished is evaluated again


def test_numbers_that_a_killed_driver_lost_are_given_out_first() -> None:
    whole = Table()
    LocalRunner().run(search(Random(), rows=whole, limits=SearchLimits(trials=6)))
    kept = Table(r for r in whole if r["trial"] not in (1, 3))
    rest = search(Random(), rows=kept, limits=SearchLimits(trials=6), past=trials_of(kept))
    LocalRunner().run(rest)
    assert {(r["trial"], r["arch"]) for r in kept} == {(r["trial"], r["arch"]) for r in whole}


def trials_of(rows: Iterable[Mapping[str, Any]]) -> list[Trial]:
    space, found = ToySpace(), dict[int, Trial]()
    for row in rows:
        arch = space.architecture(row["arch"])
        trial = found.setdefault(row["trial"], Trial(row["trial"], arch, arch, seed=row["seed"]))
        trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
        trial.attempt = row["attempt"]
        if row["step"] is not None:
            values = {"val_accuracy": row["val_accuracy"]}
            trial.measurements.append(Measurement(row["step"], values, row["seconds"]))
    return list(found.values())


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_resume_remembers_that_memory_was_short(cut: int, tmp_path: Path) -> None:
    texts = ["x=0,y=0,op=a", "x=1,y=0,op=a", "x=5,y=5,op=c"]
    faults = {texts[0]: "tight", texts[1]: "memory"}

    def carry_out(rows: Table, folder: str, past: Sequence[Trial] = ()) -> SearchController:
        work = search(
            texts=texts[len(past) :],
            rows=rows,
            evaluator=Curves(fault=faults),
            past=past,
            folder=tmp_path / folder,
            limits=SearchLimits(trials=3),
        )
        LocalRunner().run(work)
        return work

    whole = Table()
    carry_out(whole, "whole")
    assert [r["state"] for r in whole].count("RUNNING") == 9
    half = Table(whole[:cut])
    step = tmp_path / "half" / "000000" / "step"
    step.parent.mkdir(parents=True)
    step.write_text("1")  # the checkpoint that a killed driver's worker has left
    work = carry_out(half, "half", trials_of(half))
    key = ["trial", "step", "arch", "state", "message"]
    assert [[r[k] for k in key] for r in half] == [[r[k] for k in key] for r in whole]
    assert states(work) == {"COMPLETE": 2, "INFEASIBLE": 1}


def test_what_lacked_memory_at_once_counts_after_a_resume_too() -> None:
    rows, limits = Table(), SearchLimits(trials=1)
    work = search(texts=["x=1,y=2,op=a"], rows=rows, limits=limits)
    for attempt in range(2):
        job = work.next()
        assert job is not None
        assert (job.attempt, job.more_memory) == (attempt, attempt == 1)
        work.no_memory(job, "MemoryError", f"{attempt + 1} GB")
    assert [row["message"] for row in rows] == [
        "out of memory with 1 GB: MemoryError", "out of memory with 2 GB: MemoryError"
    ]  # fmt: skip
    assert states(work) == {"INFEASIBLE": 1}
    rest = search(texts=["x=1,y=3,op=a"], rows=rows, past=trials_of(rows), limits=limits)
    assert rest.done
    assert rest.status().rejected == 0


def test_a_trial_that_had_all_there_is_gets_no_second_try() -> None:
    work = search(texts=["x=1,y=2,op=a"])
    work.next()
    work.no_memory(work.jobs[0], "killed", last=True)
    assert states(work) == {"INFEASIBLE": 1}
    assert work.next() is None
    assert work.trials[0].message == "out of memory: killed"


def test_what_was_quarantined_is_never_evaluated_again() -> None:
    text, rows = "x=1,y=2,op=a", Table()
    work = search(texts=[text, text], rows=rows)
    work.next()
    work.fail(
        work.jobs[0], "its worker died 2 times: it crashed; in quarantine, no third worker gets it"
    )
    assert work.next() is None
    assert work.status().duplicates == 1
    rest = search(texts=[text, "x=0,y=0,op=a"], rows=rows, past=trials_of(rows))
    job = rest.next()
    assert job is not None
    assert rest.arch(job.trial).text == "x=0,y=0,op=a"


def test_live_trials_are_started_again_when_a_runner_lost_its_workers() -> None:
    work = search(texts=["x=1,y=2,op=a"])
    job = work.next()
    assert job is not None
    work.report(job, Measurement(1, {"val_accuracy": 1.0}))
    work.requeue_live()
    assert not work.done
    again = work.next()
    assert again is not None
    assert (again.trial, again.seed, again.attempt) == (job.trial, job.seed, job.attempt + 1)


def test_seeds_depend_on_run_seed_and_architecture_not_on_order() -> None:
    one = search(texts=["x=1,y=2,op=a", "x=1,y=3,op=a"])
    two = search(texts=["x=1,y=3,op=a", "x=1,y=2,op=a"])
    other = search(texts=["x=1,y=2,op=a"], seed=1)
    for work in (one, two, other):
        LocalRunner().run(work)
    seeds = [{t.arch.text: t.seed for t in w.trials.values()} for w in (one, two, other)]
    assert seeds[0] == seeds[1]
    assert seeds[2]["x=1,y=2,op=a"] != seeds[0]["x=1,y=2,op=a"]


def test_several_objectives_keep_the_pareto_best() -> None:
    objectives = (Objective(), Objective("params", "min"))
    work = search(Random(), objectives=objectives, keep=3, limits=SearchLimits(trials=30))
    LocalRunner().run(work)
    assert states(work) == {"COMPLETE": 30}
    assert len(work.best) == 3
    for best in work.best:
        mine = best.values()
        assert not any(
            t.values()["val_accuracy"] > mine["val_accuracy"]
            and t.values()["params"] < mine["params"]
            for t in work.trials.values()
        )
    shown = work.status().best
    assert shown is not None
    assert shown[2] == max(t.values()["val_accuracy"] for t in work.trials.values())


class Deep(ToySpace):
    """As many layers as ``x``."""

    def costs(self, arch: Architecture, *where: Any) -> Costs:
        return replace(super().costs(arch), layers=int(arch["x"]))


def test_layers_are_stored_and_bounded_where_the_space_counts_them() -> None:
    rows, bounds = Table(), (Bound("layers", max=2),)
    work = search(texts=["x=3,y=0,op=a", "x=2,y=0,op=a"], space=Deep(), rows=rows, bounds=bounds)
    LocalRunner().run(work)
    assert [t.state for t in work.trials.values()] == [TrialState.INFEASIBLE, TrialState.COMPLETE]
    assert work.trials[0].message == "breaks layers <= 2"
    assert {(r["trial"], r["layers"]) for r in rows} == {(0, 3), (1, 2)}


def test_layers_that_a_space_does_not_count_are_no_cost() -> None:
    rows = Table()
    work = search(texts=["x=3,y=0,op=a"], rows=rows)
    LocalRunner().run(work)
    assert work.trials[0].costs == {"params": 40, "macs": 280}
    assert rows[0]["layers"] is None


def test_finals_train_every_finalist_with_every_seed_and_skip_what_is_stored() -> None:
    space, rows = ToySpace(), Table()
    archs = [space.architecture("x=3,y=4,op=c"), space.architecture("x=2,y=4,op=c")]

    def finals(past: Iterable[Trial] = ()) -> SearchController:
        payload = EvaluationContext(space, Curves(), ToyData().final_view(0))
        return make_retraining(
            payload, rows, finalists=archs, seeds=3, stage="final", arm="script",
            objectives=(Objective("test_accuracy"),), seed=0, keep=6, past=past,
            first_number=max((t.number for t in past), default=9) + 1,
        )  # fmt: skip

    work = finals()
    assert work.proposer.target == 6
    LocalRunner().run(work)
    assert len({(r["arch"], r["seed"]) for r in rows}) == 6
    assert {r["trial"] for r in rows} == set(range(10, 16))
    count = len(rows)
    stored = list(work.trials.values())
    again = finals(stored)
    assert again.done
    LocalRunner().run(again)
    assert len(rows) == count


def test_the_sampler_is_told_nothing_of_an_interrupted_trial() -> None:
    rows, sampler = Table(), Script(["x=1,y=2,op=a", "x=2,y=2,op=a"])
    work = search(sampler, rows=rows)
    job = work.next()
    assert job is not None
    work.report(job, Measurement(1, {"val_accuracy": quality(work.arch(job.trial))}))
    work.interrupt()
    assert work.next() is None
    assert sampler.told == []
    assert rows[-1]["state"] == "RUNNING"


# -- what arrives late, twice, or with a hole --------------------------------------------------


def measured(step: int) -> Measurement:
    return Measurement(step, {"val_accuracy": float(step)})


def test_what_an_earlier_worker_says_of_a_trial_is_dropped() -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    first = work.next()
    assert first is not None
    work.report(first, measured(1))
    work.again(first)
    second = work.next()
    assert second is not None
    assert (second.ticket, second.attempt) != (first.ticket, first.attempt)
    assert work.report(first, measured(2)) is Decision.STOP
    work.complete(first)
    work.fail(first, "late")
    work.no_memory(first, "late")
    work.again(first)
    assert work.jobs == {0: second}
    assert work.report(second, measured(2), after=1) is Decision.CONTINUE
    assert [row["step"] for row in rows] == [1, 2]


def test_a_job_that_its_runner_started_again_is_the_current_one() -> None:
    work = search(texts=["x=1,y=2,op=a"])
    job = work.next()
    assert job is not None
    again = replace(job, attempt=1)
    work.restarted(again)
    assert work.report(job, measured(1)) is Decision.STOP
    assert work.report(again, measured(1)) is Decision.CONTINUE
    assert work.trials[0].attempt == 1


def test_a_hole_in_a_curve_is_filled_from_the_start_and_the_second_one_is_a_failure(
    tmp_path: Path,
) -> None:
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows, folder=tmp_path)
    job = work.next()
    assert job is not None
    work.report(job, measured(1))
    kept = tmp_path / "000000" / "checkpoint"
    kept.mkdir(parents=True)
    assert work.report(job, measured(3), after=2) is Decision.STOP
    assert not kept.exists()  # whoever left it was ahead of the store
    again = work.next()
    assert again is not None
    assert (again.trial, again.attempt, again.stored) == (0, 1, 1)
    assert work.report(again, measured(3), after=2) is Decision.STOP
    assert [row["step"] for row in rows] == [1, None]
    assert rows[-1]["state"] == "FAILED"
    assert rows[-1]["message"].startswith("the evaluator reported step 3 after step 1")


def test_an_evaluator_with_steps_of_its_own_leaves_no_hole() -> None:
    """It measured from the start, so what lies between was never to be measured."""
    rows = Table()
    work = search(texts=["x=1,y=2,op=a"], rows=rows)
    job = work.next()
    assert job is not None
    work.report(job, measured(2), after=0)
    work.report(job, measured(4), after=2)
    assert [(row["step"], row["state"]) for row in rows] == [(2, "RUNNING"), (4, "COMPLETE")]


@pytest.mark.parametrize(
    ("before", "step", "follows"),
    [
        ((), 1, True),
        ((), 2, False),
        ((1, 2, 3), 4, True),
        ((1, 2, 3), 5, False),
        ((2, 4), 6, True),
        ((2, 4), 8, False),
        ((5,), 10, True),
        ((1, 5, 10), 15, True),
        ((1, 5, 10), 16, False),
    ],
)
@pytest.mark.parametrize("lanes", [0, 1])
def test_who_goes_on_from_a_checkpoint_may_measure_as_sparsely_as_before(
    before: tuple[int, ...], step: int, follows: bool, lanes: int, tmp_path: Path
) -> None:
    """Nobody knows which step it had measured last."""
    rows, more = Table(), {"folder": tmp_path, "evaluator": Curves(max_step=20)}
    plain = search(texts=["x=1,y=2,op=a"], rows=rows, **more)
    work = DeterministicOrder(plain, lanes=1) if lanes else plain
    job = work.next()
    assert job is not None
    for last, now in pairwise((0, *before)):
        work.report(job, measured(now), after=last)
    work.again(job)
    again = work.next()
    assert again is not None
    decision = work.report(again, measured(step), after=None)
    assert decision is (Decision.CONTINUE if follows else Decision.STOP)
    assert [row["step"] for row in rows] == [*before, *([step] if follows else [])]


def test_a_finalist_that_ends_early_without_what_it_is_for_has_failed() -> None:
    rows = Table()
    payload = EvaluationContext(ToySpace(), Curves(), ToyData().final_view(0))
    objectives = (Objective("test_accuracy"),)
    work = make_retraining(
        payload, rows, finalists=[ToySpace().architecture("x=1,y=2,op=a")], seeds=2,
        stage="final", arm="random", objectives=objectives, seed=0,
    )  # fmt: skip
    for values in ({"train_loss": 1.0}, {"test_accuracy": 50.0}):
        job = work.next()
        assert job is not None
        assert job.held_out == "test"
        work.report(job, Measurement(2, values))
        work.complete(job)
    ends = [(row["state"], row["message"]) for row in rows if row["step"] is None]
    assert ends == [
        ("FAILED", "the evaluator ended at step 2 without test_accuracy"),
        ("COMPLETE", "its evaluator ended it at step 2 of 4"),
    ]


def test_a_trial_that_ends_early_beyond_a_bound_is_infeasible() -> None:
    rows, bounds = Table(), (Bound("val_accuracy", max=10.0),)
    bad = "x=1,y=2,op=a"
    work = search(texts=[bad], rows=rows, bounds=bounds, evaluator=Curves(fault={bad: "short"}))
    LocalRunner().run(work)
    assert (rows[-1]["state"], rows[-1]["message"]) == ("INFEASIBLE", "breaks val_accuracy <= 10")
