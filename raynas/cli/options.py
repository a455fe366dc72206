"""Options that several commands have in common, and the values made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _run_path(text: str) -> Path:
    """Return the folder of a run; for one in remote storage, a fresh working copy."""
    from raynas.pipeline.setup import run_path

    return run_path(text)


RunPath = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", parser=_run_path, help="A run's folder, as runs/NAME or s3://BUCKET/NAME."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="The run's folder, or s3://BUCKET/NAME; default NAME, numbered, in $RAYNAS_STORAGE, "
        "else in runs."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, as budget.trials=8."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join: auto or HOST:PORT."),
]
Local = Annotated[bool, typer.Option("--local", help="In this process, without Ray.")]
Callbacks = Annotated[
    str, typer.Option(help="Also show results in: tensorboard, mlflow, wandb, prometheus.")
]
Observe = Annotated[str, typer.Option(hidden=True, help="The old name of --callbacks.")]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Execute the run's experiment.py also if it belongs to another user."
    ),
]


def names_in(text: str) -> tuple[str, ...]:
    """Split a text at its commas into names.

    Args:
        text: Names separated by commas.

    Returns:
        The names, without blanks around them and without empty ones.

    Example:
        >>> names_in("naswot, synflow,")
        ('naswot', 'synflow')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())
