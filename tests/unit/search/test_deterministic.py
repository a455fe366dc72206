"""One seed gives one table, whoever is quick, and however many they are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from integration.toy_runs import Script, Table, content
from searches import make_ordered
from toys import Curves, ToyData, ToySpace, quality

from raynas.core import (
    Architecture,
    Bound,
    Job,
    Measurement,
    Metric,
    Objective,
    Trial,
    TrialState,
    UserError,
)
from raynas.core.describe import fresh
from raynas.core.prices import ExpectedPrice
from raynas.data.base import DataView
from raynas.evaluators import Screen
from raynas.runners.base import JobOutcome, deliver, steps
from raynas.samplers import TPE, Random, RegularizedEvolution
from raynas.samplers.base import Sampler
from raynas.schedulers import ASHA, NoStopping
from raynas.schedulers.base import Scheduler
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.deterministic import DeterministicOrder
from raynas.search.screening import ProposalScreening


def search(rows: Any, folder: Path | None, sampler: Sampler, **more: Any) -> DeterministicOrder:
    evaluator = more.pop("evaluator", Curves(max_step=9))
    evaluator.setup(ToySpace(), ToyData().search_view(0))
    settings: dict[str, Any] = {
        "lanes": 4, "sampler": fresh(sampler), "fallback": Random(), "scheduler": ASHA(1, 3),
        "limits": SearchLimits(trials=24), "run": "test", "stage": "search", "arm": "a",
        "objectives": (Objective(),), "seed": 0, "folder": folder, **more,
    }  # fmt: skip
    return make_ordered(
        EvaluationContext(ToySpace(), evaluator, ToyData().search_view(0)), rows, **settings
    )


def carry_out(
    work: DeterministicOrder, workers: int, rng: random.Random, stop_at: float = 1e9
) -> int:
    """By workers who are quick and slow as ``rng`` has it; how many measurements they made."""
    busy: list[tuple[Job, Iterator[JobOutcome]]] = []
    measured = set()
    while not work.done:
        while len(busy) < workers and (job := work.next()) is not None:
            busy.append((job, steps(work.payload.evaluator, work.arch(job.trial), job)))
        assert busy, "nothing runs, and nothing is done"
        place = rng.randrange(len(busy))
        job, outcomes = busy[place]
        outcome = next(outcomes, JobOutcome())
        if outcome.measurement is not None:
            measured.add((job.trial, outcome.measurement.step))
        if not deliver(work, job, outcome):
            outcomes.close()  # type: ignore[attr-defined]
            del busy[place]
        if len(measured) >= stop_at:
            work.interrupt()
            break
    return len(measured)


SAMPLERS = [Random(), TPE(n_startup=6), RegularizedEvolution(population=6, sample=2)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
@pytest.mark.parametrize("scheduler", [ASHA(1, 3), NoStopping()], ids=lambda s: s.name)
def test_the_table_is_the_same_for_any_workers_and_any_luck(
    sampler: Sampler, scheduler: Scheduler, tmp_path: Path
) -> None:
    tables = []
    for run, workers in enumerate((1, 2, 8, 8)):
        rows = Table()
        work = search(rows, tmp_path / str(run), sampler, scheduler=fresh(scheduler))
        carry_out(work, workers, random.Random(run))
        assert work.done
        tables.append(
            [(r["trial"], r["arch"], r["step"], r["state"], r["val_accuracy"]) for r in rows]
        )
    assert tables[0] == tables[1] == tables[2] == tables[3]  # even in the order of the rows
    assert len({row[0] for row in tables[0]}) == 24


def test_nothing_is_trained_that_may_be_stopped(tmp_path: Path) -> None:
    rows = Table()
    work = search(rows, tmp_path, Random())
    made = carry_out(work, 1, random.Random(0))
    assert work.discarded.aside > 0
    # between two rungs a worker may be ahead; behind a rung it is not
    assert made == sum(row["step"] is not None for row in rows)
    assert work.discarded.dropped == 0
    assert any(t.state is TrialState.STOPPED for t in work.trials.values())


def test_without_checkpoints_the_price_is_told() -> None:
    rows = Table()
    work = search(rows, None, Random(), evaluator=Curves(max_step=9, seconds=0.001))
    made = carry_out(work, 2, random.Random(1))
    wanted = sum(row["step"] is not None for row in rows)
    assert made > wanted
    assert work.discarded.dropped > 0
    assert "% of the workers' time" in str(work.discarded)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
@pytest.mark.parametrize("cut", [1, 7, 20, 45])
def test_a_search_that_was_cut_anywhere_ends_in_the_same_table(
    sampler: Sampler, cut: int, tmp_path: Path
) -> None:
    whole, parts = Table(), Table()
    carry_out(search(whole, tmp_path / "whole", sampler), 2, random.Random(3))
    first = search(parts, tmp_path / "parts", sampler)
    carry_out(first, 3, random.Random(4), stop_at=cut)
    before = len(parts)
    second = search(parts, tmp_path / "parts", sampler, past=stored(parts))
    made = carry_out(second, 1, random.Random(5))
    assert content(parts) == content(whole)
    assert made <= len(whole) - before + 24 * 3  # what is stored is not measured again


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_were_lost_are_measured_again(seed: int, tmp_path: Path) -> None:
    rng, whole = random.Random(seed), Table()
    carry_out(search(whole, tmp_path, TPE(n_startup=6)), 2, rng)
    lost = set(rng.sample(range(len(whole)), 4))
    rows = Table(row for place, row in enumerate(whole) if place not in lost)
    carry_out(search(rows, tmp_path, TPE(n_startup=6), past=stored(rows)), 3, rng)
    newest = {(row["trial"], row["step"]): row for row in rows}
    assert content(newest.values()) == content(whole)
    assert {t.number: t.state for t in stored(rows)} == {t.number: t.state for t in stored(whole)}


def stored(rows: Table) -> list[Trial]:
    """The trials as a store would give them back."""
    from raynas.core import Measurement

    found: dict[int, Trial] = {}
    space = ToySpace()
    for row in rows:
        arch = space.architecture(row["arch"])
        trial = found.setdefault(row["trial"], Trial(row["trial"], arch, arch, seed=row["seed"]))
        trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
        trial.attempt = row["attempt"]
        trial.costs = {"params": row["params"], "macs": row["macs"]}
        if row["step"] is not None:
            values = {"val_accuracy": row["val_accuracy"]}
            trial.measurements.append(Measurement(row["step"], values, row["seconds"]))
    return sorted(found.values(), key=lambda t: t.number)


def test_failures_and_bounds_have_their_turn_too(tmp_path: Path) -> None:
    texts = [arch.text for arch in ToySpace().enumerate()][::5]
    fault = {text: ("crash", "nan")[i % 2] for i, text in enumerate(texts)}
    tables = []
    for run, workers in enumerate((1, 5)):
        rows = Table()
        work = search(
            rows, tmp_path / str(run), Random(), bounds=(Bound("params", max=200),),
            evaluator=Curves(max_step=9, fault=fault),
        )  # fmt: skip
        carry_out(work, workers, random.Random(run))
        names = ("trial", "arch", "step", "state", "message", "val_accuracy")
        tables.append([tuple(row.get(name) for name in names) for row in rows])
    assert tables[0] == tables[1]
    assert {"FAILED", "INFEASIBLE", "STOPPED"} <= {row[3] for row in tables[0]}


@pytest.mark.parametrize("cut", [2, 3, 5, 30])
def test_what_lacked_memory_gets_its_second_try_and_no_third(cut: int, tmp_path: Path) -> None:
    texts = [arch.text for arch in ToySpace().enumerate()][::5]
    fault = {text: ("tight", "memory")[i % 2] for i, text in enumerate(texts)}
    tables = []
    for run, stop in enumerate((1e9, cut)):
        rows, folder = Table(), tmp_path / str(run)
        make = {"evaluator": Curves(max_step=9, fault=fault), "scheduler": NoStopping()}
        carry_out(search(rows, folder, Random(), **make), 2, random.Random(run), stop)
        if run:
            work = search(rows, folder, Random(), past=stored(rows), **make)
            carry_out(work, 3, random.Random(8))
        short = [row for row in rows if (row["message"] or "").startswith("out of memory")]
        first = [r["trial"] for r in short if r["step"] is None and r["state"] == "RUNNING"]
        assert len(first) == len(set(first)) > 0
        ended = [row for row in rows if row["state"] != "RUNNING"]
        tables.append(content(ended, "seed"))
    assert tables[0] == tables[1]
    assert {"INFEASIBLE", "COMPLETE"} == {row[3] for row in tables[0]}


def test_arms_are_equal_in_multiply_adds(tmp_path: Path) -> None:
    """Nothing new starts when 20,000 are spent or in the hands of the four lanes; the largest
    architecture of all nine steps takes 7 * 360 * 9."""
    limits = SearchLimits(seconds=20_000.0, expected=ExpectedPrice([7 * 360 * 9.0]))
    work = search(Table(), tmp_path, Random(), limits=limits)
    carry_out(work, 2, random.Random(0))
    macs = sum(t.costs["macs"] * t.step for t in work.trials.values())
    assert work.controller.meter.paid == macs
    assert 20_000 <= macs < 20_000 + 7 * 360 * 9


@dataclass
class Score(Curves):
    """A score of two passes; a step of training is 3 * 8 passes and 8 held-out images."""

    name: ClassVar[str] = "score"
    max_step: int = 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("score", "", "max"),)

    def passes(self, view: DataView) -> float:
        return 2.0

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        yield Measurement(1, {"score": quality(arch)}, seconds=0.5)


def test_a_score_costs_its_part_of_a_training_step(tmp_path: Path) -> None:
    scorer = Score()

    def scores(jobs: Sequence[tuple[Architecture, Job]]) -> list[list[JobOutcome]]:
        return [list(steps(scorer, arch, job)) for arch, job in jobs]

    screening = ProposalScreening(Screen(scorer, keep=0.25, batch=8), scores)
    work = search(
        Table(), tmp_path, Random(), screening=screening, scheduler=NoStopping(),
        limits=SearchLimits(trials=4),
    )  # fmt: skip
    carry_out(work, 2, random.Random(0))
    trials = work.trials.values()
    scored = sum(t.costs["macs"] for t in trials if t.measurements)
    trained = sum(t.costs["macs"] * t.step for t in trials)
    assert len(trials) == 16
    assert sum(t.step > 0 for t in trials) == 4
    assert work.controller.meter.paid == pytest.approx(trained + scored * 2 / (3 * 8 + 8))


def test_a_worker_that_died_is_started_again(tmp_path: Path) -> None:
    work = search(Table(), tmp_path, Random())
    jobs = [work.next() for _ in range(3)]
    assert work.live == tuple(j.trial for j in jobs if j)
    work.requeue_live()
    assert work.live == ()
    again = [work.next() for _ in range(3)]
    assert {j.trial for j in again if j} == {j.trial for j in jobs if j}
    assert [j.attempt for j in again if j] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_workers_that_die_at_any_moment_change_nothing(seed: int, tmp_path: Path) -> None:
    """Also with a checkpoint of a step that nobody was told of."""
    tables = []
    for run, deaths in enumerate((0.0, 0.3)):
        rows, rng = Table(), random.Random(seed)
        work = search(rows, tmp_path / str(run), TPE(n_startup=6))
        while not work.done:
            jobs = [job for _ in range(3) if (job := work.next()) is not None]
            for job in jobs:
                for outcome in steps(work.payload.evaluator, work.arch(job.trial), job):
                    if rng.random() < deaths:
                        work.again(job)
                        break
                    if not deliver(work, job, outcome):
                        break
                else:
                    deliver(work, job, JobOutcome())
        tables.append(
            [(r["trial"], r["arch"], r["step"], r["state"], r["val_accuracy"]) for r in rows]
        )
    assert tables[0] == tables[1]


def test_a_sampler_that_proposes_otherwise_is_told(tmp_path: Path) -> None:
    rows = Table()
    first = search(rows, tmp_path, Script(["x=0,y=0,op=a", "x=1,y=0,op=a"]), lanes=1)
    carry_out(first, 1, random.Random(0))
    other = search(rows, tmp_path, Script(["x=0,y=0,op=a", "x=2,y=0,op=a"]), lanes=1,
                   past=stored(rows))  # fmt: skip
    with pytest.raises(UserError, match=r"trial 1 was x=1.* is x=2.*versions"):
        carry_out(other, 1, random.Random(0))
