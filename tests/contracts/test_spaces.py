"""One suite that every search space passes. A new space is one line in ``SPACES`` here."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core import Choice, UserError
from raynas.core.ability import has
from raynas.core.describe import describe, fingerprint
from raynas.spaces import SPACES as REGISTERED
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells, ZenNAS
from raynas.spaces.abilities import MakesMutants
from raynas.spaces.base import SearchSpace, counted_costs

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


@pytest.fixture(params=SPACES, ids=str)
def space(request):
    return SPACES[request.param]


@pytest.fixture
def archs(space):
    rng = np.random.default_rng(5)
    return [space.sample(rng) for _ in range(20)]


def differences(a, b):
    return [name for name in a if a[name] != b[name]]


def test_the_registered_spaces_are_tested():
    assert set(REGISTERED.values()) <= {type(space) for space in SPACES.values()}
    assert all(cls.name == name for name, cls in REGISTERED.items())


def test_choices_are_stable_and_uniquely_named(space):
    names = [choice.name for choice in space.choices]
    assert len(set(names)) == len(names)
    assert space.choices == space.choices
    assert space.size == np.prod([len(c) for c in space.choices], dtype=object)


def test_text_values_and_architectures_come_back(space, archs):
    for arch in archs:
        assert space.architecture(arch.text) == arch
        assert space.architecture(dict(arch)) == arch
        assert space.architecture(arch) == arch
        assert list(arch) == [choice.name for choice in space.choices]
        assert "\n" not in arch.text


def test_values_keep_the_type_of_the_option(space, archs):
    for arch in archs:
        again = space.architecture(arch.text)
        assert [type(option) for option in again.options] == [type(o) for o in arch.options]
        assert again.id == arch.id


def test_architectures_are_values(space, archs):
    assert isinstance(archs[0], Mapping)
    assert {arch: arch.id for arch in archs} == {space.architecture(a.text): a.id for a in archs}
    assert len({arch.id for arch in archs}) == len(set(archs))


def test_a_hundred_thousand_architectures_share_their_parts(space, archs):
    first, second = archs[0], space.architecture(dict(archs[0]))
    assert all(a is b for a, b in zip(first.pairs, second.pairs, strict=True))


@pytest.mark.parametrize("text", ["", "nonsense", "=", "|", "a=b", "_-", "+++"])
def test_bad_text_is_one_line_for_the_user(space, text):
    with pytest.raises(UserError) as error:
        space.architecture(text)
    assert "\n" not in str(error.value)


def test_bad_values_name_the_choice(space, archs):
    values = dict(archs[0])
    first = space.choices[0].name
    with pytest.raises(UserError, match=first):
        space.architecture({**values, first: "no such option"})
    with pytest.raises(UserError, match="no_such_choice"):
        space.architecture({**values, "no_such_choice": 1})
    del values[first]
    with pytest.raises(UserError, match=first):
        space.architecture(values)


def test_sampling_follows_the_generator(space):
    draw = lambda seed: [  # noqa: E731
        space.sample(rng) for rng in [np.random.default_rng(seed)] for _ in range(8)
    ]
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_sampling_reaches_every_option(space):
    rng = np.random.default_rng(0)
    seen = {pair for _ in range(120) for pair in space.sample(rng).items()}
    assert seen == {(c.name, option) for c in space.choices for option in c.options}


def test_canonical_draws_are_canonical_and_follow_the_generator(space):
    draws = [
        [space.sample_canonical(rng) for _ in range(8)]
        for rng in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    ]
    assert draws[0] == draws[1] != draws[2]
    assert all(space.canonical(arch) == arch for arch in draws[0])


def test_the_extremes_are_canonical_and_span_what_is_drawn(space, archs):
    smallest, largest = space.extremes()
    assert [space.canonical(a) for a in (smallest, largest)] == [smallest, largest]
    small, large = (space.costs(a, (1, 12, 12), 3) for a in (smallest, largest))
    drawn = [space.costs(a, (1, 12, 12), 3).params for a in archs]
    assert small.params <= min(drawn)
    assert large.params >= max(drawn)


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


def test_mutation_changes_every_choice_and_one_at_a_time_by_default(space, archs):
    rng = np.random.default_rng(2)
    changed = {name for a in archs * 20 for name in differences(a, space.mutate(a, rng))}
    assert changed == {c.name for c in space.choices if len(c) > 1}
    one_at_a_time = not has(space, MakesMutants)
    for arch in archs:
        child = space.mutate(arch, np.random.default_rng(3))
        assert len(differences(arch, child)) == 1 if one_at_a_time else child != arch
        assert child == space.mutate(arch, np.random.default_rng(3))


def test_neighbors_are_all_at_distance_one(space, archs):
    neighbors = list(space.neighbors(archs[0]))
    assert len(neighbors) == len(set(neighbors)) == sum(len(c) - 1 for c in space.choices)
    assert all(len(differences(archs[0], neighbor)) == 1 for neighbor in neighbors)


def test_encoding_is_a_vector_that_tells_architectures_apart(space, archs):
    codes = [space.encode(arch) for arch in archs]
    assert {(code.shape, code.dtype) for code in codes} == {(codes[0].shape, np.dtype("float32"))}
    assert all(
        np.isfinite(code).all() and (code >= 0).all() and (code <= 1).all() for code in codes
    )
    assert len({code.tobytes() for code in codes}) == len(set(archs))


def test_features_are_finite_and_tell_architectures_apart(space, archs):
    canonical = list({space.canonical(arch) for arch in archs})
    found = [space.features(arch) for arch in canonical]
    assert {f.dtype for f in found} == {np.dtype(np.float32)}
    assert len({f.shape for f in found}) == 1
    assert np.isfinite(found).all()
    assert len({f.tobytes() for f in found}) == len(canonical)
    again = space.architecture(dict(canonical[0]))
    assert np.array_equal(space.features(again), found[0])


def test_canonical_is_idempotent_and_costs_no_more(space, archs):
    for arch in archs:
        canonical = space.canonical(arch)
        assert space.canonical(canonical) == canonical
        light, full = (space.costs(a, (1, 12, 12), 3) for a in (canonical, arch))
        assert light.params <= full.params
        assert light.macs <= full.macs


def fill(network):
    """Weights that depend on a tensor's shape only, so that equal operations are equal."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim > 1:
                generator = torch.Generator().manual_seed(parameter.numel() + parameter.shape[-1])
                scale = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()


def test_canonical_computes_the_same(space, archs):
    images = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    small = SPACES["nasbench201-small"] if isinstance(space, NASBench201) else space
    changed = [arch for arch in archs if small.canonical(arch) != arch][:6]
    for arch in changed:
        logits = [
            fill(small.build(a, (1, 12, 12), 3))(images) for a in (arch, small.canonical(arch))
        ]
        torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
        assert logits[0].isfinite().all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12)])
def test_networks_have_the_shape_and_the_costs_that_the_space_says(space, archs, shape):
    for arch in archs[:2]:
        network = space.build(arch, shape, 7).eval()
        with torch.no_grad():
            logits = network(torch.zeros(2, *shape))
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()
        costs = space.costs(arch, shape, 7)
        assert replace(costs, layers=None) == counted_costs(space, arch, shape, 7)
        assert costs.params == sum(p.numel() for p in network.parameters())


def test_networks_train(space, archs):
    network = space.build(archs[0], (1, 8, 8), 3)
    loss = network(torch.randn(4, 1, 8, 8)).square().mean()
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_costs_leave_the_random_state(space, archs):
    before = torch.get_rng_state()
    space.costs(archs[0], (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_graph_has_arrows_between_its_nodes(space, archs):
    for arch in archs:
        graph = space.graph(arch)
        assert len(graph.nodes) > 1
        assert all(0 <= s < t < len(graph.nodes) for s, t, _ in graph.edges)


def test_settings_have_a_fingerprint(space):
    assert len(fingerprint(describe(space))) == 12
    assert describe(space)["class"] == type(space).__name__


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
