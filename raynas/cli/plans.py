"""Commands before a search: plan, doctor, simulate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raynas.cli.options import Address, Sets


def plan(
    file: Annotated[Path, typer.Argument(help="A Python file that defines experiment().")],
    sample: Annotated[int, typer.Option(min=1, help="Number of random architectures.")] = 300,
    probe: Annotated[
        bool, typer.Option(help="Time a step of one architecture on this machine.")
    ] = True,
    set_: Sets = None,
) -> None:
    """Estimate an experiment: feasible share of its space, network costs, memory, hours.

    Random images of the declared shape are used where the files of the data set are missing.
    """
    from raynas.apps.plan import plan as look
    from raynas.cli.console import console
    from raynas.cli.plan_views import show_plan
    from raynas.data.abilities import data_remarks
    from raynas.experiment import load, parse_overrides, with_data
    from raynas.pipeline.printing import show_remarks

    experiment, out = with_data(load(file, parse_overrides(set_ or []))).experiment, console()
    show_remarks(data_remarks(experiment.data), out)
    show_plan(look(experiment, sample=sample, probe=probe), out)


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="Also run one step of this experiment on every machine.")
    ] = None,
    address: Address = None,
    storage: Annotated[
        str,
        typer.Option(envvar="RAYNAS_STORAGE", help="Folder or URI where runs are to be stored."),
    ] = "runs",
    set_: Sets = None,
) -> None:
    """Check packages, storage, the machines of the cluster and one step of an experiment."""
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
    file: Annotated[Path, typer.Argument(help="A Python file that defines experiment().")],
    workers: Annotated[
        str,
        typer.Option(metavar="N[,N...]", help="Number of workers; several numbers are compared."),
    ] = "1",
    hours: Annotated[
        float | None,
        typer.Option(help="Simulated time limit in place of the budget. Default: the budget."),
    ] = None,
    startup: Annotated[float, typer.Option(help="Seconds until a worker is ready.")] = 0.0,
    failure_rate: Annotated[
        float, typer.Option(help="Crashes of a worker's process per hour of work.")
    ] = 0.0,
    preempt_rate: Annotated[
        float, typer.Option(help="Losses of a worker's machine per hour of work.")
    ] = 0.0,
    replace: Annotated[float, typer.Option(help="Seconds until a lost machine is replaced.")] = (
        300.0
    ),
    checkpoint: Annotated[
        float, typer.Option(help="Seconds of work between checkpoints; inf for none.")
    ] = 0.0,
    spread: Annotated[
        float, typer.Option(help="Spread of the workers' speeds: at 0.2 most are within 20 %.")
    ] = 0.0,
    price: Annotated[float | None, typer.Option(help="Price of one hour of one worker.")] = None,
    probe: Annotated[
        int | None,
        typer.Option(
            min=1, help="Time one step of this many random architectures on this machine."
        ),
    ] = None,
    step_seconds: Annotated[
        float | None, typer.Option(help="Seconds that a step of a median architecture takes.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Simulate the test run of `raynas run --smoke`.")
    ] = False,
    set_: Sets = None,
) -> None:
    """Simulate an experiment's search on a cluster of any size: results, times and cost.

    Results come from the experiment's table (Tabular). An experiment that
    trains networks needs --probe or --step-seconds for the time of a step, and
    its accuracies are simulated. Random images of the declared shape are used
    where the files of the data set are missing.
    """
    from raynas.apps.simulate import simulate, worker_counts
    from raynas.apps.step_times import payload_for
    from raynas.cli.console import console
    from raynas.cli.plan_views import show_simulation
    from raynas.data.abilities import data_remarks
    from raynas.experiment import load, parse_overrides, with_data
    from raynas.pipeline.live import LiveView
    from raynas.pipeline.printing import show_remarks
    from raynas.runners.simulated_cluster import SimulatedCluster

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
    show_remarks(data_remarks(experiment.data), out)
    payload, remarks = payload_for(experiment, probe=probe, step_seconds=step_seconds)
    show_remarks(remarks, out)
    found = []
    for cluster in clusters:
        watch = partial(LiveView, console=out)
        found.append(simulate(experiment, cluster, payload=payload, hours=hours, watch=watch))
    show_simulation(found, price, out)
