"""How fast is the store? One durable append per measurement; a whole table read at once.

Every append is a Parquet fragment, on the disk (fsync) when the call returns. Expected: an
append takes a few milliseconds wherever the disk does, 100,000 rows are read within a second.
With moto installed an S3-compatible server on this machine counts the requests of a run there.

    python benchmarks/bench_store.py --against /path/of/another/checkout

measures the other checkout, too, in turns with this one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from raynas.core.metrics import VAL_ACCURACY
from raynas.spaces import NASBench201
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read, trials
from raynas.store.working_copies import fetch, working_copy

ARCH = NASBench201().architecture("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
Figures = dict[str, list[float]]


def row(number: int) -> dict[str, Any]:
    """The measurement ``number`` of trials of ten epochs."""
    trial, epoch = divmod(number, 10)
    return {
        "stage": "search", "arm": "tpe", "trial": trial, "attempt": 0, "arch_id": ARCH.id,
        "arch": ARCH.text, "proposal": ARCH.text, "seed": trial, "step": epoch + 1,
        "state": "COMPLETE" if epoch == 9 else "RUNNING", "seconds": 1.5, "device": "cpu",
        "val_accuracy": 90 + epoch / 2,
    }  # fmt: skip


INFO = RunInfo("bench", "bench", "none", {}, __file__, {}, (VAL_ACCURACY,))


def local(parent: Path, appends: int, rows: int) -> Figures:
    """A run on this disk."""
    folder = RunFolder.create(parent / "run", INFO, "")
    with Writer(folder, 1, Provenance.collect()) as writer:
        writer.append([row(0)])  # imports are not counted
        marks = [time.perf_counter()]
        for number in range(1, appends):
            writer.append([row(number)])
            marks.append(time.perf_counter())
        for start in range(appends, rows, 1000):
            writer.append([row(n) for n in range(start, min(start + 1000, rows))])
    return {
        f"append of one row, ms ({appends} of them, merges included)": _steps(marks),
        f"read {rows} rows, ms": [timed(lambda: read(folder)) for _ in range(5)],
        "the same, as trials, ms": [timed(lambda: trials(read(folder))) for _ in range(5)],
    }


def elsewhere(parent: Path, appends: int) -> Figures:
    """A run on an S3-compatible server on this machine; requests are counted before it."""
    with counted_server() as (server, weather):
        uri = server("bench")
        os.environ["RAYNAS_CACHE"] = str(parent / "driver")
        folder = RunFolder.create(working_copy(uri), INFO, "", uri)
        with Writer(folder, 1, Provenance.collect()) as writer:
            writer.append([row(0)])
            marks, before = [time.perf_counter()], weather.asked
            for number in range(1, appends):
                writer.append([row(number)])
                marks.append(time.perf_counter())
            asked = weather.asked - before
            os.environ["RAYNAS_CACHE"] = str(parent / "reader")
            first = [timed(lambda: read(RunFolder.open(fetch(uri))))]
            before = weather.asked
            again = [timed(lambda: read(RunFolder.open(fetch(uri)))) for _ in range(5)]
        return {
            f"S3: append of one row, ms ({appends} of them)": _steps(marks),
            "S3: requests per row": [asked / (appends - 1)],
            "S3: fetch and read on another machine, ms": first,
            "S3: the same when nothing is new, ms": again,
            "S3: requests of that": [(weather.asked - before) / 5],
        }


@contextlib.contextmanager
def counted_server() -> Iterator[tuple[Callable[[str], str], Any]]:
    """The tests' server. Raises: ImportError without moto."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from integration.storages import serve

    with serve() as server:
        yield server.run, server.weather


def _steps(marks: list[float]) -> list[float]:
    return [1000 * (b - a) for a, b in pairwise(marks)]


def timed(what: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    what()
    return 1000 * (time.perf_counter() - began)


def measure(appends: int, rows: int) -> Figures:
    """All figures of the checkout that is imported."""
    with tempfile.TemporaryDirectory(prefix="raynas-bench-") as parent:
        found = local(Path(parent), appends, rows)
        with contextlib.suppress(ImportError):
            found |= elsewhere(Path(parent), max(appends // 4, 10))
        return found


def in_turns(other: str, appends: int, rows: int, turns: int) -> dict[str, Figures]:
    """Both checkouts, ``turns`` times each, in processes of their own."""
    found: dict[str, Figures] = {}
    here = str(Path(__file__).resolve().parents[1])
    sizes = ["--appends", str(appends), "--rows", str(rows)]
    for _ in range(turns):
        for name, path in (("before", other), ("now", here)):
            env = {**os.environ, "PYTHONPATH": path}
            command = [sys.executable, __file__, *sizes, "--json"]
            told = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            for what, times in json.loads(told.stdout.splitlines()[-1]).items():
                found.setdefault(what, {}).setdefault(name, []).extend(times)
    return found


def show(name: str, times: list[float]) -> None:
    figures = statistics.median(times), sorted(times)[len(times) * 99 // 100], max(times)
    print(f"| {name} |", " | ".join(f"{f:.2f}" for f in figures), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--appends", type=int, default=2_000, help="of one row each")
    parser.add_argument("--rows", type=int, default=100_000, help="to read")
    parser.add_argument("--smoke", action="store_true", help="few rows: does it run?")
    parser.add_argument("--against", help="another checkout, measured in turns with this one")
    parser.add_argument("--turns", type=int, default=3, help="with --against: of each checkout")
    parser.add_argument("--json", action="store_true", help="the figures alone, for a program")
    given = parser.parse_args()
    appends, rows = (20, 200) if given.smoke else (given.appends, given.rows)
    if given.json:
        print(json.dumps(measure(appends, rows)))
    elif given.baselines:
        print("| what | checkout | median | 99th percentile | most |\n|---|---|---|---|---|")
        for what, both in in_turns(given.baselines, appends, rows, given.turns).items():
            for name, times in both.items():
                show(f"{what} | {name}", times)
    else:
        print("| what | median | 99th percentile | most |\n|---|---|---|---|")
        for what, times in measure(appends, rows).items():
            show(what, times)


if __name__ == "__main__":
    main()
