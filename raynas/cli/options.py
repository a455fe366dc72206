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
        metavar="RUN", parser=_run_path, help="Folder or URI of a run: runs/NAME, s3://BUCKET/NAME."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="Folder or URI of the new run. Default: the experiment's name with a number, in "
        "$RAYNAS_STORAGE, else in runs."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting: budget.trials=8."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Address of a Ray cluster: auto or HOST:PORT. Default: Ray on this machine."),
]
Local = Annotated[
    bool, typer.Option("--local", help="Run all trials in this process, without Ray.")
]
Callbacks = Annotated[
    str, typer.Option(help="Comma-separated: tensorboard, mlflow, wandb, prometheus.")
]
Observe = Annotated[str, typer.Option(hidden=True, help="The old name of --callbacks.")]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Execute the run's experiment.py even if it belongs to another user."
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
