"""The command that scores architectures without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import Address, Local, Output, Sets, Trust, names_in, runner_for


def score(
    space: Annotated[
        str,
        typer.Argument(
            help="A space, as nasbench201; an experiment's file, for its space and data; or a run, "
            "to print its scores again."
        ),
    ],
    architectures: Annotated[
        list[str] | None, typer.Argument(help="Their text forms; none: --random or --all.")
    ] = None,
    proxies: Annotated[
        str, typer.Option(help="Comma-separated; see `raynas list proxies`.")
    ] = "naswot,synflow,params",
    random: Annotated[
        int | None, typer.Option(min=1, help="So many random architectures; default 100.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every architecture, once.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Whose images, as in `raynas list data`; default digits.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images in the batch.")] = 64,
    seed: Annotated[int, typer.Option(help="Of weights, and of random architectures.")] = 0,
    top: Annotated[int, typer.Option(min=0, help="How many of the best to print.")] = 10,
    table: Annotated[
        Path | None, typer.Option(help="Write all scores to a .csv or .parquet file, too.")
    ] = None,
    address: Address = None,
    local: Local = False,
    output: Output = None,
    set_: Sets = None,
    trust: Trust = False,
) -> None:
    """Score architectures without training them; prints the best, keeps all in a run's folder.

    Where the files of a data set are missing, random images of its declared shape stand in, and
    the run says so. Executes the file; of a run, the experiment.py in its folder.
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
