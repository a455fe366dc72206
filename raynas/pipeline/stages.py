"""This module carries out the stages of a run.

They are: weights to inherit, search, comparison, truth, finalists.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from raynas.core import (
    AllTrialsFailed,
    Architecture,
    Costs,
    Metric,
    Objective,
    RaynasError,
    SearchProblem,
    Trial,
    TrialState,
    UserError,
    failure_message,
    rng_for,
)
from raynas.core.describe import fresh
from raynas.core.failures import none_worked
from raynas.core.metrics import on_test
from raynas.core.prices import ExpectedPrice, in_seconds, in_steps, records_time, total
from raynas.data.abilities import check_test_images, data_remarks
from raynas.data.base import Images
from raynas.evaluators.abilities import (
    check_architecture,
    final_metrics_of,
    no_test_reason_of,
    remarks_of,
    weights_version_of,
)
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment
from raynas.pipeline.history import (
    expect_weights,
    final_evaluator,
    history,
    keep_weights,
    weights_used,
)
from raynas.pipeline.printing import show_remarks
from raynas.runners.base import Runner
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.none import NoStopping
from raynas.search.builder import (
    SearchSetup,
    build_ordered_search,
    build_retraining,
    build_search,
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
from raynas.spaces.guard import ArchitectureError, one_architecture
from raynas.spaces.roundtrip import check_round_trip
from raynas.store import RunFolder
from raynas.store.remote import RemoteFolder
from raynas.store.schema import FINAL, SEARCH, SUPERNET, TRUTH, TUNED

if TYPE_CHECKING:
    from rich.console import Console


class RunInterrupted(Exception):
    """The interruption of a run by Ctrl-C or a signal; what is stored is kept.

    Its text is the command that goes on with the run.
    """


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

    def go(self) -> None:
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
                    _look(evaluator, self.payload, largest)
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
        parts: dict[str, Any] = {
            "sampler": sampler,
            "fallback": Random(),
            "scheduler": fresh(experiment.scheduler),
            "limits": limits,
            "run": f"{self.folder.info.run}/{sampler.name}",
            "bounds": experiment.bounds,
            "screening": self._screening(sampler, setup.past),
        }
        if experiment.deterministic_workers:
            ordered = build_ordered_search(setup, lanes=experiment.deterministic_workers, **parts)
            return self._searched(ordered, ordered.controller)
        search = build_search(setup, **parts)
        return self._searched(search, search)

    def _searched(self, work: JobSource, search: SearchController) -> SearchController:
        """Carry out a search, and print what a user should know of its end."""
        self._carry_out(work)
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
        payload = dataclasses.replace(self.payload, evaluator=fresh(screen.evaluator))
        early = set(screen.names) - {metric.name for metric in experiment.evaluator.metrics}
        bounds = tuple(bound for bound in experiment.bounds if bound.metric in early)
        return ProposalScreening(screen, partial(self.runner.evaluate, payload), past, bounds)

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
            _trained_objectives(experiment.objectives, evaluator.metrics),
            keep=0,
            uses=(evaluator,),
        )
        known = {t.arch.id: t.arch for t in setup.past}
        wanted = list(known.values())
        if len(known) < truth.count:
            wanted = spread(_ranking(searched, experiment.objectives[0]), truth.count)
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
                _final_objectives(experiment.objectives, evaluator),
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


def unused_settings(experiment: Experiment) -> list[str]:
    """Name settings that the user has given and that nothing uses.

    Args:
        experiment: The experiment.

    Returns:
        One sentence for each; empty if all are used.
    """
    found, finalists = [], experiment.finalists
    given = [n for n in ("evaluator", "inherited") if getattr(finalists, n) is not None]
    if given and not finalists.top:
        names = ", ".join(f"finalists.{name}" for name in given)
        found.append(f"{names}: not used, since finalists.top=0 trains no finalists")
    scheduler, evaluator = experiment.scheduler, experiment.evaluator
    if not isinstance(scheduler, NoStopping) and evaluator.max_step == 1:
        found.append(
            f"scheduler={type(scheduler).__name__}: not used, since {evaluator.name} measures once "
            "and there is nothing to stop"
        )
    return found


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


def _on_test(objective: Objective) -> Objective:
    """Return the objective with its metric as the finalists' training measures it."""
    return dataclasses.replace(objective, metric=on_test(objective.metric))


def _final_objectives(sought: tuple[Objective, ...], evaluator: Evaluator) -> tuple[Objective, ...]:
    """Return the objectives that a finalist's training must measure.

    They are those of the search. If the search used scores of untrained networks, which no training
    measures, it is the first of the training's own metrics.
    """
    on_test = [_on_test(objective) for objective in sought]
    known = {metric.name for metric in final_metrics_of(evaluator)}
    measured = [o for o in on_test if o.metric in known or o not in sought]
    first = final_metrics_of(evaluator)[0]
    return tuple(measured) or (_on_test(Objective(first.name, first.direction)),)


def finalists_refused(experiment: Experiment) -> str:
    """Return why no finalists are trained although some are asked for.

    Their evaluator may be unable to measure on the test data; then every one of them would fail,
    after the search was paid for.

    Args:
        experiment: The experiment.

    Returns:
        A remark for the user; empty if finalists are trained, or none are asked for.
    """
    if not experiment.finalists.top:
        return ""
    evaluator = final_evaluator(experiment)
    measured = {metric.name for metric in final_metrics_of(evaluator)}
    sought = _final_objectives(experiment.objectives, evaluator)
    missing = [o.metric for o in sought if o.metric not in measured]
    reason = no_test_reason_of(evaluator)
    if not reason and missing:
        reason = f"evaluator {evaluator.name!r} does not measure {', '.join(missing)}"
    if not reason:
        return ""
    return (
        f"no finalists will be trained: {reason}; or give finalists.evaluator one that does, or "
        "set finalists.top=0"
    )


def _trained_objectives(
    sought: tuple[Objective, ...], metrics: tuple[Metric, ...]
) -> tuple[Objective, ...]:
    """Return the objectives that a training measures; if there are none, its own first metric."""
    known = {metric.name for metric in metrics}
    measured = tuple(o for o in sought if o.metric in known)
    return measured or (Objective(metrics[0].name, metrics[0].direction),)


def _ranking(searched: list[Trial], objective: Objective) -> list[Architecture]:
    """Return the architectures of complete trials, each once, the best first."""
    complete = [t for t in searched if t.state is TrialState.COMPLETE]
    complete.sort(key=lambda t: (-objective.sign * t.values()[objective.metric], t.number))
    return list({t.arch.id: t.arch for t in complete}.values())


def spread(ranked: Sequence[Architecture], count: int) -> list[Architecture]:
    """Choose architectures at equal distances in a ranking, the first and the last among them.

    Args:
        ranked: The ranking.
        count: The number of architectures to choose; all if there are fewer.

    Returns:
        The chosen ones, in their order.

    Example:
        >>> spread("abcdefghi", 3)
        ['a', 'e', 'i']
    """
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


#: signals that end a run in order: Ctrl-C, `kill` (`ray job stop`), a terminal that is closed
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """Return the signals of ``ENDINGS`` that this process was not told to ignore.

    ``nohup`` tells a process to ignore SIGHUP.

    Returns:
        The signals to handle.
    """
    return [s for s in ENDINGS if signal.getsignal(s) is not signal.SIG_IGN]


@contextlib.contextmanager
def interrupts(work: JobSource, console: Console) -> Iterator[None]:
    """End the search in order at the first signal of ``ENDINGS``, and at once at the second.

    A closed terminal sends SIGHUP more than once: that never ends it at once.

    Args:
        work: The search.
        console: Where the interruption is announced.

    Yields:
        None.

    Raises:
        KeyboardInterrupt: At the second signal.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if work.interrupted:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        work.interrupt()
        with contextlib.suppress(OSError, RuntimeError):  # this thread may just be printing
            console.print("stopping: results are stored; press Ctrl-C again to stop at once")

    try:
        old = {s: signal.signal(s, stop) for s in heeded()}
    except ValueError:  # not in the main thread, which handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def prepare(experiment: Experiment) -> EvaluationContext:
    """Read the data and check that the parts fit, before anything is made or paid for.

    Args:
        experiment: The experiment.

    Returns:
        The space, the evaluator and the data view of the search.

    Raises:
        UserError: If the data cannot be read, or space, data, evaluators, samplers or scheduler do
            not fit each other.
    """
    check_round_trip(experiment.space)
    payload = EvaluationContext(
        experiment.space, experiment.evaluator, experiment.data.search_view(experiment.seed)
    )
    if experiment.finalists.top:
        check_test_images(experiment.data, payload.view, experiment.seed)
    _set_up_once(experiment)
    arch = _fitting(experiment, payload)
    if experiment.screen is not None:
        _look(experiment.screen.evaluator, payload, arch)
    if experiment.ranking_check is not None:
        _look(experiment.ranking_check.evaluator, payload, arch)
    _look_at_finals(experiment, payload, arch)
    if (needed := experiment.needs()) is not None:
        _look(needed, payload, payload.space.extremes()[1])
    elif (inherited := _inherited(experiment)) and not weights_version_of(inherited):
        raise UserError(
            f"finalists.inherited={inherited.name}: there are no weights to inherit",
            hint="give it weights=PATH, or search by an evaluator that trains a supernet",
        )
    return payload


#: if so many random architectures all fail the check, the run does not begin
_CHECKED = 10


def _fitting(experiment: Experiment, payload: EvaluationContext) -> Architecture:
    """Return a random architecture that can be evaluated.

    Architectures for which the space's own code raises are skipped.

    Raises:
        UserError: With the first error, if none of some architectures can be evaluated.
    """
    rng = rng_for(experiment.seed, "check")
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    first: Exception | None = None
    for _ in range(_CHECKED):
        arch = payload.space.sample(rng)
        try:
            with one_architecture(f"architecture {arch.text!r}"):
                check_architecture(evaluator, arch)
                _check_costs(experiment, payload, arch)
            return arch
        except ArchitectureError as error:
            first = first or error
    assert first is not None
    if isinstance(first.__cause__, UserError):
        raise first.__cause__
    raise UserError(
        f"none of {_CHECKED} random architectures of space {payload.space.name!r} can be "
        f"evaluated; the first one, {first}",
        hint="fix the space's build(), canonical() or costs()",
    ) from first


def remarks_on_batches(experiment: Experiment, images: int) -> list[str]:
    """Name trainings with batches of more images than there are, so that an epoch is one step.

    Args:
        experiment: Those of its evaluators that have a ``recipe`` are checked.
        images: How many training images a search has.

    Returns:
        One sentence for each such training.
    """
    needed = experiment.needs()
    found = []
    for evaluator in (*experiment.evaluators, *([needed] if needed else [])):
        batch = getattr(getattr(evaluator, "recipe", None), "batch_size", 0)
        if batch > images:
            found.append(
                f"{evaluator.name}: recipe.batch_size={batch} is more than the {images} training "
                "images: an epoch is one step; take smaller batches, or many epochs"
            )
    return found


def _inherited(experiment: Experiment) -> Evaluator | None:
    return experiment.finalists.inherited if experiment.finalists.top else None


def _set_up_once(experiment: Experiment) -> None:
    """Check that copies of samplers and scheduler can be set up, before anything is trained.

    Raises:
        UserError: From a part that cannot work in this space, or for these objectives.
    """
    steps = experiment.evaluator.max_step
    problem = SearchProblem(
        experiment.objectives, steps, experiment.seed, "check", experiment.bounds
    )
    for sampler in (experiment.sampler, *experiment.baselines):
        copy.copy(sampler).setup(experiment.space, problem)
    copy.copy(experiment.scheduler).setup(problem)


def _look(evaluator: Evaluator, payload: EvaluationContext, arch: Architecture) -> None:
    """Check that the evaluator fits space and data.

    Raises:
        UserError: If it does not.
    """
    new = fresh(evaluator)
    new.setup(payload.space, payload.view)
    try:
        check_architecture(new, arch)
    except RaynasError:
        raise
    except Exception as error:
        raise UserError(
            f"{evaluator.name} cannot evaluate architecture {arch.text!r} of space "
            f"{payload.space.name!r}: {failure_message(error)[0]}",
            hint="fix the space's build(), canonical() or costs()",
        ) from error


def _look_at_finals(experiment: Experiment, payload: EvaluationContext, arch: Architecture) -> None:
    """Check that the evaluators of the finalists fit.

    Weights with which they begin must not have been trained on images beyond the training and
    validation images. No test image is read for this check.

    Raises:
        UserError: If they do not fit, or were.
    """
    finals = (final_evaluator(experiment), experiment.finalists.inherited)
    known = [e for e in finals if e is not None]
    begin = [e for e in known if weights_version_of(e)]
    if not experiment.finalists.top or finalists_refused(experiment):
        return
    alike = dataclasses.replace(payload.view, held_out_name="test")  # the same validation images
    for evaluator in known:
        if evaluator not in begin:
            _look(evaluator, dataclasses.replace(payload, view=alike), arch)
    if not begin:
        return
    parts = payload.view.train, payload.view.held_out
    pixels = np.concatenate([images.pixels for images in parts])
    labels = np.concatenate([images.labels for images in parts])
    view = dataclasses.replace(payload.view, train=Images(pixels, labels), held_out_name="test")
    for evaluator in begin:
        _look(evaluator, dataclasses.replace(payload, view=view), arch)


def _check_costs(experiment: Experiment, payload: EvaluationContext, arch: Architecture) -> None:
    """Check that the space counts the costs that objectives and bounds are on.

    Raises:
        UserError: If it does not count one of them.
    """
    asked = {o.metric for o in experiment.objectives} | {b.metric for b in experiment.bounds}
    if not asked & {cost.name for cost in dataclasses.fields(Costs)}:
        return
    costs = vars(payload.space.costs(arch, payload.view.input_shape, payload.view.num_classes))
    for name in asked & costs.keys():
        if costs[name] is None:
            raise UserError(
                f"{name!r} in objectives or bounds: space {payload.space.name!r} does not "
                "compute it",
                expected=", ".join(known for known, cost in costs.items() if cost is not None),
            )
