"""Elastic layers compute what plain layers with the sliced weights compute."""

from __future__ import annotations

import subprocess
import sys

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from raynas.core import Choice, UserError
from raynas.layers import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, ElasticSize
from raynas.layers.base import size

torch.set_num_threads(1)

OUT = Choice("out", (2, 3, 6), ordered=True)
KERNEL = Choice("kernel", (1, 3, 5, 7), ordered=True)

archs = st.fixed_dictionaries(
    {"out": st.sampled_from(OUT.options), "kernel": st.sampled_from(KERNEL.options)}
)
sides = st.integers(1, 9)


def images(channels, height=5, width=6, count=3):
    generator = torch.Generator().manual_seed(height)
    return torch.randn(count, channels, height, width, generator=generator)


@settings(deadline=None, max_examples=60)
@given(archs, st.integers(1, 4), st.sampled_from([1, 2, 3]), st.booleans(), sides, sides)
def test_a_convolution_is_the_plain_one_with_sliced_weights(
    arch, width_in, stride, bias, height, width
):
    torch.manual_seed(0)
    layer = ElasticConv2d(4, OUT, KERNEL, stride, bias)
    out, kernel, x = arch["out"], arch["kernel"], images(width_in, height, width)
    rim = (7 - kernel) // 2
    weight = layer.weight[:out, :width_in, rim : rim + kernel, rim : rim + kernel]
    own_bias = layer.bias[:out] if bias else None
    wanted = functional.conv2d(x, weight, own_bias, stride, kernel // 2)
    assert torch.equal(layer(x, arch), wanted)
    assert wanted.shape == (3, out, -(-height // stride), -(-width // stride))
    plain = layer.plain(arch, width_in)
    assert type(plain) is nn.Conv2d
    assert (plain.in_channels, plain.out_channels, plain.kernel_size) == (
        width_in,
        out,
        (kernel,) * 2,
    )
    torch.testing.assert_close(plain(x), wanted)
    assert layer.width_out(arch, width_in) == out


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(KERNEL.options), st.integers(1, 4), st.booleans())
def test_a_depthwise_convolution_keeps_its_channels(kernel, width_in, bias):
    torch.manual_seed(0)
    layer = ElasticConv2d(4, 4, KERNEL, bias=bias, depthwise=True)
    arch, x = {"kernel": kernel}, images(width_in)
    rim = (7 - kernel) // 2
    weight = layer.weight[:width_in, :, rim : rim + kernel, rim : rim + kernel]
    own_bias = layer.bias[:width_in] if bias else None
    wanted = functional.conv2d(x, weight, own_bias, padding=kernel // 2, groups=width_in)
    torch.testing.assert_close(layer(x, arch), wanted)
    torch.testing.assert_close(layer.plain(arch, width_in)(x), wanted)
    assert layer.active(arch, width_in)["weight"][:2] == (slice(width_in), slice(1))


def test_kernel_matrices_are_the_identity_at_first_and_chain_from_large_to_small():
    torch.manual_seed(0)
    bare, layer = ElasticConv2d(2, 3, KERNEL), ElasticConv2d(2, 3, KERNEL, transforms=True)
    layer.load_state_dict({**layer.state_dict(), **bare.state_dict()})
    x = images(2)
    for kernel in KERNEL.options:
        arch = {"kernel": kernel}
        torch.testing.assert_close(layer(x, arch), bare(x, arch))
    matrices = {k: torch.randn(k * k, k * k) for k in (1, 3, 5)}
    for kernel, matrix in matrices.items():
        layer.transforms[f"to{kernel}"].data.copy_(matrix)
    weight = layer.weight
    for kernel in (5, 3):
        rim = (weight.shape[-1] - kernel) // 2
        centre = weight[:, :, rim : rim + kernel, rim : rim + kernel]
        flat = centre.reshape(3, 2, kernel * kernel) @ matrices[kernel]
        weight = flat.reshape(3, 2, kernel, kernel)
    arch = {"kernel": 3}
    torch.testing.assert_close(layer(x, arch), functional.conv2d(x, weight, padding=1))
    torch.testing.assert_close(layer.plain(arch, 2)(x), layer(x, arch))
    assert set(layer.active(arch, 2)) == {"weight", "transforms.to5", "transforms.to3"}
    # the outer ring of the largest kernel is cut off before the first matrix
    assert layer.active(arch, 2)["weight"][2:] == (slice(1, 6), slice(1, 6))
    assert set(layer.active({"kernel": 7}, 2)) == {"weight"}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.sampled_from([0.1, 0.3, None]), st.booleans())
def test_batch_norm_is_the_plain_one_on_its_leading_channels(width, momentum, affine):
    torch.manual_seed(0)
    layer, twin = ElasticBatchNorm2d(6, affine, momentum), nn.BatchNorm2d(width, momentum=momentum)
    if affine:
        layer.weight.data.uniform_(0.5, 2)
        layer.bias.data.uniform_(-1, 1)
        twin.weight.data.copy_(layer.weight[:width])
        twin.bias.data.copy_(layer.bias[:width])
    for count in (3, 4):
        x = images(width, count=count)
        torch.testing.assert_close(layer(x, {}), twin(x))
    torch.testing.assert_close(layer.running_mean[:width], twin.running_mean)
    torch.testing.assert_close(layer.running_var[:width], twin.running_var)
    assert not layer.running_mean[width:].any()  # the statistics of others rest
    assert torch.equal(layer.running_var[width:], torch.ones(6 - width))
    layer.eval(), twin.eval()
    plain = layer.plain({}, width).eval()
    assert type(plain) is nn.BatchNorm2d
    assert list(plain.state_dict()) == list(twin.state_dict())
    for norm in (lambda x: layer(x, {}), plain):
        torch.testing.assert_close(norm(images(width)), twin(images(width)))
    assert all(p.requires_grad for p in plain.parameters())
    assert set(layer.active({}, width)) == ({"weight", "bias"} if affine else set())


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(OUT.options), st.integers(1, 5), st.booleans())
def test_a_linear_layer_is_the_plain_one_with_sliced_weights(out, width_in, bias):
    torch.manual_seed(0)
    layer, arch = ElasticLinear(5, OUT, bias), {"out": out}
    x = torch.randn(2, 3, width_in)
    own_bias = layer.bias[:out] if bias else None
    wanted = functional.linear(x, layer.weight[:out, :width_in], own_bias)
    assert torch.equal(layer(x, arch), wanted)
    plain = layer.plain(arch, width_in)
    torch.testing.assert_close(plain(x), wanted)
    assert (plain.in_features, plain.out_features) == (width_in, out)
    assert layer.active(arch, width_in)["weight"] == (slice(out), slice(width_in))


def test_a_plain_layer_is_a_copy():
    layer = ElasticConv2d(4, OUT, KERNEL)
    plain = layer.plain({"out": 6, "kernel": 7}, 4)
    plain.weight.data.zero_()
    assert layer.weight.all()
    assert plain.weight.is_contiguous()
    assert plain.weight.requires_grad


def test_initial_weights_are_those_of_the_largest_plain_layer():
    torch.manual_seed(3)
    layer = ElasticConv2d(4, OUT, KERNEL, bias=True)
    torch.manual_seed(3)
    plain = nn.Conv2d(4, 6, 7)
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer.bias, plain.bias)


def test_a_size_may_follow_from_several_choices():
    doubled = ElasticSize((4, 6, 12), lambda arch: 2 * arch["out"])
    layer = ElasticConv2d(doubled, doubled, 1)
    assert layer.weight.shape == (12, 12, 1, 1)
    assert layer(images(4), {"out": 3}).shape[1] == 6


def test_bad_sizes_are_named():
    with pytest.raises(UserError, match=r"\(2, 3\).*odd integers"):
        ElasticConv2d(3, 4, Choice("kernel", (2, 3)))
    with pytest.raises(UserError, match=r"'rate' is not a size.*integers"):
        size(Choice("rate", (0.5, 1)))
    assert size(Choice("width", (8, 2))).options == (2, 8)  # ascending, however they are given
    assert ElasticSize((8, 2, 4)).options == (2, 4, 8)
    assert ElasticSize((8, 2, 4)).most == 8


def test_the_package_imports_torch_only_when_used():
    code = (
        "import sys, raynas.layers as layers; assert 'torch' not in sys.modules;"
        "assert all(getattr(layers, name) is not None for name in layers.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
