"""From an experiment to a finished run: search, comparison, finalists, best network, report."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from raynas.core import (
    Architecture,
    Costs,
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
from raynas.runners.base import Runner
from raynas.runners.screening import Screening
from raynas.runners.work import Finals, Limits, Payload, Search, Work
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
from raynas.store.schema import FINAL, SEARCH

if TYPE_CHECKING:
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
    writer: Writer
    runner: Runner
    console: Console

    def go(self) -> None:
        """Carry out all that is not in the store yet. Raises: Interrupted, UserError."""
        experiment, payload = self.experiment, self.payload
        deadline = None
        if experiment.budget.hours is not None:
            deadline = self.runner.clock() + 3600 * experiment.budget.hours
        main = self._search(
            payload, experiment.sampler, Limits(trials=experiment.budget.trials, deadline=deadline)
        )
        for other in experiment.against:
            self._search(payload, other, Limits(seconds=main.spent))
        best = main.best[: experiment.finalists.top]
        if best:
            self._finals(best)
        elif not main.best:
            self.console.print(
                "[yellow]no architecture was evaluated to the end: no finalists, no best network"
            )

    def _search(self, payload: Payload, sampler: Sampler, limits: Limits) -> Search:
        experiment = self.experiment
        common = self._common(SEARCH, sampler.name)
        search = Search(
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
        return search

    def _screening(self, sampler: Sampler, past: list[Trial]) -> Screening | None:
        """The experiment's screen, for its own sampler: those it is compared with go without."""
        experiment, screen = self.experiment, self.experiment.screen
        if screen is None or sampler is not experiment.sampler:
            return None
        payload = dataclasses.replace(self.payload, evaluator=fresh(screen.evaluator))
        early = set(screen.names) - {metric.name for metric in experiment.evaluator.metrics}
        bounds = tuple(bound for bound in experiment.bounds if bound.metric in early)
        return Screening(screen, partial(self.runner.evaluate, payload), past, bounds)

    def _finals(self, best: tuple[Trial, ...]) -> None:
        """Train the finalists anew and keep the best one's network."""
        experiment = self.experiment
        evaluator = final_evaluator(experiment)
        payload = Payload(experiment.space, evaluator, experiment.data.final_view(experiment.seed))
        finals = Finals(
            payload,
            self.writer,
            finalists=[t.arch for t in best],
            seeds=experiment.finalists.seeds,
            objectives=_final_objectives(experiment.objectives, evaluator),
            keep=experiment.finalists.top * experiment.finalists.seeds,
            **self._common(FINAL, experiment.sampler.name),
        )
        self._carry_out(finals)

    def _common(self, stage: str, arm: str) -> dict[str, Any]:
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
            "past": past,
            "clock": self.runner.clock,
        }

    def _carry_out(self, work: Work) -> None:
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


# -- starting and resuming ---------------------------------------------------------------------


def prepare(experiment: Experiment) -> Payload:
    """Read the data and see that space, data and evaluator fit: before anything is made or spent.

    Raises: UserError.
    """
    payload = Payload(
        experiment.space, experiment.evaluator, experiment.data.search_view(experiment.seed)
    )
    evaluator = fresh(payload.evaluator)
    evaluator.setup(payload.space, payload.view)
    arch = payload.space.sample(rng_for(experiment.seed, "check"))
    evaluator.check(arch)
    if experiment.screen is not None:
        scorer = fresh(experiment.screen.evaluator)
        scorer.setup(payload.space, payload.view)
        scorer.check(arch)
    _check_costs(experiment, payload, arch)
    return payload


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
    output: Path | None,
    runner: Callable[[Loaded, Path], Runner],
    *,
    overrides: Mapping[str, object],
    smoke: bool,
    console: Console,
) -> RunFolder:
    """Begin a new run in ``output`` (default: ``runs/NAME``, or the first free ``runs/NAME-2``).

    Raises: UserError when ``output`` holds a run already; Interrupted.
    """
    experiment = loaded.experiment
    payload = prepare(experiment)
    path = output or _free(Path("runs") / experiment.name)
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
    folder = RunFolder.create(path, info, loaded.source)
    with _writer(folder) as writer:
        _carry_out(folder, loaded, payload, writer, runner, console)
    return folder


def resume(
    path: Path,
    runner: Callable[[Loaded, Path], Runner],
    *,
    more_trials: int = 0,
    overrides: Mapping[str, object] | None = None,
    console: Console,
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
        _carry_out(folder, loaded, payload, writer, runner, console)
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
) -> None:
    hand = runner(loaded, folder.path)
    try:
        Session(folder, loaded.experiment, payload, writer, hand, console).go()
    except Exception as error:
        with contextlib.suppress(Exception):  # what ended the run is what the user must see
            finish(folder, loaded.experiment, console)
        if isinstance(error, Interrupted):
            raise Interrupted(str(folder.path)) from None
        raise
    finally:
        hand.close()
    finish(folder, loaded.experiment, console)


def finish(folder: RunFolder, experiment: Experiment, console: Console) -> None:
    """Save the best network and write the report, from the store alone."""
    from raynas.reports import write_report

    saved = save_best(folder, experiment)
    if saved is not None:
        console.print(f"best network: {saved}", soft_wrap=True)
    write_report(folder, experiment.space)
    console.print(f"report: {folder.report}", soft_wrap=True)


def _metrics(experiment: Experiment) -> tuple[Any, ...]:
    """The metric columns of the run: the search's, then what the finalists add."""
    screened = experiment.screen.metrics if experiment.screen else ()
    found = {m.name: m for m in (*screened, *experiment.evaluator.metrics)}
    if experiment.finalists.top:
        final = experiment.finalists.evaluator or experiment.evaluator
        found |= {m.name: m for m in final.final_metrics if m.name not in found}
    return tuple(found.values())


def _free(path: Path) -> Path:
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


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

    ``trained``: the trial that trained it, a finalist's where there is one.
    """

    network: nn.Module
    found: Trial
    trained: Trial
    view: View

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
            "run": folder.info.run,
            "fingerprint": folder.info.fingerprint,
        }


def best_network(folder: RunFolder, experiment: Experiment) -> Best | None:
    """The network of the best trial, or None where no trained network is kept.

    The finalist's training on train + valid is preferred to the search's own; among its seeds
    the first, so that test images choose nothing.
    """
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
        network = evaluator.network(found.arch, folder.checkpoints / f"{trial.number:06d}")
        if network is not None:
            return Best(network, found, trial, view)
    return None


def save_best(folder: RunFolder, experiment: Experiment) -> Path | None:
    """``best/network.safetensors`` and ``best/architecture.json``; the former's path."""
    best = best_network(folder, experiment)
    if best is None:
        return None
    return _export(best, folder, folder.best, ("safetensors",)).paths["safetensors"]


def _export(best: Best, folder: RunFolder, to: Path, formats: tuple[str, ...]) -> Exported:
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
            f"run {folder.path} has no trained network to export",
            cure="let a trial end, as with `raynas resume`; only trained networks are kept",
        )
    return _export(best, folder, (to or folder.path / "export").absolute(), formats)


def write_report_of(path: Path) -> Path:
    """Write the report of the run at ``path`` anew."""
    from raynas.reports import write_report

    folder = RunFolder.open(path)
    try:
        space = reload(folder).experiment.space
    except UserError:  # what the file imports is gone: architectures are written, not drawn
        space = None
    return write_report(folder, space)
