"""From an experiment to a finished run: weights to inherit, search, comparison, truth, finalists,
best network, report."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
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
    violations,
)
from raynas.core.describe import fresh
from raynas.evaluators.base import Evaluator
from raynas.experiment import Experiment, Loaded, load
from raynas.observers import Board, Observer
from raynas.runners.base import Runner
from raynas.runners.order import OrderedSearch
from raynas.runners.retention import Retention
from raynas.runners.screening import Screening
from raynas.runners.work import Finals, Limits, Payload, Rows, Search, Training, Work
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.store import (
    Provenance,
    RunFolder,
    RunInfo,
    Writer,
    new_run_id,
    next_session,
    read,
    trials,
)
from raynas.store.lease import TakenOver
from raynas.store.remote import Remote, is_uri, working_copy
from raynas.store.run import RUN_FILE
from raynas.store.schema import FINAL, SEARCH, SUPERNET, TRUTH, TUNED

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console
    from torch import nn

    from raynas.data.base import View
    from raynas.training import Exported


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
        limits = Limits(seconds=main.paid)
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
        _expect_weights(self.folder, self.experiment)

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
            "weights": _version(*evaluators),
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
        with _interrupts(work, self.console), LiveView(work, self.console):
            self.runner.run(work)
        if work.interrupted:
            raise Interrupted


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


def _version(*evaluators: Evaluator | None) -> str | None:
    """Of the weights that one of the evaluators inherits from."""
    return next((v for e in evaluators if e and (v := e.weights_version())), None)


def keep_weights(folder: RunFolder, trained: Trial) -> None:
    """Move the weights that ``trained`` left to their place, if that was not done before."""
    workdir = folder.workdir(trained.number)
    left = workdir / "weights"
    if left.is_dir():
        shutil.rmtree(folder.supernet, ignore_errors=True)
        left.rename(folder.supernet)
        folder.publish(folder.supernet)
    if not folder.supernet.is_dir():
        raise UserError(
            f"the weights that the search inherits from are not in {folder.supernet}",
            cure="put them back, or train them in a new run",
        )
    shutil.rmtree(workdir, ignore_errors=True)
    if folder.remote is not None:
        folder.remote.remove_folder(workdir.relative_to(folder.path).as_posix())


def _expect_weights(folder: RunFolder, experiment: Experiment) -> None:
    """Raises: UserError when the run has inherited from other weights before."""
    version = _version(*experiment.evaluators)
    before = {t.weights for t in trials(read(folder)) if t.weights}
    if other := before - {version}:
        raise UserError(
            f"run {folder.place} inherits from weights {', '.join(sorted(other))}, not from "
            f"{version or 'none'}, which are there now",
            cure="put the former back, or begin a new run",
        )


def equipped(folder: RunFolder, experiment: Experiment) -> Experiment:
    """The experiment with the weights that its run has trained, if it has."""
    ready = experiment.needs() is not None and folder.supernet.is_dir()
    return experiment.with_prepared(folder.supernet) if ready else experiment


def final_evaluator(experiment: Experiment) -> Evaluator:
    """What trains the finalists: a copy, since it is set up with the test view."""
    return fresh(experiment.finalists.evaluator or experiment.evaluator)


def history(
    folder: RunFolder, experiment: Experiment, stage: str, arm: str
) -> tuple[list[Trial], set[int]]:
    """The stored trials of a stage and arm, and the numbers of all trials of the run."""
    stored = trials(read(folder))
    past = []
    for row in stored:
        if (row.stage, row.arm) != (stage, arm):
            continue
        trial = Trial(
            number=row.number,
            proposal=experiment.space.architecture(row.proposal),
            arch=experiment.space.architecture(row.arch),
            seed=row.seed,
            state=TrialState(row.state),
            measurements=list(row.measurements),
            costs=dict(row.costs),
            message=row.message or "",
            attempt=row.attempt,
        )
        trial.violations = violations(experiment.bounds, trial.values())
        past.append(trial)
    return past, {row.number for row in stored}


@contextlib.contextmanager
def _interrupts(work: Work, console: Console) -> Iterator[None]:
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


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[Callable[[], None]]:
    """SIGTERM, by which `ray job stop` ends a driver, is Ctrl-C where no work goes on, so that the
    run is given back. To be called once Ray is gone: it leaves SIGTERM with the system's default.
    """

    def heed() -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    before = signal.getsignal(signal.SIGTERM)
    try:
        heed()
    except ValueError:  # not in the main thread: whoever is there handles signals
        yield lambda: None
        return
    try:
        yield heed
    finally:
        signal.signal(signal.SIGTERM, before)


# -- starting and resuming ---------------------------------------------------------------------


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


def start(
    loaded: Loaded,
    output: Path | str | None,
    runner: Callable[[Loaded, Path], Runner],
    *,
    overrides: Mapping[str, object],
    smoke: bool,
    console: Console,
    observers: Sequence[Observer] = (),
) -> RunFolder:
    """Begin a new run in ``output``, or where :func:`place_for` says.

    ``output`` may be a URI, as ``s3://bucket/run``: the run lives there, with a working copy here.
    Raises: UserError when ``output`` holds a run already; Interrupted.
    """
    experiment = loaded.experiment
    payload = prepare(experiment)
    place = str(output or place_for(experiment.name))
    uri = place if is_uri(place) else ""
    path = working_copy(uri) if uri else Path(place)
    info = RunInfo(
        run=new_run_id(experiment.name),
        name=experiment.name,
        fingerprint=experiment.fingerprint,
        description=experiment.description(),
        source_file=str(loaded.path),
        overrides=dict(overrides),
        metrics=_metrics(experiment),
        smoke=smoke,
    )
    folder = RunFolder.create(path, info, loaded.source, uri)
    with _writer(folder) as writer:
        _carry_out(folder, loaded, payload, writer, runner, console, observers)
    return folder


def resume(
    path: Path,
    runner: Callable[[Loaded, Path], Runner],
    *,
    more_trials: int = 0,
    overrides: Mapping[str, object] | None = None,
    console: Console,
    observers: Sequence[Observer] = (),
) -> RunFolder:
    """Go on with a stored run; ``more_trials`` extends its budget.

    Raises: UserError when an override would make it another experiment; Interrupted.
    """
    folder = RunFolder.open(path)
    loaded = reload(folder, overrides)
    experiment = loaded.experiment
    if more_trials:
        if experiment.budget.trials is None:
            raise UserError(
                f"--trials +{more_trials} on a run without a trial budget",
                cure="--set budget.hours=... extends it",
            )
        budget = dataclasses.replace(
            experiment.budget, trials=experiment.budget.trials + more_trials
        )
        experiment = dataclasses.replace(experiment, budget=budget)
        overrides = {**(overrides or {}), "budget.trials": budget.trials}
        loaded = dataclasses.replace(loaded, experiment=experiment)
    folder.expect(experiment.fingerprint, experiment.description())
    with _writer(folder) as writer:  # nothing changes in a folder that another process writes
        payload = prepare(experiment)
        if overrides:
            kept = {**folder.info.overrides, **overrides}
            folder = folder.update(overrides=kept, description=experiment.description())
        _carry_out(folder, loaded, payload, writer, runner, console, observers)
    return folder


def reload(folder: RunFolder, overrides: Mapping[str, object] | None = None) -> Loaded:
    """The experiment of a run, from the copy of its source in the run's folder."""
    info = folder.info
    return load(
        folder.source,
        {**info.overrides, **(overrides or {})},
        smoke=info.smoke,
        name=info.name,
        beside=Path(info.source_file).parent,
    )


def _writer(folder: RunFolder) -> Writer:
    provenance = Provenance.collect(folder.info.source_file)
    return Writer(folder, next_session(read(folder)), provenance)


def _carry_out(
    folder: RunFolder,
    loaded: Loaded,
    payload: Payload,
    writer: Writer,
    runner: Callable[[Loaded, Path], Runner],
    console: Console,
    observers: Sequence[Observer],
) -> None:
    hand, board = runner(loaded, folder.path), Board(observers)
    with _terminated_in_order() as heed:
        try:
            if observers:
                hand.open()  # Ray's metrics need Ray
            board.open(folder.info.run, folder.path, folder.info.description)
            rows = _Shown(writer, board)
            experiment, session = loaded.experiment, writer.session
            Session(folder, experiment, payload, rows, hand, console, session).go()
        except TakenOver:
            raise
        except Exception as error:
            with contextlib.suppress(Exception):  # what ended the run is what the user must see
                finish(folder, loaded.experiment, console)
            if isinstance(error, Interrupted):
                raise Interrupted(folder.place) from None
            raise
        finally:
            board.close()
            for remark in board.remarks:
                console.print(f"[yellow]{remark}", soft_wrap=True)
            hand.close()
            heed()
        finish(folder, loaded.experiment, console)


class _Shown:
    """Rows are stored, then shown to observers."""

    def __init__(self, rows: Rows, board: Board) -> None:
        self._rows, self._board = rows, board

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows.append(rows)
        self._board.show(rows)


def finish(folder: RunFolder, experiment: Experiment, console: Console) -> None:
    """Save the best network and write the report, from the store alone."""
    from raynas.reports import write_report

    saved = save_best(folder, experiment)
    if saved is not None:
        console.print(f"best network: {saved}", soft_wrap=True)
    write_report(folder, experiment.space)
    folder.publish(folder.report, folder.figures, folder.best)
    console.print(f"report: {folder.report}", soft_wrap=True)
    if folder.remote is not None:
        console.print(f"all of it: {folder.place}", soft_wrap=True)


def _metrics(experiment: Experiment) -> tuple[Any, ...]:
    """The metric columns of the run: the search's, then what its other stages add."""
    screened = experiment.screen.metrics if experiment.screen else ()
    found = {m.name: m for m in (*screened, *experiment.evaluator.metrics)}
    finalists, more = experiment.finalists, list[Metric]()
    if needed := experiment.needs():
        more += needed.metrics
    if experiment.truth:
        more += experiment.truth.evaluator.metrics
    if finalists.top:
        more += (finalists.evaluator or experiment.evaluator).final_metrics
        more += finalists.inherited.final_metrics if finalists.inherited else ()
    found |= {m.name: m for m in more if m.name not in found}
    return tuple(found.values())


def place_for(name: str) -> str:
    """``NAME``, or the first free ``NAME-2``, in ``$RAYNAS_STORAGE``: a folder, by default
    ``runs``, or a URI. Raises: UserError, OSError when the storage cannot be read.
    """
    storage = os.environ.get("RAYNAS_STORAGE") or "runs"
    for number in itertools.count(1):
        place = name if number == 1 else f"{name}-{number}"
        if is_uri(storage):
            remote = Remote(storage).below(place)
            if (working_copy(remote.uri) / RUN_FILE).exists():  # the storage may have lost it
                continue
            try:
                remote.read(RUN_FILE)
            except FileNotFoundError:
                return remote.uri
        elif not (path := Path(storage).expanduser() / place).exists():
            return str(path)
    raise AssertionError("numbers do not end")


# -- the best network --------------------------------------------------------------------------


def best_trial(folder: RunFolder, experiment: Experiment) -> Trial | None:
    """The best COMPLETE trial of the main arm: by the first objective, on validation images."""
    past, _ = history(folder, experiment, SEARCH, experiment.sampler.name)
    objective = experiment.objectives[0]
    complete = [t for t in past if t.state is TrialState.COMPLETE]
    return max(complete, key=lambda t: objective.sign * t.values()[objective.metric], default=None)


@dataclass(frozen=True)
class Best:
    """The best network of a run and where it comes from.

    ``trained``: the trial that trained it, a finalist's where there is one. ``weights``: version
    of the supernet that it was taken from, if it was.
    """

    network: nn.Module
    found: Trial
    trained: Trial
    view: View
    weights: str | None = None

    def architecture(self, folder: RunFolder) -> dict[str, Any]:
        """What a reader of the weights needs to know, as JSON data."""
        arch, view = self.found.arch, self.view
        return {
            "space": folder.info.description["space"],
            "arch": arch.text,
            "arch_id": arch.id,
            "choices": dict(arch),
            "input_shape": list(view.input_shape),
            "num_classes": view.num_classes,
            "mean": list(view.mean),
            "std": list(view.std),
            "pixels": "0..255, minus mean, divided by std, channels first",
            "costs": dict(self.found.costs),
            "found": {"trial": self.found.number, **self.found.values()},
            "trained": {
                "trial": self.trained.number,
                "seed": self.trained.seed,
                **self.trained.values(),
            },
            **({"weights": self.weights} if self.weights else {}),
            "run": folder.info.run,
            "fingerprint": folder.info.fingerprint,
        }


def best_network(folder: RunFolder, experiment: Experiment) -> Best | None:
    """The network of the best trial, or None where no trained network is kept.

    The finalist's training on train + valid is preferred to the search's own; among its seeds
    the first, so that test images choose nothing.
    """
    experiment = equipped(folder, experiment)
    found = best_trial(folder, experiment)
    if found is None:
        return None
    finals, _ = history(folder, experiment, FINAL, experiment.sampler.name)
    trained = [t for t in finals if t.arch == found.arch and t.state is TrialState.COMPLETE]
    for trial in [*sorted(trained, key=lambda t: t.number), found]:
        if trial is found:
            evaluator = fresh(experiment.evaluator)
            view = experiment.data.search_view(experiment.seed)
        else:
            evaluator = final_evaluator(experiment)
            view = experiment.data.final_view(experiment.seed)
        evaluator.setup(experiment.space, view)
        network = evaluator.network(found.arch, folder.workdir(trial.number))
        if network is not None:
            return Best(network, found, trial, view, evaluator.weights_version())
    return None


def save_best(folder: RunFolder, experiment: Experiment) -> Path | None:
    """``best/network.safetensors`` and ``best/architecture.json``; the former's path."""
    best = best_network(folder, experiment)
    if best is None:
        return None
    return export(best, folder, folder.best, ("safetensors",)).paths["safetensors"]


def export(best: Best, folder: RunFolder, to: Path, formats: tuple[str, ...]) -> Exported:
    """Write the network and what a reader must know of it to the folder ``to``."""
    from raynas.training import export_network

    return export_network(
        best.network,
        best.view.input_shape,
        to,
        architecture=best.architecture(folder),
        formats=formats,
    )


def export_best(path: Path, to: Path | None, formats: tuple[str, ...]) -> Exported:
    """Export the best network of the run at ``path`` (default to ``RUN/export``).

    Raises: UserError when the run has no trained network yet, or a format is unknown.
    """
    folder = RunFolder.open(path)
    best = best_network(folder, reload(folder).experiment)
    if best is None:
        raise UserError(
            f"run {folder.place} has no trained network to export",
            cure="let a trial end, as with `raynas resume`; only trained networks are kept",
        )
    return export(best, folder, (to or folder.path / "export").absolute(), formats)


def export_studies(path: Path, to: Path) -> Path:
    """The search of the run at ``path`` as an SQLite file for Optuna, a study for each sampler.

    Raises: UserError when there is nothing to show, or ``to`` is there already.
    """
    import pyarrow.compute as pc

    from raynas.samplers.studies import write_studies

    folder = RunFolder.open(path)
    experiment = reload(folder).experiment
    table = read(folder)
    table = table.filter(pc.equal(table["stage"], SEARCH))
    if not table.num_rows:
        raise UserError(f"run {folder.place} has no results yet", cure="`raynas resume` goes on")
    arms = dict.fromkeys(table["arm"].to_pylist())
    write_studies(
        to.absolute(),
        experiment.space,
        experiment.objectives,
        experiment.bounds,
        {f"{folder.info.run}/{a}": history(folder, experiment, SEARCH, a)[0] for a in arms},
        _times(table, quick=experiment.evaluator.quick),
    )
    return to.absolute()


def _times(table: pa.Table, *, quick: bool) -> dict[int, tuple[datetime, datetime]]:
    """When each trial began and ended: a row is stored when what it took is over.

    ``quick``: of evaluations that take no time, whatever seconds a benchmark's table gives them.
    """
    found: dict[int, tuple[datetime, datetime]] = {}
    columns = (table[name].to_pylist() for name in ("trial", "time", "seconds"))
    for trial, ended, seconds in zip(*columns, strict=True):
        began = ended - timedelta(seconds=0.0 if quick else seconds or 0.0)
        first, last = found.get(trial, (began, ended))
        found[trial] = min(first, began), max(last, ended)
    return found


def write_report_of(path: Path) -> Path:
    """Write the report of the run at ``path`` anew."""
    from raynas.reports import write_report

    folder = RunFolder.open(path)
    try:
        space = reload(folder).experiment.space
    except UserError:  # what the file imports is gone: architectures are written, not drawn
        space = None
    return write_report(folder, space)
