"""Options that several commands have in common, and the objects made from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from raynas.experiment import LoadedExperiment
    from raynas.runners.base import Runner


def _run_path(text: str) -> Path:
    """Return the folder of a run; for one in remote storage, a fresh working copy."""
    from raynas.store.remote import is_uri
    from raynas.store.working_copies import look

    return look(text) if is_uri(text) else Path(text)


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


def runner_for(address: str | None, local: bool) -> Any:
    """Return a function that makes the runner of an experiment.

    Args:
        address: Address of a Ray cluster to join; None starts Ray on this machine.
        local: Whether trials run in this process, without Ray.

    Returns:
        A function of the loaded experiment and the folder of its run.

    Raises:
        UserError: Both ``local`` and an address are given.
    """
    from raynas.core import UserError

    if local and address is not None:
        raise UserError("--local and --address together", hint="give only one of them")

    def make(loaded: LoadedExperiment, folder: Path) -> Runner:
        resources = loaded.experiment.resources
        if local:
            from raynas.runners.local import LocalRunner

            return LocalRunner(resources)
        from raynas.runners.ray.lost_nodes import LostMachines
        from raynas.runners.ray.runner import RayRunner

        return RayRunner(
            resources,
            address=address,
            scratch=folder / "tune",
            modules=(loaded.module,),
            log=folder / "logs" / "ray.log",
            losses=LostMachines(_tell),
        )

    return make


def _tell(line: str) -> None:
    """Print a line to standard error, beside the live view."""
    from raynas.core.printable import printable

    print(printable(line), file=sys.stderr)


def callbacks_for(text: str, local: bool) -> list[Any]:
    """Make the callbacks of some names.

    Args:
        text: Names separated by commas; empty for none.
        local: Whether trials run in this process, without Ray.

    Returns:
        The callbacks.

    Raises:
        UserError: A name is not known.
    """
    names = names_in(text)
    if not names:
        return []
    from raynas.callbacks import CALLBACKS, Prometheus
    from raynas.core import unknown_option

    for name in names:
        if name not in CALLBACKS:
            raise unknown_option("callback", name, CALLBACKS)
    made = [CALLBACKS[name]() for name in names]
    for callback in made:
        if isinstance(callback, Prometheus) and not local:
            from raynas.runners.ray.gauges import make_meter

            callback.make = make_meter
    return made


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
