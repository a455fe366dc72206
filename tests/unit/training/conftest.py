"""A small view and a small network for the tests of training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from raynas.data.base import DataView, Images


def make_images(n: int, seed: int, size: int = 8, channels: int = 1) -> Images:
    """Noise with a bright quarter; which quarter is the label. Read-only, as from a store."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (n, size, size, channels)).astype(np.uint8)
    labels = rng.integers(0, 4, n).astype(np.int64)
    half = size // 2
    for image, label in zip(pixels, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[top : top + half, left : left + half] += 100
    pixels.flags.writeable = labels.flags.writeable = False
    return Images(pixels, labels)


def make_view(held_out_name: str = "val", train: int = 97, channels: int = 1) -> DataView:
    return DataView(
        train=make_images(train, seed=1, channels=channels),
        held_out=make_images(40, seed=2, channels=channels),
        held_out_name=held_out_name,  # type: ignore[arg-type]
        num_classes=4,
        mean=(80.0,) * channels,
        std=(50.0,) * channels,
    )


def make_network(seed: int = 0, channels: int = 1) -> nn.Module:
    """Conv, batch norm, dropout (draws from torch's global state), linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(24, 4),
        )


@pytest.fixture
def view() -> DataView:
    return make_view()


@pytest.fixture
def view_of() -> Callable[..., DataView]:
    return make_view


@pytest.fixture
def network() -> nn.Module:
    return make_network()


@pytest.fixture
def network_of() -> Callable[..., nn.Module]:
    return make_network
