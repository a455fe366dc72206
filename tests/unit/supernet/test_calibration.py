"""Batch norm statistics from batches of different sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_supernet import Tiny, tiny_view
from torch import Tensor, nn

from raynas.supernet.calibration import calibration_batches, in_batches, recalibrate
from raynas.supernet.evaluation.measurements import Looks
from raynas.supernet.evaluation.subnets import SubnetBatch, SubnetEvaluator
from raynas.training import Recipe
from raynas.training.augment import on_device


def images(count: int) -> Tensor:
    """(count, 2, 1, 1), the last one far from the others."""
    drawn = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    drawn[-1] = 9.0
    return drawn


def by_hand(batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(2,) mean and unbiased variance, each batch by its number of values."""
    values = [batch.transpose(0, 1).flatten(1).double() for batch in batches]
    weights = [len(v[0]) / sum(len(v[0]) for v in values) for v in values]
    mean = sum(w * v.mean(dim=1) for w, v in zip(weights, values, strict=True))
    var = sum(w * v.var(dim=1) for w, v in zip(weights, values, strict=True))
    assert isinstance(mean, Tensor)
    assert isinstance(var, Tensor)
    return mean.float(), var.float()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=None)])
@pytest.mark.parametrize("sizes", [[128, 2], [5, 9, 2], [4, 4, 4]])
def test_a_small_batch_counts_as_little_as_it_is(norm: nn.BatchNorm2d, sizes: list[int]) -> None:
    momentum, batches = norm.momentum, list(torch.split(images(sum(sizes)), sizes))
    recalibrate(norm, batches)
    mean, var = by_hand(batches)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.momentum == momentum
    assert not norm.training
    assert not norm._forward_pre_hooks


def test_equal_batches_count_as_before_to_the_last_bit() -> None:
    plain, found = nn.BatchNorm2d(2, momentum=None), nn.BatchNorm2d(2)
    batches = torch.split(images(48), 16)
    for batch in batches:
        plain(batch)
    recalibrate(found, batches)
    assert torch.equal(plain.running_mean, found.running_mean)  # type: ignore[arg-type]
    assert torch.equal(plain.running_var, found.running_var)  # type: ignore[arg-type]


def test_a_norm_that_is_used_twice_counts_both_uses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            self.norm(x)
            out: Tensor = self.norm(x + 4.0)
            return out

    network, batches = Twice(), list(torch.split(images(20), [16, 4]))
    recalibrate(network, batches)
    mean, var = by_hand(batches)
    torch.testing.assert_close(network.norm.running_mean, mean + 2.0)
    torch.testing.assert_close(network.norm.running_var, var)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(129, [129]), (257, [128, 129]), (130, [128, 2]), (256, [128, 128]), (1, [1]), (90, [90])],
)
def test_no_batch_of_one_image_is_left_over(count: int, sizes: list[int]) -> None:
    assert [len(b) for b in in_batches(torch.zeros(count, 3))] == sizes


def test_networks_together_have_the_statistics_of_each_alone() -> None:
    space, view = Tiny(), tiny_view(140)
    torch.manual_seed(0)
    # the last images are unlike the others, so that their weight shows
    pixels = view.train.pixels.copy()
    drawn = Looks(140).of(view)
    bright = replace(drawn.train, pixels=np.concatenate((pixels[:128], 255 - pixels[128:])))
    view = replace(drawn, train=bright)
    subnets = SubnetEvaluator(space.supernet(view.input_shape, view.num_classes), view)
    arch = space.sample(np.random.default_rng(1))
    program = subnets.program(arch)
    assert program is not None
    crowd = SubnetBatch(subnets, [program])
    crowd.calibrate(140)
    network = subnets.supernet.extract(arch)
    recalibrate(network, subnets.batches(slice(None)))
    statistics = crowd._together._statistics.values()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(statistics) == len(norms) > 0
    for (mean, var), norm in zip(statistics, norms, strict=True):
        torch.testing.assert_close(mean, norm.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(var, norm.running_var, rtol=1e-4, atol=1e-5)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    batches = [first(batch) for batch in subnets.batches(slice(None))]
    assert [len(batch) for batch in batches] == [128, 12]
    mean, var = by_hand([batch.detach() for batch in batches])
    torch.testing.assert_close(norms[0].running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norms[0].running_var, var, rtol=1e-4, atol=1e-5)


def test_drawn_images_are_split_like_that() -> None:
    data = on_device(tiny_view(140), torch.device("cpu"))
    batches = calibration_batches(data, Recipe(), 129, seed=0)
    assert [len(batch) for batch in batches] == [129]
