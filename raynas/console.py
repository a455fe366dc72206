"""What commands print: runs, exports and parts, for people, at 80 columns."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raynas.core import Trial, TrialState, one_of
from raynas.runners.live import clock, shorten

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.costs import Latency
    from raynas.reports import Summary
    from raynas.reports.tables import Found
    from raynas.store import RunFolder
    from raynas.training import Exported

_REGISTRIES = {
    "spaces": ("raynas.spaces", "SPACES"),
    "data": ("raynas.data", "DATASETS"),
    "evaluators": ("raynas.evaluators", "EVALUATORS"),
    "proxies": ("raynas.proxies", "proxies"),
    "samplers": ("raynas.samplers", "samplers"),
    "schedulers": ("raynas.schedulers", "schedulers"),
    "rules": ("raynas.supernet", "RULES"),
}


_COUNTS = {"params", "macs", "layers", "images"}
_STAGES = {"truth": "to judge the search by", "tuned": "finalists, from inherited weights"}


def console() -> Console:
    return Console(highlight=False)


def show_parts(kind: str | None, out: Console) -> None:
    """The parts of one kind, or of all, with the first line of their documentation."""
    if kind is not None and kind not in _REGISTRIES:
        raise one_of("kind of part", kind, _REGISTRIES)
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


def _summary(part: type) -> str:
    """The first paragraph of the documentation, on one line."""
    first = (part.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def show_export(exported: Exported, out: Console) -> None:
    """The files, and how far their outputs are from the network's own."""
    for name, path in exported.paths.items():
        difference = exported.differences.get(name)
        checked = "" if difference is None else f"  (outputs differ by at most {difference:.1e})"
        out.print(f"{name}: {path}{checked}", soft_wrap=True)


def show_special(found: Trial, exported: Exported, latency: Latency | None, out: Console) -> None:
    """A network that was taken out: what is known of it, and its files."""
    shown = ", ".join(
        f"{name} {_short(value) if name in _COUNTS else f'{value:.2f}'}"
        for name, value in found.values().items()
    )
    out.print(Text(found.arch.text, style="bold"), soft_wrap=True)
    out.print(f"trial {found.number}: {shown}", soft_wrap=True)
    if latency is not None:
        out.print(f"latency now: {latency}", soft_wrap=True)
    show_export(exported, out)


def show_scores(scores: pa.Table, proxies: Sequence[str], top: int, out: Console) -> None:
    """The best of a table of scores by ``proxies`` (its columns), and what is missing.

    As many columns as the width holds.
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
        out.print(f"first by ranks together: {best[0]['arch']}", soft_wrap=True)
    remarks = Counter(text for text in scores["message"].to_pylist() if text)
    counted = "1 architecture" if len(scores) == 1 else f"{len(scores)} architectures"
    out.print(f"{counted}; {sum(remarks.values())} without a score")
    for text, count in remarks.most_common(3):
        out.print(Text(f"  {count}: {text}", style="dim"), soft_wrap=True)


def _score(value: float | None) -> str:
    """At most 11 letters."""
    if value is None:
        return "-"
    text = f"{value:.5g}"
    return text if len(text) <= 11 else f"{value:.4g}"


# -- runs --------------------------------------------------------------------------------------


def show_status(folder: RunFolder, out: Console) -> None:
    """The state of a run, from its store."""
    out.print(_state(folder, out.width))


def watch(folder: RunFolder, out: Console, every: float) -> None:
    """Show the state again and again until Ctrl-C."""
    try:
        with Live(_state(folder, out.width), console=out, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(_state(folder, out.width), refresh=True)
    except KeyboardInterrupt:
        return


def _state(folder: RunFolder, width: int) -> RenderableType:
    from raynas.reports import statistics
    from raynas.reports.sentences import trained_sentence
    from raynas.reports.tables import summarise, top
    from raynas.store import read

    run = statistics.load(read(folder), folder.info.description)
    summary, writer = summarise(run), folder.live_writer()
    head = Text.assemble((folder.info.name, "bold"), f"  {folder.path}", overflow="fold")
    now = f"running (process {writer})" if writer else "at rest"
    ago = "" if summary.last_time is None else f"; last result {_ago(summary.last_time)} ago"
    parts: list[RenderableType] = [
        head,
        Text(f"{now}{ago}"),
        Text(
            f"{summary.rows} measurements, {clock(summary.elapsed)} of wall time, "
            f"{clock(summary.worker_seconds)} of worker time"
        ),
    ]
    if summary.training is not None:
        parts.append(Text(trained_sentence(summary.training)))
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


def _arms(summary: Summary) -> Table:
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
            f"{arm.arm} {trials}",
            *(str(arm.states.get(state, 0)) for state in states),
            *([str(arm.screened)] if screening else []),
            clock(arm.seconds),
        )
    return table


def _rungs(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("arm", "rung", "reached", "went on", "stopped"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for rung in summary.rungs:
        counts = (rung.step, rung.reached, rung.went_on, rung.stopped)
        table.add_row(rung.arm, *map(str, counts))
    return table


def _best(summary: Summary, best: Sequence[Found], width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    names = [o.metric for o in summary.objectives]
    for name in ("trial", "arm", *names, "params", "macs"):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    for found in best:
        table.add_row(
            str(found.trial),
            found.arm,
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
