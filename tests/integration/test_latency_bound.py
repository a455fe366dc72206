"""Latency as a bound on a real Ray: one worker takes the times, beside it a core stays free."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from integration.toy_runs import Table, search
from toys import Quick, Serial, ToyData, ToySpace

from raynas.core import Bound, Job, Objective
from raynas.data import Digits
from raynas.evaluators import MeasuredLatency, Screen, ZeroShot
from raynas.proxies import L2Norm
from raynas.runners.base import Resources
from raynas.runners.ray.runner import RayRunner
from raynas.runners.ray.tune import TuneRunner
from raynas.samplers import Random
from raynas.search.context import EvaluationContext
from raynas.search.screening import ProposalScreening
from raynas.spaces import ElasticResNet

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_what_takes_times_works_alone_and_where_the_trials_run(
    ray_session: TuneRunner, tmp_path: Path
) -> None:
    space, view, log = ToySpace(depth=12), ToyData().search_view(0), tmp_path / "log"
    runner = RayRunner(Resources(concurrent=2), modules=ray_session.modules)
    payload = EvaluationContext(space, Serial(max_step=1, seconds=0.02, log=str(log)), view)
    jobs = [(arch, Job(n, n, 1)) for n, arch in zip(range(20), space.enumerate(), strict=False)]
    try:
        found = runner.evaluate(payload, jobs)
        assert all(outcomes[-1].measurement for outcomes in found)
        assert len({line.split()[2] for line in log.read_text().splitlines()}) == 1  # process
        runner._gpus = 0.5  # as on a machine with GPUs
        for kind, size, gpus in ((Serial, 1, 0.5), (Quick, 2, 0.0)):
            crew = runner._crew(EvaluationContext(space, kind(max_step=1), view))
            assert (crew._size(), crew._gpus) == (size, gpus)
    finally:
        runner.close()


def test_no_network_beyond_the_bound_is_evaluated(ray_session: TuneRunner) -> None:
    # of width 8 there are two networks only, of width 16 another 18 that keep any such bound
    space = ElasticResNet(widths=((8, 16, 64),), strides=(1,), depths=(1, 4), kernels=(3,))
    view = Digits(subset=64).search_view(0)
    runner = RayRunner(Resources(cpus=1), modules=ray_session.modules)
    scorer = EvaluationContext(space, MeasuredLatency(repeats=10), view)
    try:
        jobs = [(arch, Job(n, n, 1)) for n, arch in enumerate(space.extremes())]
        ends = runner.evaluate(scorer, jobs)
        times = [outcomes[0].measurement.values["latency_ms"] for outcomes in ends]  # type: ignore[union-attr]
        assert times[0] < times[1]
        bound = Bound("latency_ms", max=mean(times))
        rows, screen = Table(), Screen(scorer.evaluator, keep=1.0, batch=8)
        more: dict[str, Any] = {
            "space": space,
            "bounds": (bound,),
            "screening": ProposalScreening(
                screen, partial(runner.evaluate, scorer), bounds=(bound,)
            ),
            "objectives": (Objective("l2_norm"),),
        }
        evaluator = ZeroShot((L2Norm(),), batch=8)
        work = search(Random(), evaluator, rows, trials=6, view=view, **more)
        assert runner._lane(work)._slots() == 1  # of two
        runner.run(work)
    finally:
        runner.close()
    states = {row["state"] for row in rows}
    assert states >= {"COMPLETE", "INFEASIBLE"}
    for row in rows:
        if row["step"] == 0:
            assert (row["latency_ms"] > bound.max) == (row["state"] == "INFEASIBLE")
    evaluated = {row["trial"] for row in rows if row["step"] > 0}
    assert len(evaluated) == 6
    assert evaluated.isdisjoint({row["trial"] for row in rows if row["state"] == "INFEASIBLE"})
