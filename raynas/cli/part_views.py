"""Views of the parts of experiments and of data sets, at 80 columns."""

from __future__ import annotations

import importlib
import textwrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raynas.core import unknown_option
from raynas.core.printable import printable
from raynas.data.source import size_text

if TYPE_CHECKING:
    from raynas.data.source import DatasetSource
    from raynas.data.source import FoundFiles as FoundSet

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
    state, style = "not found", "dim"
    if found is not None:
        state, style = ("incomplete", "yellow") if found.missing else ("found", "green")
    head = Text.assemble((f"{source.name:<14}", "bold"), (f"{state:<11}", style), source.what)
    out.print(head, soft_wrap=True)
    if found is not None:
        show_found(found, out, "  ")
    roots = source.roots()
    if roots:
        _point("searched in", ", ".join(map(str, roots)), out)
    if found is not None and not found.missing:
        return
    if source.below:
        _point("subfolders", ", ".join(source.below), out)
    if source.download is None:
        _point("how to get", source.otherwise, out)
    else:
        size, publisher = size_text(source.download.size), source.download.publisher
        here = f", {size_text(begun)} of them are present" if begun else ""
        _point("how to get", f"{source.command()} ({size} from {publisher}{here})", out)


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


def _summary(part: type) -> str:
    """Return the first paragraph of the documentation, on one line."""
    first = (part.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "").split())
