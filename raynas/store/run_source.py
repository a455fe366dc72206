"""This module has the source of an experiment in the folder of a run."""

from __future__ import annotations

from pathlib import Path

PICKLE = "experiment.pkl"
"""The file with an experiment that no source can make; ``experiment.py`` loads it."""
WRITTEN = '"""Written by raynas'
"""The beginning of an ``experiment.py`` that raynas wrote itself."""


def is_written(source: Path) -> bool:
    """Return True if raynas wrote the file of an experiment itself, so that no user knows it.

    Args:
        source: The path of an ``experiment.py``.

    Returns:
        False for other files, and where the file cannot be read.
    """
    try:
        with source.open(encoding="utf-8", errors="replace") as file:
            return file.read(len(WRITTEN)) == WRITTEN
    except OSError:
        return False
