"""Commands that export from a run: networks, and studies for Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import RunPath, Trust, names_in


def export(
    run: RunPath,
    to: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: RUN/export.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
    trust: Trust = False,
) -> None:
    """Export the best network, and check that every file computes the same outputs.

    Executes the experiment.py in the run's folder.
    """
    from raynas.cli.console import console
    from raynas.cli.export_views import show_export
    from raynas.pipeline.results import export_best

    show_export(export_best(run, to, names_in(formats), trust=trust), console())


def export_study(
    run: RunPath,
    to: Annotated[
        Path, typer.Argument(metavar="FILE", help="A new SQLite file, such as study.db.")
    ],
) -> None:
    """Write the trials of a run as Optuna studies.

    View them with `optuna-dashboard sqlite:///FILE`. The experiment's code is not executed.
    """
    from raynas.cli.console import console
    from raynas.cli.export_views import show_written
    from raynas.pipeline.results import export_studies

    show_written("studies", export_studies(run, to), console())


def specialize(
    run: RunPath,
    most: Annotated[
        list[str] | None,
        typer.Option(
            "--max", metavar="METRIC=VALUE", help="Upper bound: params=5e5, latency_ms=2."
        ),
    ] = None,
    least: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="METRIC=VALUE", help="Lower bound: macs=1e6."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of networks, the best first.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the files. Default: RUN/specialized/ID for each network."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
    device: Annotated[
        str, typer.Option(help="Device on which latency is measured, such as cuda.")
    ] = "cpu",
    trust: Trust = False,
) -> None:
    """Extract the best networks within given bounds from a supernet, with their weights.

    Executes the experiment.py in the run's folder.
    """
    from raynas.apps.specialize import SpecializeRequest, parse_bounds
    from raynas.apps.specialize import specialize as take_out
    from raynas.cli.console import console
    from raynas.cli.export_views import show_special

    names = names_in(formats)
    bounds = parse_bounds(least or [], most or [])
    for special in take_out(
        run, SpecializeRequest(bounds, top, output, names, device), trust=trust
    ):
        show_special(special.found, special.exported, special.latency, console())
