"""How fast is the store? One durable append per measurement; a whole table read at once.

Every append is a Parquet fragment, on the disk (fsync) when the call returns. Expected: an
append takes a few milliseconds wherever the disk does, 100,000 rows are read within a second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from raynas.core.metrics import VAL_ACCURACY
from raynas.spaces import NASBench201
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read, trials

ARCH = NASBench201().architecture("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")


def row(number: int) -> dict[str, Any]:
    """The measurement ``number`` of trials of ten epochs."""
    trial, epoch = divmod(number, 10)
    return {
        "stage": "search", "arm": "tpe", "trial": trial, "attempt": 0, "arch_id": ARCH.id,
        "arch": ARCH.text, "proposal": ARCH.text, "seed": trial, "step": epoch + 1,
        "state": "COMPLETE" if epoch == 9 else "RUNNING", "seconds": 1.5, "device": "cpu",
        "val_accuracy": 90 + epoch / 2,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--appends", type=int, default=2_000, help="of one row each")
    parser.add_argument("--rows", type=int, default=100_000, help="to read")
    parser.add_argument("--smoke", action="store_true", help="few rows: does it run?")
    given = parser.parse_args()
    appends, rows = (20, 200) if given.smoke else (given.appends, given.rows)
    with tempfile.TemporaryDirectory(prefix="raynas-bench-") as parent:
        info = RunInfo("bench", "bench", "none", {}, __file__, {}, (VAL_ACCURACY,))
        folder = RunFolder.create(Path(parent) / "run", info, "")
        with Writer(folder, 1, Provenance.collect()) as writer:
            writer.append([row(0)])  # imports are not counted
            marks = [time.perf_counter()]
            for number in range(1, appends):
                writer.append([row(number)])
                marks.append(time.perf_counter())
            for start in range(appends, rows, 1000):
                writer.append([row(n) for n in range(start, min(start + 1000, rows))])
        took = [1000 * (b - a) for a, b in pairwise(marks)]
        print("| what | median | 99th percentile | most |\n|---|---|---|---|")
        show(f"append of one row, ms ({appends} of them, merges included)", took)
        show(f"read {rows} rows, ms", [timed(lambda: read(folder)) for _ in range(5)])
        show("the same, as trials, ms", [timed(lambda: trials(read(folder))) for _ in range(5)])


def timed(what: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    what()
    return 1000 * (time.perf_counter() - began)


def show(name: str, times: list[float]) -> None:
    figures = statistics.median(times), sorted(times)[len(times) * 99 // 100], max(times)
    print(f"| {name} |", " | ".join(f"{f:.2f}" for f in figures), "|")


if __name__ == "__main__":
    main()
