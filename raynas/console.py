"""What commands print: runs, exports and parts, for people, at 80 columns."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from raynas.core import one_of

_REGISTRIES = {
    "spaces": ("raynas.spaces", "SPACES"),
    "data": ("raynas.data", "DATASETS"),
    "evaluators": ("raynas.evaluators", "EVALUATORS"),
    "samplers": ("raynas.samplers", "SAMPLERS"),
    "schedulers": ("raynas.schedulers", "SCHEDULERS"),
}


def console() -> Console:
    return Console(highlight=False)


def show_parts(kind: str | None, out: Console) -> None:
    """The parts of one kind, or of all, with the first line of their documentation."""
    if kind is not None and kind not in _REGISTRIES:
        raise one_of("kind of part", kind, _REGISTRIES)
    for name in [kind] if kind else _REGISTRIES:
        module, registry = _REGISTRIES[name]
        table = Table(title=name, title_justify="left", box=None, show_header=False)
        table.add_column(style="bold")
        table.add_column()
        for part in getattr(importlib.import_module(module), registry).values():
            doc = (part.__doc__ or "").strip().splitlines()
            table.add_row(part.__name__, doc[0] if doc else "")
        out.print(table)
