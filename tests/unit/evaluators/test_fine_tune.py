"""A training that begins with what the architecture inherits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raynas.core import Architecture, Job, UserError
from raynas.data import Digits
from raynas.data.base import DataView
from raynas.evaluators import FineTune
from raynas.spaces import ElasticResNet
from raynas.supernet.weights import load_weights, save_weights
from raynas.training import Recipe

SPACE = ElasticResNet(((8, 16),), (1,), depths=(1, 2), kernels=(3,), expansions=(0.5, 1.0))
STILL = Recipe(epochs=1, lr=1e-30, weight_decay=0.0, batch_size=50, flip=False)


@pytest.fixture(scope="module")
def view() -> DataView:
    return Digits(subset=100).search_view(0)


@pytest.fixture
def arch() -> Architecture:
    return SPACE.sample(np.random.default_rng(3))


@pytest.fixture
def folder(tmp_path: Path, view: DataView) -> Path:
    """Weights of a supernet as it is made."""
    torch.manual_seed(5)
    supernet = SPACE.supernet(view.input_shape, view.num_classes)
    save_weights(tmp_path / "supernet", supernet, epoch=1, identity={})
    return tmp_path / "supernet"


def test_it_begins_with_the_inherited_weights(
    folder: Path, view: DataView, arch: Architecture, tmp_path: Path
) -> None:
    tuned = FineTune(STILL).bind_weights(folder)
    tuned.setup(SPACE, view)
    supernet = SPACE.supernet(view.input_shape, view.num_classes)
    load_weights(folder, supernet)
    inherited = dict(supernet.extract(arch).named_parameters())
    for seed in (0, 1):
        job = Job(seed, seed, 1, workdir=tmp_path / f"job{seed}")
        (measured,) = tuned.evaluate(arch, job)
        assert measured.step == 1
        network = tuned.network(arch, tmp_path / f"job{seed}")
        assert network is not None
        for name, weight in network.named_parameters():  # at this rate nothing is learned
            torch.testing.assert_close(weight, inherited[name], rtol=0, atol=1e-12)


def test_one_training_does_not_change_what_the_next_inherits(
    folder: Path, view: DataView, arch: Architecture, tmp_path: Path
) -> None:
    tuned = FineTune(Recipe(epochs=2, batch_size=50)).bind_weights(folder)
    tuned.setup(SPACE, view)
    first = list(tuned.evaluate(arch, Job(0, 0, 2, workdir=tmp_path / "a")))
    again = list(tuned.evaluate(arch, Job(1, 0, 2, workdir=tmp_path / "b")))
    assert [m.values for m in first] == [m.values for m in again]
    assert first[0].values["train_loss"] != first[1].values["train_loss"]


def test_weights_of_the_users_own_stay(folder: Path, tmp_path: Path) -> None:
    own = FineTune(STILL, weights=folder)
    assert own.bind_weights(tmp_path) is own
    assert own.weights_version() == FineTune(STILL).bind_weights(folder).weights_version()
    assert FineTune(STILL).weights_version() is None


def test_without_weights_or_with_others(
    folder: Path, view: DataView, arch: Architecture, tmp_path: Path
) -> None:
    bare = FineTune(STILL)
    bare.setup(SPACE, view)
    with pytest.raises(UserError, match="no initial weights; use it in a run that trains"):
        next(bare.evaluate(arch, Job(0, 0, 1)))
    other = FineTune(STILL, weights=folder)
    space = replace(SPACE, stem_width=8)
    other.setup(space, view)
    with pytest.raises(UserError, match=r"of another supernet: space\.stem_width is 16 there"):
        next(other.evaluate(space.architecture(arch), Job(0, 0, 1)))
    with pytest.raises(UserError, match="supernet weights not found:"):
        FineTune(STILL, weights=tmp_path / "nowhere").weights_version()
