"""How much of a training step a score is, by the images that pass through the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import Curves

from raynas.benchmarks import NoImages
from raynas.data.base import DataView, Images
from raynas.evaluators import Evaluator, Inherited, MeasuredLatency, Retrain, ZeroShot
from raynas.evaluators.abilities import passes_per_step
from raynas.proxies import NASWOT, SNIP, Params


def images(count: int) -> Images:
    return Images(np.zeros((count, 4, 4, 1), np.uint8), np.zeros(count, np.int64))


VIEW = DataView(images(100), images(30), "val", 2, (0.0,), (255.0,))


@pytest.mark.parametrize(
    ("evaluator", "passes"),
    [
        (Retrain(), 3 * 100 + 30),
        (Curves(), 3 * 100 + 30),  # one of a user's own: taken for a training
        (ZeroShot(proxies=(NASWOT(), SNIP(), Params()), batch=10), 2 * 3 * 10),
        (ZeroShot(proxies=(NASWOT(),), batch=10, latency=2), 3 * 10 + 60 * 2),
        (Inherited(calibration=40, weights=Path("w")), 40 + 30),
        (Inherited(calibration=4000, images=20, weights=Path("w")), 100 + 20),
        (MeasuredLatency(batch=4, repeats=5), 4 * 15),
        (MeasuredLatency(table=9), 0),
    ],
    ids=lambda v: v.name if isinstance(v, Evaluator) else str(v),
)
def test_passes_of_a_step(evaluator: Evaluator, passes: float) -> None:
    assert passes_per_step(evaluator, VIEW) == passes


def test_without_images_a_step_is_still_something() -> None:
    assert passes_per_step(Curves(), NoImages().search_view(0)) == 1.0
