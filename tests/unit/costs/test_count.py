"""Counting weights and multiply-adds of any network."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

from raynas.core import Costs
from raynas.costs import count_network


@pytest.mark.parametrize(
    ("build", "shape", "params", "macs"),
    [
        (lambda: nn.Linear(8, 4), (8,), 36, 36),
        (lambda: nn.Linear(8, 4, bias=False), (8,), 32, 32),
        (lambda: nn.Linear(8, 4), (5, 8), 36, 5 * 36),
        (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5), 112, 30 * 112),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, bias=False), (3, 7, 7), 108, 9 * 108),
        (lambda: nn.Conv2d(8, 4, 3, padding=1, groups=4), (8, 6, 6), 76, 36 * 76),
        (lambda: nn.Conv1d(2, 6, 3), (2, 10), 42, 8 * 42),
        (lambda: nn.ConvTranspose2d(8, 4, 2, stride=2), (8, 6, 6), 132, 36 * 128 + 144 * 4),
        (lambda: nn.BatchNorm2d(4), (4, 3, 3), 8, 0),
        (lambda: nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)), (4, 4, 4), 0, 0),
    ],
)
def test_layers_count_as_worked_out_by_hand(build, shape, params, macs):
    assert count_network(build, shape) == Costs(params, macs)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_counts_both_products():
    assert count_network(Attention, (2, 5, 8)).macs == 2 * (2 * 5 * 5 * 8)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_a_layer_used_twice_has_its_weights_once_and_its_macs_twice():
    assert count_network(Twice, (4,)) == Costs(20, 40)


def test_frozen_weights_are_not_counted():
    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        layer.weight.requires_grad_(False)
        return layer

    assert count_network(build, (4,)) == Costs(4, 20)


class LooksAtValues(nn.Module):
    """Cannot run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.sum().item() == 0
        return self.head(self.conv(x).flatten(1))


def test_a_network_that_looks_at_values_is_counted_on_the_cpu():
    assert count_network(LooksAtValues, (1, 4, 4)) == Costs(20 + 27, 4 * 20 + 27)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        warnings.warn("built", stacklevel=1)
        torch.rand(3, device="cpu")
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        warnings.warn("ran", stacklevel=1)
        return self.layer(x)


@pytest.mark.parametrize("build", [Noisy, lambda: LooksAtValues()])
def test_counting_is_silent_and_leaves_the_random_state(build, capfd):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    count_network(build, (4,) if build is Noisy else (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_network_comes_through():
    with pytest.raises(RuntimeError, match="shape"):
        count_network(lambda: nn.Linear(8, 4), (7,))


def test_the_package_imports_torch_only_when_counting():
    code = "import sys, raynas.costs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_missing():
    import raynas.costs

    with pytest.raises(AttributeError, match="weigh"):
        raynas.costs.weigh  # noqa: B018
