"""Zen-NAS's evolution in its own space, under budgets that reject most children."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from searches import make_search
from toys import Curves

from raynas.core import Architecture, Bound, Measurement, Objective
from raynas.data.base import DataView, Images
from raynas.samplers import ElitistEvolution, Random
from raynas.samplers.base import Sampler
from raynas.schedulers.none import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.spaces import ZenNAS
from raynas.spaces.zennas.space import CIFAR_START

SPACE = ZenNAS()
BOUNDS = (Bound("params", max=2e5), Bound("layers", max=10))


class Table(list[Mapping[str, Any]]):
    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:  # type: ignore[override]
        self.extend(rows)


def depth_and_width(arch: Architecture) -> float:
    """What the Zen-Score of a plain network grows with; it pushes against every budget."""
    convs = [c for b in SPACE.blocks(arch) for link in b.links() for c in link.convs]
    return sum(math.log(c.weights / c.channels) for c in convs)


def searched(sampler: Sampler, trials: int) -> tuple[list[float], Table]:
    """The scores of the trials that keep the bounds, in their order, and all rows."""
    images = Images(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2))
    view, rows = DataView(images, images, "val", 10, (0.0,) * 3, (255.0,) * 3), Table()
    work = make_search(
        EvaluationContext(SPACE, Curves(max_step=1), view),
        rows,
        sampler=sampler,
        fallback=Random(),
        scheduler=NoStopping(),
        limits=SearchLimits(trials=trials),
        run="test",
        bounds=BOUNDS,
        stage="search",
        arm=sampler.name,
        objectives=(Objective("score"),),
        seed=0,
    )
    scores = []
    while job := work.next():
        scores.append(depth_and_width(work.arch(job.trial)))
        work.report(job, Measurement(1, {"score": scores[-1]}))
    return scores, rows


def test_evolution_goes_on_where_most_children_are_rejected(monkeypatch: Any) -> None:
    def never(_self: Random, _number: int) -> Architecture:
        raise AssertionError("the search gave up the evolution for random architectures")

    monkeypatch.setattr(Random, "ask", never)
    scores, rows = searched(ElitistEvolution(32, CIFAR_START), 400)
    assert len(scores) == 400
    assert np.mean(scores[-50:]) > 1.5 * np.mean(scores[:50])
    complete = [row for row in rows if row["state"] == "COMPLETE"]
    assert all(row["params"] <= 2e5 and row["layers"] <= 10 for row in complete)
    assert sum(row["state"] == "INFEASIBLE" for row in rows) > len(complete) == 400
