"""What every evaluator must do. A new evaluator: one line in ``CASES``."""

from __future__ import annotations

import atexit
import copy
import functools
import itertools
import math
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from torch import nn

from raynas.benchmarks import Synthetic
from raynas.core import Architecture, Choice, Job, Measurement
from raynas.core.describe import describe
from raynas.data.base import DataView, Images
from raynas.evaluators import (
    EVALUATORS,
    Evaluator,
    FineTune,
    FunctionEvaluator,
    Inherited,
    MeasuredLatency,
    Retrain,
    Tabular,
    TrainSupernet,
    ZeroShot,
)
from raynas.evaluators.abilities import check_architecture
from raynas.evaluators.train_supernet import new_supernet
from raynas.layers import ElasticLinear, Flatten, OneOf, Sequential
from raynas.proxies import SNIP, L2Norm
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.supernet import Supernet
from raynas.supernet.weights import save_weights
from raynas.training import Recipe


@dataclass(frozen=True)
class Layers(SearchSpace):
    name: ClassVar[str] = "layers"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return Choice("width", (4, 8), ordered=True), Choice("act", ("relu", "tanh"))

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> nn.Module:
        width = int(arch["width"])
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[str(arch["act"])]()
        first = nn.Linear(int(np.prod(input_shape)), width)
        return nn.Sequential(nn.Flatten(), first, act, nn.Linear(width, num_classes))

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        width, act = self.choices
        pixels = int(np.prod(input_shape))
        body = Sequential(
            Flatten(pixels // input_shape[0]),
            ElasticLinear(pixels, width),
            OneOf(act, {"relu": nn.ReLU(), "tanh": nn.Tanh()}),
            ElasticLinear(width, num_classes),
        )
        return Supernet(self, body, input_shape, num_classes)


def _images(n: int) -> Images:
    rng = np.random.default_rng(n)
    pixels = rng.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, n)
    pixels.flags.writeable = labels.flags.writeable = False  # as from shared memory
    return Images(pixels, labels)


def view() -> DataView:
    return DataView(_images(33), _images(20), "val", 3, (128.0,), (74.0,))


def three_steps(arch: Architecture, job: Job) -> Iterator[float]:
    for step in range(1, 4):
        yield step * float(arch["width"]) + job.seed % 7


@functools.cache
def weights() -> Path:
    """Of a supernet that nobody has trained."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    save_weights(folder, new_supernet(Layers(), view(), seed=0), epoch=0, identity={})
    return folder


RECIPE = Recipe(epochs=3, batch_size=16, crop_pad=1)
CASES: dict[str, Callable[[], Evaluator]] = {
    "retrain": lambda: Retrain(RECIPE, checkpoint_seconds=0),
    "fine_tune": lambda: FineTune(RECIPE, checkpoint_seconds=0, weights=weights()),
    "train_supernet": lambda: TrainSupernet(
        RECIPE, look_images=20, look_calibration=16, checkpoint_seconds=0
    ),
    "inherited": lambda: Inherited(calibration=16, weights=weights()),
    "function": lambda: FunctionEvaluator(three_steps, max_step=3),
    "latency": lambda: MeasuredLatency(repeats=2),
    "zero_shot": lambda: ZeroShot(proxies=(SNIP(), L2Norm()), batch=16),
    "tabular": lambda: Tabular(Synthetic(max_step=3, noise=1.0), costs=("latency_ms",)),
}


#: what they find does not depend on the job's seed
SEEDLESS = {"inherited", "latency"}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which every pass takes as long, to the last bit."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: next(ticks) / 1024)


@pytest.fixture(params=CASES)
def fresh(request: pytest.FixtureRequest) -> Evaluator:
    return CASES[request.param]()


@pytest.fixture
def evaluator(fresh: Evaluator) -> Evaluator:
    fresh.setup(Layers(), view())
    return fresh


@pytest.fixture
def arch() -> Architecture:
    return Layers().architecture({"width": 4, "act": "relu"})


def job_for(evaluator: Evaluator, workdir: Path | None = None, seed: int = 11) -> Job:
    return Job(trial=0, seed=seed, max_step=evaluator.max_step, workdir=workdir)


def curve(measurements: list[Measurement]) -> list[tuple[int, dict[str, float]]]:
    return [(m.step, dict(m.values)) for m in measurements]


def test_every_listed_evaluator_is_tested_here() -> None:
    assert {name: type(make()) for name, make in CASES.items()} == EVALUATORS


def test_it_is_a_dataclass_with_a_name_and_metrics_before_setup(fresh: Evaluator) -> None:
    assert is_dataclass(fresh)
    assert fresh.name
    names = [metric.name for metric in fresh.metrics]
    assert names
    assert len(set(names)) == len(names)
    assert fresh.max_step >= 1


def test_settings_survive_setup_replace_copy_and_pickle(
    fresh: Evaluator, arch: Architecture
) -> None:
    before = describe(fresh)
    fresh.setup(Layers(), view())
    list(fresh.evaluate(arch, job_for(fresh)))
    assert describe(fresh) == before
    settings = {f.name: getattr(fresh, f.name) for f in fields(fresh) if f.init}  # type: ignore[arg-type]
    assert describe(replace(fresh, **settings)) == before  # type: ignore[type-var]
    assert describe(copy.deepcopy(fresh)) == describe(pickle.loads(pickle.dumps(fresh))) == before


def test_steps_rise_to_the_last_with_all_metrics_finite(
    evaluator: Evaluator, arch: Architecture
) -> None:
    rows = list(evaluator.evaluate(arch, job_for(evaluator)))
    steps = [row.step for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == evaluator.max_step
    names = [metric.name for metric in evaluator.metrics]
    for row in rows:
        assert set(row.values) == set(names)
        assert all(type(v) is float and math.isfinite(v) for v in row.values.values())
        assert row.seconds >= 0
        assert row.bad_values(names) == []


def test_a_shorter_job_ends_at_its_own_last_step(evaluator: Evaluator, arch: Architecture) -> None:
    whole = curve(list(evaluator.evaluate(arch, job_for(evaluator))))
    short = list(evaluator.evaluate(arch, replace(job_for(evaluator), max_step=2)))
    assert curve(short) == whole[:2]


def test_the_same_job_gives_the_same_and_another_seed_another(
    evaluator: Evaluator, arch: Architecture
) -> None:
    first, again, other = (
        curve(list(evaluator.evaluate(arch, job_for(evaluator, seed=seed))))
        for seed in (11, 11, 12)
    )
    assert first == again
    assert (first == other) == (evaluator.name in SEEDLESS)


def test_who_iterates_may_stop_at_any_step(evaluator: Evaluator, arch: Architecture) -> None:
    whole = curve(list(evaluator.evaluate(arch, job_for(evaluator))))
    for stop in range(1, evaluator.max_step):
        steps = evaluator.evaluate(arch, job_for(evaluator))
        head = [next(steps) for _ in range(stop)]
        steps.close()  # type: ignore[attr-defined]
        assert curve(head) == whole[:stop]
    assert curve(list(evaluator.evaluate(arch, job_for(evaluator)))) == whole


def test_a_second_attempt_reports_what_the_first_would_have(
    evaluator: Evaluator, arch: Architecture, tmp_path: Path
) -> None:
    whole = curve(list(evaluator.evaluate(arch, job_for(evaluator))))
    for stop in range(1, evaluator.max_step + 1):
        job = job_for(evaluator, workdir=tmp_path / str(stop))
        steps = evaluator.evaluate(arch, job)
        head = [next(steps) for _ in range(stop)]
        steps.close()  # type: ignore[attr-defined]
        tail = list(evaluator.evaluate(arch, replace(job, attempt=1)))
        assert tail[-1].step == evaluator.max_step
        assert tail[0].step <= stop + 1  # no gap
        assert dict(curve(head)) | dict(curve(tail)) == dict(whole)


def test_what_was_kept_but_not_stored_is_told_again(
    evaluator: Evaluator, arch: Architecture, tmp_path: Path
) -> None:
    whole = curve(list(evaluator.evaluate(arch, job_for(evaluator))))
    for stored in range(evaluator.max_step):
        job = job_for(evaluator, workdir=tmp_path / str(stored))
        list(evaluator.evaluate(arch, job))  # by a worker whose driver stored less
        tail = curve(list(evaluator.evaluate(arch, replace(job, attempt=1, stored=stored))))
        assert tail == whole[stored:] or tail == whole  # one that keeps nothing begins anew


def test_evaluations_may_be_interleaved(evaluator: Evaluator) -> None:
    archs = [Layers().architecture({"width": w, "act": "tanh"}) for w in (4, 8)]
    alone = [curve(list(evaluator.evaluate(a, job_for(evaluator)))) for a in archs]
    both = zip(*(evaluator.evaluate(a, job_for(evaluator)) for a in archs), strict=True)
    assert [curve(list(rows)) for rows in zip(*both, strict=True)] == alone


def test_check_accepts_what_can_be_evaluated(evaluator: Evaluator, arch: Architecture) -> None:
    assert check_architecture(evaluator, arch) is None  # type: ignore[func-returns-value]
