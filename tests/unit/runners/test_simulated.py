"""Simulated workers: the clock, failures, and an account of time that adds up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.toy_runs import Script, Table, content, search
from toys import Curves, ToyData, ToySpace

from raynas.benchmarks import Synthetic
from raynas.core import Architecture, Job, RaynasError, UserError
from raynas.evaluators import Tabular
from raynas.runners.base import Resources
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import TimedRows, VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster, WorkerSpan
from raynas.samplers.random import Random
from raynas.schedulers import (
    ASHA,
    PASHA,
    Hyperband,
    NoStopping,
    PromotionASHA,
    Scheduler,
    SuccessiveHalving,
)
from raynas.search.context import EvaluationContext, SearchLimits

FOUR = [f"x={x},y=0,op=a" for x in range(4)]


def run(runner: VirtualRunner, rows: Any = None, evaluator: Any = None, **more: Any) -> Any:
    """A search on the runner, random over four-step toys of a second each; it must end."""
    work = search(
        more.pop("sampler", Random()),
        evaluator or Curves(),
        Table() if rows is None else rows,
        clock=runner.clock,
        **more,
    )
    runner.run(work)
    assert work.done
    return work


def on(workers: int, retries: int = 2, **cluster: Any) -> VirtualRunner:
    return VirtualRunner(
        SimulatedCluster(workers, **cluster), Resources(retries=retries), trace=True
    )


def test_measurements_arrive_when_their_time_has_passed() -> None:
    runner = on(2, startup_s=10.0)
    rows = TimedRows(runner)
    run(runner, rows, sampler=Script(FOUR[:3]))
    assert [(row["trial"], row["step"], row["clock_s"], row["host"]) for row in rows] == [
        *[(t, s, 10.0 + s, f"worker-{t}") for s in range(1, 5) for t in (0, 1)],
        *[(2, s, 14.0 + s, "worker-0") for s in range(1, 5)],
    ]
    usage = runner.usage()
    assert (usage.seconds, usage.useful, usage.starting, usage.idle) == (18.0, 12.0, 20.0, 4.0)
    assert usage.utilisation == pytest.approx(12 / 36)


def test_workers_that_have_started_serve_the_next_work_too() -> None:
    runner = on(1, startup_s=10.0)
    run(runner, sampler=Script(FOUR[:1]))
    run(runner, sampler=Script(FOUR[1:2]))
    assert runner.now == 18.0
    assert runner.usage().starting == 10.0


def test_nothing_starts_after_the_deadline() -> None:
    runner = on(3)
    work = run(runner, limits=SearchLimits(deadline=6.0))
    assert len(work.trials) == 6  # three at 0, three at 4
    assert runner.now == 8.0


def test_workers_of_unlike_speed() -> None:
    runner = on(200, spread=0.2)
    run(runner, evaluator=Tabular(Synthetic(max_step=1, seconds=100.0)), trials=108)
    alike = on(200)
    run(alike, evaluator=Tabular(Synthetic(max_step=1, seconds=100.0)), trials=108)
    took = {span.trial: span.end - span.begin for span in runner.spans}
    paces = [math.log((s.end - s.begin) / took[s.trial]) for s in alike.spans]
    assert sum(paces) / 108 == pytest.approx(0.0, abs=0.06)
    assert (sum(p * p for p in paces) / 107) ** 0.5 == pytest.approx(0.2, abs=0.05)


def test_as_many_as_wanted_and_months_in_no_time() -> None:
    runner = VirtualRunner(SimulatedCluster(10_000), Resources(concurrent=50))
    evaluator = Tabular(Synthetic(max_step=3, seconds=86_400.0))
    work = run(runner, evaluator=evaluator, trials=108)
    assert runner.usage().workers == 50
    assert runner.now > 5 * 86_400
    assert len(work.trials) == 108


def test_ten_thousand_workers() -> None:
    runner = VirtualRunner(SimulatedCluster(10_000, startup_s=60.0))
    run(runner, evaluator=Tabular(Synthetic(max_step=2)), space=ToySpace(depth=30))
    usage = runner.usage()
    assert usage.workers == 10_000
    assert usage.useful + usage.starting + usage.idle == pytest.approx(usage.total)


def test_a_failure_loses_what_came_after_the_checkpoint() -> None:
    # one worker, a failure about every second of work, steps of a second
    runner = on(1, retries=10_000, failure_rate=3600.0, checkpoint_s=0.25, startup_s=0.5, seed=1)
    rows = TimedRows(runner)
    work = run(runner, rows, sampler=Script(FOUR))
    assert content(rows) == content(local(Script(FOUR)))  # found is the same, only later
    usage = runner.usage()
    assert usage.failures > 5
    assert usage.preemptions == 0
    assert usage.useful == pytest.approx(16.0)
    assert 0 < usage.lost < 0.25 * usage.failures
    assert usage.starting == pytest.approx(0.5 * (usage.failures + 1))
    assert sum(trial.attempt for trial in work.trials.values()) == usage.failures
    assert runner.now == pytest.approx(usage.useful + usage.lost + usage.starting)


def test_without_checkpoints_everything_is_lost_with_them_nothing() -> None:
    whole = on(1, retries=10_000, failure_rate=1800.0, checkpoint_s=math.inf, seed=2)
    run(whole, sampler=Script(FOUR))
    none = on(1, retries=10_000, failure_rate=1800.0, checkpoint_s=0.0, seed=2)
    run(none, sampler=Script(FOUR))
    assert whole.usage().lost > 1.0
    assert none.usage().lost == 0.0
    assert [r.usage().useful for r in (whole, none)] == pytest.approx([16.0, 16.0])


def test_a_preempted_trial_goes_on_elsewhere() -> None:
    runner = on(3, retries=10_000, preempt_rate=600.0, replace_s=1000.0, startup_s=1.0, seed=3)
    rows = TimedRows(runner)
    run(runner, rows, sampler=Script(FOUR))
    usage = runner.usage()
    assert usage.preemptions > 0
    assert usage.failures == 0
    moved = {n for n in range(4) if len({r["host"] for r in rows if r["trial"] == n}) > 1}
    assert moved
    assert usage.down > 0


def test_a_trial_whose_workers_die_too_often_has_failed() -> None:
    runner = on(1, retries=2, failure_rate=36_000.0, checkpoint_s=math.inf, seed=4)
    rows = Table()
    run(runner, rows, sampler=Script(FOUR[:1]))
    assert [row["state"] for row in rows][-1] == "FAILED"
    assert rows[-1]["message"] == "its worker died 3 times: a simulated failure"
    assert runner.usage().failures == 3


def local(sampler: Any, **more: Any) -> Table:
    rows = Table()
    LocalRunner().run(search(sampler, Curves(), rows, **more))
    return rows


def test_a_fault_of_an_evaluation_ends_its_trial_only() -> None:
    faults = {FOUR[0]: "nan", FOUR[1]: "crash", FOUR[2]: "memory"}
    rows, here = Table(), Table()
    run(on(2), rows, Curves(fault=faults), sampler=Script(FOUR))
    LocalRunner().run(search(Script(FOUR), Curves(fault=faults), here))
    ends = {row["arch"]: (row["state"], row["message"]) for row in rows}
    assert ends == {row["arch"]: (row["state"], row["message"]) for row in here}
    assert [state for _, (state, _) in sorted(ends.items())] == [
        "FAILED", "FAILED", "INFEASIBLE", "COMPLETE",
    ]  # fmt: skip


def test_a_stopped_trial_s_evaluation_is_closed() -> None:
    closed = []

    @dataclass
    class Closing(Curves):
        name: ClassVar[str] = "closing"

        def evaluate(self, arch: Architecture, job: Job) -> Any:
            try:
                yield from super().evaluate(arch, job)
            finally:
                closed.append(job.trial)

    work = run(on(4), evaluator=Closing(), trials=20, scheduler=ASHA(min_step=1, factor=2))
    assert work.status().counts["STOPPED"] > 0
    assert sorted(closed) == list(range(20))


def test_an_interruption_leaves_trials_to_be_resumed() -> None:
    @dataclass
    class Impatient(Script):
        name: ClassVar[str] = "impatient"

        def ask(self, number: int) -> Architecture:
            if number == 2:
                self.work.interrupt()  # type: ignore[attr-defined]
            return super().ask(number)

    runner, rows, sampler = on(2), Table(), Impatient(FOUR)
    work = search(sampler, Curves(), rows, clock=runner.clock)
    sampler.work = work  # type: ignore[attr-defined]
    runner.run(work)
    assert work.interrupted
    assert any(trial.state == "RUNNING" for trial in work.trials.values())
    assert runner.usage().total == pytest.approx(runner.usage().useful + runner.usage().idle)
    # on the next runner steps that were measured take no time again
    past = [t for t in work.trials.values() if t.state == "RUNNING"]
    done = sum(t.step for t in past)
    again = on(1)
    run(again, sampler=Script([]), past=past)
    assert again.now == 4.0 * len(past) - done


def test_a_sampler_that_never_ends_and_never_proposes() -> None:
    runner = on(2)
    work = search(Random(), Curves(), Table(), clock=runner.clock)
    work.next = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RaynasError, match="neither ends nor has work"):
        runner.run(work)


def test_evaluations_beside_a_search_take_the_clock_along() -> None:
    runner, space = on(4), ToySpace()
    payload = EvaluationContext(space, Curves(max_step=2), ToyData().search_view(0))
    jobs = [(arch, Job(n, seed=n, max_step=2)) for n, arch in enumerate(space.enumerate())]
    found = runner.evaluate(payload, jobs[:8])
    assert [len(outcomes) for outcomes in found] == [2] * 8
    assert runner.now == 4.0  # 16 seconds on 4 workers


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"startup_s": -1.0},
        {"failure_rate": math.nan},
        {"replace_s": math.inf},
        {"spread": -0.1},
        {"checkpoint_s": math.nan},
    ],
)
def test_a_cluster_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        SimulatedCluster(**wrong)


CLUSTERS = st.builds(
    SimulatedCluster,
    workers=st.integers(1, 12),
    startup_s=st.sampled_from([0.0, 0.5, 7.0]),
    failure_rate=st.sampled_from([0.0, 200.0, 2000.0]),
    preempt_rate=st.sampled_from([0.0, 500.0]),
    replace_s=st.sampled_from([0.0, 3.0]),
    checkpoint_s=st.sampled_from([0.0, 0.7, math.inf]),
    spread=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 9),
)


@settings(max_examples=40, deadline=None)
@given(
    cluster=CLUSTERS,
    trials=st.integers(1, 25),
    retries=st.integers(0, 3),
    scheduler=st.sampled_from(
        [NoStopping, ASHA, PromotionASHA, PASHA, Hyperband, SuccessiveHalving]
    ),
)
def test_time_adds_up_and_no_worker_does_two_things_at_once(
    cluster: SimulatedCluster, trials: int, retries: int, scheduler: type[Scheduler]
) -> None:
    def once() -> tuple[VirtualRunner, TimedRows, Any]:
        runner = VirtualRunner(cluster, Resources(retries=retries), trace=True)
        rows = TimedRows(runner)
        evaluator = Tabular(Synthetic(max_step=4, seconds=1.0))
        return runner, rows, run(runner, rows, evaluator, trials=trials, scheduler=scheduler())

    runner, rows, work = once()
    usage, spans = runner.usage(), by_worker(runner.spans)
    for own in spans.values():
        assert all(a.end <= b.begin + 1e-9 for a, b in pairwise(own)), "two things at once"
    worked = sum(s.end - s.begin for own in spans.values() for s in own if s.kind == "working")
    assert worked == pytest.approx(usage.useful + usage.lost)
    assert min(usage.lost, usage.starting, usage.down, usage.idle) >= 0
    parts = usage.useful + usage.lost + usage.starting + usage.down + usage.idle
    assert parts == pytest.approx(usage.total)
    assert 0 <= usage.utilisation <= 1
    at_once = [s for own in spans.values() for s in own if s.kind == "working"]
    one_place(at_once)
    # what counted is what the trials that ended well took
    if not cluster.spread and not any(t.state == "FAILED" for t in work.trials.values()):
        assert usage.useful == pytest.approx(work.meter.spent)
    clocks = [row["clock_s"] for row in rows]
    assert clocks == sorted(clocks)
    assert all(clock <= runner.now for clock in clocks)
    again, same, _ = once()
    assert (list(same), again.usage(), again.spans) == (list(rows), usage, runner.spans)


def by_worker(spans: Iterable[WorkerSpan]) -> dict[int, list[WorkerSpan]]:
    found: dict[int, list[WorkerSpan]] = defaultdict(list)
    for span in spans:
        found[span.worker].append(span)
    return found


def one_place(spans: Iterable[WorkerSpan]) -> None:
    """No trial is at two workers at once."""
    found: dict[int | None, list[WorkerSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.begin):
        found[span.trial].append(span)
    for own in found.values():
        assert all(a.end <= b.begin + 1e-9 for a, b in pairwise(own))


def test_more_workers_never_make_a_random_search_slower() -> None:
    ends = []
    for workers in (1, 2, 5, 20, 60):
        runner = on(workers)
        run(runner, evaluator=Tabular(Synthetic(max_step=2)), trials=60)
        ends.append(runner.now)
    assert ends == sorted(ends, reverse=True)
    assert ends[0] / ends[2] == pytest.approx(5, rel=0.15)
