"""A space whose own code raises for some architectures: that costs those, not the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from failing_spaces import Built, FailingSpace, Where
from searches import make_ordered, make_search
from toys import ToyData

from raynas.core import (
    AllTrialsFailed,
    Architecture,
    Bound,
    InfeasibleArchitecture,
    Job,
    Objective,
    Trial,
    TrialState,
    UserError,
)
from raynas.core.ranks import Ensemble
from raynas.data.base import DataView, Images
from raynas.evaluators import FunctionEvaluator, MeasuredLatency, Screen, ZeroShot
from raynas.evaluators.base import Evaluator
from raynas.proxies import SynFlow
from raynas.runners.local import LocalRunner
from raynas.runners.simulated import VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers import Guided, LocalSearch, Random, RegularizedEvolution
from raynas.samplers.base import Sampler
from raynas.schedulers import Hyperband
from raynas.schedulers.base import Scheduler
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.deterministic import DeterministicOrder
from raynas.search.screening import ProposalScreening


class Table(list[dict[str, Any]]):
    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.extend(dict(row) for row in rows)


def noisy_view() -> DataView:
    """Images that differ, as scores need them."""
    view = ToyData().search_view(0)
    pixels = np.random.default_rng(0).integers(0, 255, view.train.pixels.shape, np.uint8)
    return replace(view, train=Images(pixels, view.train.labels))


def search(
    space: FailingSpace,
    evaluator: Evaluator | None = None,
    *,
    sampler: Sampler | None = None,
    scheduler: Scheduler | None = None,
    trials: int | None = 24,
    rows: Table | None = None,
    lanes: int = 0,
    screen: Screen | None = None,
    bounds: tuple[Bound, ...] = (),
    **more: Any,
) -> Any:
    evaluator = evaluator or Built()
    view = noisy_view()
    payload = EvaluationContext(space, evaluator, view)
    screening = None
    if screen is not None:
        scorer, own = LocalRunner(), EvaluationContext(space, screen.evaluator, view)
        screening = ProposalScreening(
            screen, lambda jobs: scorer.evaluate(own, jobs), more.get("past", ())
        )
    settings: dict[str, Any] = {
        "sampler": sampler or Random(),
        "fallback": Random(),
        "scheduler": scheduler or NoStopping(),
        "limits": SearchLimits(trials=trials),
        "run": "test",
        "stage": "search",
        "arm": "test",
        "objectives": more.pop("objectives", (Objective(evaluator.metrics[0].name),)),
        "seed": 0,
        "screening": screening,
        "bounds": bounds,
        **more,
    }
    rows = rows if rows is not None else Table()
    if lanes:
        return make_ordered(payload, rows, lanes=lanes, **settings)
    return make_search(payload, rows, **settings)


def run(work: Any) -> Any:
    LocalRunner().run(work)
    assert work.done
    return work


def count(work: Any) -> dict[TrialState, int]:
    states = [t.state for t in work.trials.values()]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def check(work: Any, rows: Table, where: str, trials: int = 24) -> None:
    """The bad ones failed with the message, are stored and told; all others are complete."""
    bad = [t for t in work.trials.values() if int(t.arch["x"]) < 3]
    assert len(work.trials) == trials
    assert 0 < len(bad) < trials
    for trial in work.trials.values():
        assert trial.state is (TrialState.FAILED if trial in bad else TrialState.COMPLETE)
    stored = {row["trial"]: row for row in rows}  # the last one of each
    assert {number for number, row in stored.items() if row["state"] == "FAILED"} == {
        t.number for t in bad
    }
    for trial in bad:
        assert f"ValueError: no {where} with x below 3" in stored[trial.number]["message"]


@pytest.mark.parametrize("where", ["canonical", "costs", "build", "forward"])
@pytest.mark.parametrize(
    "sampler",
    [Random(), RegularizedEvolution(population=6, sample=3), LocalSearch(initial=4), Guided()],
    ids=lambda sampler: sampler.name,
)
def test_what_raises_costs_one_trial(where: Where, sampler: Sampler) -> None:
    rows = Table()
    work = run(search(FailingSpace(where=where), sampler=sampler, rows=rows))
    check(work, rows, where)


@pytest.mark.parametrize("where", ["canonical", "costs", "build", "forward"])
def test_a_space_may_say_that_there_is_no_network(where: Where) -> None:
    rows = Table()
    work = run(search(FailingSpace(where=where, says_so=True), rows=rows))
    bad = [t for t in work.trials.values() if int(t.arch["x"]) < 3]
    assert count(work) == {
        TrialState.INFEASIBLE: len(bad), TrialState.COMPLETE: 24 - len(bad),
    }  # fmt: skip
    assert {t.message for t in bad} == {f"infeasible: no {where} with x below 3"}


def test_a_network_that_fails_within_an_evaluation_may_be_infeasible_too() -> None:
    def function(arch: Architecture) -> float:
        if int(arch["x"]) < 3:
            try:
                raise InfeasibleArchitecture("too small")
            except InfeasibleArchitecture as error:
                raise RuntimeError("wrapped") from error
        return 1.0

    work = run(search(FailingSpace(where="nowhere"), FunctionEvaluator(function)))
    messages = {t.message for t in work.trials.values() if t.state is TrialState.INFEASIBLE}
    assert messages == {"infeasible: too small"}


@pytest.mark.parametrize("scheduler", [NoStopping(), Hyperband(min_step=1, factor=2)])
@pytest.mark.parametrize("where", ["canonical", "build"])
@pytest.mark.parametrize("says_so", [False, True])
def test_a_resumed_search_is_the_undisturbed_one(
    where: Where, scheduler: Scheduler, says_so: bool
) -> None:
    space = FailingSpace(where=where, says_so=says_so)
    whole = run(search(space, scheduler=scheduler, trials=20))
    rows = Table()
    first = run(search(space, scheduler=scheduler, trials=9, rows=rows))
    past = [_as_stored(t) for t in first.trials.values()]
    second = run(search(space, scheduler=scheduler, trials=20, past=past, rows=rows))

    def seen(work: Any) -> list[tuple[int, str, str]]:
        return [(t.number, t.arch.text, t.state.value) for t in work.trials.values()]

    if scheduler.name == "none":  # what ended the first search ended its brackets, too
        assert seen(second) == seen(whole)
    assert len(second.trials) == 20
    assert len({row["trial"] for row in rows if row["state"] != "RUNNING"}) == 20


def _as_stored(trial: Trial) -> Trial:
    """As it is read from the store: by number, architecture, state, message, measurements."""
    return Trial(
        trial.number, trial.proposal, trial.arch, seed=trial.seed, state=trial.state,
        measurements=list(trial.measurements), costs=dict(trial.costs), message=trial.message,
        violations=dict(trial.violations),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["canonical", "costs", "build", "forward"])
def test_in_order_too_and_it_goes_on_where_the_space_was_mended(where: Where) -> None:
    rows = Table()
    work = run(search(FailingSpace(where=where), lanes=3, trials=12, rows=rows))
    check(work, rows, where, trials=12)
    before = list(rows)
    past = [_as_stored(t) for t in work.trials.values()]
    again = run(search(FailingSpace(where=where), lanes=3, trials=16, past=past, rows=rows))
    check(again, rows, where, trials=16)
    assert rows[: len(before)] == before
    mended = FailingSpace(where="nowhere")
    past = [_as_stored(t) for t in again.trials.values()]
    later = run(search(mended, lanes=3, trials=20, past=past, rows=rows))
    assert len(later.trials) == 20
    assert count(later)[TrialState.FAILED] == count(again)[TrialState.FAILED]


@pytest.mark.parametrize("where", ["canonical", "build", "forward"])
def test_under_bounds_screening_and_latencies(where: Where) -> None:
    space = FailingSpace(where=where)
    rows = Table()
    bounds = (Bound("params", max=1e6),)
    check(run(search(space, rows=rows, bounds=bounds)), rows, where)

    timed = MeasuredLatency(repeats=1)
    objectives = (Objective("latency_ms", "min"),)
    rows = Table()
    check(run(search(space, timed, rows=rows, objectives=objectives)), rows, where)

    rows, scored = Table(), ZeroShot((SynFlow(),), batch=4)
    check(run(search(space, scored, rows=rows, objectives=(Objective("synflow"),))), rows, where)

    rows = Table()
    screen = Screen(ZeroShot((SynFlow(),), batch=4), keep=0.5, batch=4)
    work = run(search(space, screen=screen, rows=rows, trials=24))
    states = count(work)
    assert states[TrialState.COMPLETE] > 3
    assert states[TrialState.FAILED] > 3


def test_a_table_of_latencies_is_made_of_networks_that_run() -> None:
    view, space = ToyData().search_view(0), FailingSpace(where="forward")
    evaluator = MeasuredLatency(repeats=1, table=2)
    evaluator.setup(space, view)
    arch = space.architecture("x=4,y=1,op=a")
    (found,) = evaluator.evaluate(arch, Job(0, 0, 1))
    assert found.values["latency_ms"] > 0
    evaluator = MeasuredLatency(repeats=1, table=2)
    evaluator.setup(FailingSpace(where="forward", bad=6), view)
    with pytest.raises(UserError, match=r"40 of 40 random ones fail.*no forward with x below 6"):
        next(iter(evaluator.evaluate(arch, Job(0, 0, 1))))


def test_a_function_needs_no_network() -> None:
    work = run(search(FailingSpace(bad=6), FunctionEvaluator(lambda arch: float(arch["x"]))))
    assert count(work) == {TrialState.COMPLETE: 24}
    assert all(t.costs == {} for t in work.trials.values())


@pytest.mark.parametrize(
    "needs", [{"bounds": (Bound("params", max=1e6),)}, {"objectives": (Objective("macs", "min"),)}]
)
def test_a_function_needs_one_where_bounds_or_objectives_are_on_costs(needs: Any) -> None:
    evaluator = FunctionEvaluator(lambda arch: float(arch["x"]))
    work = run(search(FailingSpace(bad=3), evaluator, **needs))
    assert all((t.state is TrialState.FAILED) == (t.arch["x"] < 3) for t in work.trials.values())


def test_a_model_learns_from_architectures_that_have_features() -> None:
    work = run(search(FailingSpace(where="features"), sampler=Guided(startup=3), trials=30))
    assert count(work) == {TrialState.COMPLETE: 30}
    late = [t for t in work.trials.values() if t.number >= 20]
    assert all(t.arch["x"] >= 3 for t in late)  # nothing else can be judged
    work = run(search(FailingSpace(where="features", bad=6), sampler=Guided(startup=3)))
    assert count(work) == {TrialState.COMPLETE: 24}  # at random


def test_a_sampler_without_a_proposal_says_where_it_broke() -> None:
    sampler = RegularizedEvolution(population=4, sample=2)
    with pytest.raises(UserError, match=r"'evolution'.*trial \d+.*no mutate.*failing_spaces.py"):
        run(search(FailingSpace(where="mutate", bad=6), sampler=sampler))


# -- when nothing works ------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["canonical", "costs", "build", "forward"])
@pytest.mark.parametrize("lanes", [0, 2])
def test_a_search_ends_when_its_first_trials_all_fail(where: Where, lanes: int) -> None:
    rows = Table()
    work = search(FailingSpace(where=where, bad=6), trials=None, rows=rows, lanes=lanes)
    LocalRunner().run(work)
    assert isinstance(work.error, AllTrialsFailed)
    told = str(work.error)
    assert told.count(f"no {where} with x below 6") == 1
    assert "all 10 trials failed, all of them with" in told
    assert {row["state"] for row in rows} == {"FAILED"}
    assert len(rows) == 10
    # a resumed one tries ten more
    past = [_as_stored(t) for t in work.trials.values()]
    again = search(FailingSpace(bad=6), trials=None, rows=rows, lanes=lanes, past=past)
    LocalRunner().run(again)
    assert isinstance(again.error, AllTrialsFailed)
    assert len(rows) == 20


def test_scores_that_all_fail_end_it_too() -> None:
    screen = Screen(ZeroShot((SynFlow(),), batch=4), keep=0.5, batch=4, by=Ensemble(("synflow",)))
    evaluator = FunctionEvaluator(lambda _: 1.0)
    work = search(FailingSpace(bad=6), evaluator, screen=screen, trials=None)
    LocalRunner().run(work)
    assert isinstance(work.error, AllTrialsFailed)
    assert len(work.trials) == 12


def test_one_that_works_keeps_the_search_alive() -> None:
    def function(_: Architecture, job: Job) -> float:
        if job.trial != 4 and job.trial < 20:
            raise RuntimeError("no luck")
        return 1.0

    work = run(search(FailingSpace(where="nowhere"), FunctionEvaluator(function), trials=30))
    assert work.error is None
    assert count(work) == {TrialState.FAILED: 19, TrialState.COMPLETE: 11}


def test_failures_wait_for_what_runs_among_the_first() -> None:
    """With many workers failures come before the first result: that is no reason to end."""
    space = FailingSpace(where="build", bad=5)  # five of six fail at once
    work = search(space, trials=60)
    VirtualRunner(SimulatedCluster(workers=20)).run(work)
    assert work.error is None
    assert len(work.trials) == 60
    states = count(work)
    assert states[TrialState.COMPLETE] > 3
    assert states[TrialState.FAILED] > 40


def test_those_that_are_still_running_are_waited_for() -> None:
    work = search(FailingSpace(where="nowhere"), trials=None)
    jobs = [work.next() for _ in range(12)]
    for job in jobs[1:]:
        work.fail(job, "RuntimeError: no luck")
    assert work.error is None  # the first one runs
    work.fail(jobs[0], "RuntimeError: no luck")
    assert isinstance(work.error, AllTrialsFailed)
    assert work.next() is None


def test_an_ordered_search_is_the_same_with_any_number_of_workers() -> None:
    def table(workers: int) -> list[tuple[Any, ...]]:
        rows = Table()
        work = search(FailingSpace(where="build"), lanes=4, rows=rows)
        VirtualRunner(SimulatedCluster(workers=workers)).run(work)
        assert isinstance(work, DeterministicOrder)
        return sorted((r["trial"], r["arch"], r["step"] or 0, r["state"]) for r in rows)

    assert table(1) == table(4) == table(7)
