"""Latency as an evaluator: what it times, what it notes, and how it bounds a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from searches import make_search
from torch import nn

from raynas.core import Architecture, Bound, Job, Objective, RaynasError, TrialState, UserError
from raynas.costs import LatencyMeasurement, measure_latency
from raynas.data import Digits
from raynas.data.base import DataView, Images
from raynas.evaluators import FunctionEvaluator, MeasuredLatency, Screen
from raynas.experiment import Experiment
from raynas.runners.local import LocalRunner
from raynas.samplers import NSGA2, Random
from raynas.schedulers import NoStopping
from raynas.search.context import EvaluationContext, SearchLimits
from raynas.search.screening import ProposalScreening
from raynas.spaces import ElasticResNet

torch.set_num_threads(1)

SPACE = ElasticResNet(widths=((8, 16), (16, 32)), strides=(1, 2), depths=(1, 2), stem_width=8)
JOB = Job(trial=0, seed=5, max_step=1)


def view() -> DataView:
    images = Images(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64))
    return DataView(images, images, "val", 3, (0.0,) * 3, (1.0,) * 3)


def ready(evaluator: MeasuredLatency) -> MeasuredLatency:
    evaluator.setup(SPACE, view())
    return evaluator


def by_params(network: nn.Module, shape: tuple[int, ...], **_: Any) -> LatencyMeasurement:
    """A machine on which a thousand weights take a millisecond."""
    params = sum(p.numel() for p in network.parameters())
    return replace(measure_latency(nn.Identity(), shape, repeats=1), median_ms=params / 1000)


def test_the_network_that_the_space_builds_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[nn.Module, tuple[int, ...], dict[str, Any]]] = []

    def spy(network: nn.Module, shape: tuple[int, ...], **under: Any) -> LatencyMeasurement:
        seen.append((network, shape, under))
        return measure_latency(network, shape, **under)

    monkeypatch.setattr("raynas.costs.latency.measure_latency", spy)
    evaluator = ready(MeasuredLatency(batch=2, repeats=3))
    arch = SPACE.sample(np.random.default_rng(0))
    state = torch.get_rng_state()
    (found,) = evaluator.evaluate(arch, replace(JOB, threads=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.step == evaluator.max_step == 1
    assert found.bad_values([m.name for m in evaluator.metrics]) == []
    assert set(found.values) == {"latency_ms", "latency_iqr_ms"}
    assert found.note.endswith("batch 2, float32, cpu, threads 1, processor time)")
    ((network, shape, under),) = seen
    assert str(network) == str(SPACE.build(arch, (3, 8, 8), 3))
    assert shape == (3, 8, 8)
    assert under == {"batch": 2, "repeats": 3, "dtype": "float32", "device": "cpu", "threads": 1}


def test_a_table_is_made_once_and_says_what_it_is_worth() -> None:
    evaluator = ready(MeasuredLatency(repeats=3, table=3))
    assert [m.name for m in evaluator.metrics] == ["latency_ms"]
    rng = np.random.default_rng(1)
    found = [next(evaluator.evaluate(SPACE.sample(rng), JOB)) for _ in range(3)]
    assert all(m.bad_values(["latency_ms"]) == [] for m in found)
    assert len({m.note for m in found}) == 1
    assert found[0].note.startswith("from a table of ")
    assert found[0].note.endswith("on 3 networks")
    assert found[1].seconds < found[0].seconds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch=0; expected: 1 or more"),
        ({"repeats": 0}, "repeats=0"),
        ({"dtype": "int8"}, "dtype='int8'; expected: float32"),
        ({"table": 1}, "table=1; expected: 0, or from 2 up"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MeasuredLatency(**settings)


def test_it_needs_a_space() -> None:
    with pytest.raises(RaynasError, match="before setup"):
        next(MeasuredLatency().evaluate(SPACE.sample(np.random.default_rng(0)), JOB))


EVALUATED: list[str] = []


def params(arch: Architecture) -> float:
    EVALUATED.append(arch.text)
    return float(SPACE.costs(arch, (3, 8, 8), 3).params)


@pytest.fixture
def evaluated() -> Iterator[list[str]]:
    EVALUATED.clear()
    yield EVALUATED
    EVALUATED.clear()


@pytest.mark.parametrize("sampler", [Random(), NSGA2(population=4)], ids=["random", "nsga2"])
def test_a_bound_is_kept_before_anything_is_evaluated(
    monkeypatch: pytest.MonkeyPatch, evaluated: list[str], sampler: Any
) -> None:
    monkeypatch.setattr("raynas.costs.latency.measure_latency", by_params)
    bound = Bound("latency_ms", max=10)
    screen, rows = Screen(MeasuredLatency(), keep=1.0, batch=4), []
    payload = EvaluationContext(SPACE, FunctionEvaluator(params), view())
    runner = LocalRunner()
    scorer = partial(runner.evaluate, EvaluationContext(SPACE, screen.evaluator, view()))
    work = make_search(
        payload,
        type("Rows", (), {"append": staticmethod(rows.extend)})(),
        sampler=sampler,
        fallback=Random(),
        scheduler=NoStopping(),
        limits=SearchLimits(trials=12),
        run="test",
        stage="search",
        arm=sampler.name,
        objectives=(Objective(),),
        seed=0,
        bounds=(bound,),
        screening=ProposalScreening(screen, scorer, bounds=(bound,)),
    )
    assert work.timed
    runner.run(work)
    within = [t for t in work.trials.values() if t.state is TrialState.COMPLETE]
    beyond = [t for t in work.trials.values() if t.state is TrialState.INFEASIBLE]
    assert len(within) == 12
    assert beyond
    assert sorted(evaluated) == sorted(t.arch.text for t in within)
    for trial in (*within, *beyond):
        assert trial.values()["latency_ms"] == trial.costs["params"] / 1000
        assert (trial.values()["latency_ms"] <= 10) == (trial in within)
    assert {t.message for t in beyond} == {"breaks latency_ms <= 10"}
    stored = {row["trial"]: row["latency_ms"] for row in rows if row["step"] == 0}
    assert len(stored) == len(work.trials)


def test_a_bound_that_nobody_measures_names_the_cure() -> None:
    parts = {"space": SPACE, "data": Digits(), "sampler": Random(), "baselines": ()}
    evaluator, bounds = FunctionEvaluator(params), (Bound("latency_ms", max=2),)
    with pytest.raises(UserError, match=r"Screen\(MeasuredLatency\(\), keep=1\.0\) measures it"):
        Experiment(**parts, evaluator=evaluator, bounds=bounds)
    screen = Screen(MeasuredLatency(), keep=1.0)
    assert Experiment(**parts, evaluator=evaluator, bounds=bounds, screen=screen).bounds == bounds
