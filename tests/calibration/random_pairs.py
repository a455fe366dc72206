"""Random search against random search at equal cost, on simulated workers.

The main arm and the one it is compared with are the same method with other seeds, so whatever a
report says of their difference is chance. ``python tests/calibration/random_pairs.py`` counts over
many pairs how often the main arm is ahead (ties count as half), with the 95 % interval of that
share, how often the report calls the lead more than luck, and what the second arm cost in percent
of the first. All workers start at once and are equally fast; both arms see one made-up landscape of
accuracies (`raynas.benchmarks.Synthetic`), another one in each pair.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from raynas.analysis import equal_cost
from raynas.analysis import statistics as st
from raynas.benchmarks import NoImages, Synthetic
from raynas.core import Architecture, Choice, Costs, Objective, seed_for
from raynas.core.metrics import VAL_ACCURACY
from raynas.evaluators import Tabular
from raynas.pipeline.stages import equal_cost as limits_by
from raynas.runners.simulated import TimedRows, VirtualRunner
from raynas.runners.simulated_cluster import SimulatedCluster
from raynas.samplers import Random
from raynas.schedulers import (
    ASHA,
    PASHA,
    CurvePrediction,
    Hyperband,
    NoStopping,
    PromotionASHA,
    Scheduler,
    SuccessiveHalving,
)
from raynas.search.builder import SearchSetup, build_search
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.controller import SearchController
from raynas.search.trial_numbers import NumberPlan
from raynas.spaces.base import SearchSpace
from raynas.store.schema import schema_for

SCHEDULERS: Mapping[str, Callable[[], Scheduler]] = {
    "none": NoStopping,
    "asha": ASHA,
    "asha_promotion": PromotionASHA,
    "pasha": PASHA,
    "halving": SuccessiveHalving,
    "hyperband": Hyperband,
    "curves": CurvePrediction,
}
WORKERS = (1, 8, 32, 64)
MAIN, OTHER = "main", "random"


@dataclass(frozen=True)
class Plain(SearchSpace):
    """A million architectures, all different, so that every proposal is drawn alike."""

    name: ClassVar[str] = "plain"
    choices: ClassVar[tuple[Choice, ...]] = tuple(  # type: ignore[misc]
        Choice(f"c{i}", tuple(range(10)), ordered=True) for i in range(6)
    )

    def costs(self, arch: Architecture, *_: Any) -> Costs:
        return Costs(1, 1)

    def build(self, arch: Architecture, *_: Any) -> Any:
        raise NotImplementedError("its trainings are looked up")


@dataclass(frozen=True)
class Cell:
    """One kind of pair: ``trials`` of the main arm, trained for up to ``steps``."""

    scheduler: str
    workers: int
    trials: int = 100
    steps: int = 9
    noise: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """Of one pair. ``won``: 1, 0, or 0.5 for a tie. ``cost``: of the second arm by the first."""

    won: float
    claimed: bool
    cost: float


def pair(cell: Cell, seed: int) -> Outcome:
    """The main arm, and random search at its cost, as a run carries them out and compares them.

    Pairs of different cells have nothing in common.
    """
    seed = seed_for("pair", cell.scheduler, cell.workers, seed)
    evaluator = Tabular(Synthetic(max_step=cell.steps, noise=cell.noise, seed=seed))
    payload = EvaluationContext(Plain(), evaluator, NoImages().search_view(0))
    main, rows = _search(
        cell, payload, MAIN, seed_for(seed, MAIN), SearchLimits(trials=cell.trials)
    )
    limits = limits_by(main)
    other, more = _search(cell, payload, OTHER, seed_for(seed, OTHER), limits, cell.trials)
    run = st.load(_table([*rows, *more]), {"objectives": [{"metric": VAL_ACCURACY.name}]})
    found = equal_cost.compare(run)
    cost = other.meter.paid / main.meter.paid
    if found is None:
        traces = (equal_cost.trace(run, arm) for arm in (MAIN, OTHER))
        ours, theirs = (math.isfinite(t.at(main.meter.paid)) for t in traces)
        return Outcome(0.5 + 0.5 * (ours - theirs), False, cost)
    won = 0.5 if found.main == found.random else float(found.better)
    return Outcome(won, found.beyond_chance, cost)


def _search(
    cell: Cell,
    payload: EvaluationContext,
    arm: str,
    seed: int,
    limits: SearchLimits,
    first: int = 0,
) -> tuple[SearchController, TimedRows]:
    runner = VirtualRunner(SimulatedCluster(cell.workers))
    rows = TimedRows(runner)
    setup = SearchSetup(
        payload, rows, stage="search", arm=arm, objectives=(Objective(),), seed=seed,
        numbers=NumberPlan(first, (), frozenset()), clock=runner.clock,
    )  # fmt: skip
    work = build_search(
        setup, sampler=Random(), fallback=Random(), scheduler=SCHEDULERS[cell.scheduler](),
        limits=limits, run=f"pair/{arm}",
    )  # fmt: skip
    runner.run(work)
    return work, rows


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """As the store has it."""
    common = {
        "run": "pair", "experiment": "pair", "session": 1, "host": "h", "git": "", "versions": "",
    }  # fmt: skip
    made = []
    for row in rows:
        clock = int(1e6 * row["clock_s"])
        made.append({**common, **{k: v for k, v in row.items() if k != "clock_s"}, "time": clock})
    return pa.Table.from_pylist(made, schema=schema_for((VAL_ACCURACY,)))


@dataclass(frozen=True)
class Counted:
    """Shares over many pairs."""

    pairs: int
    won: float
    claimed: float
    cost: float

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of ``won`` where the truth is one half (ties make it smaller)."""
        return 1.96 * math.sqrt(0.25 / self.pairs)


def count(outcomes: Iterable[Outcome]) -> Counted:
    found = list(outcomes)
    n = len(found)
    shares = ([getattr(one, name) for one in found] for name in ("won", "claimed", "cost"))
    return Counted(n, *(float(sum(share)) / n for share in shares))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--schedulers", nargs="*", default=list(SCHEDULERS))
    parser.add_argument("--workers", nargs="*", type=int, default=list(WORKERS))
    given = parser.parse_args(argv)
    print("scheduler       workers  ahead %         claimed %  cost %  seconds")
    with ProcessPoolExecutor(given.jobs) as pool:
        for name in given.schedulers:
            for workers in given.workers:
                began = time.monotonic()
                cell = Cell(name, workers, given.trials, given.steps)
                found = count(pool.map(partial(pair, cell), range(given.seeds), chunksize=10))
                took = time.monotonic() - began
                print(
                    f"{name:15} {workers:7}  {100 * found.won:5.1f} ± {100 * found.half_width:.1f}"
                    f"   {100 * found.claimed:9.1f}  {100 * found.cost:6.1f}  {took:7.0f}"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
