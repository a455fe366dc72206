"""Beginning and resuming runs of an experiment."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.callbacks import Board, Observer
from raynas.core import Metric, UserError
from raynas.experiment import Experiment, Loaded
from raynas.pipeline.history import keep_space, reload
from raynas.pipeline.printing import show_remarks
from raynas.pipeline.results import finish
from raynas.pipeline.stages import Interrupted, Session, finalists_refused, heeded, prepare
from raynas.runners.base import Runner
from raynas.search.context import Payload, Rows
from raynas.store import Provenance, RunFolder, RunInfo, Writer, new_run_id, next_session, read
from raynas.store.lease import TakenOver
from raynas.store.remote import Remote, is_uri, working_copy
from raynas.store.run import RUN_FILE

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[Callable[[], None]]:
    """SIGTERM, by which `ray job stop` ends a driver, and SIGHUP of a closed terminal are Ctrl-C
    where no work goes on, so that the run is given back. To be called once Ray is gone: it leaves
    SIGTERM with the system's default.
    """
    numbers = [number for number in heeded() if number != signal.SIGINT]

    def heed() -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        heed()
    except ValueError:  # not in the main thread: whoever is there handles signals
        yield lambda: None
        return
    try:
        yield heed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interruptible(folder: RunFolder) -> Iterator[None]:
    """From here on whoever interrupts is told how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"raynas resume {folder.place}") from None


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
    # before anything is used: a user's objects may keep what they have worked out
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
        # before the folder: it says whether this machine has what is asked for
        hand = runner(loaded, Path(os.path.abspath(path.expanduser())))  # noqa: PTH100 - keeps links
        folder = RunFolder.create(path, info, loaded.source, uri)
        with _interruptible(folder), _writer(folder, console) as writer:
            _carry_out(folder, loaded, payload, writer, hand, console, observers, heed)
    return folder


def resume(
    path: Path,
    runner: Callable[[Loaded, Path], Runner],
    *,
    more_trials: int = 0,
    overrides: Mapping[str, object] | None = None,
    console: Console,
    observers: Sequence[Observer] = (),
    trust: bool = False,
) -> RunFolder:
    """Go on with a stored run; ``more_trials`` extends its budget.

    Executes the ``experiment.py`` of the run; ``trust``: also if it belongs to another user.

    Raises: UserError when an override would make it another experiment; Interrupted.
    """
    folder = RunFolder.open(path)
    loaded = reload(folder, overrides, trust=trust)
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
    if folder.info.fingerprint != experiment.former_fingerprint:  # runs of raynas 0.1 go on
        folder.expect(experiment.fingerprint, experiment.description())
    hand = runner(loaded, folder.path)
    # nothing changes in a folder that another process writes
    with (
        _terminated_in_order() as heed,
        _interruptible(folder),
        _writer(folder, console) as writer,
    ):
        payload = prepare(experiment)
        if overrides:
            kept = {**folder.info.overrides, **overrides}
            folder = folder.update(overrides=kept, description=experiment.description())
        _carry_out(folder, loaded, payload, writer, hand, console, observers, heed)
    return folder


def _writer(folder: RunFolder, console: Console) -> Writer:
    def waiting(words: str) -> None:
        console.print(words, soft_wrap=True, markup=False, highlight=False)

    provenance = Provenance.collect(folder.info.source_file)
    return Writer(folder, next_session(read(folder)), provenance, waiting=waiting)


def _carry_out(
    folder: RunFolder,
    loaded: Loaded,
    payload: Payload,
    writer: Writer,
    hand: Runner,
    console: Console,
    observers: Sequence[Observer],
    heed: Callable[[], None],
) -> None:
    board = Board(observers)
    try:
        if observers:
            hand.open()  # Ray's metrics need Ray
        board.open(folder.info.run, folder.path, folder.info.description)
        rows = _Shown(writer, board)
        experiment, session = loaded.experiment, writer.session
        keep_space(folder, experiment)
        Session(folder, experiment, payload, rows, hand, console, session).go()
    except TakenOver:
        raise
    except Exception as error:
        with contextlib.suppress(Exception):  # what ended the run is what the user must see
            writer.check()
            finish(folder, loaded.experiment, console)
        if isinstance(error, Interrupted):
            raise Interrupted(f"raynas resume {folder.place}") from None
        raise
    finally:
        board.close()
        show_remarks(board.remarks, console)
        hand.close()
        heed()
    writer.check()
    finish(folder, loaded.experiment, console)


class _Shown:
    """Rows are stored, then shown to observers."""

    def __init__(self, rows: Rows, board: Board) -> None:
        self._rows, self._board = rows, board

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows.append(rows)
        self._board.show(rows)


def _metrics(experiment: Experiment) -> tuple[Any, ...]:
    """The metric columns of the run: the search's, then what its other stages add."""
    screened = experiment.screen.metrics if experiment.screen else ()
    found = {m.name: m for m in (*screened, *experiment.evaluator.metrics)}
    finalists, more = experiment.finalists, list[Metric]()
    if needed := experiment.needs():
        more += needed.metrics
    if experiment.truth:
        more += experiment.truth.evaluator.metrics
    if finalists.top and not finalists_refused(experiment):
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
