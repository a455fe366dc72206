"""How often a report speaks of more than luck where there is nothing but chance.

What these count holds for the seeds that are fixed here; ``random_pairs.py`` counts over many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from calibration import random_pairs
from numpy.typing import NDArray

from raynas.analysis import chance
from raynas.analysis import statistics as st
from raynas.core.metrics import VAL_ACCURACY
from raynas.reports.sentences import compare_sentence
from raynas.store.schema import schema_for

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def steady(rng: np.random.Generator, n: int) -> Floats:
    return rng.normal(80, 5, n)


def tied(rng: np.random.Generator, n: int) -> Floats:
    return rng.integers(0, 4, n).astype(float)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    return rng.pareto(1.0, n)


def stopped(rng: np.random.Generator, n: int) -> Floats:
    """Three in four are stopped, the poorer ones with more probability."""
    found = rng.normal(80, 5, n)
    ranks = found.argsort().argsort() / n
    return np.where(rng.random(n) < np.minimum(ranks**3 + 0.05, 1), found, np.nan)


def claims(draw: Draw, sizes: tuple[int, int], runs: int = 4000) -> float:
    """How often the first of two samples of one distribution is called beyond chance."""
    rng = np.random.default_rng(1)
    found = [chance.lead(draw(rng, sizes[0]), draw(rng, sizes[1])) for _ in range(runs)]
    return sum(one.beyond_chance for one in found) / runs


@pytest.mark.parametrize("draw", [steady, tied, heavy, stopped], ids=lambda d: d.__name__)
@pytest.mark.parametrize("sizes", [(3, 3), (5, 5), (7, 20), (20, 7), (60, 60)], ids=str)
def test_luck_is_called_more_in_at_most_five_percent(draw: Draw, sizes: tuple[int, int]) -> None:
    assert claims(draw, sizes) <= 0.055  # 4,000 runs: 5 % and 1.5 standard errors


def test_a_search_that_is_better_is_told_from_luck() -> None:
    rng = np.random.default_rng(2)
    found = [chance.lead(rng.normal(1, 1, 60), rng.normal(0, 1, 60)) for _ in range(500)]
    assert sum(one.beyond_chance for one in found) / 500 > 0.6


def a_run(rng: np.random.Generator, trials: int, lead: float, paid: bool) -> st.RunStatistics:
    """Two arms of trainings that take longer the better the network; the second one has more."""
    rows = []
    for arm, first, count in (("tpe", 0, trials), ("random", 1000, 2 * trials)):
        quality = rng.normal(lead if arm == "tpe" else 0.0, 1, count)
        for k in range(count):
            rows.append(
                {
                    "run": "r", "experiment": "e", "session": 1, "stage": "search", "arm": arm,
                    "trial": first + k, "attempt": 0, "arch_id": f"{arm}{k}", "arch": "a",
                    "proposal": "a", "seed": k, "step": 1, "state": "COMPLETE", "params": 1,
                    "macs": 1, "seconds": float(np.exp(0.5 * quality[k])) if paid else 0.0,
                    "time": k, "host": "h", "device": "cpu", "git": "", "versions": "",
                    "val_accuracy": 80 + quality[k],
                }
            )  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schema_for((VAL_ACCURACY,)))
    return st.load(table, {"objectives": [{"metric": VAL_ACCURACY.name}]})


@pytest.mark.parametrize("paid", [True, False], ids=["seconds", "steps"])
def test_the_sentence_appears_by_luck_in_at_most_five_percent(paid: bool) -> None:
    """A method that is random search under another name, where better networks cost more."""
    rng = np.random.default_rng(3)
    said = [compare_sentence(a_run(rng, 12, 0.0, paid)) for _ in range(300)]
    assert sum("more than random search reaches by chance" in text for _, text in said) <= 15
    assert 120 <= sum(verdict in ("better", "close") for verdict, _ in said) <= 180
    better = [compare_sentence(a_run(rng, 40, 1.5, paid)) for _ in range(20)]
    assert sum("more than random search reaches by chance" in text for _, text in better) >= 12


WORKERS = (1, 8, 32)


@pytest.fixture(scope="module")
def pairs() -> dict[int, list[random_pairs.Outcome]]:
    """Four pairs per scheduler and number of workers; the main arm has 24 trials."""
    return {
        workers: [
            random_pairs.pair(random_pairs.Cell(name, workers, trials=24), seed)
            for name in random_pairs.SCHEDULERS
            for seed in range(4)
        ]
        for workers in WORKERS
    }


Pairs = dict[int, list[random_pairs.Outcome]]


@pytest.mark.parametrize("workers", WORKERS)
def test_random_search_wins_half_of_its_comparisons_with_itself(pairs: Pairs, workers: int) -> None:
    found = random_pairs.count(pairs[workers])
    assert abs(found.won - 0.5) <= found.half_width


def test_random_search_is_not_called_better_than_itself(pairs: Pairs) -> None:
    found = random_pairs.count(one for outcomes in pairs.values() for one in outcomes)
    assert found.pairs == 84
    assert found.claimed <= 0.05


def test_many_workers_spend_little_more_than_the_budget(pairs: Pairs) -> None:
    cost = {workers: random_pairs.count(found).cost for workers, found in pairs.items()}
    assert all(one >= 1 for one in cost.values())
    assert cost[1] < 1.1
    assert cost[32] < 1.35  # more workers than the main arm has trials
