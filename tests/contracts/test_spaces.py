"""The suite that every search space passes. A new space is one line in ``SPACES`` here."""

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from raynas.core import Choice, UserError
from raynas.spaces import SPACES as REGISTERED
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells, ZenNAS
from raynas.spaces.base import SearchSpace
from raynas.testing.spaces import SearchSpaceTestCase

torch.set_num_threads(1)


@dataclass(frozen=True)
class OwnSpace(SearchSpace):
    """A user's own space that takes every default of the base class."""

    widths: tuple[int, ...] = (2, 4, 8)
    name: ClassVar[str] = "own"

    @property
    def choices(self):
        return (
            Choice("width", self.widths, ordered=True),
            Choice("act", ("relu", "tanh")),
            Choice("rate", (0.5, 1)),
            Choice("bias", (True, False)),
            Choice("fixed", ("only",)),
        )

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        return nn.Sequential(
            nn.Conv2d(input_shape[0], arch["width"], 3, bias=arch["bias"]),
            nn.ReLU() if arch["act"] == "relu" else nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(num_classes),
        )


SPACES = {
    "nasbench201": NASBench201(),
    "nasbench201-small": NASBench201(channels=4, cells=1),
    "nasbench201_cells": NASBench201Cells(channels=4, cells=1),
    "elastic": ElasticResNet(),
    "elastic-small": ElasticResNet(
        widths=((4, 8), (8,)), strides=(1, 2), depths=(1, 2), resolutions=(8, 12), divisor=4
    ),
    "own": OwnSpace(),
    "zen": ZenNAS(
        start="SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperResIDWE2K3(16,8,1,8,2)"
        "SuperConvK1BNRELU(8,24,1,1)",
        kinds=("SuperResK3K3", "SuperResK1K5K1", "SuperResIDWE2K3"),
        max_channels=24,
        max_bottleneck=16,
        max_sublayers=2,
    ),
}


class TestSpaces(SearchSpaceTestCase):
    @pytest.fixture(params=SPACES, ids=str)
    def space(self, request):
        return SPACES[request.param]

    @pytest.fixture
    def small_space(self, space):
        return SPACES["nasbench201-small"] if isinstance(space, NASBench201) else space


def test_the_registered_spaces_are_tested():
    assert set(REGISTERED.values()) <= {type(space) for space in SPACES.values()}
    assert all(cls.name == name for name, cls in REGISTERED.items())


def test_a_space_without_a_supernet_says_so():
    with pytest.raises(UserError, match=r"space 'own' has no supernet; define its supernet\(\)"):
        SPACES["own"].supernet()


@dataclass(frozen=True)
class NoNetwork(SearchSpace):
    name: ClassVar[str] = "no_network"

    @property
    def choices(self):
        return (Choice("width", (2, 4), ordered=True),)


def test_a_space_that_makes_no_network_says_so():
    space = NoNetwork()
    with pytest.raises(UserError, match="space 'no_network' has no supernet"):
        space.build(space.architecture("width=2"))


@pytest.mark.parametrize(
    ("name", "text", "identity"),
    [
        ("nasbench201", NASBench201().from_index(0).text, "0445f4a57d5e"),
        ("elastic", "w24d2-k5e0.5-k3e1.0_w32d1-k3e0.5_w64d1-k7e0.25", "57083a7c93e3"),
        (
            "zen",
            "SuperConvK3BNRELU(3,16,1,1)SuperResK1K5K1(16,8,2,16,2)SuperResK3K3(8,24,1,8,1)"
            "SuperConvK1BNRELU(24,8,1,1)",
            "9eeb433f16fc",
        ),
        ("own", "width=4,act=tanh,rate=1,bias=False,fixed=only", "71cc49cca99e"),
    ],
)
def test_ids_are_the_same_for_ever(name, text, identity):
    assert SPACES[name].architecture(text).id == identity


def test_the_package_does_not_import_torch():
    code = (
        "import sys; from raynas.spaces import NASBench201, ElasticResNet;"
        "s = ElasticResNet(); s.costs(s.architecture('w16d1-k3e0.25_w32d1-k3e0.25_w64d1-k3e0.25'));"
        "NASBench201().canonical(NASBench201().from_index(7));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
