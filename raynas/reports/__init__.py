"""Reports of a run, made from its store alone; test data appear for finalists only.

``write_report`` makes ``report.html`` and ``figures/``; ``summary`` the few values that a terminal
shows; ``rank_qualities`` judges scores by the truth. Heavy modules are imported on first use.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

# matplotlib warns where the home folder cannot be written, and works without it
logging.getLogger("matplotlib").setLevel(logging.ERROR)

if TYPE_CHECKING:
    from raynas.analysis.ranking import RankQuality, rank_qualities, rank_table
    from raynas.analysis.summary import RunSummary, shown_architectures, summary
    from raynas.reports.html import render, write_report

__all__ = [
    "RankQuality", "RunSummary", "rank_qualities", "rank_table", "render", "shown_architectures",
    "summary", "write_report",
]  # fmt: skip

_HOMES = {
    "RankQuality": "raynas.analysis.ranking",
    "RunSummary": "raynas.analysis.summary",
    "rank_qualities": "raynas.analysis.ranking",
    "rank_table": "raynas.analysis.ranking",
    "render": "raynas.reports.html",
    "shown_architectures": "raynas.analysis.summary",
    "summary": "raynas.analysis.summary",
    "write_report": "raynas.reports.html",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
