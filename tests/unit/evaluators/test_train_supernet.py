from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_supernet import Tiny, tiny_view

from raynas.core import Job, RaynasError, UserError
from raynas.core.describe import describe, fingerprint
from raynas.evaluators import TrainSupernet
from raynas.spaces import ZenNAS
from raynas.supernet.rules import Phase, Sandwich, StrictFairness
from raynas.supernet.weights import load_weights
from raynas.training import Recipe

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, crop_pad=1, flip=False)


def ready(**more: object) -> TrainSupernet:
    evaluator = TrainSupernet(RECIPE, look_random=1, look_images=40, look_calibration=32)
    evaluator = replace(evaluator, **more)  # type: ignore[arg-type]
    evaluator.setup(Tiny(), tiny_view())
    return evaluator


def test_weights_are_left_in_the_workdir(tmp_path: Path) -> None:
    arch = Tiny().extremes()[1]
    rows = list(ready(average=2).evaluate(arch, Job(0, seed=1, max_step=3, workdir=tmp_path)))
    assert [row.step for row in rows] == [1, 2, 3]
    found = load_weights(tmp_path / "weights", Tiny().supernet((1, 8, 8), 4))
    assert found.epoch == 3
    assert found.identity["average"] == 2
    assert found.identity["rule"]["class"] == "SinglePath"


def test_the_architecture_is_a_label_and_the_seed_decides() -> None:
    small, large = Tiny().extremes()
    torch.manual_seed(1)
    first = [dict(m.values) for m in ready().evaluate(small, Job(0, seed=1, max_step=3))]
    torch.manual_seed(2)
    again = [dict(m.values) for m in ready().evaluate(large, Job(9, seed=1, max_step=3))]
    other = [dict(m.values) for m in ready().evaluate(large, Job(9, seed=2, max_step=3))]
    assert first == again
    assert first != other


def test_settings_are_in_the_fingerprint() -> None:
    plain = TrainSupernet(RECIPE)
    for other in (
        replace(plain, rule=Sandwich()),
        replace(plain, phases=(Phase(2, "kernel"),)),
        replace(plain, average=2),
        replace(plain, processes=2),
    ):
        assert fingerprint(describe(other)) != fingerprint(describe(plain))
    assert "checkpoint_seconds" not in describe(plain)
    assert describe(replace(plain, rule=StrictFairness()))["rule"] == {"class": "StrictFairness"}


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("average", 0, "from 1 up"),
        ("processes", 0, "from 1 up"),
        ("look_random", 0, "from 1 up"),
        ("look_calibration", 1, "from 2 up"),
    ],
)
def test_values_that_make_no_sense_are_refused(setting: str, value: int, allowed: str) -> None:
    with pytest.raises(UserError, match=allowed):
        replace(TrainSupernet(RECIPE), **{setting: value})  # type: ignore[arg-type]


def test_check_refuses_before_anything_is_spent() -> None:
    arch = Tiny().extremes()[1]
    ready().check(arch)
    with pytest.raises(UserError, match="'depth'; space 'tiny' has no such choice"):
        ready(phases=(Phase(2, "depth"),)).check(arch)
    evaluator, zen = TrainSupernet(RECIPE), ZenNAS()
    evaluator.setup(zen, tiny_view())
    with pytest.raises(UserError, match="has no supernet"):
        evaluator.check(zen.extremes()[1])
    with pytest.raises(RaynasError, match="before setup"):
        next(TrainSupernet(RECIPE).evaluate(arch, Job(0, seed=1, max_step=1)))
