"""Print how often each claim of a report is made where it is false, and how often each interval
covers the truth, as the Markdown tables of docs/calibration.md.

    python tests/calibration/calibrate.py --repeats 1000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from calibration_cases import CLAIMS, INTERVALS, POWER, Claim, Interval

Counts = tuple[int, int]  # how often it was so, of how many


def claimed(cases: Sequence[Claim], size: int, repeats: int) -> list[Counts]:
    """Of claims that are looked for in the same runs."""
    made = [sum(case.claimed(seed, size) for seed in range(repeats)) for case in cases]
    return [(count, repeats) for count in made]


def covered(case: Interval, size: int, repeats: int) -> Counts:
    """Only runs that show an interval count."""
    found = [case.covers(seed, size) for seed in range(repeats)]
    return sum(f is True for f in found), sum(f is not None for f in found)


def _task(task: tuple[str, int, int, int]) -> Counts:
    kind, place, size, repeats = task
    if kind == "interval":
        return covered(INTERVALS[place], size, repeats)
    return claimed([(CLAIMS if kind == "claim" else POWER)[place]], size, repeats)[0]


def rates(
    kind: str, cases: Sequence[Claim] | Sequence[Interval], repeats: int,
    carry: Callable[..., Iterator[Counts]],
) -> list[list[Counts]]:  # fmt: skip
    """Case -> size -> counts."""
    tasks = [(kind, k, size, repeats) for k, case in enumerate(cases) for size in case.sizes]
    found = carry(_task, tasks)
    return [[next(found) for _ in case.sizes] for case in cases]


def _percent(counts: Counts) -> str:
    return f"{100 * counts[0] / counts[1]:.1f} %" if counts[1] else "none shown"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(_row(*head), _row(*("---" for _ in head)), *(_row(*row) for row in rows), "", sep="\n")


def _cells(case: Claim | Interval, found: Sequence[Counts]) -> list[str]:
    text = f"{case.where}" if isinstance(case, Claim) else case.shown
    pairs = "finalist" in text  # of these and seeds, see calibration_runs
    return [
        "<br>".join(f"{n // 10}, {n % 10}" if pairs else str(n) for n in case.sizes),
        "<br>".join(_percent(counts) for counts in found),
    ]


def show(found: Mapping[str, Sequence[Sequence[Counts]]]) -> None:
    """Print the three tables. ``found``: kind of case -> case -> size -> counts."""
    for kind, told, cases in (("claim", "false", CLAIMS), ("power", "true", POWER)):
        rows = [
            (case.sentence, case.where, *_cells(case, counts))
            for case, counts in zip(cases, found[kind], strict=True)
        ]
        print(f"## Claims where they are {told}\n")
        _print(("claim", f"runs in which it is {told}", "n", "claimed"), rows)
    rows = [
        (case.shown, case.truth, *_cells(case, counts))
        for case, counts in zip(INTERVALS, found["interval"], strict=True)
    ]
    print("## Intervals\n")
    _print(("95 % interval", "runs", "n", "covers the truth"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000, help="runs of each case and size")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.jobs) as pool:
        found = {
            kind: rates(kind, cases, given.repeats, lambda *task: pool.map(*task))
            for kind, cases in (("claim", CLAIMS), ("power", POWER), ("interval", INTERVALS))
        }
    show(found)


if __name__ == "__main__":
    main()
