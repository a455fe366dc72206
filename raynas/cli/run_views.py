"""Views of runs, from their stores, at 80 columns."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raynas.cli.console import short_count
from raynas.core import TrialState, UserError
from raynas.core.printable import printable
from raynas.pipeline.live import clock, shorten
from raynas.pipeline.printing import PlainData

if TYPE_CHECKING:
    from raynas.analysis.summary import TrialSummary
    from raynas.apps.verify import VerifiedTrial
    from raynas.reports import RunSummary
    from raynas.store import RunFolder

_STAGES = {"truth": "ranking check", "tuned": "fine-tuned finalists"}


def show_verified(found: VerifiedTrial, out: Console) -> None:
    """Show one trial that was measured again.

    Args:
        found: The trial.
        out: The console.
    """
    trial, good = found.trial, not found.differs
    mark, style = ("same", "green") if good else ("DIFFERS", "bold red")
    arch = shorten(trial.arch.text, max(out.width - 40, 20))
    text = f" trial {trial.number}, {found.steps} steps, {arch}"
    out.print(Text.assemble((f"{mark:<7}", style), text), soft_wrap=True)
    if good and found.most:
        out.print(f"        at most {found.most:.1e} apart")
    for step, name, stored, now in found.differs[:4]:
        was, is_now = ("missing" if math.isnan(v) else f"{v:.6g}" for v in (stored, now))
        out.print(f"        step {step}: {name} was {was}, is {is_now} now")
    if found.failure:
        out.print(f"        it failed: {printable(found.failure)}", soft_wrap=True, markup=False)


def show_status(folder: RunFolder, out: Console) -> None:
    """Show the state of a run, from its store.

    Args:
        folder: The folder of the run.
        out: The console.
    """
    out.print(_state(folder, out.width))


def watch(folder: RunFolder, out: Console, every: float) -> None:
    """Show the state of a run again and again until Ctrl-C.

    Args:
        folder: The folder of the run.
        out: The console.
        every: Seconds between two looks.
    """
    try:
        with Live(PlainData(_state(folder, out.width)), console=out, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                with contextlib.suppress(
                    UserError
                ):  # the storage cannot be reached: keep the last view
                    folder = folder.refresh()
                live.update(PlainData(_state(folder, out.width)), refresh=True)
    except KeyboardInterrupt:
        return


def _state(folder: RunFolder, width: int) -> RenderableType:
    from raynas.analysis import statistics
    from raynas.analysis.summary import summarise, top
    from raynas.reports.supernet_sentences import trained_sentence
    from raynas.store import read

    run = statistics.load(read(folder), folder.info.description)
    summary = summarise(run)
    head = Text.assemble(
        (printable(folder.info.name), "bold"), f"  {printable(folder.place)}", overflow="fold"
    )
    try:
        driver = folder.driver()
        now = f"running ({driver})" if driver else "not running"
    except OSError:
        now = "unknown whether it is running"
        if folder.asked is None and folder.remote is not None:
            now += f"; ask the storage that it names with: raynas status {folder.place}"
    ago = "" if summary.last_time is None else f"; last result {_ago(summary.last_time)} ago"
    parts: list[RenderableType] = [
        head,
        Text(printable(f"{now}{ago}")),
        Text(
            f"{summary.rows} measurements, {clock(summary.elapsed)} of wall time, "
            f"{clock(summary.worker_seconds)} of worker time"
        ),
    ]
    if summary.training is not None:
        parts.append(Text(trained_sentence(summary.training)))
    if summary.failure:
        parts.append(Text(summary.failure, style="yellow"))
    if summary.methods or summary.training is None:
        parts.append(_methods(summary))
    if summary.rungs:
        parts.append(_rungs(summary))
    best = top(run, 5)
    if best:
        parts.append(_best(summary, best, width))
    if summary.finals:
        parts.append(Text(f"finalists: {summary.finals_complete} of {summary.finals} trained"))
    for stage, (all_, complete) in summary.others.items():
        parts.append(Text(f"{_STAGES[stage]}: {complete} of {all_} trained"))
    return Group(*parts)


def _ago(moment: float) -> str:
    return clock(time.time() - moment)


def _methods(summary: RunSummary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("method", style="bold")
    states = [str(state) for state in TrialState]
    for state in states:
        table.add_column(state.lower(), justify="right", no_wrap=True)
    screening = any(method.screened for method in summary.methods)
    if screening:
        table.add_column("screened out", justify="right")
    table.add_column("worker time", justify="right")
    for method in summary.methods:
        limited = method.main and summary.budget
        trials = f"{method.evaluated}/{summary.budget}" if limited else method.started
        table.add_row(
            f"{printable(method.method)} {trials}",
            *(str(method.states.get(state, 0)) for state in states),
            *([str(method.screened)] if screening else []),
            clock(method.seconds),
        )
    return table


def _rungs(summary: RunSummary) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("method", "rung", "reached", "promoted", "stopped"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for rung in summary.rungs:
        counts = (rung.step, rung.reached, rung.promoted, rung.stopped)
        table.add_row(printable(rung.method), *map(str, counts))
    return table


def _best(summary: RunSummary, best: Sequence[TrialSummary], width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    costs = {"params", "macs"}
    names = [o.metric for o in summary.objectives if o.metric not in costs]
    for name in ("trial", "method", *names, "params", "macs"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    for found in best:
        table.add_row(
            str(found.trial),
            printable(found.method),
            *(f"{found.values[name]:.2f}" for name in names),
            short_count(found.params),
            short_count(found.macs),
            shorten(found.arch, max(width - 36 - 14 * len(names), 12)),
        )
    return table
