"""The command line. Heavy imports wait until a command needs them: ``--help`` is instant."""

from __future__ import annotations

import errno
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from raynas.experiment import Loaded
    from raynas.runners.base import Runner

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search as one distributed pipeline.",
)
Observe = Annotated[
    str, typer.Option(help="Also show results in: tensorboard, mlflow, wandb, prometheus.")
]

bench = typer.Typer(help="Tabular benchmarks: convert their files, compare methods on them.")
app.add_typer(bench, name="bench")


def _observers(text: str, local: bool) -> list[Any]:
    """Of comma-separated names. Raises: UserError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        return []
    from raynas.core import one_of
    from raynas.observers import OBSERVERS, Prometheus

    for name in names:
        if name not in OBSERVERS:
            raise one_of("observer", name, OBSERVERS)
    made = [OBSERVERS[name]() for name in names]
    for observer in made:
        if isinstance(observer, Prometheus) and not local:
            from raynas.runners.meters import make_meter

            observer.make = make_meter
    return made


def _run_path(text: str) -> Path:
    """The folder of a run; of one that lives elsewhere, its working copy as it is now."""
    from raynas.store.remote import is_uri, look

    return look(text) if is_uri(text) else Path(text)


RunPath = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", parser=_run_path, help="A run's folder, as runs/NAME or s3://BUCKET/NAME."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="The run's folder, or s3://BUCKET/NAME; default NAME, numbered, in $RAYNAS_STORAGE, "
        "else in runs."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, as budget.trials=8."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join: auto, HOST:PORT or ray://HOST:10001."),
]
Local = Annotated[bool, typer.Option("--local", help="In this process, without Ray.")]


def _runner(address: str | None, local: bool) -> Any:
    from raynas.core import UserError

    if local and address is not None:
        raise UserError("--local and --address together", cure="leave one of them out")

    def make(loaded: Loaded, folder: Path) -> Runner:
        resources = loaded.experiment.resources
        if local:
            from raynas.runners.local import LocalRunner

            return LocalRunner(resources)
        from raynas.runners.lanes import RayRunner

        return RayRunner(
            resources, address=address, scratch=folder / "tune", modules=(loaded.module,)
        )

    return make


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Python file with experiment().")],
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny: does it run at all?")] = False,
    address: Address = None,
    local: Local = False,
    output: Output = None,
    observe: Observe = "",
    set_: Sets = None,
) -> None:
    """Run an experiment: search, finalists, best network, report."""
    from raynas.console import console
    from raynas.experiment import load, parse_overrides
    from raynas.launch import start

    overrides = parse_overrides(set_ or [])
    loaded = load(file, overrides, smoke=smoke)
    start(
        loaded,
        output,
        _runner(address, local),
        overrides=overrides,
        smoke=smoke,
        console=console(),
        observers=_observers(observe, local),
    )


@app.command()
def resume(
    run: RunPath,
    trials: Annotated[
        str | None, typer.Option(metavar="+N", help="Extend the budget by N trials.")
    ] = None,
    address: Address = None,
    local: Local = False,
    observe: Observe = "",
    set_: Sets = None,
) -> None:
    """Go on with a run that was stopped, killed, or is finished and shall be extended."""
    from raynas.console import console
    from raynas.experiment import parse_overrides
    from raynas.launch import resume as go_on

    go_on(
        run,
        _runner(address, local),
        more_trials=_more(trials),
        overrides=parse_overrides(set_ or []),
        console=console(),
        observers=_observers(observe, local),
    )


def _more(text: str | None) -> int:
    from raynas.core import UserError

    if text is None:
        return 0
    if not text.startswith("+") or not text[1:].isdigit() or int(text[1:]) == 0:
        raise UserError(f"--trials {text}", allowed="+N with N >= 1, as --trials +32")
    return int(text[1:])


@app.command()
def status(run: RunPath) -> None:
    """What a run has found so far, from its store; it may be running elsewhere."""
    from raynas.console import console, show_status
    from raynas.store import RunFolder

    show_status(RunFolder.open(run), console())


@app.command()
def top(
    run: RunPath,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
) -> None:
    """Watch a run from any terminal that sees its folder. Ctrl-C ends the watching only."""
    from raynas.console import console, watch
    from raynas.store import RunFolder

    watch(RunFolder.open(run), console(), every)


@app.command()
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
) -> None:
    """Score architectures without training them; prints the best, keeps all in a run's folder."""
    from raynas.console import console, show_scores
    from raynas.experiment import parse_overrides
    from raynas.launch import start
    from raynas.scoring import (
        ENSEMBLE,
        Request,
        check_table,
        load_request,
        score_table,
        scored_run,
        write_table,
    )

    check_table(table)
    names = tuple(name.strip() for name in proxies.split(",") if name.strip())
    request = Request(space, tuple(architectures or ()), every, random, names, data, batch, seed)
    path, out = Path(space), console()
    if not (path / "run.json").is_file():
        overrides = parse_overrides(set_ or [])
        loaded, runner = load_request(request, overrides), _runner(address, local)
        path = start(loaded, output, runner, overrides=overrides, smoke=False, console=out).path
    folder, asked = scored_run(path)
    scores = score_table(folder, asked)
    if table is not None:
        write_table(scores, table)
    show_scores(scores, [ENSEMBLE, *(proxy.name for proxy in asked)], top, out)


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="A Python file with experiment().")],
    sample: Annotated[int, typer.Option(min=1, help="Random architectures to look at.")] = 300,
    probe: Annotated[
        bool, typer.Option(help="Time a step of one architecture on this machine.")
    ] = True,
    set_: Sets = None,
) -> None:
    """What an experiment will take: how much of its space is allowed, costs, memory, hours."""
    from raynas.console import console, show_plan
    from raynas.experiment import load, parse_overrides
    from raynas.planning import plan as look

    experiment = load(file, parse_overrides(set_ or [])).experiment
    show_plan(look(experiment, sample=sample, probe=probe), console())


@app.command()
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
    """Is all well: packages, storage, every machine of the cluster, one step of the experiment."""
    from raynas.console import console, show_finding
    from raynas.doctor import examine
    from raynas.experiment import load, parse_overrides

    loaded = load(file, parse_overrides(set_ or [])) if file else None
    out, good = console(), True
    for finding in examine(loaded, storage, address):
        show_finding(finding, out)
        good &= finding.good
    if not good:
        raise typer.Exit(1)


@app.command()
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
    """What an experiment's search would find and cost on a cluster of any size: a plan.

    Looks trainings up in the experiment's table (Tabular). For one that trains for real, --probe
    or --step-seconds say what a step takes; its accuracies are made up then.
    """
    from raynas.console import console, show_simulation
    from raynas.experiment import load, parse_overrides
    from raynas.runners.live import LiveView
    from raynas.runners.virtual import Cluster
    from raynas.simulation import payload_for, simulate, worker_counts

    experiment = load(file, parse_overrides(set_ or []), smoke=smoke).experiment
    out = console()
    clusters = [
        Cluster(
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
    payload, remark = payload_for(experiment, probe=probe, step_seconds=step_seconds)
    if remark:
        out.print(remark, style="yellow", soft_wrap=True)
    found = []
    for cluster in clusters:
        watch = partial(LiveView, console=out)
        found.append(simulate(experiment, cluster, payload=payload, hours=hours, watch=watch))
    show_simulation(found, price, out)


@bench.command()
def convert(
    folder: Annotated[Path, typer.Argument(help="NATS-tss-v1_0-3ffb9-simple, unpacked.")],
    to: Annotated[Path, typer.Argument(help="The table to write.")] = Path("nb201.parquet"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
) -> None:
    """The table of NAS-Bench-201 from its authors' files, which are not trusted.

    Put it into the folder $RAYNAS_DATA, where NASBench201Table() finds it.
    """
    from raynas.benchmarks.nasbench201_authors import convert
    from raynas.console import console, progress, show_missing

    out = console()
    with progress(out, "reading cells") as told:
        missing = convert(folder, to, jobs=jobs, progress=told)
    show_missing(to, missing, out)


@bench.command()
def nb201(
    methods: Annotated[
        str, typer.Option(help="Samplers and schedulers, comma-separated; default all.")
    ] = "",
    protocols: Annotated[
        str,
        typer.Option(help="Of published, trainings, bounded, pareto, cluster; default all."),
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
        Path | None, typer.Option(help="The benchmark's nb201.parquet; default $RAYNAS_DATA's.")
    ] = None,
) -> None:
    """Compare samplers and schedulers on NAS-Bench-201: tables here, and a page."""
    from raynas.comparison.compare import Plan, compare, write
    from raynas.comparison.page import terminal_table
    from raynas.console import console, counted

    plan = Plan(
        _names(protocols) or Plan.protocols,
        _names(methods),
        _names(datasets) or Plan.datasets,
        seeds,
        published_seeds,
    )
    out = console()
    with counted(out, "runs") as told:
        made = compare(plan, table, output, jobs, told)
    out.width = max(out.width, 112)  # of the tables
    for section in made:
        out.print(terminal_table(section))
        out.print(section.text, style="dim", soft_wrap=True)
        out.print()
    out.print(f"page: {write(made, output, _command())}", soft_wrap=True)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command() -> str:
    """What was typed, without the path of the program."""
    import shlex

    return shlex.join(["raynas", *sys.argv[1:]])


@app.command()
def verify(
    run: RunPath,
    sample: Annotated[int, typer.Option(min=1, help="Trials to measure again.")] = 3,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Relative difference allowed, as 0.01 on a GPU.")
    ] = 0.0,
) -> None:
    """Measure a sample of a run's trials again and compare; nothing is stored."""
    from raynas.console import console, show_verified
    from raynas.verify import verify as look

    out, good = console(), True
    for found in look(run, count=sample, tolerance=tolerance):
        show_verified(found, out)
        good &= not found.differs
    if not good:
        raise typer.Exit(1)


@app.command()
def report(run: RunPath) -> None:
    """Write report.html and the figures of a run anew, from its store."""
    from raynas.console import console
    from raynas.launch import write_report_of

    console().print(f"report: {write_report_of(run)}", soft_wrap=True)


@app.command()
def export(
    run: RunPath,
    to: Annotated[Path | None, typer.Option(help="Folder; default RUN/export.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
) -> None:
    """Export the best network; every format is checked for equal outputs."""
    from raynas.console import console, show_export
    from raynas.launch import export_best

    names = tuple(name.strip() for name in formats.split(",") if name.strip())
    show_export(export_best(run, to, names), console())


@app.command()
def export_study(
    run: RunPath,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="As study.db; a new file.")],
) -> None:
    """Write a run's search for Optuna: look at it with `optuna-dashboard sqlite:///FILE`."""
    from raynas.console import console
    from raynas.launch import export_studies

    console().print(f"studies: {export_studies(run, to)}", soft_wrap=True)


@app.command()
def specialize(
    run: RunPath,
    most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="METRIC=VALUE", help="As params=5e5, or latency_ms=2."),
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=VALUE", help="As macs=1e6.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best.")] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Folder; default RUN/specialized/ID of each.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors, onnx, torch.")
    ] = "safetensors",
    device: Annotated[str, typer.Option(help="On which latency is measured, as cuda.")] = "cpu",
) -> None:
    """Take the best networks within any bounds out of a searched supernet, with its weights."""
    from raynas.console import console, show_special
    from raynas.specialize import Request, parse_bounds
    from raynas.specialize import specialize as take_out

    names = tuple(name.strip() for name in formats.split(",") if name.strip())
    bounds = parse_bounds(least or [], most or [])
    for special in take_out(run, Request(bounds, top, output, names, device)):
        show_special(special.found, special.exported, special.latency, console())


@app.command(name="list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="spaces, data, evaluators, proxies, samplers, schedulers, observers, benchmarks "
            "or rules (of training a supernet); default all."
        ),
    ] = None,
) -> None:
    """What there is to build experiments from."""
    from raynas.console import console, show_parts

    show_parts(kind, console())


@app.callback(invoke_without_command=True)
def _bare(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from raynas import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Errors of the user are one line and exit code 2; Ctrl-C is 130."""
    try:
        code = app(prog_name="raynas", standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code, line = _told(error)
        if not line:
            raise
        print(line, file=sys.stderr)
    sys.exit(code)


def _told(error: Exception) -> tuple[int, str]:
    """Exit code and line for an error that the user can do something about, else 1 and ''."""
    if hasattr(error, "format_message"):  # typer's errors about arguments have no public base
        return 2, f"error: {_usage(error)}"

    from raynas.core import RaynasError
    from raynas.launch import Interrupted

    if isinstance(error, Interrupted):
        return 130, f"interrupted; go on with: raynas resume {error}"
    if isinstance(error, RaynasError):
        return 2, f"error: {error}"
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        where = f"{error.filename}: " if error.filename else ""
        cure = "make room or access and try again; what is stored is safe"
        return 2, f"error: {where}{error.strerror}; {cure}"
    return 1, ""


#: what the machine refuses; other errors of the system are mistakes of ours
_SYSTEM = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
}  # fmt: skip


def _usage(error: Any) -> str:
    """What is wrong with the command line, and what would be right."""
    problem = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx
    commands = getattr(context and context.command, "commands", None)
    allowed = f"; allowed: {', '.join(commands)}" if commands else ""
    return f"{problem}{allowed}; see: {context.command_path if context else 'raynas'} --help"


if __name__ == "__main__":
    main()
