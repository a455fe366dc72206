"""Commands of runs: begin, resume, watch, measure again, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import (
    Address,
    Callbacks,
    Local,
    Observe,
    Output,
    RunPath,
    Sets,
    Trust,
    names_in,
)


def run(
    file: Annotated[Path, typer.Argument(help="A Python file that defines experiment().")],
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Test run: a few trials and steps; random images where the data set is missing.",
        ),
    ] = False,
    address: Address = None,
    local: Local = False,
    output: Output = None,
    callbacks: Callbacks = "",
    observe: Observe = "",
    set_: Sets = None,
) -> None:
    """Run an experiment: search, retrain finalists, export the best network, report."""
    from raynas import api
    from raynas.cli.console import console
    from raynas.experiment import parse_overrides

    api.run(
        file,
        address,
        output,
        local=local,
        smoke=smoke,
        overrides=parse_overrides(set_ or []),
        callbacks=names_in(callbacks or observe),
        console=console(),
    )


def resume(
    run: RunPath,
    trials: Annotated[
        str | None, typer.Option(metavar="+N", help="Extend the budget by N trials.")
    ] = None,
    address: Address = None,
    local: Local = False,
    callbacks: Callbacks = "",
    observe: Observe = "",
    set_: Sets = None,
    trust: Trust = False,
) -> None:
    """Resume a run that was stopped or killed, or extend one that is finished.

    Executes the experiment.py in the run's folder.
    """
    from raynas import api
    from raynas.cli.console import console
    from raynas.experiment import parse_overrides

    api.resume(
        run,
        _more(trials),
        address,
        local=local,
        overrides=parse_overrides(set_ or []),
        callbacks=names_in(callbacks or observe),
        trust=trust,
        console=console(),
    )


def _more(text: str | None) -> int:
    from raynas.core import UserError

    if text is None:
        return 0
    number = text[1:]
    if not text.startswith("+") or not number.isdecimal() or len(number) > 18 or not int(number):
        raise UserError(f"--trials {text}", expected="+N with N >= 1, as --trials +32")
    return int(number)


def status(run: RunPath) -> None:
    """Show the results of a run so far; it may be running on another machine."""
    from raynas.cli.console import console
    from raynas.cli.run_views import show_status
    from raynas.store import RunFolder

    show_status(RunFolder.open(run), console())


def top(
    run: RunPath,
    every: Annotated[float, typer.Option(help="Seconds between two updates.", min=0.2)] = 2.0,
) -> None:
    """Show the results of a run and update them until Ctrl-C.

    Ctrl-C does not stop the run.
    """
    from raynas.cli.console import console
    from raynas.cli.run_views import watch
    from raynas.store import RunFolder

    watch(RunFolder.open(run), console(), every)


def verify(
    run: RunPath,
    sample: Annotated[int, typer.Option(min=1, help="Number of trials to measure again.")] = 3,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, help="Largest relative difference that is accepted, such as 0.01 on a GPU."
        ),
    ] = 0.0,
    history: Annotated[
        bool,
        typer.Option(
            "--history", help="Only check that the stored rows are consistent; measure nothing."
        ),
    ] = False,
    trust: Trust = False,
) -> None:
    """Measure some trials of a run again and compare with the stored results.

    Nothing is stored. Executes the experiment.py in the run's folder; with
    --history it executes nothing.
    """
    from raynas.apps.verify import verify as look
    from raynas.apps.verify import verify_history
    from raynas.cli.console import console
    from raynas.cli.run_views import show_verified

    out, good = console(), True
    if history:
        rows, violations = verify_history(run)
        for line in violations:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print(f"history of {rows} rows: {len(violations) or 'no'} violations", soft_wrap=True)
        if violations:
            raise typer.Exit(3)
        return
    for found in look(run, count=sample, tolerance=tolerance, trust=trust):
        show_verified(found, out)
        good &= not found.differs
    if not good:
        raise typer.Exit(3)


def report(run: RunPath) -> None:
    """Write report.html and the figures of a run again, from its stored results.

    The experiment's code is not executed.
    """
    from raynas.cli.console import console
    from raynas.cli.export_views import show_written
    from raynas.pipeline.results import write_report_of

    show_written("report", write_report_of(run), console())
