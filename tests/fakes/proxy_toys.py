"""Small networks and batches, and slow formulas, for the tests of proxies."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.proxies import Batch
from raynas.spaces import NASBench201

torch.set_num_threads(1)

CLASSES = 3
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
"""Its first edge leads nowhere."""


def make_batch(size: int = 12, side: int = 8, seed: int = 3, channels: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, channels, side, side)).astype(np.float32)
    return Batch(torch.from_numpy(images), torch.from_numpy(rng.integers(0, CLASSES, size)))


def seeded(build: Any, seed: int = 7) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def small_cell(text: str = CELL) -> nn.Module:
    space = NASBench201(channels=4, cells=1)
    network: nn.Module = seeded(lambda: space.build(space.architecture(text), (3, 8, 8), CLASSES))
    return network


def small_net(act: type[nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    network: nn.Sequential = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.BatchNorm2d(5), act(),
            nn.Conv2d(5, 4, 3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(4), act(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES),
        )
    )  # fmt: skip
    return network


def weighted(network: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def backward(network: nn.Module, batch: Batch) -> nn.Module:
    """A copy in train mode with ``.grad`` of the cross entropy, by one plain backward pass."""
    network = copy.deepcopy(network).train()
    F.cross_entropy(network(batch.images), batch.labels).backward()  # type: ignore[no-untyped-call]
    return network


def jacobian(network: nn.Module, images: Tensor) -> Any:
    """(n, pixels) gradient of the summed logits, by one plain backward pass."""
    images = images.clone().requires_grad_()
    copy.deepcopy(network).train()(images).sum().backward()
    assert images.grad is not None
    return images.grad.flatten(1).double().numpy()
