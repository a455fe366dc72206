"""The suite that every evaluator passes. A new evaluator: one line in ``CASES``."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raynas.benchmarks import Synthetic
from raynas.core import Architecture, Job
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
from raynas.evaluators.train_supernet import new_supernet
from raynas.proxies import SNIP, L2Norm
from raynas.supernet.weights import save_weights
from raynas.testing.evaluators import EvaluatorTestCase, Layers, small_view
from raynas.training import Recipe


def three_steps(arch: Architecture, job: Job) -> Iterator[float]:
    for step in range(1, 4):
        yield step * float(arch["width"]) + job.seed % 7


@functools.cache
def weights() -> Path:
    """Of a supernet that nobody has trained."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    save_weights(folder, new_supernet(Layers(), small_view(), seed=0), epoch=0, identity={})
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


class TestEvaluators(EvaluatorTestCase):
    @pytest.fixture(params=CASES)
    def new_evaluator(self, request: pytest.FixtureRequest) -> Evaluator:
        return CASES[request.param]()

    @pytest.fixture
    def depends_on_seed(self, new_evaluator: Evaluator) -> bool:
        return new_evaluator.name not in SEEDLESS


def test_every_listed_evaluator_is_tested_here() -> None:
    assert {name: type(make()) for name, make in CASES.items()} == EVALUATORS
