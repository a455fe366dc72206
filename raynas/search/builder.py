"""This module puts searches together; it is the only one that knows all their parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from raynas.core import Architecture, Bound, Objective, SearchProblem, Trial, TrialState, seed_for
from raynas.core.prices import in_multiply_adds
from raynas.samplers.base import Sampler
from raynas.schedulers.base import Scheduler
from raynas.schedulers.none import NoStopping
from raynas.search.checkpoints import CheckpointFolders, CheckpointPolicy
from raynas.search.context import (
    BudgetMeter,
    EvaluationContext,
    RowSink,
    SearchInterruption,
    SearchLimits,
)
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.search.failures import FIRST_TRIALS, FirstFailures
from raynas.search.incumbents import Incumbents
from raynas.search.job_factory import JobFactory
from raynas.search.ledger import TrialLedger
from raynas.search.outcomes import TrialOutcomes
from raynas.search.pausing import PausedTrials
from raynas.search.progress import SearchProgress
from raynas.search.proposers import ListProposer, Proposer, SingleProposer
from raynas.search.retention import CheckpointRetention, Checkpoints
from raynas.search.rows import NewRows, RowWriter
from raynas.search.sampler_proposer import SamplerProposer
from raynas.search.screening import ProposalScreening
from raynas.search.stored_events import unbroken
from raynas.search.trial_numbers import NumberPlan, TrialNumbers


@dataclass(frozen=True)
class SearchSetup:
    """The settings that all searches of a run have in common.

    Attributes:
        payload: Space, evaluator and data, which workers need.
        rows: Writer of the store.
        stage: Stage of the run, as the store names it.
        arm: Name of the method: the sampler, or the supernet's trainer.
        objectives: The objectives.
        seed: Seed of the experiment.
        past: The stored trials of this stage and method.
        numbers: Numbers that new trials may get; None: any above those of ``past``.
        threads: CPU threads of an evaluation.
        keep: Number of best trials that are kept.
        weights: Version of the inherited weights, stored with every row.
        folders: Folders of checkpoints; quick evaluations keep none.
        retention: Chooses the checkpoints that stay; None keeps only those that are needed.
        clock: Returns seconds; the runner's own clock where its time is simulated.
        first_trials: The search ends when this many first trials all fail; None: it never does.
        failed_before: Numbers of trials that failed in earlier sessions; these do not count.
    """

    payload: EvaluationContext
    rows: RowSink
    stage: str
    arm: str
    objectives: tuple[Objective, ...]
    seed: int
    past: Sequence[Trial] = ()
    numbers: NumberPlan | None = None
    threads: int = 1
    keep: int = 3
    weights: str | None = None
    folders: CheckpointFolders = field(default_factory=CheckpointFolders)
    retention: CheckpointRetention | None = None
    clock: Callable[[], float] = time.monotonic
    first_trials: int | None = FIRST_TRIALS
    failed_before: Collection[int] = ()


class _Parts:
    """The parts that every controller has."""

    def __init__(
        self,
        setup: SearchSetup,
        scheduler: Scheduler,
        limits: SearchLimits,
        bounds: tuple[Bound, ...],
        *,
        keeps_all: bool,
        blind: bool,
        first_trials: int | None = None,
    ) -> None:
        self._setup, self._scheduler, self._bounds, self._blind = setup, scheduler, bounds, blind
        self.past = sorted(setup.past, key=lambda t: t.number)
        self.ledger = TrialLedger(self.past)
        plan = setup.numbers or NumberPlan.of(self.past, self.ledger.trials)
        self.numbers = TrialNumbers(plan)
        self.incumbents = Incumbents(setup.objectives, setup.keep, self.past)
        self.meter = BudgetMeter(limits, setup.clock)
        self.meter.watch(self.ledger.open)
        for trial in self.past:
            for measurement in trial.measurements:
                self.meter.pay(trial, measurement)
        self.interruption = SearchInterruption()
        self.first_failures = FirstFailures(
            first_trials,
            self.interruption,
            self.ledger.open,
            past=self.past,
            stored=setup.failed_before,
        )
        self.rows = RowWriter(
            setup.rows,
            stage=setup.stage,
            arm=setup.arm,
            weights=setup.weights,
        )
        quick = setup.payload.evaluator.quick
        self.checkpoints = CheckpointPolicy(
            CheckpointFolders() if quick else setup.folders,
            setup.retention or CheckpointRetention(Checkpoints(quota=0)),
            ledger=self.ledger,
            incumbents=self.incumbents,
            scheduler=scheduler,
            keeps_all=keeps_all,
        )

    def finish(self, proposer: Proposer) -> SearchController:
        """Return the controller."""
        setup, evaluator = self._setup, self._setup.payload.evaluator
        outcomes = TrialOutcomes(
            ledger=self.ledger,
            scheduler=self._scheduler,
            rows=self.rows,
            meter=self.meter,
            objectives=setup.objectives,
            bounds=self._bounds,
            max_step=evaluator.max_step,
            blind=self._blind,
        )
        progress = SearchProgress(
            setup.stage,
            setup.arm,
            setup.objectives[0],
            evaluator.max_step,
            ledger=self.ledger,
            proposer=proposer,
            scheduler=self._scheduler,
            incumbents=None if self._blind else self.incumbents,
            meter=self.meter,
        )
        return SearchController(
            setup.payload,
            setup.objectives,
            proposer=proposer,
            scheduler=self._scheduler,
            ledger=self.ledger,
            factory=JobFactory(
                setup.payload, self.checkpoints.folders, self._scheduler, setup.threads
            ),
            outcomes=outcomes,
            paused=PausedTrials(self.ledger, self._scheduler, self.meter, outcomes),
            incumbents=self.incumbents,
            checkpoints=self.checkpoints,
            rows=self.rows,
            meter=self.meter,
            progress=progress,
            interruption=self.interruption,
            first_failures=self.first_failures,
        )


def build_search(
    setup: SearchSetup,
    *,
    sampler: Sampler,
    fallback: Sampler,
    scheduler: Scheduler,
    limits: SearchLimits,
    run: str,
    bounds: tuple[Bound, ...] = (),
    screening: ProposalScreening | None = None,
) -> SearchController:
    """Build a search: a sampler proposes, bounds reject, a scheduler stops.

    Args:
        setup: Settings that it shares with other searches of the run.
        sampler: Proposes architectures.
        fallback: Proposes where the sampler repeats itself or stays beyond the bounds.
        scheduler: Decides which trials go on.
        limits: Limits after which nothing new is admitted.
        run: The run's id; samplers that keep data elsewhere use it as the name.
        bounds: Bounds that trials must keep.
        screening: Scores proposals before they are evaluated; None for no screening.

    Returns:
        The controller of the search.
    """
    parts = _Parts(
        setup,
        scheduler,
        limits,
        bounds,
        keeps_all=True,
        blind=False,
        first_trials=setup.first_trials,
    )
    max_step = setup.payload.evaluator.max_step
    problem = SearchProblem(setup.objectives, max_step, setup.seed, run, bounds)
    scheduler.setup(problem)
    proposer = SamplerProposer(
        sampler,
        fallback,
        problem,
        scheduler=scheduler,
        screening=screening,
        payload=setup.payload,
        ledger=parts.ledger,
        numbers=parts.numbers,
        rows=parts.rows,
        meter=parts.meter,
        interruption=parts.interruption,
        first_failures=parts.first_failures,
        threads=setup.threads,
        past=parts.past,
    )
    scheduler.replay(parts.past)
    parts.ledger.wait_again(scheduler.paused())
    return parts.finish(proposer)


def build_ordered_search(
    setup: SearchSetup,
    *,
    lanes: int,
    sampler: Sampler,
    fallback: Sampler,
    scheduler: Scheduler,
    limits: SearchLimits,
    run: str,
    bounds: tuple[Bound, ...] = (),
    screening: ProposalScreening | None = None,
) -> DeterministicOrder:
    """Build a search whose table is that of ``lanes`` equally fast workers.

    It goes through the stored trials (``setup.past``) once more, with the same numbers. Its price
    is in multiply-adds, since seconds are never the same twice.

    Args:
        setup: Settings that it shares with other searches of the run.
        lanes: Number of logical workers.
        sampler: Proposes architectures.
        fallback: Proposes where the sampler repeats itself or stays beyond the bounds.
        scheduler: Decides which trials go on.
        limits: Limits after which nothing new is admitted.
        run: The run's id.
        bounds: Bounds that trials must keep.
        screening: Scores proposals before they are evaluated; None for no screening.

    Returns:
        The search in its deterministic order.
    """
    past = unbroken(setup.past)
    plan = (setup.numbers or NumberPlan.of(past.values(), past)).from_the_start(past.values())
    rows = NewRows(setup.rows, past.values())
    evaluator, view = setup.payload.evaluator, setup.payload.view
    scorer = screening.screen.evaluator if screening else evaluator
    share = scorer.passes(view) / max(evaluator.passes(view), 1.0)
    failed = [t.number for t in past.values() if t.state is TrialState.FAILED]
    anew = replace(setup, rows=rows, past=(), numbers=plan, failed_before=failed)
    controller = build_search(
        anew,
        sampler=sampler,
        fallback=fallback,
        scheduler=scheduler,
        limits=replace(limits, price=partial(in_multiply_adds, score_share=share)),
        run=run,
        bounds=bounds,
        screening=screening,
    )
    return DeterministicOrder(controller, lanes=lanes, past=past.values())


def build_single_training(setup: SearchSetup, arch: Architecture) -> SearchController:
    """Build the search of a single evaluation that others need, of a supernet for instance.

    Args:
        setup: Settings that it shares with other searches of the run.
        arch: The label of the evaluation.

    Returns:
        The controller.
    """
    parts = _no_search(setup, blind=False)
    begun = bool(parts.ledger.waiting or parts.incumbents.best)
    seed = seed_for(setup.seed, setup.stage)
    return parts.finish(SingleProposer(arch, seed, parts.numbers, begun))


def build_retraining(
    setup: SearchSetup, architectures: Iterable[Architecture], seeds: int
) -> SearchController:
    """Build the training of chosen architectures, each over several seeds.

    These are the finalists, which are measured on the test split, and others that check the
    ranking of the search.

    Args:
        setup: Settings that it shares with other searches of the run.
        architectures: Architectures to train.
        seeds: Number of trainings of each.

    Returns:
        The controller.
    """
    parts = _no_search(setup, blind=True)
    wanted = [(a, seed_for(setup.seed, "final", k)) for a in architectures for k in range(seeds)]
    return parts.finish(ListProposer(wanted, setup.payload, parts.ledger, parts.numbers))


def _no_search(setup: SearchSetup, *, blind: bool) -> _Parts:
    scheduler = NoStopping()
    max_step = setup.payload.evaluator.max_step
    scheduler.setup(SearchProblem(setup.objectives, max_step, setup.seed, ""))
    return _Parts(setup, scheduler, SearchLimits(), (), keeps_all=False, blind=blind)
