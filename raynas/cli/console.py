"""Output of the commands: runs, exports and parts, for people, at 80 columns."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from raynas.core import Trial, TrialState, UserError, unknown_option
from raynas.core.printable import DEGRADED, printable
from raynas.data.source import size_text
from raynas.pipeline.live import clock, shorten
from raynas.pipeline.printing import PlainData, data_console, show_remarks

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.analysis.summary import TrialSummary
    from raynas.apps.doctor import CheckResult
    from raynas.apps.plan import ExperimentPlan
    from raynas.apps.simulate import SimulatedSearch
    from raynas.apps.verify import VerifiedTrial
    from raynas.costs import LatencyMeasurement
    from raynas.data.source import DatasetSource
    from raynas.data.source import FoundFiles as FoundSet
    from raynas.pipeline.results import WrittenFile
    from raynas.reports import RunSummary
    from raynas.runners.simulated_cluster import WorkerUsage
    from raynas.store import RunFolder
    from raynas.training import ExportedNetwork

_REGISTRIES = {
    "spaces": ("raynas.spaces", "SPACES"),
    "data": ("raynas.data", "DATASETS"),
    "evaluators": ("raynas.evaluators", "EVALUATORS"),
    "proxies": ("raynas.proxies", "proxies"),
    "samplers": ("raynas.samplers", "samplers"),
    "schedulers": ("raynas.schedulers", "schedulers"),
    "callbacks": ("raynas.callbacks", "CALLBACKS"),
    "benchmarks": ("raynas.benchmarks", "BENCHMARKS"),
    "rules": ("raynas.supernet", "RULES"),
}


_COUNTS = {"params", "macs", "layers", "images"}
_STAGES = {"truth": "to judge the search by", "tuned": "finalists, from inherited weights"}


def console() -> Console:
    """Return the console of the commands.

    All text is data, without markup, and the terminal may know ASCII only.

    Returns:
        A console on standard output.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "backslashreplace":
        sys.stdout.reconfigure(errors=DEGRADED)  # replaces the command line's own setting
    return data_console()


def show_parts(kind: str | None, out: Console) -> None:
    """Show the parts of one kind, or of all, with the first paragraph of their documentation.

    Args:
        kind: Kind of part; None for all.
        out: The console.

    Raises:
        UserError: The kind is not known.
    """
    if kind is not None and kind not in _REGISTRIES:
        raise unknown_option("kind of part", kind, _REGISTRIES)
    for name in [kind] if kind else _REGISTRIES:
        module, registry = _REGISTRIES[name]
        out.print(name, style="italic")
        table = Table(box=None, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        parts = getattr(importlib.import_module(module), registry)
        for part in (parts() if callable(parts) else parts).values():
            table.add_row(part.__name__, Text(_summary(part)))
        out.print(table)


def show_source(source: DatasetSource, found: FoundSet | None, begun: int, out: Console) -> None:
    """Show a data set: what it is, its state, where it is looked for, and how to get it.

    Args:
        source: The data set.
        found: Its place on this machine; None where it was not found.
        begun: Bytes that were fetched by an incomplete download.
        out: The console.
    """
    state, style = "not there", "dim"
    if found is not None:
        state, style = ("incomplete", "yellow") if found.missing else ("there", "green")
    head = Text.assemble((f"{source.name:<14}", "bold"), (f"{state:<11}", style), source.what)
    out.print(head, soft_wrap=True)
    if found is not None:
        show_found(found, out, "  ")
    roots = source.roots()
    if roots:
        _point("looked into", ", ".join(map(str, roots)), out)
    if found is not None and not found.missing:
        return
    if source.below:
        _point("and their", ", ".join(source.below), out)
    if source.download is None:
        _point("to get it", source.otherwise, out)
    else:
        size, publisher = size_text(source.download.size), source.download.publisher
        here = f", {size_text(begun)} of them are here" if begun else ""
        _point("to get it", f"{source.command()} ({size} from {publisher}{here})", out)


def show_found(found: FoundSet, out: Console, indent: str = "") -> None:
    """Show the place of a data set, its form, and its missing files.

    Args:
        found: The place.
        out: The console.
        indent: Blanks before each line.
    """
    place = printable(str(found.place))
    out.print(f"{indent}{place} ({found.layout.name})", soft_wrap=True)
    if found.missing:
        shown = ", ".join(found.missing[:4]) + (", ..." if len(found.missing) > 4 else "")
        out.print(f"{indent}without {shown}", soft_wrap=True)


def _point(label: str, text: str, out: Console) -> None:
    """Print a label and lines beside it, which break between words only."""
    width = max(out.width - 15, 20)
    lines = textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False)
    for i, line in enumerate(lines):
        out.print(f"  {'' if i else label:<12} {line}", soft_wrap=True)


@contextlib.contextmanager
def downloading(out: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with size, speed and time left on a terminal; elsewhere show nothing.

    Args:
        out: The console.

    Yields:
        A function to call with the name of a file, the bytes that are here, and all its bytes.
    """
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(shorten(name, 28), total=total)
            bar.update(tasks[name], completed=done)

        yield told


def _summary(part: type) -> str:
    """Return the first paragraph of the documentation, on one line."""
    first = (part.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def show_export(exported: ExportedNetwork, out: Console) -> None:
    """Show the files of an export, and how far their outputs differ from the network's own.

    Args:
        exported: The files.
        out: The console.
    """
    for name, path in exported.paths.items():
        difference = exported.differences.get(name)
        checked = "" if difference is None else f"  (outputs differ by at most {difference:.1e})"
        out.print(f"{name}: {path}{checked}", soft_wrap=True)
    show_remarks(exported.remarks, out)


def show_written(what: str, written: WrittenFile, out: Console) -> None:
    """Show the path of a written file, and a remark on what is missing in it.

    Args:
        what: Name of the file's kind.
        written: The file.
        out: The console.
    """
    if written.remark:
        show_remarks([written.remark], out)
    out.print(f"{what}: {printable(str(written.path))}", soft_wrap=True)


def show_special(
    found: Trial, exported: ExportedNetwork, latency: LatencyMeasurement | None, out: Console
) -> None:
    """Show a network that was taken out of a supernet, with its metrics and files.

    Args:
        found: The trial that the search has of it.
        exported: Its files.
        latency: Its latency on this machine; None where it was not measured.
        out: The console.
    """
    shown = ", ".join(
        f"{name} {_short(value) if name in _COUNTS else f'{value:.2f}'}"
        for name, value in found.values().items()
    )
    out.print(Text(printable(found.arch.text), style="bold"), soft_wrap=True)
    out.print(f"trial {found.number}: {shown}", soft_wrap=True)
    if latency is not None:
        out.print(f"latency now: {latency}", soft_wrap=True)
    show_export(exported, out)


def show_scores(scores: pa.Table, proxies: Sequence[str], top: int, out: Console) -> None:
    """Show the best of a table of scores, and what is missing.

    As many columns are shown as the width holds.

    Args:
        scores: The table, best first.
        proxies: Names of its columns of scores.
        top: Number of architectures shown.
        out: The console.
    """
    fit = max((out.width - 21) // 13, 1)
    shown = [name for name in proxies if name != "params"][:fit]
    table = Table(box=None, pad_edge=False)
    table.add_column("architecture", no_wrap=True)
    for name in ("params", *shown):
        table.add_column(name, justify="right", no_wrap=True, max_width=11)
    best = scores.slice(0, top).to_pylist()
    for row in best:
        cells = [_score(row[name]) for name in shown]
        width = max(out.width - 9 - 13 * len(shown), 12)
        table.add_row(shorten(row["arch"], width), _short(row["params"]), *cells)
    if best:
        out.print(table)
        out.print(f"first by ranks together: {printable(best[0]['arch'])}", soft_wrap=True)
    remarks = Counter(text for text in scores["message"].to_pylist() if text)
    counted = "1 architecture" if len(scores) == 1 else f"{len(scores)} architectures"
    out.print(f"{counted}; {sum(remarks.values())} without a score")
    for text, count in remarks.most_common(3):
        out.print(Text(f"  {count}: {printable(text)}", style="dim"), soft_wrap=True)


def _score(value: float | None) -> str:
    """Return a score in at most 11 letters."""
    if value is None:
        return "-"
    text = f"{value:.5g}"
    return text if len(text) <= 11 else f"{value:.4g}"


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
        out.print(f"        it broke off: {printable(found.failure)}", soft_wrap=True, markup=False)


def show_finding(finding: CheckResult, out: Console) -> None:
    """Show the result of one check.

    Args:
        finding: The result.
        out: The console.
    """
    mark, style = ("ok", "green") if finding.good else ("NOT OK", "bold red")
    line = Text.assemble(
        (f"{mark:<6} ", style), (finding.name, "bold"), f": {printable(finding.found)}"
    )
    out.print(line, soft_wrap=True)
    if not finding.good and finding.hint:
        out.print(f"       hint: {finding.hint}", soft_wrap=True)


def show_plan(plan: ExperimentPlan, out: Console) -> None:
    """Show the estimates for an experiment.

    Args:
        plan: The estimates.
        out: The console.
    """
    share = f"{plan.feasible} of {plan.drawn} drawn at random"
    kept = f"keep {', '.join(plan.bounds)}" if plan.bounds else "are allowed: there are no bounds"
    out.print(f"space: {plan.size:,} architectures; {share} {kept}", soft_wrap=True)
    if plan.failed:
        what = f"{plan.failed} of {plan.drawn} have no network; most often: {plan.reason}"
        out.print(Text(what, style="yellow"), soft_wrap=True)
    costs = Table(box=None, pad_edge=False)
    for name in ("cost", "least", "median", "most"):
        costs.add_column(name, justify="left" if name == "cost" else "right")
    for name, spread in plan.costs.items():
        unit = " MB" if name == "memory_mb" else ""
        values = (spread.least, spread.median, spread.most)
        label = "memory of a step" if unit else name
        costs.add_row(label, *(f"{_short(value)}{unit}" for value in values))
    out.print(costs)
    stages = Table(box=None, pad_edge=False)
    for name in ("stage", "trials", "steps", f"hours of one {plan.device}"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for stage in plan.stages:
        hours = "-" if stage.hours is None else f"{stage.hours:.2f}"
        stages.add_row(stage.name, str(stage.trials), f"{stage.steps:.0f}", hours)
    out.print(stages)
    if plan.step_seconds is None:
        out.print("no probe: how long a step takes is not known")
        return
    out.print(
        f"a step of the median architecture takes {plan.step_seconds:.2f} s here; "
        f"in all {plan.hours or 0:.2f} hours of one {plan.device}, divided by the workers",
        soft_wrap=True,
    )
    if plan.most_workers is not None:
        out.print(
            f"more than about {plan.most_workers} workers would wait for the driver", soft_wrap=True
        )


# -- runs --------------------------------------------------------------------------------------


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
    from raynas.reports.sentences import trained_sentence
    from raynas.store import read

    run = statistics.load(read(folder), folder.info.description)
    summary = summarise(run)
    head = Text.assemble(
        (printable(folder.info.name), "bold"), f"  {printable(folder.place)}", overflow="fold"
    )
    try:
        driver = folder.driver()
        now = f"running ({driver})" if driver else "at rest"
    except OSError:
        now = "who writes it is not known"
        if folder.asked is None and folder.remote is not None:
            now += f"; to ask the storage that it names: raynas status {folder.place}"
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
    if summary.arms or summary.training is None:
        parts.append(_arms(summary))
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


def _arms(summary: RunSummary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", style="bold")
    states = [str(state) for state in TrialState]
    for state in states:
        table.add_column(state.lower(), justify="right", no_wrap=True)
    screening = any(arm.screened for arm in summary.arms)
    if screening:
        table.add_column("screened out", justify="right")
    table.add_column("worker time", justify="right")
    for arm in summary.arms:
        limited = arm.main and summary.budget
        trials = f"{arm.evaluated}/{summary.budget}" if limited else arm.started
        table.add_row(
            f"{printable(arm.arm)} {trials}",
            *(str(arm.states.get(state, 0)) for state in states),
            *([str(arm.screened)] if screening else []),
            clock(arm.seconds),
        )
    return table


def _rungs(summary: RunSummary) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("arm", "rung", "reached", "went on", "stopped"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for rung in summary.rungs:
        counts = (rung.step, rung.reached, rung.went_on, rung.stopped)
        table.add_row(printable(rung.arm), *map(str, counts))
    return table


def _best(summary: RunSummary, best: Sequence[TrialSummary], width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    costs = {"params", "macs"}
    names = [o.metric for o in summary.objectives if o.metric not in costs]
    for name in ("trial", "arm", *names, "params", "macs"):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    for found in best:
        table.add_row(
            str(found.trial),
            printable(found.arm),
            *(f"{found.values[name]:.2f}" for name in names),
            _short(found.params),
            _short(found.macs),
            shorten(found.arch, max(width - 36 - 14 * len(names), 12)),
        )
    return table


def _short(count: float) -> str:
    """``1234567`` -> ``1.23M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}" if count == count else "-"


# -- simulated searches, benchmarks ------------------------------------------------------------

_MOMENTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)


def show_simulation(found: Sequence[SimulatedSearch], price: float | None, out: Console) -> None:
    """Show the anytime curve of a single cluster, then utilisation and cost of each cluster.

    Args:
        found: The simulated searches, at least one.
        price: Price of one hour of one worker; None leaves costs out.
        out: The console.
    """
    if len(found) == 1:
        out.print(_anytime(found[0]))
    out.print(_clusters(found, price))
    for one in found:
        usage = one.usage
        out.print(_account(usage), soft_wrap=True)
        if one.note:
            out.print(f"  ended early: {one.note}", style="yellow", soft_wrap=True)
    best = found[-1].best
    if best and not found[-1].made_up:
        out.print(
            f"best: {printable(best[-1].arch)}  (trial {best[-1].trial})",
            soft_wrap=True,
            markup=False,
        )


def _anytime(one: SimulatedSearch) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("simulated time", "complete", "stopped", "others", _best_of(one)):
        table.add_column(name, justify="right", no_wrap=True)
    for share in _MOMENTS:
        best, ended = one.at(share * one.usage.seconds)
        others = sum(ended.values()) - ended["COMPLETE"] - ended["STOPPED"]
        table.add_row(
            clock(share * one.usage.seconds),
            str(ended["COMPLETE"]),
            str(ended["STOPPED"]),
            str(others),
            f"{best.value:.2f}" if best else "-",
        )
    return table


def _best_of(one: SimulatedSearch) -> str:
    return f"{'made-up' if one.made_up else 'best'} {one.objective.metric}"


def _clusters(found: Sequence[SimulatedSearch], price: float | None) -> Table:
    table = Table(box=None, pad_edge=False)
    best_of = "made up" if found[0].made_up else "best"
    heads = ("workers", "ended", "trials", best_of, "best after", "useful", "worker-h")
    for name in (*heads, *(["cost"] if price is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        best, usage = (one.best[-1] if one.best else None), one.usage
        hours = usage.total / 3600
        table.add_row(
            str(usage.workers),
            clock(usage.seconds),
            str(len(one.ends)),
            f"{best.value:.2f}" if best else "-",
            clock(best.clock_s) if best else "-",
            f"{usage.utilisation:.1%}",
            f"{hours:,.1f}",
            *([f"{hours * price:,.2f}"] if price is not None else []),
        )
    return table


def _account(usage: WorkerUsage) -> str:
    """Return the shares of the workers' time by use."""
    parts = {
        "useful": usage.useful,
        "lost and done again": usage.lost,
        "starting": usage.starting,
        "away": usage.down,
        "idle": usage.idle,
    }
    shares = ", ".join(f"{100 * s / usage.total:.1f} % {n}" for n, s in parts.items() if s > 0)
    deaths = f"; {usage.failures} failures, {usage.preemptions} preemptions"
    some = usage.failures + usage.preemptions > 0
    who = "1 worker" if usage.workers == 1 else f"{usage.workers} workers"
    return f"{who}: {shares or 'nothing done'}{deaths if some else ''}"


@contextlib.contextmanager
def progress(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; elsewhere print a line every tenth.

    Args:
        out: The console.
        what: Name of the work.

    Yields:
        A function to call with the number that is done and the number of all.
    """
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not out.is_terminal and done * 10 // total > (done - 1) * 10 // total:
                out.print(f"{what}: {done} of {total}")

        yield told


@contextlib.contextmanager
def counted(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show counts with the time that is left on a terminal; elsewhere print a line every 10 s.

    Work that was done before the first call is not counted for the pace.

    Args:
        out: The console.
        what: Name of the work.

    Yields:
        A function to call with the number that is done and the number of all.
    """
    live = Live(console=out, transient=True, auto_refresh=False) if out.is_terminal else None
    began = shown = time.monotonic()
    before: int | None = None

    def told(done: int, total: int) -> None:
        nonlocal shown, before
        now = time.monotonic()
        before = done if before is None else before
        if now - shown < (0.25 if live else 10.0):
            return
        shown = now
        pace = (now - began) / (done - before) if done > before else None
        left = f", about {clock(pace * (total - done))} left" if pace is not None else ""
        line = Text(f"{what}: {done:,} of {total:,}{left}")
        if live is not None:
            live.update(line, refresh=True)
        else:
            out.print(line)

    with live or contextlib.nullcontext():
        yield told


def show_missing(table: Path, missing: Mapping[str, int], out: Console) -> None:
    """Show the path of a table, and for how many cells it lacks each kind of value.

    Args:
        table: The file of the table.
        missing: Kind of value -> number of cells without it.
        out: The console.
    """
    for name, count in missing.items():
        out.print(f"  {name} is missing for {count} cells", style="dim")
    out.print(f"table: {table}", soft_wrap=True)
