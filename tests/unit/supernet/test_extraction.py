"""A network that is taken out is compared with the supernet, and its parameters are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_supernet import Tiny, tiny_view
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Choice, Costs, RaynasError, UserError
from raynas.layers import ElasticConv2d, ElasticLinear, Flatten, Sequential
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.supernet import Supernet
from raynas.supernet.evaluation.measurements import Looks
from raynas.supernet.evaluation.subnets import SubnetEvaluator
from raynas.supernet.extraction import extract_checked

SMALL = ElasticResNet(((8, 16),), (1,), depths=(1, 2), kernels=(3, 5), expansions=(0.5, 1.0))
SHAPE = (1, 8, 8)


@pytest.mark.parametrize("space", [SMALL, NASBench201(channels=4, cells=1)])
def test_what_is_taken_out_computes_the_same(space: Any) -> None:
    supernet = space.supernet(SHAPE, 10).train()
    for seed in range(4):
        arch = space.sample_canonical(np.random.default_rng(seed))
        network, difference = extract_checked(supernet, arch)
        assert 0 <= difference < 1e-5
        assert not network.training
        assert sum(p.numel() for p in network.parameters()) == space.costs(arch, SHAPE, 10).params
    assert supernet.training


def test_another_function_or_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = SMALL.supernet(SHAPE, 10)
    arch = SMALL.extremes()[1]
    real = supernet.extract

    def altered(arch: Mapping[str, Any], by: float) -> torch.nn.Module:
        network = real(arch)
        with torch.no_grad():
            list(network.parameters())[-1].add_(by)
        return network

    monkeypatch.setattr(supernet, "extract", lambda arch: altered(arch, 1e-3))
    with pytest.raises(RaynasError, match="other outputs than the supernet: logits differ by"):
        extract_checked(supernet, arch)
    monkeypatch.setattr(supernet, "extract", lambda arch: altered(arch, float("nan")))
    with pytest.raises(RaynasError, match="differ by nan"):
        extract_checked(supernet, arch)
    monkeypatch.setattr(supernet, "extract", real)
    monkeypatch.setattr(ElasticResNet, "costs", lambda *_: Costs(7, 7))
    with pytest.raises(RaynasError, match="MACs, not 7 and 7 as the space counts"):
        extract_checked(supernet, arch)


def test_an_architecture_of_another_space_is_refused() -> None:
    other = NASBench201().extremes()[0]
    with pytest.raises(UserError, match="is of space 'nasbench201', not of"):
        extract_checked(SMALL.supernet(SHAPE, 10), other)


class Attends(nn.Module):
    """(n, c, h, w) -> the same, over positions; its linear layer's input is not contiguous."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.heads = None if fused else nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.flatten(2).transpose(1, 2))
        if self.heads is None:
            return F.scaled_dot_product_attention(y, y, y).mT.unflatten(2, x.shape[2:])
        out: Tensor = self.heads(y, y, y, need_weights=False)[0]
        return out.mT.unflatten(2, x.shape[2:])


@dataclass(frozen=True)
class Attentive(SearchSpace):
    """An elastic convolution, attention, a classifier; ``frozen`` are parts of the supernet."""

    name: ClassVar[str] = "attentive"
    fused: bool = True
    frozen: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (Choice("kernel", (1, 3), ordered=True),)

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        body = Sequential(
            ElasticConv2d(input_shape[0], 8, self.choices[0], bias=True),
            nn.Conv2d(8, 8, 1),
            Attends(self.fused),
            nn.AdaptiveAvgPool2d(1),
            Flatten(),
            ElasticLinear(8, num_classes),
        )
        for name in self.frozen:
            body.steps.get_submodule(name).requires_grad_(False)
        return Supernet(self, body, input_shape, num_classes)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("frozen", [(), ("1",), ("2.layer", "5"), ("0",), ("0", "1", "2", "5")])
def test_attention_and_frozen_parts_are_taken_out(fused: bool, frozen: tuple[str, ...]) -> None:
    space = Attentive(fused, frozen)
    torch.manual_seed(0)
    subnets = SubnetEvaluator(space.supernet((1, 8, 8), 4), Looks(32).of(tiny_view(32)))
    arch = space.extremes()[0]
    network = subnets.extract(arch)
    assert {n.rpartition(".")[0] for n, p in network.named_parameters() if not p.requires_grad} == {
        name
        for name, module in network.named_modules()
        if list(module.parameters(recurse=False)) and name.startswith(frozen or ("none",))
    }
    assert all(parameter.is_leaf for parameter in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == space.costs(arch, (1, 8, 8), 4).params
    attention = 64 * (3 * 64 + 24 + 64 + 8) * (not fused) + 2 * 64 * 64 * 8
    expected = 64 * (8 + 8) + 64 * 72 + 64 * 72 + attention + 8 * 4 + 4
    assert space.costs(arch, (1, 8, 8), 4).macs == expected


def test_a_supernet_that_is_frozen_as_a_whole_is_taken_out() -> None:
    supernet = SMALL.supernet(SHAPE, 10).requires_grad_(False)
    network, _ = extract_checked(supernet, SMALL.extremes()[0])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_what_was_not_frozen_may_be_trained_on() -> None:
    torch.manual_seed(0)
    subnets = SubnetEvaluator(Tiny().supernet((1, 8, 8), 4), Looks(32).of(tiny_view(32)))
    assert all(p.requires_grad for p in subnets.extract(Tiny().extremes()[0]).parameters())
