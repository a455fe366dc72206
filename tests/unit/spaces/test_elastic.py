"""The elastic residual space: text, canonical form, costs, network."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from raynas.core import UserError
from raynas.spaces import ElasticResNet
from raynas.spaces.base import counted_costs

torch.set_num_threads(1)

SPACE = ElasticResNet()
SMALL = ElasticResNet(
    widths=((4, 8), (8, 16)),
    strides=(1, 3),
    depths=(1, 3),
    kernels=(1, 3, 5),
    expansions=(0.5, 1),
    resolutions=(6, 9),
    stem_width=3,
    divisor=4,
)


def architectures(space):
    return st.fixed_dictionaries({c.name: st.sampled_from(c.options) for c in space.choices}).map(
        space.architecture
    )


either = st.sampled_from([SPACE, SMALL]).flatmap(
    lambda space: st.tuples(st.just(space), architectures(space))
)


@settings(deadline=None)
@given(either)
def test_text_comes_back(pair):
    space, arch = pair
    assert space.architecture(arch.text) == arch
    canonical = space.canonical(arch)
    assert space.architecture(canonical.text) == canonical


def test_text_is_compact_for_canonical_architectures():
    smallest = SPACE.architecture({c.name: c.options[0] for c in SPACE.choices})
    assert smallest.text == "w16d1-k3e0.25_w32d1-k3e0.25_w64d1-k3e0.25"
    unused = SPACE.architecture({**smallest, "s2_b2_kernel": 7})
    assert unused.text == "w16d1-k3e0.25_w32d1-k3e0.25-k7e0.25_w64d1-k3e0.25"
    assert unused != smallest
    assert SPACE.canonical(unused) == smallest
    assert SMALL.sample(np.random.default_rng(0)).text.startswith(("r6_w", "r9_w"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "1 parts joined by '_' instead of 3"),
        ("w16d1-k3e0.25_w32d1-k3e0.25", "2 parts"),
        ("w17d1-k3e0.25_w32d1-k3e0.25_w64d1-k3e0.25", "unknown width and depth of stage 1 'w17d1'"),
        ("w16d4-k3e0.25_w32d1-k3e0.25_w64d1-k3e0.25", "w16d3"),
        ("w16d1_w32d1-k3e0.25_w64d1-k3e0.25", "stage 1 has 0 blocks, not 1 to 3"),
        ("w16d1-k3e0.25_w32d1-k3e0.25_w64d1" + 4 * "-k3e0.25", "stage 3 has 4 blocks"),
        ("w16d1-k4e0.25_w32d1-k3e0.25_w64d1-k3e0.25", "unknown block of stage 1 'k4e0.25'"),
    ],
)
def test_malformed_text_is_explained(text, named):
    with pytest.raises(UserError) as error:
        SPACE.architecture(text)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_resolution_is_explained():
    with pytest.raises(UserError, match="resolution 'r7'; expected: r6, r9"):
        SMALL.architecture("r7_w4d1-k1e0.5_w8d1-k1e0.5")


@settings(deadline=None)
@given(either)
def test_canonical_builds_the_same_blocks(pair):
    space, arch = pair
    canonical = space.canonical(arch)
    assert space.blocks(canonical) == space.blocks(arch)
    assert space.resolution(canonical) == space.resolution(arch)
    assert space.canonical(canonical) == canonical


def test_canonical_forms_are_as_many_as_networks():
    space = replace(SMALL, widths=((4, 8),), strides=(2,), depths=(1, 2), kernels=(1, 3))
    every = list(space.enumerate())
    networks = {(space.blocks(arch), space.resolution(arch)) for arch in every}
    assert len({space.canonical(arch) for arch in every}) == len(networks) < len(every)


@pytest.mark.parametrize(
    ("width", "expansion", "hidden"), [(16, 0.25, 8), (24, 0.5, 16), (32, 1.0, 32), (64, 0.25, 16)]
)
def test_hidden_widths_are_multiples_of_the_divisor(width, expansion, hidden):
    assert SPACE.hidden(width, expansion) == hidden


@settings(max_examples=15, deadline=None)
@given(
    either,
    st.tuples(st.integers(1, 4), st.integers(1, 19), st.integers(1, 19)),
    st.integers(2, 12),
)
def test_closed_form_equals_the_count(pair, shape, classes):
    space, arch = pair
    assert space.costs(arch, shape, classes) == counted_costs(space, arch, shape, classes)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 9)])
@pytest.mark.parametrize("space", [SPACE, SMALL], ids=["default", "small"])
def test_network_takes_any_image(space, shape):
    arch = space.architecture({c.name: c.options[-1] for c in space.choices})
    network = space.build(arch, shape, 7)
    images = torch.zeros(2, *shape)
    assert network(images).shape == (2, 7)
    assert network.features(images).shape == (2, space.widths[-1][-1])


def test_images_are_resized_to_the_resolution():
    arch = SMALL.sample(np.random.default_rng(1))
    network = SMALL.build(arch, (1, 30, 20))
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    network(torch.zeros(2, 1, 30, 20))
    assert seen == [(2, 1, arch["resolution"], arch["resolution"])]
    assert SMALL.costs(arch, (1, 30, 20)) == SMALL.costs(arch, (1, 5, 5))


def test_graph_is_the_chain_of_blocks():
    arch = SPACE.architecture("w24d2-k5e0.5-k3e1.0_w32d1-k3e0.5_w64d1-k7e0.25")
    graph = SPACE.graph(arch)
    assert graph.nodes == (
        "input", "stem", "5x5 16", "3x3 24", "3x3 16 /2", "7x7 16 /2", "output",
    )  # fmt: skip
    assert [edge[2] for edge in graph.edges] == ["", "16", "24", "24", "32", "64"]
    assert [edge[:2] for edge in graph.edges] == [(i, i + 1) for i in range(6)]
    assert SMALL.graph(SMALL.sample(np.random.default_rng(0))).nodes[0].startswith("input ")


def test_lists_become_tuples():
    space = ElasticResNet(widths=[[16, 24], [32]], strides=[1, 2], kernels=[3])
    assert space == ElasticResNet(widths=((16, 24), (32,)), strides=(1, 2), kernels=(3,))
    assert len(space.choices) == 2 * (2 + 3 * 2)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"widths": ()}, "0 stages in widths"),
        ({"strides": (1, 2)}, "one stride and one tuple of widths per stage"),
        ({"strides": (1, 0, 2)}, "strides="),
        ({"kernels": (2,)}, "odd integers"),
        ({"kernels": ()}, "kernels="),
        ({"kernels": (5, 3)}, "ascending"),
        ({"depths": (0, 1)}, "integers from 1"),
        ({"expansions": (0.0, 1.0)}, "numbers from 0.01"),
        ({"expansions": (0.5, float("inf"))}, "numbers from 0.01"),
        ({"expansions": (1, 1.0)}, "ascending"),
        ({"resolutions": (16.5,)}, "resolutions="),
        ({"widths": ((16,), (32,), (0,))}, "widths of stage 3"),
        ({"stem_width": 0}, "stem_width=0"),
        ({"divisor": 0.5}, "divisor=0.5"),
    ],
)
def test_settings_are_checked(wrong, named):
    with pytest.raises(UserError) as error:
        replace(SPACE, **wrong)
    assert named in str(error.value)


def test_equal_spaces_that_are_spelled_unlike_have_the_same_architectures():
    """Whatever was used first in the process: 1 is equal to 1.0, and was cached as it."""
    whole = ElasticResNet(((8, 16),), (1,), kernels=(3,), expansions=(1, 2))
    real = ElasticResNet(((8, 16),), (1,), kernels=(3,), expansions=(1.0, 2.0))
    first = [str(o) for c in whole.choices for o in c.options]
    assert first == [str(o) for c in real.choices for o in c.options]
    ids = [space.architecture(space.sample(np.random.default_rng(0))).id for space in (whole, real)]
    assert ids[0] == ids[1]
    assert all(type(o) is float for c in whole.choices if "expansion" in c.name for o in c.options)
    # what was stored before reads as the same architecture
    written = whole.architecture(whole.sample(np.random.default_rng(0)))
    assert "e1.0" in written.text or "e2.0" in written.text
    assert whole.architecture(written.text.replace(".0", "")) == written


def test_choices_are_of_the_space_itself():
    spaces = [ElasticResNet(((8,),), (1,), depths=(1,), kernels=(k,)) for k in (3, 5, 3)]
    kernels = [next(c for c in s.choices if c.name.endswith("kernel")).options for s in spaces]
    assert kernels == [(3,), (5,), (3,)]
    assert spaces[0].choices is spaces[0].choices
