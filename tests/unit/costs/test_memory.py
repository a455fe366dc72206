"""Bytes of a training step, from shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raynas.core import UserError
from raynas.costs import training_memory


def test_of_a_linear_network_by_hand() -> None:
    memory = training_memory(
        lambda: nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)), (10,)
    )
    weights = 10 * 20 + 20 + 20 * 5 + 5
    # weights, gradients, momentum
    assert memory.fixed == 4 * 3 * weights
    # kept: the input (10), the output of ReLU (20), and the largest once more
    assert memory.per_image == 4 * (10 + 20 + 20)
    assert memory.at(8) == memory.fixed + 8 * memory.per_image


def test_buffers_count_once_and_frozen_weights_without_gradients() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        network[0].weight.requires_grad_(False)
        return network

    memory = training_memory(build, (3, 8, 8))
    buffers = 4 * (4 + 4) + 8
    statistics = 4 * (4 + 4)  # the batch's mean and deviation, kept for the backward pass
    assert memory.fixed == pytest.approx(4 * 12 + 4 * 3 * 8 + buffers + statistics, abs=64)


def test_activations_grow_with_the_image_and_the_batch() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        )

    small, large = (training_memory(build, (3, side, side)) for side in (16, 32))
    assert large.per_image == 4 * small.per_image
    assert large.fixed == small.fixed


def test_of_a_network_that_looks_at_values() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out if float(out.sum()) > 1e9 else out * 2

    before = torch.random.get_rng_state()
    assert training_memory(Looks, (4,)).fixed >= 4 * 3 * 20
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="0 images"):
        training_memory(lambda: nn.Linear(2, 2), (2,)).at(0)
