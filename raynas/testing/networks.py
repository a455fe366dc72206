"""Small networks of many kinds, as users bring them, for tests of proxies.

Each takes images (n, 3, 8, 8) and returns logits (n, 3), unless its docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.proxies import Batch
from raynas.spaces import NASBench201, ZenNAS

CLASSES = 3
UNREACHABLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|"
"""A cell of NAS-Bench-201 without a path from its input to its output."""


class Functional(nn.Module):
    """A network without modules: parameters, buffers and functions."""

    running_mean: Tensor
    running_var: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 3, 3, 3) / 5)
        self.second = nn.Parameter(torch.randn(8, 6, 3, 3) / 7)
        self.last = nn.Parameter(torch.randn(CLASSES, 8) / 3)
        self.scale = nn.Parameter(torch.ones(6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs."""
        self.calls += 1
        x = F.conv2d(x, self.first, padding=1)
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.scale, self.shift, self.training
        )
        x = torch.relu(F.conv2d(torch.clamp(x, min=0), self.second, padding=1))
        return F.linear(F.relu(x).mean((2, 3)), self.last)


class PreActivation(nn.Module):
    """A residual block that may change the outputs of convolutions and other blocks in place."""

    def __init__(self, width_in: int, width: int, inplace: bool, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs."""
        x = F.relu(x, self.inplace)
        out: Tensor = self.conv2(F.relu(self.conv1(self.norm(x)), self.inplace))
        shortcut: Tensor = self.shortcut(x)
        if self.inplace:
            out += shortcut
            return out
        return out + shortcut


class ResidualNetwork(nn.Module):
    """A network with residual blocks, which may change tensors in place."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(PreActivation(4, 6, inplace), PreActivation(6, 6, inplace)),
                nn.Sequential(PreActivation(6, 8, inplace, stride=2)),
            ]
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class WithFeatures(nn.Module):
    """A network that returns (features, logits)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs."""
        features = self.body(x).mean((2, 3))
        return features, self.head(features)


class Centred(nn.Module):
    """A network that changes its input in place before anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = in_place()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs."""
        x -= 0.1
        logits: Tensor = self.body(x)
        return logits


class Broken(nn.Module):
    """A network that raises in the middle of a pass."""

    residual = True

    def __init__(self) -> None:
        super().__init__()
        self.block = PreActivation(3, 4, inplace=True)
        self.residual = True

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs."""
        F.dropout(self.block(x))
        raise ZeroDivisionError("in the user's code")


def head(width: int) -> list[nn.Module]:
    """Return the last layers: a mean over pixels and a classifier."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def in_place() -> nn.Module:
    """Return a network with activations in place."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(inplace=True), *head(8),
    )  # fmt: skip


def dropout() -> nn.Module:
    """Return a network with dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, CLASSES),
    )  # fmt: skip


def grouped() -> nn.Module:
    """Return a network with grouped and depthwise convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 1, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *head(8),
    )  # fmt: skip


def fixed_size() -> nn.Module:
    """Return a network that takes images of 8 x 8 pixels only."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def cell(text: str) -> nn.Module:
    """Return a small network of NAS-Bench-201."""
    space = NASBench201(channels=4, cells=1)
    return space.build(space.architecture(text), (3, 8, 8), CLASSES)


def whole_cell() -> nn.Module:
    """Return a network whose cell uses all kinds of operations but one."""
    return cell("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|")


def zen() -> nn.Module:
    """Return a small network of ZenNAS."""
    start = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,2)SuperResIDWE2K3(8,8,1,8,1)"
    space = ZenNAS(start=start, kinds=("SuperResK3K3", "SuperResIDWE2K3"))
    return space.build(space.architecture(start), (3, 8, 8), CLASSES)


def frozen() -> nn.Module:
    """Return a network without trainable weights."""
    return whole_cell().requires_grad_(False)


def in_use() -> nn.Module:
    """Return a network in eval mode, with gradients of a training and with hooks."""
    network = ResidualNetwork().eval()
    network.head.requires_grad_(False)
    for number, parameter in enumerate(network.parameters()):
        if number % 2 == 0:
            parameter.grad = torch.full_like(parameter, number)
    network.stem.register_forward_hook(lambda _m, _i, _o: None)
    network.stem.register_forward_pre_hook(lambda _m, _i: None)
    network.head.register_full_backward_hook(lambda _m, _i, _o: None)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cell": whole_cell,
    "functional": Functional,
    "in place": in_place,
    "residual": ResidualNetwork,
    "residual in place": lambda: ResidualNetwork(inplace=True),
    "dropout": dropout,
    "features": WithFeatures,
    "zen": zen,
    "grouped": grouped,
    "fixed size": fixed_size,
    "input in place": Centred,
    "frozen": frozen,
    "in use": in_use,
}
"""Name -> function that makes the network."""


def make_batch(size: int = 12, seed: int = 3) -> Batch:
    """Return a batch of random images (size, 3, 8, 8) with labels of three classes."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 3, 8, 8)).astype(np.float32)
    labels = torch.from_numpy(rng.integers(0, CLASSES, size))
    return Batch(torch.from_numpy(images), labels, CLASSES)


def make_network(name: str) -> nn.Module:
    """Return a network of :data:`NETWORKS`, with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return NETWORKS[name]()
