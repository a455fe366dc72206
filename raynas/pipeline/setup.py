"""This module makes the runner and the callbacks of a run, and finds its folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raynas.core import UserError, unknown_option
from raynas.core.printable import printable

if TYPE_CHECKING:
    from raynas.callbacks import RunCallback
    from raynas.experiment import LoadedExperiment
    from raynas.runners.base import Runner


def run_path(place: Path | str) -> Path:
    """Return the folder of a stored run; for a URI, an up-to-date working copy.

    Args:
        place: The path of the folder, or a URI such as ``s3://bucket/run``.

    Returns:
        The path. It is not checked that a run is there, unless ``place`` is a URI.

    Raises:
        UserError: If the storage cannot be read, or holds no run.
    """
    from raynas.store.remote import is_uri
    from raynas.store.working_copies import look

    return look(str(place)) if is_uri(str(place)) else Path(place)


def runner_for(
    address: str | None = None, local: bool = False
) -> Callable[[LoadedExperiment, Path], Runner]:
    """Return a function that makes the runner of an experiment.

    Args:
        address: Address of a Ray cluster to join; None starts Ray on this machine.
        local: True carries out trials in this process, without Ray.

    Returns:
        A function of the loaded experiment and the folder of its run.

    Raises:
        UserError: If both ``local`` and an address are given.
    """
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
    print(printable(line), file=sys.stderr)


def callbacks_for(callbacks: Sequence[str | RunCallback], local: bool) -> list[RunCallback]:
    """Make the callbacks that are given by name.

    Args:
        callbacks: Names, as ``raynas list callbacks`` shows them, and objects, which stay.
        local: True if trials run in this process, without Ray.

    Returns:
        The callbacks.

    Raises:
        UserError: If a name is not known.
    """
    if not callbacks:
        return []
    from raynas.callbacks import CALLBACKS, Prometheus

    for name in callbacks:
        if isinstance(name, str) and name not in CALLBACKS:
            raise unknown_option("callback", name, CALLBACKS)
    made = [CALLBACKS[one]() if isinstance(one, str) else one for one in callbacks]
    for callback in made:
        if isinstance(callback, Prometheus) and not local:
            from raynas.runners.ray.gauges import make_meter

            callback.make = make_meter
    return made
