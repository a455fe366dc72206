"""Commands that export from a run: networks, and studies for Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import RunPath, Trust, names_in


def export(
    run: RunPath,
    to: Annotated[Path | None, typer.Option(help="Folder; default RUN/export.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
    trust: Trust = False,
) -> None:
    """Export the best network; every format is checked for equal outputs.

    Executes the experiment.py in the run's folder.
    """
    from raynas.cli.console import console
    from raynas.cli.export_views import show_export
    from raynas.pipeline.results import export_best

    show_export(export_best(run, to, names_in(formats), trust=trust), console())


def export_study(
    run: RunPath,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="As study.db; a new file.")],
) -> None:
    """Write a run's search for Optuna.

    Look at it with `optuna-dashboard sqlite:///FILE`. Executes nothing of the run.
    """
    from raynas.cli.console import console
    from raynas.cli.export_views import show_written
    from raynas.pipeline.results import export_studies

    show_written("studies", export_studies(run, to), console())


def specialize(
    run: RunPath,
    most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="METRIC=VALUE", help="As params=5e5, or latency_ms=2."),
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=VALUE", help="As macs=1e6.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best.")] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Folder; default RUN/specialized/ID of each.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
    device: Annotated[str, typer.Option(help="On which latency is measured, as cuda.")] = "cpu",
    trust: Trust = False,
) -> None:
    """Take the best networks within any bounds out of a searched supernet, with its weights.

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
