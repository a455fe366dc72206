"""Commands of data sets: list them, and fetch them from their publishers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raynas.data.source import DatasetSource


def list_(context: typer.Context) -> None:
    """List data sets and tables: which are found, where they are searched, how to get them."""
    if context.invoked_subcommand is not None:
        return
    from raynas.cli.console import console
    from raynas.cli.part_views import show_source
    from raynas.data.fetch import begun

    out = console()
    for source, found in [(source, source.find()) for source in _sources().values()]:
        show_source(source, found, begun(source), out)


def get(
    name: Annotated[str, typer.Argument(help="Name of a data set in the list of `raynas data`.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="Data folder. Default: $RAYNAS_DATA, else ~/.cache/raynas/data."),
    ] = None,
) -> None:
    """Download a data set from its publisher; an interrupted download is continued."""
    from raynas.cli.console import console, downloading
    from raynas.cli.part_views import show_found
    from raynas.core import unknown_option
    from raynas.data.fetch import get

    sources = _sources()
    if name not in sources:
        raise unknown_option("data set", name, sources)
    source, out = sources[name], console()

    def waiting() -> None:
        out.print("another process is fetching it into that folder; waiting until it is done")

    try:
        with downloading(out) as told:
            got = get(source, folder, told, waiting)
    except KeyboardInterrupt:
        from raynas.pipeline.stages import RunInterrupted

        raise RunInterrupted(source.command(folder)) from None
    out.print("fetched" if got.fetched else "already present; nothing was fetched")
    show_found(got.found, out)
    if got.found.place not in source.places():
        out.print(
            f"to use it, give the data set folder={str(folder)!r}, or $RAYNAS_DATA", soft_wrap=True
        )


def _sources() -> dict[str, DatasetSource]:
    from raynas.benchmarks import BENCHMARKS
    from raynas.data import DATASETS

    sources = [part.source for part in DATASETS.values()]
    sources += [part.source for part in BENCHMARKS.values()]
    return {source.name: source for source in sources if source is not None}
