"""Channels are sorted in networks made of the package's layers, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raynas.core import Choice, UserError
from raynas.layers import (
    Arch,
    Elastic,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    Flatten,
    OneOf,
    Repeat,
    Residual,
    Sequential,
)
from raynas.layers.channels import sort_within

WIDTH = Choice("width", (2, 4, 6), ordered=True)
HIDDEN = Choice("hidden", (3, 5), ordered=True)
DEPTH = Choice("depth", (1, 2), ordered=True)
MAYBE = Choice("maybe", (0, 1), ordered=True)
ACT = Choice("act", ("relu", "gelu"))
LARGEST = {"width": 6, "hidden": 5, "depth": 2, "maybe": 1, "act": "relu"}


class Own(Elastic):
    """A user's layer: nobody knows what it does to the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Sequential(ElasticConv2d(6, HIDDEN, 1), ElasticConv2d(HIDDEN, 6, 1))

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        out: Tensor = self.inner(x, arch)
        return out * torch.linspace(0.5, 1, 6)[: out.shape[1]].view(1, -1, 1, 1)

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        raise NotImplementedError

    def width_out(self, arch: Arch, width_in: int) -> int:
        return 6


def unit(max_in: Choice | int, out: Choice | int = WIDTH, kernel: int = 3) -> Sequential:
    acts = OneOf(ACT, {"relu": nn.ReLU(), "gelu": nn.GELU()})
    return Sequential(ElasticConv2d(max_in, out, kernel, bias=True), ElasticBatchNorm2d(out), acts)


def head(positions: int = 1) -> list[nn.Module]:
    side = round(positions**0.5)
    return [
        nn.AdaptiveAvgPool2d(side), Flatten(positions),
        ElasticLinear(6 * positions, HIDDEN), nn.ReLU(), ElasticLinear(HIDDEN, 3),
    ]  # fmt: skip


def branches() -> OneOf:
    """A choice whose options have layers of their own."""
    return OneOf(ACT, {"relu": unit(WIDTH), "gelu": Sequential(unit(WIDTH), unit(WIDTH))})


SORTED = {
    "chain": lambda: Sequential(unit(3), unit(WIDTH), *head()),
    "positions": lambda: Sequential(unit(3), *head(4)),
    "residual": lambda: Sequential(unit(3), Residual(unit(WIDTH)), *head()),
    "projection": lambda: Sequential(
        unit(3), Residual(unit(WIDTH), ElasticConv2d(WIDTH, WIDTH, 1)), *head()
    ),
    "repeat": lambda: Sequential(
        unit(3), Repeat(DEPTH, [Residual(unit(WIDTH)) for _ in range(2)]), *head()
    ),
    "repeat, maybe none": lambda: Sequential(unit(3), Repeat(MAYBE, [unit(WIDTH)]), *head()),
    "one of": lambda: Sequential(unit(3), branches(), *head()),
    "plain inside": lambda: Sequential(
        unit(3), nn.Sequential(nn.Dropout(0.0), nn.MaxPool2d(2)), unit(WIDTH), *head()
    ),
    "depthwise": lambda: Sequential(
        unit(3), ElasticConv2d(WIDTH, WIDTH, 3, depthwise=True, bias=True),
        ElasticBatchNorm2d(WIDTH), nn.ReLU(), unit(WIDTH), *head(),
    ),
}  # fmt: skip
KEPT = {
    "fixed widths": lambda: Sequential(unit(3, 6), unit(6, 6), ElasticConv2d(6, 3, 1)),
    "a plain layer": lambda: Sequential(unit(3), nn.Conv2d(6, 3, 1)),
    "a layer used twice": lambda: twice(),
    "the output": lambda: Sequential(ElasticConv2d(3, WIDTH, 1)),
    "a module of its own order": lambda: Sequential(unit(3), nn.PixelShuffle(1), unit(WIDTH)),
}


def twice() -> Sequential:
    shared = ElasticConv2d(WIDTH, WIDTH, 1)
    return Sequential(ElasticConv2d(3, WIDTH, 1), shared, nn.ReLU(), shared, nn.ReLU())


def made(build: object) -> Sequential:
    """With weights and statistics that differ from channel to channel."""
    torch.manual_seed(0)
    network: Sequential = build()  # type: ignore[operator]
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor + torch.rand(tensor.shape))
    return network.eval()


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SORTED)
def test_the_largest_network_stays_and_others_get_other_channels(name: str) -> None:
    network, x = made(SORTED[name]), images()
    archs = [LARGEST, {**LARGEST, "act": "gelu"}, {**LARGEST, "depth": 1, "maybe": 0}]
    before = [network(x, arch) for arch in archs]
    small = network(x, {**LARGEST, "width": 2})
    weights = {n: p.clone() for n, p in network.named_parameters()}
    network.sort_channels()
    for arch, wanted in zip(archs, before, strict=True):
        torch.testing.assert_close(network(x, arch), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(network(x, {**LARGEST, "width": 2}), small, atol=1e-3)
    assert any(not torch.equal(p, weights[n]) for n, p in network.named_parameters())
    again = {n: p.clone() for n, p in network.named_parameters()}
    network.sort_channels()
    assert all(torch.equal(p, again[n]) for n, p in network.named_parameters())


def test_the_most_important_channels_come_first() -> None:
    network = made(SORTED["positions"])
    network.sort_channels()
    reader = network.steps[3]
    sizes = reader.weight.abs().sum(0).view(6, 4).sum(1)
    assert (sizes[:-1] >= sizes[1:]).all()


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_followed_keeps_its_order(name: str) -> None:
    network = made(KEPT[name])
    weights = {n: p.clone() for n, p in network.named_parameters()}
    sort_within(network)
    assert all(torch.equal(p, weights[n]) for n, p in network.named_parameters())


def test_a_users_layer_keeps_what_comes_in_and_sorts_what_is_inside() -> None:
    network, x = made(lambda: Sequential(unit(3), Own(), *head())), images()
    wanted = network(x, LARGEST)
    first, inner = network.steps[0].steps[0].weight.clone(), network.steps[1].inner
    inside = inner.steps[0].weight.clone()
    network.sort_channels()
    torch.testing.assert_close(network(x, LARGEST), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(network.steps[0].steps[0].weight, first)
    assert not torch.equal(inner.steps[0].weight, inside)


def test_a_residual_with_a_stride_and_no_shortcut_says_what_it_needs() -> None:
    block = Residual(ElasticConv2d(WIDTH, WIDTH, 3, stride=2))
    with pytest.raises(
        UserError,
        match=r"its body gives \(2, 6, 4, 4\), its shortcut \(Identity\) \(2, 6, 8, 8\).*shortcut=",
    ):
        block(torch.zeros(2, 6, 8, 8), LARGEST)
