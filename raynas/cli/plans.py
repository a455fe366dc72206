"""Commands before a search: plan, doctor, simulate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import Address, Sets


def plan(
    file: Annotated[Path, typer.Argument(help="A Python file with experiment().")],
    sample: Annotated[int, typer.Option(min=1, help="Random architectures to look at.")] = 300,
    probe: Annotated[
        bool, typer.Option(help="Time a step of one architecture on this machine.")
    ] = True,
    set_: Sets = None,
) -> None:
    """Estimate the cost of an experiment: allowed part of its space, costs, memory, hours.

    Where the files of its data set are missing, random images of the declared shape stand in.
    """
    from raynas.apps.plan import plan as look
    from raynas.cli.console import console
    from raynas.cli.plan_views import show_plan
    from raynas.experiment import load, parse_overrides, with_data
    from raynas.pipeline.printing import show_remarks

    experiment, out = with_data(load(file, parse_overrides(set_ or []))).experiment, console()
    show_remarks(experiment.data.remarks(), out)
    show_plan(look(experiment, sample=sample, probe=probe), out)


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="An experiment's file, to try it on every machine.")
    ] = None,
    address: Address = None,
    storage: Annotated[
        str,
        typer.Option(envvar="RAYNAS_STORAGE", help="Where runs will be: a folder or a URI."),
    ] = "runs",
    set_: Sets = None,
) -> None:
    """Check packages, storage, every machine of the cluster and one step of the experiment."""
    from raynas.apps.doctor import examine
    from raynas.cli.console import console
    from raynas.cli.plan_views import show_finding
    from raynas.experiment import load, parse_overrides

    loaded = load(file, parse_overrides(set_ or [])) if file else None
    out, good = console(), True
    for finding in examine(loaded, storage, address):
        show_finding(finding, out)
        good &= finding.good
    if not good:
        raise typer.Exit(3)


def simulate(
    file: Annotated[Path, typer.Argument(help="A Python file with experiment().")],
    workers: Annotated[
        str, typer.Option(metavar="N[,N...]", help="How many; several to compare.")
    ] = "1",
    hours: Annotated[
        float | None,
        typer.Option(help="Simulated; takes the place of the budget. Default: the budget."),
    ] = None,
    startup: Annotated[float, typer.Option(help="Seconds until a worker is ready.")] = 0.0,
    failure_rate: Annotated[
        float, typer.Option(help="Deaths of a worker's process per hour of its work.")
    ] = 0.0,
    preempt_rate: Annotated[
        float, typer.Option(help="Losses of a worker's machine per hour of its work.")
    ] = 0.0,
    replace: Annotated[float, typer.Option(help="Seconds until a lost machine is there again.")] = (
        300.0
    ),
    checkpoint: Annotated[
        float, typer.Option(help="Seconds of work between checkpoints; inf: there are none.")
    ] = 0.0,
    spread: Annotated[
        float, typer.Option(help="Of the workers' speeds: 0.2, most are within 20 %.")
    ] = 0.0,
    price: Annotated[float | None, typer.Option(help="Of one hour of one worker.")] = None,
    probe: Annotated[
        int | None,
        typer.Option(min=1, help="Measure one step of so many random architectures here."),
    ] = None,
    step_seconds: Annotated[
        float | None, typer.Option(help="What a step of a median architecture takes.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The experiment's smoke size.")] = False,
    set_: Sets = None,
) -> None:
    """Simulate an experiment's search on a cluster of any size: results, times and cost.

    Looks trainings up in the experiment's table (Tabular). For one that trains for real, --probe
    or --step-seconds say what a step takes; its accuracies are made up then. Where the files of
    its data set are missing, random images of the declared shape stand in.
    """
    from raynas.apps.simulate import payload_for, simulate, worker_counts
    from raynas.cli.console import console
    from raynas.cli.plan_views import show_simulation
    from raynas.experiment import load, parse_overrides, with_data
    from raynas.pipeline.live import LiveView
    from raynas.pipeline.printing import show_remarks
    from raynas.runners.simulated import SimulatedCluster

    overrides, out = parse_overrides(set_ or []), console()
    experiment = with_data(load(file, overrides, smoke=smoke)).experiment
    clusters = [
        SimulatedCluster(
            workers=n,
            startup_s=startup,
            failure_rate=failure_rate,
            preempt_rate=preempt_rate,
            replace_s=replace,
            checkpoint_s=checkpoint,
            spread=spread,
            seed=experiment.seed,
        )
        for n in worker_counts(workers)
    ]
    show_remarks(experiment.data.remarks(), out)
    payload, remarks = payload_for(experiment, probe=probe, step_seconds=step_seconds)
    show_remarks(remarks, out)
    found = []
    for cluster in clusters:
        watch = partial(LiveView, console=out)
        found.append(simulate(experiment, cluster, payload=payload, hours=hours, watch=watch))
    show_simulation(found, price, out)
