"""Commands to begin with: the demonstration, and a new file of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import Address, Local, Output, Sets


def demo(
    address: Address = None,
    local: Local = False,
    output: Output = None,
    set_: Sets = None,
) -> None:
    """Run a small search on handwritten digits: 1 to 2 minutes on 2 CPU cores, no download."""
    from raynas import api
    from raynas.apps.new_experiment import quickstart_file
    from raynas.cli.console import console
    from raynas.experiment import parse_overrides

    out = console()
    api.run(
        quickstart_file(),
        address,
        output,
        local=local,
        overrides=parse_overrides(set_ or []),
        console=out,
    )
    out.print("next: raynas new my_search.py writes an experiment of your own", soft_wrap=True)


def new(
    file: Annotated[Path, typer.Argument(help="The file to write, as my_search.py.")],
    space: Annotated[
        str, typer.Option(help="nasbench201, nasbench201_cells or elastic_resnet.")
    ] = "nasbench201",
    data: Annotated[
        str,
        typer.Option(help="What is learnt; see `raynas list data`. arrays: images of your own."),
    ] = "digits",
) -> None:
    """Write a commented file of an experiment that runs as it is; it overwrites nothing."""
    from raynas.apps.new_experiment import new_file
    from raynas.cli.console import console

    new_file(file, space, data)
    console().print(f"wrote {file}; next: raynas run {file} --smoke --local", soft_wrap=True)
