"""One run of an experiment: weights to inherit, search, comparison, truth, finalists."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core import (
    Architecture,
    Costs,
    Metric,
    Objective,
    Trial,
    TrialState,
    UserError,
    rng_for,
)
from raynas.core.describe import fresh
from raynas.core.prices import ExpectedPrice, in_steps, records_time, total
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.runners.base import Runner
from raynas.runners.finals import Finals, Training
from raynas.runners.order import OrderedSearch
from raynas.runners.retention import Retention
from raynas.runners.screening import Screening
from raynas.runners.search import Limits, Search
from raynas.runners.work import Payload, Rows, Work
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.store import RunFolder
from raynas.store.remote import Remote
from raynas.store.schema import FINAL, SEARCH, SUPERNET, TRUTH, TUNED
from raynas.stored import expect_weights, final_evaluator, history, keep_weights, weights_used

if TYPE_CHECKING:
    from rich.console import Console


class Interrupted(Exception):
    """Ctrl-C: what is done is stored, the run can be resumed."""


@dataclass
class Session:
    """One start of a run: the folder, its single writer, the experiment and a runner."""

    folder: RunFolder
    experiment: Experiment
    payload: Payload
    writer: Rows
    runner: Runner
    console: Console
    session: int = 1

    def __post_init__(self) -> None:
        self._retention = Retention(self.experiment.checkpoints)

    def go(self) -> None:
        """Carry out all that is not in the store yet. Raises: Interrupted, UserError."""
        self._equip()
        experiment, payload = self.experiment, self.payload
        deadline = None
        if experiment.budget.hours is not None:
            deadline = self.runner.clock() + 3600 * experiment.budget.hours
        main = self._search(
            payload, experiment.sampler, Limits(trials=experiment.budget.trials, deadline=deadline)
        )
        limits = equal_cost(main)
        others = [self._search(payload, other, limits) for other in experiment.against]
        self._truth([t for search in (main, *others) for t in search.trials.values()])
        best = main.best[: experiment.finalists.top]
        if best:
            self._finals(best)
        elif not main.best:
            self.console.print(
                "[yellow]no architecture was evaluated to the end: no finalists, no best network"
            )

    def _equip(self) -> None:
        """Train what the evaluators need, unless the run has it; from here on they work with it.

        Raises: Interrupted; UserError when the training fails, or its weights are lost or others.
        """
        needed = self.experiment.needs()
        if needed is not None:
            trained, _ = history(self.folder, self.experiment, SUPERNET, needed.name)
            ended = [t for t in trained if t.state is TrialState.COMPLETE]
            keep_weights(self.folder, ended[-1] if ended else self._train(needed))
            self.experiment = self.experiment.with_prepared(self.folder.supernet)
            self.payload = dataclasses.replace(self.payload, evaluator=self.experiment.evaluator)
            largest = self.payload.space.extremes()[1]
            for evaluator in self.experiment.evaluators:
                if evaluator.weights_version():  # weights that are damaged fail here, not per trial
                    _look(evaluator, self.payload, largest)
        expect_weights(self.folder, self.experiment)

    def _train(self, needed: Evaluator) -> Trial:
        """One evaluation of the largest architecture, by which the whole supernet goes."""
        largest = self.payload.space.extremes()[1]
        first = needed.metrics[0]
        work = Training(
            dataclasses.replace(self.payload, evaluator=fresh(needed)),
            self.writer,
            arch=largest,
            objectives=(Objective(first.name, first.direction),),
            keep=1,
            **self._common(SUPERNET, needed.name, needed),
        )
        self._carry_out(work)
        if not work.best:
            failed = max(work.trials.values(), key=lambda t: t.number)
            raise UserError(
                f"{needed.name} failed, so there is nothing to inherit: {failed.message}",
                cure=f"remove the cause, then try again with: raynas resume {self.folder.place}",
            )
        return work.best[0]

    def _search(self, payload: Payload, sampler: Sampler, limits: Limits) -> Search:
        experiment = self.experiment
        scorer = experiment.screen.evaluator if experiment.screen else None
        common = self._common(SEARCH, sampler.name, experiment.evaluator, scorer)
        make: Callable[..., Search] = Search
        if experiment.in_order:
            make = partial(OrderedSearch, lanes=experiment.in_order)
            common |= {"first_number": self._first(common["past"]), "gaps": ()}
        search = make(
            payload,
            self.writer,
            sampler=sampler,
            fallback=Random(),
            scheduler=fresh(experiment.scheduler),
            limits=limits,
            run=f"{self.folder.info.run}/{sampler.name}",
            bounds=experiment.bounds,
            screening=self._screening(sampler, common["past"]),
            objectives=experiment.objectives,
            keep=max(experiment.finalists.top, 1),
            **common,
        )
        self._carry_out(search)
        if search.note:
            self.console.print(f"{sampler.name} ended: {search.note}", soft_wrap=True)
        if isinstance(search, OrderedSearch):
            self.console.print(str(search.toll), soft_wrap=True)
        return search

    def _first(self, past: list[Trial]) -> int:
        """The number with which an arm that has these trials began."""
        _, taken = history(self.folder, self.experiment, SEARCH, "")
        own = {trial.number for trial in past}
        before = [n for n in taken - own if not own or n < min(own)]
        return max(before, default=-1) + 1

    def _screening(self, sampler: Sampler, past: list[Trial]) -> Screening | None:
        """The experiment's screen, for its own sampler: those it is compared with go without,
        unless it holds nothing back and only measures what bounds are on."""
        experiment, screen = self.experiment, self.experiment.screen
        if screen is None or (sampler is not experiment.sampler and screen.keep < 1):
            return None
        payload = dataclasses.replace(self.payload, evaluator=fresh(screen.evaluator))
        early = set(screen.names) - {metric.name for metric in experiment.evaluator.metrics}
        bounds = tuple(bound for bound in experiment.bounds if bound.metric in early)
        return Screening(screen, partial(self.runner.evaluate, payload), past, bounds)

    def _truth(self, searched: list[Trial]) -> None:
        """Train some of what was searched, to see what the search's own values are worth."""
        experiment, truth = self.experiment, self.experiment.truth
        if truth is None:
            return
        evaluator = fresh(truth.evaluator)
        common = self._common(TRUTH, experiment.sampler.name, evaluator)
        known = {t.arch.id: t.arch for t in common["past"]}
        wanted = list(known.values())
        if len(known) < truth.count:
            wanted = spread(_ranking(searched, experiment.objectives[0]), truth.count)
        work = Finals(
            dataclasses.replace(self.payload, evaluator=evaluator),
            self.writer,
            finalists=wanted,
            seeds=truth.seeds,
            objectives=_trained_objectives(experiment.objectives, evaluator.metrics),
            keep=0,
            **common,
        )
        self._carry_out(work)

    def _finals(self, best: tuple[Trial, ...]) -> None:
        """Train the finalists anew, from scratch and from what they inherit; the former's
        networks are kept."""
        experiment, finalists = self.experiment, self.experiment.finalists
        view = experiment.data.final_view(experiment.seed)
        trainings = [(FINAL, final_evaluator(experiment), finalists.top * finalists.seeds)]
        if finalists.inherited is not None:
            trainings.append((TUNED, fresh(finalists.inherited), 0))
        for stage, evaluator, keep in trainings:
            finals = Finals(
                Payload(experiment.space, evaluator, view),
                self.writer,
                finalists=[t.arch for t in best],
                seeds=finalists.seeds,
                objectives=_final_objectives(experiment.objectives, evaluator),
                keep=keep,
                **self._common(stage, experiment.sampler.name, evaluator),
            )
            self._carry_out(finals)

    def _common(self, stage: str, arm: str, *evaluators: Evaluator | None) -> dict[str, Any]:
        past, taken = history(self.folder, self.experiment, stage, arm)
        own = [trial.number for trial in past]
        return {
            "stage": stage,
            "arm": arm,
            "seed": self.experiment.seed,
            "first_number": max(taken, default=-1) + 1,
            "gaps": sorted(set(range(min(own), max(own))) - taken) if own else (),
            "threads": self.experiment.resources.threads,
            "folder": self.folder.checkpoints,
            "mirror": self._mirror(stage),
            "retention": self._retention,
            "past": past,
            "weights": weights_used(*evaluators),
            "clock": self.runner.clock,
        }

    def _mirror(self, stage: str) -> Remote | None:
        """Where workers keep their checkpoints. A search in order begins its trials anew in each
        session, so what a worker of an earlier one keeps meanwhile must not be found."""
        if self.folder.remote is None:
            return None
        place = self.folder.remote.below(self.folder.checkpoints.name)
        anew = self.experiment.in_order and stage == SEARCH
        return place.below(f"session-{self.session:04d}") if anew else place

    def _carry_out(self, work: Work) -> None:
        work.join()
        if work.done:
            return
        from raynas.runners.live import LiveView

        self.runner.open()  # first, since Ray sets signal handlers of its own
        with interrupts(work, self.console), LiveView(work, self.console):
            self.runner.run(work)
        if work.interrupted:
            raise Interrupted


def equal_cost(main: Search) -> Limits:
    """Limits by which an arm costs what ``main`` did: in its own price, or in steps where that is
    worker time and no training recorded any."""
    trials = [t for t in main.trials.values() if t.step > 0]
    paid, price = main.paid, main.limits.price
    each = [main.paid_by[t.number] for t in trials]
    if not isinstance(main, OrderedSearch) and not records_time(trials):
        price = in_steps
        each = [total([t], price) for t in trials]
        paid = sum(each)
    return Limits(seconds=paid, expected=ExpectedPrice(each), price=price)


def _on_test(objective: Objective) -> Objective:
    """The objective's metric as the finalists' training measures it."""
    return dataclasses.replace(objective, metric=objective.metric.replace("val_", "test_", 1))


def _final_objectives(sought: tuple[Objective, ...], evaluator: Evaluator) -> tuple[Objective, ...]:
    """What a finalist's training must measure: the objectives, or where the search went by scores
    of untrained networks, which no training gives, the first of the training's own metrics.
    """
    on_test = [_on_test(objective) for objective in sought]
    known = {metric.name for metric in evaluator.final_metrics}
    measured = [o for o in on_test if o.metric in known or o not in sought]
    first = evaluator.final_metrics[0]
    return tuple(measured) or (_on_test(Objective(first.name, first.direction)),)


def _trained_objectives(
    sought: tuple[Objective, ...], metrics: tuple[Metric, ...]
) -> tuple[Objective, ...]:
    """The objectives that a training measures, or where there is none its own first metric."""
    known = {metric.name for metric in metrics}
    measured = tuple(o for o in sought if o.metric in known)
    return measured or (Objective(metrics[0].name, metrics[0].direction),)


def _ranking(searched: list[Trial], objective: Objective) -> list[Architecture]:
    """What was evaluated to the end, each architecture once, best first."""
    complete = [t for t in searched if t.state is TrialState.COMPLETE]
    complete.sort(key=lambda t: (-objective.sign * t.values()[objective.metric], t.number))
    return list({t.arch.id: t.arch for t in complete}.values())


def spread(ranked: Sequence[Architecture], count: int) -> list[Architecture]:
    """``count`` of them at equal distances, the first and the last among them."""
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


@contextlib.contextmanager
def interrupts(work: Work, console: Console) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the work in order, the second at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if work.interrupted:
            raise KeyboardInterrupt
        work.interrupt()
        console.print("stopping: results are stored; press Ctrl-C again to stop at once")

    try:
        old = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever is there handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def prepare(experiment: Experiment) -> Payload:
    """Read the data and see that space, data and evaluator fit: before anything is made or spent.

    Raises: UserError.
    """
    payload = Payload(
        experiment.space, experiment.evaluator, experiment.data.search_view(experiment.seed)
    )
    arch = payload.space.sample(rng_for(experiment.seed, "check"))
    _look(payload.evaluator, payload, arch)
    if experiment.screen is not None:
        _look(experiment.screen.evaluator, payload, arch)
    if experiment.truth is not None:
        _look(experiment.truth.evaluator, payload, arch)
    if (needed := experiment.needs()) is not None:
        _look(needed, payload, payload.space.extremes()[1])
    elif (inherited := experiment.finalists.inherited) and not inherited.weights_version():
        raise UserError(
            f"finalists.inherited={inherited.name}: there are no weights to inherit",
            cure="give it weights=PATH, or search by an evaluator that trains a supernet",
        )
    _check_costs(experiment, payload, arch)
    return payload


def _look(evaluator: Evaluator, payload: Payload, arch: Architecture) -> None:
    """Raises: UserError when the evaluator does not fit space and data."""
    new = fresh(evaluator)
    new.setup(payload.space, payload.view)
    new.check(arch)


def _check_costs(experiment: Experiment, payload: Payload, arch: Architecture) -> None:
    """Raises: UserError for an objective or bound on a cost that the space does not count."""
    asked = {o.metric for o in experiment.objectives} | {b.metric for b in experiment.bounds}
    if not asked & {cost.name for cost in dataclasses.fields(Costs)}:
        return
    costs = vars(payload.space.costs(arch, payload.view.input_shape, payload.view.num_classes))
    for name in asked & costs.keys():
        if costs[name] is None:
            raise UserError(
                f"{name!r} in objectives or bounds: space {payload.space.name!r} does not count it",
                allowed=", ".join(known for known, cost in costs.items() if cost is not None),
            )
