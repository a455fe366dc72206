"""What is wrong with a supernet is said before it is trained, with the layer and the hint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from tiny_supernet import Tiny, tiny_view
from torch import Tensor, nn
from torch.nn import functional

from raynas.core import Choice, UserError
from raynas.evaluators import TrainSupernet
from raynas.layers import (
    Arch,
    Elastic,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    Flatten,
    OneOf,
    Residual,
    Sequential,
)
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.supernet import Supernet
from raynas.supernet.checks import covering
from raynas.supernet.rules import Phase
from raynas.training import Recipe

WIDTH = Choice("width", (8, 16), ordered=True)
ACT = Choice("act", ("relu", "own"))


@dataclass(frozen=True)
class Space(SearchSpace):
    """A convolution of elastic width, something of the user's, a classifier."""

    name: ClassVar[str] = "own"
    middle: Callable[[], nn.Module] = nn.Identity
    width_behind: int | Choice = WIDTH

    @property
    def choices(self) -> tuple[Choice, ...]:
        return WIDTH, ACT

    def supernet(self, input_shape: InputShape = (1, 8, 8), num_classes: int = 4) -> Supernet:
        body = Sequential(
            ElasticConv2d(input_shape[0], WIDTH), self.middle(), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), Flatten(), ElasticLinear(self.width_behind, num_classes),
        )  # fmt: skip
        return Supernet(self, body, input_shape, num_classes)


class Bare(Elastic):
    """Doubles; ``plain`` and ``width_out`` are as the user has left them."""

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return 2 * x

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        raise NotImplementedError

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in


class WithoutPlain(Elastic):
    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return x

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in


class Other(Bare):
    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        return nn.Identity()


class Narrow(Other):
    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return x

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in // 2


class NoElastic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = ElasticConv2d(WIDTH, WIDTH)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return x


def one_of() -> OneOf:
    """Fails for an option that neither the smallest nor the largest network may have."""
    return OneOf(ACT, {"relu": nn.ReLU(), "own": Bare()})


FAULTS: dict[str, tuple[Any, str]] = {
    "batch norm": (
        lambda: nn.BatchNorm2d(16),
        r"layer 'body.steps.1' \(BatchNorm2d, which gets \(2, 8, 8, 8\)\): .*use raynas\.layers\."
        "ElasticBatchNorm2d",
    ),
    "convolution": (lambda: nn.Conv2d(16, 16, 1), "Conv2d.*use raynas.layers.ElasticConv2d"),
    "linear": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 16)),
        r"layer 'body.steps.1.2' \(Linear, .*use raynas.layers.ElasticLinear",
    ),
    "group norm": (lambda: nn.GroupNorm(4, 16), "GroupNorm.*make it a raynas.layers.Elastic with"),
    "stride": (
        lambda: Residual(ElasticConv2d(WIDTH, WIDTH, stride=2)),
        r"layer 'body.steps.1' \(Residual.*its body gives \(2, 8, 4, 4\).*give it shortcut=",
    ),
    "no plain": (lambda: Bare(), r"taking out the network: layer 'body.steps.1' \(Bare\): NotImpl"),
    "no plain method": (
        lambda: WithoutPlain(), "cannot be built: TypeError: .*'?plain'?.*Elastic with"
    ),
    "another plain": (lambda: Other(), r"computes something else .*see plain\(\) and .* of Other"),
    "another width": (lambda: Narrow(), r"see plain\(\) and width_out\(\) of Narrow"),
    "dropout in eval mode": (
        lambda: Dropping(),
        r"not deterministic in eval mode .*dropout\(\) in module '1' \(PlainDropping",
    ),
    "a rare option": (one_of, r"layer 'body.steps.1.modules_of.1' \(Bare\)"),
    "torch's row": (
        lambda: nn.Sequential(ElasticConv2d(WIDTH, WIDTH)),
        r"layer 'body.steps.1.0' \(ElasticConv2d.*'arch'.*into raynas.layers.Sequential",
    ),
    "no elastic module": (
        lambda: NoElastic(), "NoElastic.*'arch'.*raynas.layers.Elastic of your own"
    ),
}  # fmt: skip


class Dropping(Other):
    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return functional.dropout(x, 0.5)

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        return PlainDropping()


class PlainDropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5)


def check(space: SearchSpace, **settings: Any) -> None:
    evaluator = replace(TrainSupernet(Recipe(epochs=1, batch_size=16)), **settings)
    evaluator.setup(space, tiny_view())
    evaluator.check(space.architecture({c.name: c.options[0] for c in space.choices}))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_layer_and_what_to_use_are_named_in_one_line(fault: str) -> None:
    make, words = FAULTS[fault]
    with pytest.raises(UserError, match=words) as raised:
        check(Space(make))
    assert "\n" not in str(raised.value)


def test_an_elastic_layer_that_is_too_small_is_named() -> None:
    with pytest.raises(UserError, match=r"\(ElasticLinear.*the most channels that come in"):
        check(Space(width_behind=8))


@pytest.mark.parametrize("space", [Tiny(), Space(), NASBench201(channels=2, cells=1)])
def test_good_supernets_pass(space: SearchSpace) -> None:
    state = torch.get_rng_state()
    check(space)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_option_is_tried() -> None:
    for space in (Tiny(), NASBench201(), ElasticResNet()):
        archs = covering(space)
        assert archs[0].options == tuple(c.options[0] for c in space.choices)
        assert archs[1].options == tuple(c.options[-1] for c in space.choices)
        for choice in space.choices:
            assert {arch[choice.name] for arch in archs} == set(choice.options)


# -- sorted channels ---------------------------------------------------------------------------


def test_phases_that_sort_need_channels_that_can_be_sorted() -> None:
    check(Tiny(), phases=(Phase(1, "width", sort=True),))
    small = ElasticResNet(widths=((8, 12),), strides=(2,), stem_width=8, depths=(1, 2))
    check(small, phases=(Phase(1, "width", sort=True),))
    cell = NASBench201(channels=2, cells=1)
    phase = Phase(1, cell.choices[0].name.rpartition("_")[2], sort=True)
    with pytest.raises(UserError, match="sort=True, but the supernet of space 'nasbench201' has"):
        check(cell, phases=(phase,))
    with pytest.raises(UserError, match=r"'own' has no channels .* sorted.*leave sort=True out"):
        check(Space(lambda: Shuffled()), phases=(Phase(1, "width", sort=True),))
    check(Space(lambda: Shuffled()), phases=(Phase(1, "width"),))


class Shuffled(Other):
    """Nobody knows what it does to the channels."""

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return x


def test_a_users_sorting_must_keep_the_largest_network() -> None:
    class Wrong(Shuffled):
        def __init__(self) -> None:
            super().__init__()
            self.norm = ElasticBatchNorm2d(WIDTH)

        def forward(self, x: Tensor, arch: Arch) -> Tensor:
            out: Tensor = self.norm(x, arch)
            return out

        def plain(self, arch: Arch, width_in: int) -> nn.Module:
            return self.norm.plain(arch, width_in)

        def sort_channels(self) -> None:
            self.norm.weight.data.copy_(self.norm.weight.data.flip(0))  # type: ignore[union-attr]

    with pytest.raises(UserError, match=r"changes what the largest network.*of Wrong"):
        check(Space(lambda: Wrong()), phases=(Phase(1, "width", sort=True),))
