"""Networks whose gradients torch must not take with oneDNN."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from raynas.core import Choice
from raynas.layers import ElasticConv2d
from raynas.layers.kernels import safe_kernels

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("layer", "safe"),
    [
        (nn.Conv2d(7, 8, 1, stride=2), False),
        (nn.Conv2d(8, 8, 1, stride=2, groups=2), False),
        (nn.Conv2d(3, 8, 1, stride=(1, 2)), False),
        (nn.Conv2d(8, 8, 1, stride=2), True),
        (nn.Conv2d(3, 8, 1), True),
        (nn.Conv2d(3, 8, 3, stride=2), True),
        (nn.Linear(3, 8), True),
        (ElasticConv2d(Choice("width", (4, 16)), 16, Choice("kernel", (1, 3)), stride=2), False),
        (ElasticConv2d(Choice("width", (8, 16)), 16, Choice("kernel", (1, 3)), stride=2), True),
    ],
)
def test_strided_pointwise_convolutions_of_few_channels_are_not_safe(
    layer: nn.Module, safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    before = torch._C._get_mkldnn_enabled()
    with safe_kernels(nn.Sequential(nn.ReLU(), layer), CPU):
        assert torch._C._get_mkldnn_enabled() is (before and safe)
    assert torch._C._get_mkldnn_enabled() is before
    with safe_kernels(layer, torch.device("meta")):
        assert torch._C._get_mkldnn_enabled() is before


_TRAINED = """
import torch
from torch import nn
from raynas.data import Digits
from raynas.training import Recipe
from raynas.training.loop import train

network = nn.Sequential(
    nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 1, stride=2, bias=False),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
)
recipe = Recipe(epochs=3, batch_size=4, crop_pad=0, flip=False)
for _ in train(network, Digits(subset=200).search_view(0), recipe, seed=0, device="cpu"):
    pass
print("trained")
"""


def test_such_a_network_is_trained_all_the_same() -> None:
    """In a process of its own: with oneDNN it is aborted on some processors."""
    done = subprocess.run(
        [sys.executable, "-c", _TRAINED], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "trained"), done.stderr[-500:]


def test_other_processors_have_no_such_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    before = torch._C._get_mkldnn_enabled()
    with safe_kernels(nn.Conv2d(3, 8, 1, stride=2), CPU):
        assert torch._C._get_mkldnn_enabled() is before
