"""Composites: in a row, one of several, the first few, a sum; what they name as used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raynas.core import Choice, UserError
from raynas.layers import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    Flatten,
    OneOf,
    Repeat,
    Residual,
    Sequential,
)
from raynas.layers.sorting import importance, sort_between

torch.set_num_threads(1)

WIDTH = Choice("width", (2, 4), ordered=True)
DEPTH = Choice("depth", (1, 2, 3), ordered=True)
KIND = Choice("kind", ("conv", "pool", 0.5))


def images(channels=3):
    return torch.randn(2, channels, 5, 5, generator=torch.Generator().manual_seed(0))


def test_a_row_threads_the_width_and_mixes_plain_modules():
    row = Sequential(ElasticConv2d(3, WIDTH), nn.ReLU(), nn.Sequential(), ElasticConv2d(WIDTH, 5))
    arch = {"width": 2}
    assert row.width_out(arch, 3) == 5
    assert [(p.name, p.width_in) for p in row.parts(arch, 3)] == [
        ("steps.0", 3), ("steps.1", 2), ("steps.2", 2), ("steps.3", 2),
    ]  # fmt: skip
    plain = row.plain(arch, 3)
    assert [type(m) for m in plain] == [nn.Conv2d, nn.ReLU, nn.Sequential, nn.Conv2d]
    torch.testing.assert_close(plain(images()), row(images(), arch))


@pytest.mark.parametrize("depth", DEPTH.options)
def test_the_first_blocks_run_and_no_others(depth):
    row = Repeat(DEPTH, [nn.Conv2d(3, 3, 1) for _ in range(3)])
    arch = {"depth": depth}
    assert row.active(arch, 3).keys() == {
        f"steps.{n}.{name}" for n in range(depth) for name in ("weight", "bias")
    }
    x = images()
    wanted = x
    for block in row.steps[:depth]:
        wanted = block(wanted)
    assert torch.equal(row(x, arch), wanted)
    assert len(row.plain(arch, 3)) == depth


def test_blocks_for_every_depth_are_needed():
    with pytest.raises(UserError, match=r"2 blocks for depths \(1, 2, 3\); give 3 blocks"):
        Repeat(DEPTH, [nn.Identity(), nn.Identity()])


def test_one_of_several_runs_and_the_others_are_not_touched():
    conv = ElasticConv2d(3, WIDTH)
    one = OneOf(KIND, {"conv": conv, "pool": nn.AvgPool2d(3, 1, 1), 0.5: nn.Conv2d(3, 7, 1)})
    arch = {"kind": "conv", "width": 2}
    assert one.chosen(arch) is conv
    assert torch.equal(one(images(), arch), conv(images(), arch))
    assert one.active(arch, 3).keys() == {"modules_of.0.weight"}
    assert one.active({"kind": 0.5}, 3).keys() == {"modules_of.2.weight", "modules_of.2.bias"}
    assert [one.width_out({"kind": k, "width": 2}, 3) for k in KIND.options] == [2, 3, 7]
    assert type(one.plain({"kind": "pool"}, 3)) is nn.AvgPool2d


def test_every_option_needs_a_module():
    with pytest.raises(UserError, match=r"unknown module of choice 'kind' '0\.5'"):
        OneOf(KIND, {"conv": nn.Identity(), "pool": nn.Identity()})
    one = OneOf("kind", {"conv": nn.Identity()})  # by its name alone
    with pytest.raises(UserError, match="option for 'kind' 'pool'; expected: conv"):
        one(images(), {"kind": "pool"})


def test_a_residual_adds_its_shortcut():
    body, shortcut = ElasticConv2d(3, WIDTH), ElasticConv2d(3, WIDTH, 1)
    arch, x = {"width": 4}, images()
    both = Residual(body, shortcut)
    assert torch.equal(both(x, arch), body(x, arch) + shortcut(x, arch))
    torch.testing.assert_close(both.plain(arch, 3)(x), both(x, arch))
    assert both.active(arch, 3).keys() == {"body.weight", "shortcut.weight"}
    assert both.width_out(arch, 3) == 4
    alone = Residual(nn.ReLU())
    assert torch.equal(alone(x, arch), x.relu() + x)
    assert torch.equal(alone.plain(arch, 3)(x), x.relu() + x)


def test_leading_channels_stay_leading_features_when_maps_are_flattened():
    head = Sequential(nn.AdaptiveAvgPool2d(2), Flatten(4), ElasticLinear(16, 3))
    x, arch = images(2), {}
    assert head.width_out(arch, 2) == 3
    wanted = nn.functional.linear(
        nn.AdaptiveAvgPool2d(2)(x).flatten(1), head.steps[2].weight[:, :8], head.steps[2].bias
    )
    torch.testing.assert_close(head(x, arch), wanted)
    torch.testing.assert_close(head.plain(arch, 2)(x), wanted)


def test_flattening_says_what_it_needs():
    with pytest.raises(UserError, match=r"positions=4\) of maps with \(5, 5\)"):
        Flatten(4)(images(), {})
    with pytest.raises(UserError, match=r"use raynas\.layers\.Flatten"):
        Sequential(nn.Flatten(), ElasticLinear(75, 3)).plain({}, 3)


def test_copies_carry_no_gradient():
    row = Sequential(nn.Conv2d(3, 3, 1))
    row(images(), {}).sum().backward()
    assert row.steps[0].weight.grad is not None
    assert row.plain({}, 3)[0].weight.grad is None


def test_important_channels_come_first_and_the_largest_network_stays():
    torch.manual_seed(0)
    first, norm, second = ElasticConv2d(3, 4, bias=True), ElasticBatchNorm2d(4), ElasticConv2d(4, 2)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    second.weight.data *= torch.tensor([0.1, 3.0, 1.0, 0.5]).view(1, 4, 1, 1)
    row = Sequential(first, norm, second).eval()
    before, filters = row(images(), {}), first.weight.clone()
    order = importance([second]).argsort(descending=True)
    assert order.tolist() != [0, 1, 2, 3]
    sort_between([first, norm], [second])
    torch.testing.assert_close(row(images(), {}), before)
    assert torch.equal(first.weight, filters[order])
    sizes = importance([second])
    assert (sizes[:-1] >= sizes[1:]).all()


def test_several_readers_of_a_channel_count_together():
    readers = [ElasticConv2d(3, 2, 3), ElasticLinear(3, 4)]
    wanted = sum(r.weight.abs().transpose(0, 1).flatten(1).sum(dim=1) for r in readers)
    torch.testing.assert_close(importance(readers), wanted)
