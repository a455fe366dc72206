"""Deterministic simulations by command: many seeds, or one with its trace.

``python tests/simulate.py search --seeds 100000 --jobs 2`` prints the seeds that fail;
``python tests/simulate.py search --seed 7`` replays one. Worlds are the modules of
``tests/simulation`` that end in ``_world``.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "fakes"))


def worlds() -> list[str]:
    """The names of the simulations."""
    found = sorted((HERE / "simulation").glob("*_world.py"))
    return [path.stem.removesuffix("_world") for path in found]


def _module(name: str) -> object:
    stem = name if name.endswith("_before") else f"{name}_world"
    return importlib.import_module(f"simulation.{stem}")


def _run(task: tuple[str, int]) -> tuple[int, str]:
    name, seed = task
    return seed, _module(name).run_seed(seed)  # type: ignore[attr-defined]


def failures(name: str, seeds: range, jobs: int) -> Iterator[tuple[int, str]]:
    """The seeds that fail, and why."""
    tasks = ((name, seed) for seed in seeds)
    if jobs == 1:
        yield from (found for found in map(_run, tasks) if found[1])
        return
    with multiprocessing.Pool(jobs) as pool:
        found = pool.imap(_run, tasks, chunksize=50)
        yield from ((seed, problem) for seed, problem in found if problem)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", help=", ".join(worlds()))
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, help="replay this one")
    args = parser.parse_args()
    if args.seed is not None:
        for line in _module(args.world).replay(args.seed):  # type: ignore[attr-defined]
            print(line)
        return 0
    began, failed = time.monotonic(), 0
    for seed, problem in failures(
        args.world, range(args.first, args.first + args.seeds), args.jobs
    ):
        failed += 1
        print(f"seed {seed}: {problem}", flush=True)
    print(f"{args.world}: {args.seeds} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
