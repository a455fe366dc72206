"""The command line of raynas.

Heavy modules are imported when a command needs them, so that ``--help`` is instant.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from raynas.cli import bench, data, exports, parts, plans, runs, score, starts
from raynas.cli.streams import end_streams, prepare_streams

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search (NAS): search, train, report and export networks, on one "
    "machine or a Ray cluster.",
    epilog="Exit status: 0, success; 2, wrong input or a problem of the machine, with one line on "
    "standard error; 3, finished with a bad result (every trial failed, or verify or doctor found "
    "problems); 130, interrupted by Ctrl-C, SIGTERM or a closed terminal (continue with `raynas "
    "resume`).",
)
for command in (
    starts.demo, starts.new,
    runs.run, runs.resume, runs.status, runs.top,
    score.score,
    plans.plan, plans.doctor, plans.simulate,
    runs.verify, runs.report,
    exports.export, exports.export_study, exports.specialize,
):  # fmt: skip
    app.command()(command)
app.command(name="list")(parts.list_)

tables = typer.Typer(help="Convert a tabular benchmark, or compare samplers and schedulers on it.")
tables.command()(bench.convert)
tables.command()(bench.nb201)
app.add_typer(tables, name="bench")

sets = typer.Typer(invoke_without_command=True)
sets.callback()(data.list_)
sets.command()(data.get)
app.add_typer(sets, name="data")


@app.callback(invoke_without_command=True)
def _bare(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from raynas.version import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_INTERRUPTED = 130  # the exit code of typer for Ctrl-C


def main() -> None:
    """Run the command line and exit with its status.

    Errors of the user are one line and status 2; no result of any trial is 3; Ctrl-C is 130.
    """
    run_script(lambda: app(prog_name="raynas", standalone_mode=False))


def run_script(function: Callable[[], int | None]) -> None:
    """Call the main function of a script; where it does not succeed, exit as `raynas` does.

    Args:
        function: May return an exit code. An exception is shown as one line where the user can do
            something about it; a fault of raynas keeps its traceback.

    Raises:
        SystemExit: The exit code is not 0.
    """
    prepare_streams()
    try:
        try:
            code = function()
        except KeyboardInterrupt:
            code = _INTERRUPTED
        finally:
            end_streams()
    except Exception as error:
        code, line = _told(error)
        if not line:
            raise
        from raynas.core.printable import printable

        print(printable(line), file=sys.stderr)
    else:
        if code == _INTERRUPTED:
            print("interrupted", file=sys.stderr)
    if code:
        sys.exit(code)


def _told(error: Exception) -> tuple[int, str]:
    """Return exit code and line for an error that the user can act on, else 1 and ''."""
    if hasattr(error, "format_message"):  # typer's errors about arguments have no public base
        return 2, f"error: {_usage(error)}"

    from raynas.core import AllTrialsFailed, RaynasError
    from raynas.pipeline.interruption import RunInterrupted
    from raynas.store.files import what_helps

    if isinstance(error, RunInterrupted):
        return 130, f"interrupted; go on with: {error}"
    if isinstance(error, AllTrialsFailed):
        return 3, f"error: {error}"
    if isinstance(error, RaynasError):
        return 2, f"error: {error}"
    if isinstance(error, MemoryError):
        hint = "free some, or use a machine with more, and try again; stored results are safe"
        return 2, f"error: memory is exhausted; {hint}"
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        where = f"{error.filename}: " if error.filename else ""
        hint = f"{what_helps(error)} and try again; stored results are safe"
        return 2, f"error: {where}{error.strerror}; {hint}"
    if isinstance(error, OSError) and error.errno in _PATHS and error.filename is not None:
        return 2, f"error: {error.filename}: {error.strerror}; give another path"
    return 1, ""


#: refusals of the machine; other errors of the system are faults of raynas
_SYSTEM = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.EMFILE, errno.ENFILE,
}  # fmt: skip
#: errors of a path that the user gave
_PATHS = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def _usage(error: Any) -> str:
    """Return what is wrong with the command line, and what would be right."""
    problem = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx
    commands = getattr(context and context.command, "commands", None)
    allowed = f"; expected: {', '.join(commands)}" if commands else ""
    return f"{problem}{allowed}; see: {context.command_path if context else 'raynas'} --help"


if __name__ == "__main__":
    main()
