"""The command that scores architectures without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import Address, Local, Output, Sets, Trust, names_in


def score(
    space: Annotated[
        str,
        typer.Argument(
            help="Name of a space, such as nasbench201; an experiment's file, for its space and "
            "data; or a run, to print its scores again."
        ),
    ],
    architectures: Annotated[
        list[str] | None, typer.Argument(help="Architectures as texts. Default: random ones.")
    ] = None,
    proxies: Annotated[
        str, typer.Option(help="Names, comma-separated; see `raynas list proxies`.")
    ] = "naswot,synflow,params",
    random: Annotated[
        int | None, typer.Option(min=1, help="Number of random architectures. Default: 100.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Score every architecture of the space.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Data set, see `raynas list data`. Default: digits.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Number of images in the batch.")] = 64,
    seed: Annotated[
        int, typer.Option(help="Seed of initial weights and of random architectures.")
    ] = 0,
    top: Annotated[int, typer.Option(min=0, help="Number of best architectures to print.")] = 10,
    table: Annotated[
        Path | None, typer.Option(help="Also write all scores to this .csv or .parquet file.")
    ] = None,
    address: Address = None,
    local: Local = False,
    output: Output = None,
    set_: Sets = None,
    trust: Trust = False,
) -> None:
    """Rank architectures by zero-cost proxies, without training; all scores are stored as a run.

    Random images of the declared shape are used, with a remark, where the
    files of the data set are missing. Executes the experiment's file, or the
    experiment.py in the run's folder.
    """
    from raynas.apps.score import (
        ENSEMBLE,
        ScoreRequest,
        check_table,
        load_request,
        score_table,
        scored_run,
        write_table,
    )
    from raynas.cli.console import console
    from raynas.cli.export_views import show_scores
    from raynas.experiment import parse_overrides
    from raynas.pipeline.launch import start
    from raynas.pipeline.printing import show_remarks
    from raynas.pipeline.setup import runner_for

    check_table(table)
    names = names_in(proxies)
    request = ScoreRequest(
        space, tuple(architectures or ()), every, random, names, data, batch, seed
    )
    path, out = Path(space), console()
    stored = (path / "run.json").is_file()
    if not stored:
        overrides = parse_overrides(set_ or [])
        loaded, runner = load_request(request, overrides), runner_for(address, local)
        path = start(loaded, output, runner, overrides=overrides, smoke=False, console=out).path
    said = list[str]()
    folder, asked = scored_run(path, trust=trust, remark=said.append)
    show_remarks(said if stored else [], out)  # a run that was started here has shown them
    scores = score_table(folder, asked)
    if table is not None:
        write_table(scores, table)
    show_scores(scores, [ENSEMBLE, *(proxy.name for proxy in asked)], top, out)
