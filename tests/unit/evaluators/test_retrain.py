from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core import Architecture, Choice, Job, RaynasError, UserError
from raynas.core.describe import describe, fingerprint
from raynas.data.base import DataView, Images
from raynas.evaluators import Retrain, load_trained
from raynas.spaces.base import InputShape, SearchSpace
from raynas.training import Recipe

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, crop_pad=1, flip=False)


@dataclass(frozen=True)
class Widths(SearchSpace):
    """One hidden layer; ``defect`` builds it wrong in a way that users do."""

    name: ClassVar[str] = "widths"
    defect: str = ""

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (Choice("width", (4, 8), ordered=True),)

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Any:
        size = int(np.prod(input_shape))
        if self.defect == "no module":
            return "resnet18"
        if self.defect == "input":
            size += 1
        if self.defect == "classes":
            num_classes = 10
        width = int(arch["width"])
        return nn.Sequential(
            nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, num_classes)
        )


def make_view(held_out_name: str = "val") -> DataView:
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        return Images(rng.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8), rng.integers(0, 3, n))

    return DataView(images(40), images(20), held_out_name, 3, (128.0,), (74.0,))  # type: ignore[arg-type]


def ready(view: DataView | None = None, space: SearchSpace | None = None) -> Retrain:
    evaluator = Retrain(RECIPE)
    evaluator.setup(space or Widths(), view or make_view())
    return evaluator


ARCH = Widths().architecture({"width": 4})


def test_metrics_follow_the_view() -> None:
    search = ["val_accuracy", "val_loss", "train_accuracy", "train_loss"]
    final = ["test_accuracy", "test_loss", "train_accuracy", "train_loss"]
    evaluator = Retrain(RECIPE)
    assert [m.name for m in evaluator.metrics] == search
    assert [m.name for m in evaluator.metrics_for("test")] == final
    evaluator.setup(Widths(), make_view("test"))
    assert [m.name for m in evaluator.metrics] == final


def test_setup_leaves_the_settings_and_their_fingerprint() -> None:
    fresh, used = Retrain(RECIPE), ready()
    assert describe(fresh) == describe(used)
    assert fresh == used
    assert "checkpoint_seconds" not in describe(fresh)
    longer = replace(used, recipe=replace(RECIPE, epochs=4))
    assert longer.max_step == 4
    assert fingerprint(describe(longer)) != fingerprint(describe(used))
    with pytest.raises(RaynasError, match="before setup"):
        next(longer.evaluate(ARCH, Job(0, seed=1, max_step=1)))


def test_the_seed_of_the_job_is_all_that_counts() -> None:
    curves = []
    for seed, noise in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(noise)
        job = Job(trial=noise, seed=seed, max_step=3)
        curves.append([dict(m.values) for m in ready().evaluate(ARCH, job)])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_a_second_attempt_goes_on_from_the_workdir(tmp_path: Path) -> None:
    job = Job(trial=0, seed=1, max_step=3, workdir=tmp_path)
    evaluator = replace(Retrain(RECIPE), checkpoint_seconds=0.0)
    evaluator.setup(Widths(), make_view())
    first = evaluator.evaluate(ARCH, job)
    next(first), next(first)
    first.close()  # type: ignore[attr-defined]
    rest = list(evaluator.evaluate(ARCH, replace(job, attempt=1)))
    assert [m.step for m in rest] == [2, 3]
    whole = list(evaluator.evaluate(ARCH, replace(job, workdir=None)))
    assert [dict(m.values) for m in rest] == [dict(m.values) for m in whole[1:]]


def test_the_trained_network_comes_back_from_the_workdir(tmp_path: Path) -> None:
    view = make_view()
    job = Job(trial=0, seed=1, max_step=3, workdir=tmp_path)
    last = list(ready(view).evaluate(ARCH, job))[-1]
    network = load_trained(Widths(), ARCH, view.input_shape, view.num_classes, tmp_path)
    assert not network.training
    images = (torch.tensor(view.held_out.pixels).permute(0, 3, 1, 2) - 128.0) / 74.0
    right = (network(images).argmax(1) == torch.tensor(view.held_out.labels)).float().mean()
    assert 100 * right.item() == pytest.approx(last.values["val_accuracy"])


def test_no_or_anothers_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no complete checkpoint"):
        load_trained(Widths(), ARCH, (1, 4, 4), 3, tmp_path)
    list(ready().evaluate(ARCH, Job(0, seed=1, max_step=1, workdir=tmp_path)))
    other = Widths().architecture({"width": 8})
    with pytest.raises(UserError, match="other label"):
        load_trained(Widths(), other, (1, 4, 4), 3, tmp_path)


def test_a_finalist_sees_the_test_images_once() -> None:
    rows = list(ready(make_view("test")).evaluate(ARCH, Job(0, seed=1, max_step=3)))
    assert [("test_accuracy" in m.values) for m in rows] == [False, False, True]


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("no module", r"builds 'str' for 'width=4'; expected: a torch.nn.Module"),
        ("input", r"fails on input \(2, 1, 4, 4\): RuntimeError: .*mat1 and mat2"),
        ("classes", r"gives \(2, 10\) for two images; expected: logits of shape \(2, 3\)"),
    ],
)
def test_check_refuses_a_space_that_builds_the_wrong_thing(defect: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ready(space=Widths(defect)).check(ARCH)
    assert "\n" not in str(caught.value)


def test_check_passes_a_good_space_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    ready().check(ARCH)
    assert torch.equal(torch.get_rng_state(), state)
