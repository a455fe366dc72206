"""Views of exported files, scores and tables, at 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raynas.cli.console import short_count
from raynas.core import Trial
from raynas.core.printable import printable
from raynas.pipeline.live import shorten
from raynas.pipeline.printing import show_remarks

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.costs import LatencyMeasurement
    from raynas.pipeline.results import WrittenFile
    from raynas.training import ExportedNetwork

_COUNTS = {"params", "macs", "layers", "images"}


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
        f"{name} {short_count(value) if name in _COUNTS else f'{value:.2f}'}"
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
        table.add_row(shorten(row["arch"], width), short_count(row["params"]), *cells)
    if best:
        out.print(table)
        out.print(f"best by combined rank: {printable(best[0]['arch'])}", soft_wrap=True)
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
