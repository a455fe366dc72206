"""This module begins and resumes runs of an experiment."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.callbacks import CallbackDispatcher, RunCallback
from raynas.core import Metric, UserError
from raynas.evaluators.abilities import final_metrics_of
from raynas.experiment import Experiment, LoadedExperiment
from raynas.pipeline.history import keep_space, reload
from raynas.pipeline.printing import show_remarks
from raynas.pipeline.results import finish
from raynas.pipeline.stages import RunInterrupted, RunPipeline, finalists_refused, heeded, prepare
from raynas.runners.base import Runner
from raynas.search.context import EvaluationContext, RowSink
from raynas.store import Provenance, RunFolder, RunInfo, Writer, new_run_id, next_session, read
from raynas.store.lease import TakenOver
from raynas.store.remote import RemoteFolder, is_uri
from raynas.store.run import RUN_FILE
from raynas.store.working_copies import working_copy

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[Callable[[], None]]:
    """Treat SIGTERM and SIGHUP as Ctrl-C outside of a search, to close the run in order.

    `ray job stop` ends a driver by SIGTERM; a closed terminal sends SIGHUP.

    Yields:
        A function to be called once Ray has ended: Ray leaves SIGTERM with the system's default.
    """
    numbers = [number for number in heeded() if number != signal.SIGINT]

    def heed() -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        heed()
    except ValueError:  # not in the main thread, which handles signals
        yield lambda: None
        return
    try:
        yield heed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interruptible(folder: RunFolder) -> Iterator[None]:
    """Tell a user who interrupts the code in this context how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunInterrupted(f"raynas resume {folder.place}") from None


def start(
    loaded: LoadedExperiment,
    output: Path | str | None,
    runner: Callable[[LoadedExperiment, Path], Runner],
    *,
    overrides: Mapping[str, object],
    smoke: bool,
    console: Console,
    callbacks: Sequence[RunCallback] = (),
) -> RunFolder:
    """Begin a new run and carry it out.

    Args:
        loaded: The experiment.
        output: The folder of the run, or a URI such as ``s3://bucket/run``: then the run is stored
            there, with a working copy here. None takes what :func:`place_for` returns.
        runner: Makes the runner, from the experiment and the folder.
        overrides: The settings of the command line, to be stored.
        smoke: True if ``--smoke`` was given, to be stored.
        console: Where progress and remarks are printed.
        callbacks: Are told of each stored row.

    Returns:
        The folder of the run.

    Raises:
        UserError: If ``output`` holds a run already, or the experiment cannot be carried out.
        Interrupted: If the user or a signal ended it.
    """
    experiment = loaded.experiment
    # before the objects are used: a user's object may store computed values in itself
    fingerprint, description = experiment.fingerprint, experiment.description()
    with _terminated_in_order() as heed:
        payload = prepare(experiment)
        place = str(output or place_for(experiment.name))
        uri = place if is_uri(place) else ""
        path = working_copy(uri) if uri else Path(place)
        info = RunInfo(
            run=new_run_id(experiment.name),
            name=experiment.name,
            fingerprint=fingerprint,
            description=description,
            source_file=str(loaded.path),
            overrides=dict(overrides),
            metrics=_metrics(experiment),
            smoke=smoke,
            stand_in=loaded.stand_in,
        )
        # before the folder is made: it checks that this machine has the resources
        hand = runner(loaded, Path(os.path.abspath(path.expanduser())))  # noqa: PTH100 - keeps links
        folder = RunFolder.create(path, info, loaded.source, uri)
        with _interruptible(folder), _writer(folder, console) as writer:
            _carry_out(folder, loaded, payload, writer, hand, console, callbacks, heed)
    return folder


def resume(
    path: Path,
    runner: Callable[[LoadedExperiment, Path], Runner],
    *,
    more_trials: int = 0,
    overrides: Mapping[str, object] | None = None,
    console: Console,
    callbacks: Sequence[RunCallback] = (),
    trust: bool = False,
) -> RunFolder:
    """Go on with a stored run; this executes the ``experiment.py`` of the run.

    Args:
        path: The folder of the run.
        runner: Makes the runner, from the experiment and the folder.
        more_trials: How many trials are added to its budget.
        overrides: Path of a setting -> value, beside those that the run has.
        console: Where progress and remarks are printed.
        callbacks: Are told of each stored row.
        trust: True also executes a file that belongs to another user.

    Returns:
        The folder of the run.

    Raises:
        UserError: If an override would make it another experiment, or the run cannot be read.
        Interrupted: If the user or a signal ended it.
    """
    folder = RunFolder.open(path)
    loaded = reload(folder, overrides, trust=trust)
    experiment = loaded.experiment
    if more_trials:
        if experiment.budget.trials is None:
            raise UserError(
                f"--trials +{more_trials} on a run without a trial budget",
                hint="--set budget.hours=... extends it",
            )
        budget = dataclasses.replace(
            experiment.budget, trials=experiment.budget.trials + more_trials
        )
        experiment = dataclasses.replace(experiment, budget=budget)
        overrides = {**(overrides or {}), "budget.trials": budget.trials}
        loaded = dataclasses.replace(loaded, experiment=experiment)
    if (
        folder.info.fingerprint != experiment.former_fingerprint
    ):  # runs of raynas 0.1 can be resumed
        folder.expect(experiment.fingerprint, experiment.description())
    hand = runner(loaded, folder.path)
    # the writer comes first: a folder that another process writes must not change
    with (
        _terminated_in_order() as heed,
        _interruptible(folder),
        _writer(folder, console) as writer,
    ):
        payload = prepare(experiment)
        if overrides:
            kept = {**folder.info.overrides, **overrides}
            folder = folder.update(overrides=kept, description=experiment.description())
        _carry_out(folder, loaded, payload, writer, hand, console, callbacks, heed)
    return folder


def _writer(folder: RunFolder, console: Console) -> Writer:
    def waiting(words: str) -> None:
        console.print(words, soft_wrap=True, markup=False, highlight=False)

    provenance = Provenance.collect(folder.info.source_file)
    return Writer(folder, next_session(read(folder)), provenance, waiting=waiting)


def _carry_out(
    folder: RunFolder,
    loaded: LoadedExperiment,
    payload: EvaluationContext,
    writer: Writer,
    hand: Runner,
    console: Console,
    callbacks: Sequence[RunCallback],
    heed: Callable[[], None],
) -> None:
    board = CallbackDispatcher(callbacks)
    try:
        if callbacks:
            hand.open()  # Ray's metrics need Ray
        board.open(folder.info.run, folder.path, folder.info.description)
        rows = _Shown(writer, board)
        experiment, session = loaded.experiment, writer.session
        keep_space(folder, experiment)
        RunPipeline(folder, experiment, payload, rows, hand, console, session).go()
    except TakenOver:
        raise
    except Exception as error:
        with contextlib.suppress(Exception):  # the user must see the error that ended the run
            writer.check()
            finish(folder, loaded.experiment, console)
        if isinstance(error, RunInterrupted):
            raise RunInterrupted(f"raynas resume {folder.place}") from None
        raise
    finally:
        board.close()
        show_remarks(board.remarks, console)
        hand.close()
        heed()
    writer.check()
    finish(folder, loaded.experiment, console)


class _Shown:
    """A writer that stores rows, then shows them to callbacks."""

    def __init__(self, rows: RowSink, board: CallbackDispatcher) -> None:
        self._rows, self._board = rows, board

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows.append(rows)
        self._board.show(rows)


def _metrics(experiment: Experiment) -> tuple[Any, ...]:
    """Return the metric columns of the run: the search's, then those of its other stages."""
    screened = experiment.screen.metrics if experiment.screen else ()
    found = {m.name: m for m in (*screened, *experiment.evaluator.metrics)}
    finalists, more = experiment.finalists, list[Metric]()
    if needed := experiment.needs():
        more += needed.metrics
    if experiment.ranking_check:
        more += experiment.ranking_check.evaluator.metrics
    if finalists.top and not finalists_refused(experiment):
        more += final_metrics_of(finalists.evaluator or experiment.evaluator)
        more += final_metrics_of(finalists.inherited) if finalists.inherited else ()
    found |= {m.name: m for m in more if m.name not in found}
    return tuple(found.values())


def place_for(name: str) -> str:
    """Return the first free location for a new run, in ``$RAYNAS_STORAGE``.

    The storage is a folder, by default ``runs``, or a URI.

    Args:
        name: The name of the experiment.

    Returns:
        The path or URI of ``NAME``, or of the first free ``NAME-2``, ``NAME-3``, ...

    Raises:
        UserError: If the storage cannot be used.
        OSError: If the storage cannot be read.
    """
    storage = os.environ.get("RAYNAS_STORAGE") or "runs"
    for number in itertools.count(1):
        place = name if number == 1 else f"{name}-{number}"
        if is_uri(storage):
            remote = RemoteFolder(storage).below(place)
            if (working_copy(remote.uri) / RUN_FILE).exists():  # the storage may have lost it
                continue
            try:
                remote.read(RUN_FILE)
            except FileNotFoundError:
                return remote.uri
        elif not (path := Path(storage).expanduser() / place).exists():
            return str(path)
    raise AssertionError("numbers do not end")
