"""This module carries out the stages of a run.

They are: weights to inherit, search, comparison, ranking check, finalists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from raynas.core import AllTrialsFailed, Objective, Trial, TrialState, UserError
from raynas.core.describe import fresh
from raynas.core.failures import none_worked
from raynas.core.prices import ExpectedPrice, in_seconds, in_steps, records_time, total
from raynas.data.abilities import data_remarks
from raynas.evaluators.abilities import remarks_of, weights_version_of
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.checks import check_evaluator, remarks_on_batches, unused_settings
from raynas.pipeline.finalists import (
    final_objectives,
    finalists_refused,
    ranking,
    spread,
    trained_objectives,
)
from raynas.pipeline.history import (
    expect_weights,
    final_evaluator,
    history,
    keep_weights,
    weights_used,
)
from raynas.pipeline.interruption import RunInterrupted, interrupts
from raynas.pipeline.printing import show_remarks
from raynas.pipeline.searches import build_experiment_search, screening_of
from raynas.runners.base import Runner
from raynas.samplers.base import Sampler
from raynas.search.builder import (
    SearchSetup,
    build_retraining,
    build_single_training,
)
from raynas.search.checkpoints import CheckpointFolders
from raynas.search.context import EvaluationContext, RowSink, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.deterministic import DeterministicOrder
from raynas.search.job_source import JobSource
from raynas.search.retention import CheckpointRetention
from raynas.search.screening import ProposalScreening
from raynas.search.trial_numbers import NumberPlan
from raynas.store import RunFolder
from raynas.store.remote import RemoteFolder
from raynas.store.schema import FINAL, SEARCH, SUPERNET, TRUTH, TUNED

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class RunPipeline:
    """One start of a run, from the first to the last stage that is not stored yet.

    Attributes:
        folder: The folder of the run.
        experiment: The experiment; its evaluators get trained weights once these are there.
        payload: The space, the evaluator and the data view of the search.
        writer: The single writer of the run's store.
        runner: Carries out the trials.
        console: Where remarks are printed.
        session: The number of this start, from 1.
    """

    folder: RunFolder
    experiment: Experiment
    payload: EvaluationContext
    writer: RowSink
    runner: Runner
    console: Console
    session: int = 1

    def __post_init__(self) -> None:
        self._retention = CheckpointRetention(self.experiment.checkpoints)

    def run(self) -> None:
        """Carry out all that is not in the store yet.

        Raises:
            Interrupted: If the user or a signal ended it.
            AllTrialsFailed: If no trial of the search worked.
            UserError: If weights or files are missing, or the experiment cannot be carried out.
        """
        self._equip()
        experiment, payload = self.experiment, self.payload
        refused = finalists_refused(experiment)
        if refused:
            self._tell([refused])
        deadline = None
        if experiment.budget.hours is not None:
            deadline = self.runner.clock() + 3600 * experiment.budget.hours
        main = self._search(
            payload,
            experiment.sampler,
            SearchLimits(trials=experiment.budget.trials, deadline=deadline),
        )
        limits = equal_cost(main)
        others = [self._search(payload, other, limits) for other in experiment.baselines]
        self._truth([t for search in (main, *others) for t in search.trials.values()])
        best = main.best[: experiment.finalists.top]
        if best and not refused:
            self._finals(best)
        elif not main.best:
            if reason := none_worked(main.trials.values()):
                hint = f"mend that, then go on with: raynas resume {self.folder.place}"
                raise AllTrialsFailed(f"{reason}; {hint}")
            line = "no architecture was evaluated to the end: no finalists, no best network"
            self._tell([line])

    def _equip(self) -> None:
        """Train the weights that the evaluators need, unless the run has them, and use them.

        Raises:
            Interrupted: If the user or a signal ended it.
            UserError: If the training fails, or its weights are lost or have changed.
        """
        self._tell(data_remarks(self.experiment.data))
        self._tell(remarks_on_batches(self.experiment, len(self.payload.view.train)))
        needed = self.experiment.needs()
        if needed is not None:
            trained, _ = history(self.folder, self.experiment, SUPERNET, needed.name)
            ended = [t for t in trained if t.state is TrialState.COMPLETE]
            keep_weights(self.folder, ended[-1] if ended else self._train(needed))
            self.experiment = self.experiment.with_prepared(self.folder.supernet)
            self.payload = dataclasses.replace(self.payload, evaluator=self.experiment.evaluator)
            largest = self.payload.space.extremes()[1]
            for evaluator in self.experiment.evaluators:
                if weights_version_of(evaluator):  # damaged weights fail here, not in trials
                    check_evaluator(evaluator, self.payload, largest)
        expect_weights(self.folder, self.experiment)
        of_parts = [r for e in self.experiment.evaluators for r in remarks_of(e)]
        self._tell((*unused_settings(self.experiment), *self.runner.remarks(), *of_parts))

    def _tell(self, remarks: Iterable[str]) -> None:
        show_remarks(remarks, self.console)

    def _train(self, needed: Evaluator) -> Trial:
        """Carry out the training of a supernet: one evaluation of the largest architecture."""
        largest = self.payload.space.extremes()[1]
        first = needed.metrics[0]
        setup = self._setup(
            SUPERNET,
            needed.name,
            dataclasses.replace(self.payload, evaluator=fresh(needed)),
            (Objective(first.name, first.direction),),
            keep=1,
            uses=(needed,),
        )
        work = build_single_training(setup, largest)
        self._carry_out(work)
        if not work.best:
            failed = max(work.trials.values(), key=lambda t: t.number)
            raise UserError(
                f"{needed.name} failed, so there are no weights to inherit: {failed.message}",
                hint=f"remove the cause, then try again with: raynas resume {self.folder.place}",
            )
        return work.best[0]

    def _search(
        self, payload: EvaluationContext, sampler: Sampler, limits: SearchLimits
    ) -> SearchController:
        experiment = self.experiment
        scorer = experiment.screen.evaluator if experiment.screen else None
        setup = self._setup(
            SEARCH,
            sampler.name,
            payload,
            experiment.objectives,
            keep=max(experiment.finalists.top, 1),
            uses=(experiment.evaluator, scorer),
        )
        work = build_experiment_search(
            experiment,
            setup,
            sampler=sampler,
            limits=limits,
            run=f"{self.folder.info.run}/{sampler.name}",
            screening=self._screening(sampler, setup.past),
            lanes=experiment.deterministic_workers,
        )
        self._carry_out(work)
        search = work.controller if isinstance(work, DeterministicOrder) else work
        if search.note:
            self.console.print(Text(f"{search.rows.arm} ended: {search.note}"), soft_wrap=True)
        if isinstance(work, DeterministicOrder):
            self.console.print(str(work.discarded), soft_wrap=True)
        return search

    def _screening(self, sampler: Sampler, past: Sequence[Trial]) -> ProposalScreening | None:
        """Return the screening of proposals for one sampler, if it has one.

        Only the experiment's own sampler is screened. If the screen keeps all and only measures
        what bounds are on, the samplers that it is compared with are screened, too.
        """
        experiment, screen = self.experiment, self.experiment.screen
        if screen is None or (sampler is not experiment.sampler and screen.keep < 1):
            return None
        return screening_of(experiment, self.payload, self.runner.evaluate, past)

    def _truth(self, searched: list[Trial]) -> None:
        """Train some of the searched architectures, to judge the search's own values."""
        experiment, truth = self.experiment, self.experiment.ranking_check
        if truth is None:
            return
        evaluator = fresh(truth.evaluator)
        setup = self._setup(
            TRUTH,
            experiment.sampler.name,
            dataclasses.replace(self.payload, evaluator=evaluator),
            trained_objectives(experiment.objectives, evaluator.metrics),
            keep=0,
            uses=(evaluator,),
        )
        known = {t.arch.id: t.arch for t in setup.past}
        wanted = list(known.values())
        if len(known) < truth.count:
            wanted = spread(ranking(searched, experiment.objectives[0]), truth.count)
        self._carry_out(build_retraining(setup, wanted, truth.seeds))

    def _finals(self, best: tuple[Trial, ...]) -> None:
        """Train the finalists anew, from scratch and from what they inherit.

        The networks trained from scratch are kept.
        """
        experiment, finalists = self.experiment, self.experiment.finalists
        view = experiment.data.final_view(experiment.seed)
        trainings = [(FINAL, final_evaluator(experiment), finalists.top * finalists.seeds)]
        if finalists.inherited is not None:
            trainings.append((TUNED, fresh(finalists.inherited), 0))
        for stage, evaluator, keep in trainings:
            setup = self._setup(
                stage,
                experiment.sampler.name,
                EvaluationContext(experiment.space, evaluator, view),
                final_objectives(experiment.objectives, evaluator),
                keep=keep,
                uses=(evaluator,),
            )
            self._carry_out(build_retraining(setup, [t.arch for t in best], finalists.seeds))

    def _setup(
        self,
        stage: str,
        arm: str,
        payload: EvaluationContext,
        objectives: tuple[Objective, ...],
        *,
        keep: int,
        uses: Sequence[Evaluator | None],
    ) -> SearchSetup:
        """Return what a search, or another set of trials, of this run begins with.

        Args:
            stage: The stage of the trials.
            arm: The name of the method, as stored.
            payload: The space, the evaluator and the data view.
            objectives: The metrics to optimise.
            keep: How many checkpoints of the best trials are kept.
            uses: Evaluators, one of which may work with inherited weights.
        """
        past, all_numbers = history(self.folder, self.experiment, stage, arm)
        return SearchSetup(
            payload=payload,
            rows=self.writer,
            stage=stage,
            arm=arm,
            objectives=objectives,
            seed=self.experiment.seed,
            past=past,
            numbers=NumberPlan.of(past, all_numbers),
            threads=self.experiment.resources.threads,
            keep=keep,
            weights=weights_used(*uses),
            folders=CheckpointFolders(self.folder.checkpoints, self._mirror(), self.session),
            retention=self._retention,
            clock=self.runner.clock,
        )

    def _mirror(self) -> RemoteFolder | None:
        """Return the storage of the workers' checkpoints; None if the run is stored here."""
        remote = self.folder.remote
        return None if remote is None else remote.below(self.folder.checkpoints.name)

    def _carry_out(self, work: JobSource) -> None:
        work.join()
        if work.done:
            return
        from raynas.pipeline.live import LiveView

        self.runner.open()  # first, since Ray sets signal handlers of its own
        with interrupts(work, self.console), LiveView(work, self.console):
            self.runner.run(work)
        if work.error is not None:
            raise work.error
        if work.interrupted:
            raise RunInterrupted


def equal_cost(main: SearchController) -> SearchLimits:
    """Return limits by which another search costs as much as a given one.

    The cost is in the search's own price, or in steps if that price is worker time and no training
    recorded any.

    Args:
        main: The search that has ended.

    Returns:
        Limits for the samplers that it is compared with.
    """
    trials = [t for t in main.trials.values() if t.step > 0]
    paid, price = main.meter.paid, main.meter.limits.price
    each = [float(main.meter.paid_by[t.number]) for t in trials]
    if price is in_seconds and not records_time(trials):
        price = in_steps
        each = [total([t], price) for t in trials]
        paid = sum(each)
    return SearchLimits(seconds=paid, expected=ExpectedPrice(each), price=price)
