"""On Ray, too, a space whose own code raises for some architectures costs those trials only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import failing_spaces
import pytest
import toys
from failing_spaces import Built, FailingSpace, Where
from searches import make_search
from toys import Quick, ToyData

from raynas.core import AllTrialsFailed, Objective, TrialState
from raynas.runners.base import Resources
from raynas.runners.ray.runner import RayRunner
from raynas.samplers import Random
from raynas.schedulers import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def runner() -> Iterator[RayRunner]:
    """Of two CPU cores; both lanes use it."""
    one = RayRunner(Resources(), modules=(toys, failing_spaces))
    one.open()
    yield one
    one.close()


def search(space: FailingSpace, evaluator: Any, trials: int) -> Any:
    rows: list[dict[str, Any]] = []

    class Table:
        def append(self, new: Any) -> None:
            rows.extend(dict(row) for row in new)

    work = make_search(
        EvaluationContext(space, evaluator, ToyData().search_view(0)), Table(), sampler=Random(),
        fallback=Random(), scheduler=NoStopping(), limits=SearchLimits(trials=trials), run="test",
        stage="search", arm="test", seed=0, objectives=(Objective(),),
    )  # fmt: skip
    return work, rows


LANES = {"tune": Built(max_step=2), "actors": Quick(max_step=2)}


@pytest.mark.parametrize(("lane", "says_so"), [("tune", True), ("actors", False)])
def test_the_search_goes_on(runner: RayRunner, lane: str, says_so: bool) -> None:
    evaluator = LANES[lane]
    where: Where = "forward" if lane == "tune" else "build"
    work, rows = search(FailingSpace(where=where, says_so=says_so), evaluator, trials=6)
    runner.run(work)
    bad = {t.number for t in work.trials.values() if t.arch["x"] < 3}
    assert 0 < len(bad) < 6 == len(work.trials)
    state = TrialState.INFEASIBLE if says_so else TrialState.FAILED
    for trial in work.trials.values():
        assert trial.state is (state if trial.number in bad else TrialState.COMPLETE)
    assert {row["trial"] for row in rows if f"no {where} with" in (row["message"] or "")} == bad


@pytest.mark.parametrize("lane", ["tune", "actors"])
def test_it_ends_when_the_first_ones_all_fail(runner: RayRunner, lane: str) -> None:
    evaluator = LANES[lane]
    work, rows = search(FailingSpace(where="build", bad=6), evaluator, trials=500)
    if lane == "tune":
        with pytest.raises(AllTrialsFailed, match="all 10 trials failed"):
            runner.run(work)
    else:
        runner.run(work)
    assert isinstance(work.error, AllTrialsFailed)
    assert len(rows) == 10
