"""The commands of `raynas`, each a function; :mod:`raynas.cli.main` puts them together."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Load the names of :mod:`raynas.cli.main` when they are first used."""
    if name in ("app", "run_script"):
        from raynas.cli import main

        return getattr(main, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
