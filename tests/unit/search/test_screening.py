"""Screening at work: what is stored, told, counted, and rebuilt after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from searches import make_search
from toys import Curves, Quick, ToyData, ToySpace, noise, quality

from raynas.core import (
    Architecture,
    Bound,
    Ensemble,
    Job,
    Measurement,
    Metric,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    violations,
)
from raynas.data.base import DataView
from raynas.evaluators import Screen
from raynas.evaluators.base import Evaluator
from raynas.runners.local import LocalRunner
from raynas.samplers import (
    CMAES,
    GP,
    NSGA2,
    TPE,
    ElitistEvolution,
    Exhaustive,
    Listed,
    OptunaRandom,
    Random,
    RegularizedEvolution,
    Sampler,
)
from raynas.schedulers import ASHA, NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.screening import ProposalScreening
from raynas.spaces.base import SearchSpace


@dataclass
class Hints(Evaluator):
    """Two scores: ``hint`` follows the truth with some noise, ``delay`` is the network's size.

    ``fault``: architecture text -> ``"crash"``, ``"nan"``, ``"missing"``, ``"silent"``; with the
    key ``*`` for all. ``log``: the architectures that were scored.
    """

    name: ClassVar[str] = "hints"
    lightweight: ClassVar[bool] = True
    fault: Mapping[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list, metadata={"fingerprint": False})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return Metric("hint", "", "max"), Metric("delay", "ms", "min")

    @property
    def max_step(self) -> int:
        return 1

    def setup(self, space: SearchSpace, view: DataView) -> None: ...

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        self.log.append(arch.text)
        fault = self.fault.get(arch.text, self.fault.get("*", ""))
        if fault == "crash":
            raise RuntimeError("a score\ncrash")
        if fault == "silent":
            return
        values = {"hint": hint(arch), "delay": float(int(arch["x"]) * 6 + int(arch["y"]))}
        if fault == "nan":
            values["hint"] = float("nan")
        if fault == "missing":
            del values["hint"]
        note = "no path through\nthe cell" if fault == "missing" else ""
        yield Measurement(1, values, seconds=0.25, note=note)


def hint(arch: Architecture) -> float:
    return quality(arch) + 4 * noise(f"hint {arch.text}")


class Table(list[dict[str, Any]]):
    """Rows in memory; ``sizes``: of the appends."""

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(rows)
        self.sizes: list[int] = []

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.sizes.append(len(rows))
        self.extend(dict(row) for row in rows)

    def scored(self) -> list[dict[str, Any]]:
        return [row for row in self if row["step"] == 0]


@dataclass
class Spy(Sampler):
    """Passes all on, and sees to it that every ask is told exactly once."""

    name: ClassVar[str] = "spy"
    inner: Sampler = field(default_factory=Random)
    asked: list[int] = field(default_factory=list)
    told: dict[int, Trial] = field(default_factory=dict)

    @property
    def finite(self) -> bool:  # type: ignore[override]
        return self.inner.finite

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        self.inner.setup(space, problem)

    def ask(self, number: int) -> Architecture:
        arch = self.inner.ask(number)
        self.asked.append(number)
        return arch

    def tell(self, trial: Trial) -> None:
        assert trial.number not in self.told, "told twice"
        assert trial.number in self.asked, "never asked for"
        assert trial.state.ended
        self.told[trial.number] = replace(trial, measurements=list(trial.measurements))
        self.inner.tell(trial)

    def replay(self, trials: Iterable[Trial]) -> None:
        self.inner.replay(trials)


@dataclass
class Script(Sampler):
    """Proposes what it was given, then nothing."""

    name: ClassVar[str] = "script"
    texts: Sequence[str] = ()

    def setup(self, space: SearchSpace, problem: SearchProblem) -> None:
        self._space, self._left = space, list(self.texts)

    def ask(self, number: int) -> Architecture:
        if not self._left:
            raise SpaceExhausted("the script is over")
        return self._space.architecture(self._left.pop(0))

    def tell(self, trial: Trial) -> None: ...

    def replay(self, trials: Iterable[Trial]) -> None: ...


def search(
    sampler: Sampler | None = None,
    *,
    rows: Table | None = None,
    past: Sequence[Trial] = (),
    evaluator: Evaluator | None = None,
    hints: Evaluator | None = None,
    keep: float = 0.25,
    batch: int = 8,
    within: Any = "batch",
    trials: int | None = None,
    bounds: tuple[Bound, ...] = (),
    make: Callable[..., Any] = make_search,
    **more: Any,
) -> SearchController:
    view = ToyData().search_view(0)
    evaluator = evaluator or Curves()
    space = more.pop("space", ToySpace(depth=12))
    screen = Screen(hints or Hints(), keep, batch, within, by=Ensemble(("hint",)))
    scorer = LocalRunner()
    payload = EvaluationContext(space, screen.evaluator, view)
    early = set(screen.names) - {m.name for m in evaluator.metrics}
    screening = ProposalScreening(
        screen,
        lambda jobs: scorer.evaluate(payload, jobs),
        past,
        tuple(b for b in bounds if b.metric in early),
    )
    settings: dict[str, Any] = {
        "sampler": sampler or Random(), "fallback": Random(), "scheduler": NoStopping(),
        "limits": SearchLimits(trials), "run": "test", "stage": "search", "arm": "script",
        "objectives": (Objective(),), "seed": 0, **more,
    }  # fmt: skip
    return make(
        EvaluationContext(space, evaluator, view), rows if rows is not None else Table(),
        bounds=bounds, screening=screening, past=past, **settings,
    )  # fmt: skip


def run(work: SearchController) -> SearchController:
    LocalRunner().run(work)
    assert work.done
    return work


def texts(count: int, depth: int = 12) -> list[str]:
    every = [a.text for a in ToySpace(depth=depth).enumerate()]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))[:count]]


def by_trial(rows: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["trial"], []).append(row)
    return found


# -- what is stored, told and counted ----------------------------------------------------------


def test_the_best_of_each_batch_are_trained_and_all_are_stored_with_scores() -> None:
    rows, listed, space = Table(), texts(24), ToySpace(depth=12)
    hints = {text: hint(space.architecture(text)) for text in listed}
    best = {t for k in (0, 8, 16) for t in sorted(listed[k : k + 8], key=lambda t: -hints[t])[:2]}
    work = run(search(Script(listed), rows=rows))
    assert {r["arch"]: r["hint"] for r in rows.scored()} == hints
    assert len(rows.scored()) == 24
    assert [size for size in rows.sizes if size > 1] == [8, 8, 8]
    assert [r["arch"] for r in rows if r["step"] == 1] == [t for t in listed if t in best]
    assert dict(work.status().counts) == {"COMPLETE": 6}
    assert work.status().screened_out == 18
    out = [r for r in rows if r["state"] == "STOPPED"]
    assert {r["message"] for r in out} == {"screened: not among the best 25 %"}
    assert {r["arch"] for r in out} == {*listed} - best
    assert work.meter.spent == 24 * 0.25 + 6 * 4
    assert {t.arch.text for t in work.best} <= best


def test_the_budget_is_met_by_trained_trials_exactly() -> None:
    rows = Table()
    work = run(search(rows=rows, keep=0.5, batch=8, trials=6))
    states = {n: mine[-1]["state"] for n, mine in by_trial(rows).items()}
    assert list(states.values()).count("COMPLETE") == 6
    assert work.status().share == 1.0
    late = [r for r in rows if r["message"] == "screened: the budget is used up"]
    assert len(late) == 2  # of the four best of the second batch
    trained = [r["hint"] for r in rows.scored() if r["trial"] >= 8 and r["state"] == "RUNNING"]
    assert min(trained) > max(r["hint"] for r in late)


def test_a_quantile_of_the_whole_run_lets_weak_batches_fall() -> None:
    space = ToySpace(depth=12)
    falling = sorted(texts(64), key=lambda t: -hint(space.architecture(t)))
    rows = Table()
    work = run(search(Script(falling), rows=rows, within="run"))
    assert len(by_trial(r for r in rows if r["step"])) == 2
    assert work.status().screened_out == 62
    rising = run(search(Script(falling[::-1]), within="run"))
    assert rising.status().counts["COMPLETE"] > 16


def test_every_ask_is_told_once_with_scores() -> None:
    spy = Spy()
    run(search(spy, trials=10, keep=0.5))
    assert sorted(spy.asked) == sorted(spy.told)
    out = [t for t in spy.told.values() if t.state is TrialState.STOPPED]
    assert len(out) > 5
    assert all([m.step for m in t.measurements] == [0] for t in out)
    assert all({"hint", "delay", "params"} <= t.values().keys() for t in spy.told.values())
    done = [t for t in spy.told.values() if t.state is TrialState.COMPLETE]
    assert [m.step for m in done[0].measurements] == [0, 1, 2, 3, 4]


def test_a_duplicate_is_answered_whatever_became_of_the_first() -> None:
    listed = texts(16)
    spy, rows = Spy(Script([*listed[:8], *listed[:8], *listed[8:]])), Table()
    work = search(spy, rows=rows)
    first, second, third = work.next(), work.next(), work.next()
    assert first is not None
    assert second is not None
    assert third is not None
    answered = {n: t for n, t in spy.told.items() if 8 <= n < 16}
    assert len(answered) == 6  # of what was held back; the others are being trained
    assert {t.state for t in answered.values()} == {TrialState.STOPPED}
    assert all(t.values()["hint"] == hint(t.arch) for t in answered.values())
    work.fail(first, "gone")
    assert [spy.told[n].state for n in (first.trial, first.trial + 8)] == [TrialState.FAILED] * 2
    assert second.trial + 8 not in spy.told
    assert len(rows.scored()) == 16
    assert work.status().duplicates == 8


def test_duplicates_within_a_batch_wait_for_its_scores() -> None:
    listed = [t for t in texts(10) for _ in (1, 2)]
    spy = Spy(Script(listed))
    work = run(search(spy))
    assert len(spy.told) == 20
    assert (
        work.status().screened_out == 8 - 2 + 2 - 1
    )  # eight unlike ones a batch, then the last two
    for n in range(0, 20, 2):
        assert spy.told[n].state is spy.told[n + 1].state
        assert spy.told[n].values() == spy.told[n + 1].values()


def test_a_sampler_that_repeats_itself_gets_help_from_random() -> None:
    spy = Spy(Script([texts(1)[0]] * 300))
    work = run(search(spy, trials=3))
    assert work.status().ended == 3
    assert len({t.arch.id for t in work.trials.values()}) == len(work.trials)


def test_bounds_on_costs_come_before_scores() -> None:
    hints = Hints()
    work = run(search(hints=hints, bounds=(Bound("params", max=200),), trials=5))
    space = ToySpace(depth=12)
    assert all(space.costs(space.architecture(t)).params <= 200 for t in hints.log)
    assert work.status().rejected > 0
    assert len(hints.log) == len(set(hints.log)) == work.status().screened_out + 5


def test_what_breaks_a_bound_by_its_scores_is_infeasible_and_takes_nobodys_place() -> None:
    listed, space, rows, spy = texts(8), ToySpace(depth=12), Table(), None
    ranked = sorted(listed, key=lambda t: -hint(space.architecture(t)))
    delays = {t: space.architecture(t) for t in ranked}
    limit = max(6 * int(a["x"]) + int(a["y"]) for a in delays.values()) - 1
    spy = Spy(Script(listed))
    bounds = (Bound("delay", max=limit),)
    work = run(search(spy, rows=rows, bounds=bounds))
    beyond = [t for t in ranked if 6 * int(delays[t]["x"]) + int(delays[t]["y"]) > limit]
    ends = {mine[-1]["arch"]: mine[-1] for mine in by_trial(rows).values()}
    assert {t for t, r in ends.items() if r["state"] == "INFEASIBLE"} == set(beyond)
    assert {ends[t]["message"] for t in beyond} == {f"breaks delay <= {limit}"}
    fit = [t for t in ranked if t not in beyond]
    assert {t for t, r in ends.items() if r["state"] == "COMPLETE"} == set(fit[:2])
    assert work.status().ended == 2
    told = {t.arch.text: t for t in spy.told.values()}
    assert all(told[t].violations[str(bounds[0])] > 0 for t in beyond)
    again = search(past=trials_of(rows, bounds), bounds=bounds)
    assert (again.status().ended, again.status().screened_out) == (2, work.status().screened_out)


def test_a_bound_on_what_training_measures_is_judged_by_training() -> None:
    bounds = (Bound("val_accuracy", min=60.0),)  # the first epoch is far below
    work = run(search(hints=Early(), bounds=bounds, trials=4))
    assert work.status().ended == 4
    early = [t for t in work.trials.values() if t.step == 0]
    assert {t.state for t in early} == {TrialState.STOPPED}
    assert all(t.values()["val_accuracy"] < 60 for t in early)


@dataclass
class Early(Quick):
    """Scores by a first epoch, and has a hint."""

    name: ClassVar[str] = "early"
    max_step: int = 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*super().metrics, Metric("hint", "", "max"))

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        for m in super().evaluate(arch, job):
            yield replace(m, values={**m.values, "hint": hint(arch)})


@pytest.mark.parametrize("fault", ["crash", "silent"])
def test_a_score_that_fails_fails_its_trial_and_no_more(fault: str) -> None:
    listed, rows = texts(16), Table()
    spy = Spy(Script(listed))
    work = run(search(spy, rows=rows, hints=Hints({listed[0]: fault, listed[9]: fault})))
    failed = [r for r in rows if r["state"] == "FAILED"]
    assert [r["arch"] for r in failed] == [listed[0], listed[9]]
    said = "RuntimeError: a score crash" if fault == "crash" else "no measurement"
    assert {r["message"] for r in failed} == {f"screening: {said}"}
    assert dict(work.status().counts) == {"COMPLETE": 4}
    assert len(spy.told) == 16
    again = search(past=trials_of(rows))
    assert (again.status().ended, again.status().screened_out) == (4, 12)


@pytest.mark.parametrize("fault", ["nan", "missing"])
def test_a_score_that_is_missing_ranks_lowest_and_the_row_says_why(fault: str) -> None:
    listed, rows = texts(8), Table()
    best = max(listed, key=lambda t: hint(ToySpace(depth=12).architecture(t)))
    run(search(Script(listed), rows=rows, hints=Hints({best: fault}), keep=0.8))
    (row,) = [r for r in rows if r["arch"] == best]
    assert row["state"] == "STOPPED"
    assert "hint" not in row
    if fault == "missing":
        assert row["message"].endswith("the best 80 %; no path through the cell")


def test_scores_that_all_fail_end_the_arm_and_say_so() -> None:
    work = search(trials=5, hints=Hints({"*": "crash"}), first_trials=None)
    work.proposer.patience.screened = 24
    run(work)
    assert len(work.trials) == 24
    assert work.status().ended == 0
    assert work.note == (
        "24 candidates in a row did not pass the screening; the last one: "
        "screening: RuntimeError: a score crash"
    )


def test_a_training_that_fails_counts_though_it_was_scored() -> None:
    rows = Table()
    work = search(rows=rows, trials=2, keep=0.5)
    for _ in range(2):
        job = work.next()
        assert job is not None
        work.fail(job, "out of memory", infeasible=job.trial % 2 == 0)
    assert work.done
    assert work.status().ended == 2
    again = search(past=trials_of(rows), trials=2)
    assert (again.status().ended, again.done) == (2, True)


def test_an_exhausted_space_ends_with_its_last_batch() -> None:
    work = run(search(Exhaustive(), space=ToySpace(depth=1), batch=8, keep=0.5))
    assert work.status().counts["COMPLETE"] == 4 + 4 + 1
    assert work.status().screened_out == 9
    assert work.note
    few = run(search(Listed((*texts(3),)), trials=9))
    assert few.status().counts["COMPLETE"] == 1


def test_worker_time_counts_scores_and_starts_nothing_when_it_is_spent() -> None:
    rows, spy = Table(), Spy()
    work = run(search(spy, rows=rows, keep=0.5, limits=SearchLimits(seconds=3.0)))
    assert work.meter.spent == 6.0  # two for eight scores, and four steps of the first trial
    assert dict(work.status().counts) == {"COMPLETE": 1}
    late = [r for r in rows if r["message"] == "screened: the time is used up"]
    assert len(late) == 3
    assert sorted(spy.asked) == sorted(spy.told)
    again = search(past=trials_of(rows), limits=SearchLimits(seconds=3.0))
    assert (again.done, again.status().screened_out, again.status().ended) == (True, 7, 1)


def test_after_the_deadline_nothing_is_started() -> None:
    spy = Spy()
    work = search(spy, keep=0.5)
    assert work.next() is not None
    work.meter.limits = SearchLimits(deadline=time.monotonic())
    assert work.next() is None
    assert len(work.live) == 1
    assert len(spy.told) == 7
    work.fail(work.jobs[work.live[0]], "gone")
    assert work.done


def test_a_scheduler_sees_training_only() -> None:
    rows, asha = Table(), ASHA(min_step=1, factor=2)
    run(search(rows=rows, scheduler=asha, keep=0.5, trials=12))
    assert next(r.reached for r in asha.rungs()) == 12
    assert {"STOPPED", "COMPLETE"} <= {r["state"] for r in rows if r["step"]}


# -- every sampler -----------------------------------------------------------------------------


class Ordered(ToySpace):
    """CMA-ES takes ordered choices only."""

    name: ClassVar[str] = "ordered"

    @property
    def choices(self) -> Any:
        return tuple(replace(choice, ordered=True) for choice in super().choices)


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "random": Random,
    "evolution": lambda: RegularizedEvolution(population=6, sample=3),
    "elitist": lambda: ElitistEvolution(population=4),
    "tpe": lambda: TPE(n_startup=6),
    "nsga2": lambda: NSGA2(population=4),
    "gp": lambda: GP(n_startup=3),
    "cmaes": lambda: CMAES(population=4),
    "optuna-random": OptunaRandom,
    "exhaustive": Exhaustive,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_screened(name: str) -> None:
    spy, trials = Spy(SAMPLERS[name]()), 6 if name == "gp" else 20
    work = run(search(spy, trials=trials, keep=0.5, batch=6, space=Ordered(depth=12)))
    assert work.status().counts == {"COMPLETE": trials}
    assert sorted(spy.asked) == sorted(spy.told)
    assert len({t.arch.id for t in work.trials.values()}) == len(work.trials) >= 2 * trials


# -- interruptions -----------------------------------------------------------------------------


def trials_of(rows: Iterable[dict[str, Any]], bounds: tuple[Bound, ...] = ()) -> list[Trial]:
    """As the store gives them back."""
    space, found = ToySpace(depth=12), dict[int, Trial]()
    for row in rows:
        arch = space.architecture(row["arch"])
        trial = found.setdefault(row["trial"], Trial(row["trial"], arch, arch, seed=row["seed"]))
        trial.state, trial.message = TrialState(row["state"]), row["message"] or ""
        trial.attempt = row["attempt"]
        trial.costs = {name: row[name] for name in ("params", "macs")}
        if row["step"] is not None:
            names = ("hint", "delay", "val_accuracy")
            values = {name: row[name] for name in names if name in row}
            trial.measurements.append(Measurement(row["step"], values, row["seconds"]))
    for trial in found.values():
        trial.violations = violations(bounds, trial.values())
    return [found[number] for number in sorted(found)]


def content(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("trial", "step", "arch", "seed", "state", "message", "hint", "val_accuracy")
    found = [tuple(row.get(key) for key in keys) for row in rows]
    return sorted(found, key=lambda r: (r[0], 99 if r[1] is None else r[1]))


def cut_at(whole: Table, appends: int) -> Table:
    """What was stored before the process was killed: whole appends."""
    return Table(whole[: sum(whole.sizes[:appends])])


def gaps(past: Sequence[Trial]) -> list[int]:
    taken = {t.number for t in past}
    return sorted(set(range(max(taken, default=0))) - taken)


@pytest.mark.parametrize("name", ["random", "evolution", "elitist", "tpe", "nsga2"])
@pytest.mark.parametrize("within", ["batch", "run"])
def test_a_search_killed_anywhere_ends_in_the_same_table(name: str, within: str) -> None:
    def setting() -> dict[str, Any]:
        return {
            "sampler": SAMPLERS[name](), "scheduler": ASHA(1, 2), "keep": 0.5, "trials": 9,
            "within": within, "batch": 6, "evaluator": Curves(max_step=3),
        }  # fmt: skip

    whole = Table()
    run(search(rows=whole, **setting()))
    assert len(whole.sizes) > 20
    for appends in range(0, len(whole.sizes), 3):
        half, hints = cut_at(whole, appends), Hints()
        past = trials_of(half)
        scored = {t.arch.text for t in past}
        run(search(rows=half, past=past, hints=hints, **setting()))
        assert content(half) == content(whole), appends
        assert not scored & set(hints.log)  # nothing is scored twice


@pytest.mark.parametrize("within", ["batch", "run"])
def test_bounds_and_lost_batches_change_nothing(within: str) -> None:
    bounds = (Bound("params", max=400), Bound("delay", max=25))
    setting: dict[str, Any] = {"bounds": bounds, "trials": 9, "keep": 0.5, "within": within}
    whole = Table()
    run(search(rows=whole, **setting))
    for appends in range(len(whole.sizes)):
        half = cut_at(whole, appends)
        past = trials_of(half, bounds)
        run(search(rows=half, past=past, **setting))
        assert content(half) == content(whole), appends


def test_what_was_kept_and_not_started_is_started_after_a_resume_as_a_first_attempt() -> None:
    whole, half = Table(), Table()
    run(search(rows=whole, keep=0.5, trials=4))
    work = search(rows=half, keep=0.5, trials=4)
    first = work.next()
    assert first is not None
    work.report(first, Measurement(1, {"val_accuracy": 50.0}))
    past = trials_of(half)
    assert [t.state for t in past].count(TrialState.RUNNING) == 4
    rest = search(rows=half, keep=0.5, trials=4, past=past)
    jobs = [rest.next() for _ in range(4)]
    assert [(j.trial, j.attempt) for j in jobs if j] == [
        (n, int(n == first.trial)) for n in sorted(j.trial for j in jobs if j)
    ]
    assert rest.next() is None


def test_an_interrupt_while_scoring_starts_nothing_and_loses_no_score() -> None:
    rows, hints = Table(), Hints()
    work = search(rows=rows, hints=hints, keep=0.5, trials=4)
    screening = work.proposer.screening  # type: ignore[attr-defined]
    scorer = screening._scorer

    def interrupted(jobs: Any) -> Any:
        work.interrupt()
        return scorer(jobs)

    screening._scorer = interrupted
    assert work.next() is None
    assert work.done
    assert len(rows.scored()) == 8
    whole = Table()
    run(search(rows=whole, keep=0.5, trials=4))
    run(search(rows=rows, keep=0.5, trials=4, past=trials_of(rows)))
    assert content(rows) == content(whole)


def test_a_search_that_is_extended_goes_on_where_it_was() -> None:
    rows = Table()
    run(search(rows=rows, keep=0.5, trials=4))
    before = content(rows)
    work = run(search(rows=rows, keep=0.5, trials=7, past=trials_of(rows)))
    assert dict(work.status().counts) == {"COMPLETE": 7}
    assert [row for row in content(rows) if row[0] < 8] == before
