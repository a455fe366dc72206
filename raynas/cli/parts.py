"""The command that lists the parts of experiments."""

from __future__ import annotations

from typing import Annotated

import typer


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="spaces, data, evaluators, proxies, samplers, schedulers, callbacks, benchmarks "
            "or rules (for training a supernet). Default: all."
        ),
    ] = None,
) -> None:
    """List the search spaces, samplers, schedulers and other parts of experiments."""
    from raynas.cli.console import console
    from raynas.cli.part_views import show_parts

    show_parts(kind, console())
