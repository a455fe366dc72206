"""Ten small runs whose tables are recorded, to compare the same runs of changed code with.

    python tests/recorded/record.py [--update] [NAME ...]

runs them, prints the first differences to ``tests/recorded/expected`` and exits with 1 if there
are any; ``--update`` writes what was found instead. It is for changes that are not meant to change
what a search does: a difference is then an error of the change.

A table is all rows of the store, by trial, session, attempt and step, with these columns left out:

``run``                an id drawn anew for each run
``experiment``         the fingerprint: names and code of classes are part of it
``time``               the clock
``host``, ``device``   the machine
``git``, ``versions``  the code
``seconds``            measured time, where evaluations are not toys or tables
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
PATHS = (str(HERE.parent), str(HERE.parent / "fakes"), str(HERE.parents[1]))
if __name__ == "__main__":
    sys.path[:0] = PATHS
    os.environ.setdefault("OMP_NUM_THREADS", "1")

Rows = list[dict[str, Any]]

EXPECTED = HERE / "expected"
LEFT_OUT = ("run", "experiment", "time", "host", "device", "git", "versions")
SIMULATED = {
    "workers": 4, "startup_s": 30.0, "failure_rate": 0.4, "preempt_rate": 0.2,
    "replace_s": 400.0, "checkpoint_s": 200.0, "spread": 0.2, "seed": 2,
}  # fmt: skip
IDENTITY = ("stage", "arm", "trial", "arch_id", "arch", "proposal", "seed", "params", "macs")
SCORES = ("naswot", "synflow", "train_loss")
_SECONDS = 240
"""After which a process is taken for stuck."""


@dataclass(frozen=True)
class RecordedRun:
    """One run: the experiment of the same name, and how it is carried out.

    Attributes:
        name: Of the experiment's file.
        where: ``local``: in this process; ``killed``: in two processes that are killed, then
            resumed in this one; ``ray``: on the Ray of this process, or one that is begun;
            ``simulated``: on simulated machines.
        more: Extensions of the run, as ``resume --trials`` takes them.
        torch: Whether networks are trained: then values differ in the last digits between versions
            of torch and kinds of CPUs.
        timed: Whether ``seconds`` are measured, so differ from run to run.
        first: How many of the first trials do not depend on what was trained before them. Where
            torch or CPU are others, only these are compared, once each: all that says which
            architecture they are, and ``SCORES`` to a thousandth.
    """

    name: str
    where: str = "local"
    more: tuple[str, ...] = ()
    torch: bool = False
    timed: bool = False
    first: int = 0

    @property
    def file(self) -> Path:
        return HERE / "experiments" / f"{self.name}.py"

    @property
    def expected(self) -> Path:
        return EXPECTED / f"{self.name}.json"


RUNS = {
    run.name: run
    for run in (
        RecordedRun("function_evolution", timed=True),
        RecordedRun("tpe_promotion"),
        RecordedRun("bohb_hyperband"),
        RecordedRun("guided_asha"),
        RecordedRun("screened_digits", torch=True, timed=True, first=8),
        RecordedRun("supernet_race", torch=True, timed=True, first=7),
        RecordedRun("killed_resumed", where="killed", more=("+4",)),
        RecordedRun("ray_tune", where="ray"),
        RecordedRun("ray_actors", where="ray"),
        RecordedRun("simulated_cluster", where="simulated"),
    )
}


# -- carrying out ------------------------------------------------------------------------------


def carry_out(run: RecordedRun, folder: Path) -> Rows:
    """Carry out a run in the empty folder ``folder``.

    Returns:
        Its table, a mapping from column to value for each row.

    Raises:
        RuntimeError: A command ended otherwise than it should.
    """
    if run.where == "simulated":
        from recorded.parts import simulated_rows

        return simulated_rows(run.file, **SIMULATED)
    place = folder / "run"
    local = () if run.where == "ray" else ("--local",)
    paths = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, {"RECORDED_FOLDER": str(folder), "PYTHONPATH": paths}):
        if run.where == "killed":
            _kill("run", run.file, "--output", place, *local)
            _kill("resume", place, *local)
            _call("resume", place, *local)
        else:
            _call("run", run.file, "--output", place, *local)
        for more in run.more:
            _call("resume", place, *local, "--trials", more)
    return _stored(place, timed=run.timed)


def _call(*arguments: str | Path) -> None:
    """Run a command in this process."""
    from commands import raynas

    called = raynas(*arguments)
    if called.code:
        raise RuntimeError(f"raynas {arguments[0]} ended with {called.code}: {called.err}")


def _kill(*arguments: str | Path) -> None:
    """Run a command in a process of its own, which is to kill itself."""
    from recorded.parts import COMMAND_LINE

    ended = subprocess.run(
        [sys.executable, "-m", COMMAND_LINE, *map(str, arguments)],
        capture_output=True, text=True, timeout=_SECONDS,
    )  # fmt: skip
    if ended.returncode != -signal.SIGKILL:
        raise RuntimeError(f"it was not killed, but ended with {ended.returncode}: {ended.stderr}")


def _stored(place: Path, *, timed: bool) -> Rows:
    """Read all rows, also those of attempts that others replaced."""
    import pyarrow.parquet as pq

    left_out = (*LEFT_OUT, "seconds") if timed else LEFT_OUT
    table = pq.read_table(place / "results")
    rows: Rows = table.drop_columns([n for n in left_out if n in table.column_names]).to_pylist()
    return sorted(rows, key=_position)


def _position(row: dict[str, Any]) -> tuple[Any, ...]:
    step = math.inf if row["step"] is None else row["step"]
    return row["trial"], row["session"], row["attempt"], step


# -- files and comparison ----------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What the digits of trained networks depend on."""
    import torch

    return {"torch": torch.__version__, "cpu": _cpu()}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def to_json(rows: Rows) -> str:
    """Write a table with a line for each row; floats have all their digits."""
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = [json.dumps([row.get(c) for c in columns], separators=(",", ":")) for row in rows]
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in machine().items())
    table = ",\n".join(f"  {line}" for line in lines)
    return f'{{\n{head} "columns": {json.dumps(columns)},\n "rows": [\n{table}\n ]\n}}\n'


def from_json(text: str) -> tuple[Rows, dict[str, str]]:
    """Read a table and the machine that it was recorded on."""
    data = json.loads(text)
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    return rows, {"torch": data["torch"], "cpu": data["cpu"]}


def differences(run: RecordedRun, found: Rows) -> list[str]:
    """Compare a table with the recorded one, value by value.

    Returns:
        A line for each difference; none when they are equal.
    """
    expected, recorded_on = from_json(run.expected.read_text(encoding="utf-8"))
    found, here = from_json(to_json(found))
    elsewhere = run.torch and here != recorded_on
    if elsewhere:
        expected, found = (_first(table, run.first) for table in (expected, found))
    lines = []
    if len(expected) != len(found):
        lines.append(f"{len(found)} rows, expected {len(expected)}")
    for number, (old, new) in enumerate(zip(expected, found, strict=False)):
        for name in sorted({*old, *new}):
            before, now = old.get(name), new.get(name)
            if not _equal(before, now, rounded=elsewhere and name in SCORES):
                at = f"row {number} (trial {new.get('trial')}, step {new.get('step')})"
                lines.append(f"{at}: {name} is {now!r}, expected {before!r}")
    return lines


def _first(table: Rows, count: int) -> Rows:
    """The first row of each of the first trials, without what follows from close comparisons."""
    first: dict[int, dict[str, Any]] = {}
    for row in table:
        first.setdefault(row["trial"], {name: row.get(name) for name in (*IDENTITY, *SCORES)})
    return [row for trial, row in first.items() if trial < count]


def _equal(before: Any, now: Any, *, rounded: bool) -> bool:
    if rounded and isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-3)
    return repr(before) == repr(now)  # nan equals nan, and 1 is not 1.0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUNS))
    options.add_argument("--update", action="store_true", help="write what is found")
    given = options.parse_args()
    if unknown := sorted(set(given.names) - RUNS.keys()):
        options.error(f"no recorded run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    failed = 0
    for name in given.names or RUNS:
        run = RUNS[name]
        with tempfile.TemporaryDirectory(prefix="recorded-") as folder:
            rows = carry_out(run, Path(folder))
        if given.update:
            run.expected.write_text(to_json(rows), encoding="utf-8")
            print(f"{name}: {len(rows)} rows written")
            continue
        lines = differences(run, rows)
        failed += bool(lines)
        print(f"{name}: {f'{len(lines)} differences' if lines else f'{len(rows)} rows equal'}")
        print("".join(f"  {line}\n" for line in lines[:10]), end="")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
