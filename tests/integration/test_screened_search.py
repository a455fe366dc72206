"""Screening on a real Ray: scores from actors beside what is being trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from integration.toy_runs import Recorded, Table, content, search
from toys import Curves, Quick, ToyData, ToySpace

from raynas.evaluators import Screen
from raynas.runners.base import Resources, Runner
from raynas.runners.local import LocalRunner
from raynas.runners.ray.runner import RayRunner
from raynas.runners.ray.tune import TuneRunner
from raynas.samplers import Random
from raynas.search.context import EvaluationContext
from raynas.search.screening import ProposalScreening

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("undrawn")]

SPACE, BATCH = ToySpace(depth=12), 8


def screened(runner: Runner, scorer: Quick, rows: Table) -> Recorded:
    """Random search that trains ten, the better half of each batch by a first epoch."""
    screen = Screen(scorer, keep=0.5, batch=BATCH)
    payload = EvaluationContext(SPACE, scorer, ToyData().search_view(0))
    more: dict[str, Any] = {
        "screening": ProposalScreening(screen, partial(runner.evaluate, payload))
    }
    work = search(Random(), Curves(), rows, trials=10, space=SPACE, view=payload.view, **more)
    runner.run(work)
    return work


def test_the_same_table_as_on_the_local_runner_though_a_scoring_worker_is_killed(
    ray_session: TuneRunner, tmp_path: Path
) -> None:
    rows, here = Table(), Table()
    local = screened(LocalRunner(), Quick(max_step=1), here)
    killed = next(row["arch"] for row in here if row["step"] == 0)
    scorer = Quick(max_step=1, log=str(tmp_path / "log"), fault={killed: "kill"})
    runner = RayRunner(Resources(cpus=0.5, concurrent=2), modules=ray_session.modules)
    work = screened(runner, scorer, rows)
    runner.close()
    assert list(tmp_path.glob("log.killed-*"))
    assert work.done
    assert content(rows) == content(here)
    assert work.status().screened_out == local.status().screened_out == 3 * BATCH - 10
    assert dict(work.status().counts) == {"COMPLETE": 10}
    scored = [row for row in rows if row["step"] == 0]
    assert len(scored) == len({row["trial"] for row in scored}) == 3 * BATCH
