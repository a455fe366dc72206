"""The block space of Zen-NAS: text, skeleton, mutation, costs, network."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from raynas.core import Costs, UserError
from raynas.spaces import ZenNAS
from raynas.spaces.base import counted_costs
from raynas.spaces.zennas.blocks import INVERTED, KINDS, PLAIN, ZenBlock, parse_blocks
from raynas.spaces.zennas.space import CIFAR_START

torch.set_num_threads(1)

SPACE = ZenNAS()
MIXED = ZenNAS(kinds=KINDS[len(PLAIN) :], max_channels=128, max_bottleneck=32, max_sublayers=3)
START = SPACE.architecture(CIFAR_START)

numbers = st.integers(1, 4096)
blocks = st.builds(
    ZenBlock, st.sampled_from(KINDS), numbers, numbers, numbers, numbers, numbers
).map(lambda b: replace(b, bottleneck=0) if b.plain else b)
architectures = st.fixed_dictionaries(
    {c.name: st.sampled_from(c.options) for c in MIXED.choices}
).map(MIXED.architecture)


@given(st.lists(blocks, min_size=1, max_size=8).map(tuple))
def test_blocks_come_back_from_their_text(chain):
    assert parse_blocks("".join(map(str, chain))) == chain


def test_texts_are_the_authors():
    assert "".join(map(str, parse_blocks(CIFAR_START))) == CIFAR_START == START.text
    first, second, *_ = parse_blocks(CIFAR_START)
    assert first == ZenBlock("SuperConvK3BNRELU", 3, 8, 1, 0, 1)
    assert second == ZenBlock("SuperResK3K3", 8, 16, 1, 8, 1)
    assert len(KINDS) == 2 + 3 + 3 + 12
    assert {"SuperResK7K7", "SuperResK1K5K1", "SuperResIDWE6K7"} <= set(KINDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' does not begin with KIND"),
        (CIFAR_START + "x", "'x' does not begin with KIND"),
        ("SuperConvK3BNRELU(3,8,1,1", "'SuperConvK3BNRELU\\(3,8,1,1' does not begin"),
        ("SuperConvK3BNRELU(3,8,1,1) SuperConvK1BNRELU(8,8,1,1)", "' SuperConvK1"),
        ("SuperResK3K5(8,8,1,8,1)", "'SuperResK3K5'; expected: .* did you mean 'SuperResK"),
        ("SuperResIDWE3K3(8,8,1,8,1)", "'SuperResIDWE3K3'; expected"),
        ("SuperResK3K3(8,8,1,1)", "5 integers from 1: in, out, stride, bottleneck, sublayers"),
        ("SuperConvK3BNRELU(3,8,1,8,1)", "4 integers from 1: in, out, stride, sublayers"),
        ("SuperConvK3BNRELU(3,08,1,1)", "'SuperConvK3BNRELU\\(3,08,1,1\\)' does not hold 4"),
        ("SuperConvK3BNRELU(3,8,0,1)", "does not hold 4 integers from 1"),
        ("SuperConvK3BNRELU(3, 8,1,1)", "does not hold 4 integers from 1"),
        ("SuperConvK3BNRELU(3,-8,1,1)", "does not hold 4 integers from 1"),
    ],
)
def test_malformed_blocks_are_named(text, words):
    with pytest.raises(UserError, match=words):
        parse_blocks(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "(3,8,1,1)",
            "(1,8,1,1)",
            r"RELU\(1,8,1,1\) is out of place .*expected: .*RELU\(3,8,1,1\)",
        ),
        ("(16,32,2,16,1)", "(24,32,2,16,1)", r"\(24,32,2,16,1\) is out .*K3K3\(16,32,2,16,1\)"),
        ("(16,32,2,16,1)", "(16,32,1,16,1)", r"\(16,32,1,16,1\) is out .*K3K3\(16,32,2,16,1\)"),
        ("(64,128,1,1)", "(64,128,1,2)", r"\(64,128,1,2\) is out .*\(64,128,1,1\)"),
        ("ConvK1BNRELU(64", "ConvK3BNRELU(64", "SuperConvK3BNRELU.* is out .*SuperConvK1BNRELU"),
        ("SuperResK3K3(8,16", "SuperResIDWE1K3(8,16", "unknown kind in SuperResIDWE1K3"),
        ("(64,128,1,1)", "(64,129,1,1)", "unknown channels in SuperConvK1BNRELU"),
        ("(64,128,1,1)", "(64,2056,1,1)", "unknown channels in SuperConvK1BNRELU"),
        ("2,16,1)", "2,12,1)", "unknown bottleneck in SuperResK3K3"),
        ("2,16,1)", "2,16,17)", "unknown sublayers in SuperResK3K3"),
        ("SuperResK3K3(8,16,1,8,1)", "", "5 blocks; expected: 6"),
    ],
)
def test_networks_of_another_skeleton_are_refused(old, new, words):
    assert CIFAR_START.count(old) == 1
    with pytest.raises(UserError, match=words):
        SPACE.architecture(CIFAR_START.replace(old, new))


@settings(deadline=None)
@given(architectures)
def test_architectures_come_back_and_channels_chain(arch):
    assert MIXED.architecture(arch.text) == arch
    chain = parse_blocks(arch.text)
    assert chain == MIXED.blocks(arch)
    assert [b.channels_in for b in chain] == [3, *(b.channels for b in chain[:-1])]
    assert [b.stride for b in chain] == [1, 1, 2, 2, 2, 1]


def test_choices_are_kinds_channels_and_depths():
    assert [c.name for c in SPACE.choices[:5]] == [
        "b1_channels", "b2_kind", "b2_channels", "b2_bottleneck", "b2_sublayers",
    ]  # fmt: skip
    by_name = {c.name: c for c in SPACE.choices}
    assert by_name["b6_channels"].options == tuple(range(8, 2049, 8))
    assert not by_name["b3_kind"].ordered
    assert all(c.ordered for name, c in by_name.items() if "kind" not in name)
    assert len(SPACE.choices) == 2 + 4 * 4


@settings(deadline=None)
@given(st.integers(0, 2**32), architectures)
def test_a_mutation_changes_at_most_two_blocks_by_the_papers_steps(seed, arch):
    child = MIXED.mutate(arch, np.random.default_rng(seed))
    pairs = list(zip(MIXED.blocks(arch), MIXED.blocks(child), strict=True))
    changed = [(a, b) for a, b in pairs if replace(a, channels_in=b.channels_in) != b]
    assert len(changed) in (1, 2)
    for old, new in changed:
        assert abs(new.sublayers - old.sublayers) <= 2
        for before, after, most in (
            (old.channels, new.channels, 128),
            (old.bottleneck, new.bottleneck, 32),
        ):
            low, high = before / 2.5, min(before * 2.5, most)
            assert low - 4 <= after <= high + 4


def test_a_mutation_takes_every_step_from_a_block():
    rng = np.random.default_rng(0)
    moved = {SPACE.mutate(START, rng)["b4_channels"] for _ in range(800)}
    assert moved == {160, 128, 96, 80, 64, 48, 40, 32, 24}  # 64 * 2.5 ... 64 / 2.5 in eights
    assert {SPACE.mutate(START, rng)["b4_sublayers"] for _ in range(200)} == {1, 2, 3}
    assert {SPACE.mutate(START, rng)["b1_channels"] for _ in range(200)} == {8, 16}


def test_a_space_of_one_architecture_has_no_mutants():
    only = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,1)"
    space = ZenNAS(only, ("SuperResK3K3",), max_channels=8, max_bottleneck=8, max_sublayers=1)
    assert space.sample(np.random.default_rng(0)).text == only


def test_half_of_the_samples_fit_into_a_million_weights():
    rng = np.random.default_rng(1)
    costs = [SPACE.costs(SPACE.sample(rng)) for _ in range(200)]
    assert 0.3 < np.mean([c.params <= 1e6 and (c.layers or 0) <= 18 for c in costs]) < 0.7


@settings(deadline=None, max_examples=20)
@given(architectures, st.sampled_from([(3, 32, 32), (1, 9, 6), (4, 17, 31)]), st.integers(1, 9))
def test_costs_are_exact(arch, shape, classes):
    costs = MIXED.costs(arch, shape, classes)
    assert replace(costs, layers=None) == counted_costs(MIXED, arch, shape, classes)
    assert costs.layers == sum(b.sublayers for b in MIXED.blocks(arch))


def test_costs_of_the_start_by_hand():
    convs = 27 * 8  # 3x3 from the image
    first = 8 * 8 * 9 + 8 * 16 * 9 + 8 * 16
    second = 16 * 16 * 9 + 16 * 32 * 9 + 16 * 32
    third = 32 * 32 * 9 + 32 * 64 * 9 + 32 * 64
    fourth = 64 * 32 * 9 + 32 * 64 * 9 + 64 * 64
    normalised = 8 + (8 + 32) + (16 + 64) + (32 + 128) + (32 + 128) + 128
    weights = convs + first + second + third + fourth + 64 * 128 + 2 * normalised
    macs = 1024 * (convs + first) + 256 * second + 64 * third + 16 * (fourth + 64 * 128)
    assert SPACE.costs(START) == Costs(weights + 1290, macs + 1290, layers=6)


def convolutions(text):
    """(in, out, kernel, stride, depthwise), link by link, without the first."""
    space = ZenNAS(text, kinds=KINDS[len(PLAIN) :])
    network = space.build(space.architecture(text))
    return [
        [
            (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.groups > 1)
            for c in link.body
            if isinstance(c, nn.Conv2d)
        ]
        for link in network.links
    ][1:]


def test_what_the_blocks_consist_of():
    head = "SuperConvK3BNRELU(3,8,1,1)"
    assert convolutions(head + "SuperResK5K5(8,32,2,16,2)") == [
        [(8, 16, 5, 2, False), (16, 32, 5, 1, False)],
        [(32, 16, 5, 1, False), (16, 32, 5, 1, False)],
    ]
    assert convolutions(head + "SuperResK1K7K1(8,32,2,16,1)") == [
        [(8, 16, 1, 1, False), (16, 16, 7, 2, False), (16, 32, 1, 1, False)],
        [(32, 16, 1, 1, False), (16, 16, 7, 1, False), (16, 32, 1, 1, False)],
    ]
    assert convolutions(head + "SuperResIDWE4K3(8,32,2,16,1)") == [
        [(8, 64, 1, 1, False), (64, 64, 3, 2, True), (64, 16, 1, 1, False)],
        [(16, 128, 1, 1, False), (128, 128, 3, 1, True), (128, 32, 1, 1, False)],
    ]
    assert convolutions(head + "SuperConvK3BNRELU(8,16,2,2)") == [
        [(8, 16, 3, 2, False)],
        [(16, 16, 3, 1, False)],
    ]


def test_shortcuts_project_at_the_start_of_a_block_and_where_widths_differ():
    text = "SuperConvK3BNRELU(3,8,1,1)SuperResIDWE1K3(8,8,1,16,2)SuperResK1K3K1(8,8,1,8,1)"
    space = ZenNAS(text, kinds=KINDS[len(PLAIN) :])
    shortcuts = [link.shortcut for link in space.build(space.architecture(text)).links]
    projected = [isinstance(s, nn.Sequential) for s in shortcuts]
    assert projected == [False, True, True, True, True, True, False]
    assert shortcuts[0] is None
    assert isinstance(shortcuts[-1], nn.Identity)


def network(arch=START):
    torch.manual_seed(0)
    return MIXED.build(arch, (3, 16, 16), 5).eval()


def test_the_feature_map_is_what_is_pooled():
    net, images = network(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        map_ = net.feature_map(images)
        assert map_.shape == (2, 128, 2, 2)
        assert (map_ >= 0).all()
        torch.testing.assert_close(net(images), net.classifier(map_.mean((2, 3))))


def test_links_can_be_taken_out():
    net, images = network(), torch.randn(2, 3, 16, 16)
    assert net.residual is True
    with torch.no_grad():
        whole = net(images)
        net.residual = False
        without = net(images)
        for link in net.links:
            if isinstance(link.shortcut, nn.Sequential):
                link.shortcut[1].weight.zero_()  # a projection to zero
        torch.testing.assert_close(without, net(images))
        net.residual = True
        torch.testing.assert_close(without, net(images))
    assert not torch.allclose(whole, without)


def test_the_residual_sum_is_rectified_after_it():
    net = network(SPACE.architecture(CIFAR_START))
    link = net.links[1]
    with torch.no_grad():
        x = torch.randn(2, 8, 4, 4)
        torch.testing.assert_close(link(x), (link.body(x) + link.shortcut(x)).relu())
        torch.testing.assert_close(link(x, residual=False), link.body(x).relu())


def test_the_graph_is_the_chain_of_blocks():
    graph = SPACE.graph(SPACE.architecture(CIFAR_START.replace("2,16,1)", "2,16,3)")))
    assert graph.nodes[3] == "ResK3K3 (16) x 3 /2"
    assert graph.nodes[0] == "input"
    assert [label for _, _, label in graph.edges] == ["3", "8", "16", "32", "64", "64", "128"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "nonsense"}, "malformed"),
        ({"kinds": ("SuperResK3K4",)}, "unknown kind of a Zen-NAS block 'SuperResK3K4'"),
        ({"kinds": ("SuperConvK3BNRELU",)}, "unknown kind of a Zen-NAS block"),
        ({"kinds": ()}, "one or more, each once"),
        ({"kinds": INVERTED}, "unknown kind in SuperResK3K3"),
        ({"max_channels": 12}, "max_channels=12; expected: multiples of 8"),
        ({"max_channels": 64}, "unknown channels in SuperConvK1BNRELU"),
        ({"max_bottleneck": 0}, "max_bottleneck=0"),
        ({"max_sublayers": 0}, "max_sublayers=0; expected: integers from 1"),
        ({"walk": -1}, "walk=-1; expected: integers from 0"),
    ],
)
def test_settings_that_make_no_space(changes, words):
    with pytest.raises(UserError, match=words):
        ZenNAS(**changes)


def test_lists_from_a_command_line_are_tuples():
    assert hash(ZenNAS(kinds=list(SPACE.kinds))) == hash(SPACE)
