"""Counting weights and multiply-adds of any network."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from raynas.core import Costs
from raynas.costs import MacCounter, count_network
from raynas.costs.count import count_trainable


class Does(nn.Module):
    """``what(x, *modules)``."""

    def __init__(self, what: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.what, self.inner = what, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x, *self.inner)


def first(x: Tensor, layer: nn.Module) -> Tensor:
    """Of what a recurrent layer gives."""
    return layer(x)[0]


def attend(x: Tensor, layer: nn.Module, **settings: Any) -> Tensor:
    return layer(x, x, x, **settings)[0]


def attention(x: Tensor, **settings: Any) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, **settings)


def turned(x: Tensor, layer: nn.Module) -> Tensor:
    """The layer on inputs that do not lie one behind the other in memory."""
    return layer(x.transpose(1, 2))


Layer = tuple[Callable[[], nn.Module], tuple[int, ...], int, int]
HEADS = 3 * 8 * 8 + 3 * 8 + 8 * 8 + 8  # an attention's weights: three projections in, one out
BLOCK = HEADS + (8 * 16 + 16) + (16 * 8 + 8)  # an encoder layer's, but for its norms
CASES: dict[str, Layer] = {
    "linear": (lambda: nn.Linear(8, 4), (8,), 36, 36),
    "linear without bias": (lambda: nn.Linear(8, 4, bias=False), (8,), 32, 32),
    "linear on a sequence": (lambda: nn.Linear(8, 4), (5, 8), 36, 5 * 36),
    "linear on a grid": (lambda: nn.Linear(8, 4), (2, 3, 8), 36, 6 * 36),
    "linear, not contiguous": (lambda: Does(turned, nn.Linear(8, 4)), (8, 5), 36, 5 * 36),
    "linear, channels last": (
        lambda: Does(lambda x, f: f(x.permute(0, 2, 3, 1)), nn.Linear(8, 4)), (8, 2, 3), 36, 6 * 36
    ),
    "linear, every second": (
        lambda: Does(lambda x, f: f(x[:, ::2]), nn.Linear(8, 4)), (10, 8), 36, 5 * 36
    ),
    "linear, expanded": (
        lambda: Does(lambda x, f: f(x.expand(5, 3, 8)), nn.Linear(8, 4)), (1, 8), 36, 15 * 36
    ),
    "linear, not contiguous, without bias": (
        lambda: Does(turned, nn.Linear(8, 4, bias=False)), (8, 5), 32, 5 * 32
    ),
    "addmm": (
        lambda: Does(lambda x, f: torch.addmm(f.bias, x, f.weight.T), nn.Linear(8, 4)), (8,), 36, 36
    ),
    "addmv": (
        lambda: Does(lambda x, f: torch.addmv(f.bias, f.weight, x[0]), nn.Linear(8, 4)),
        (8,), 36, 36,
    ),
    "bilinear": (
        lambda: Does(lambda x, f: f(x, x[..., :3]), nn.Bilinear(8, 3, 4)), (5, 8), 100, 5 * 100
    ),
    "conv1d": (lambda: nn.Conv1d(2, 6, 3), (2, 10), 42, 8 * 42),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5), 112, 30 * 112),
    "conv2d, strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, bias=False), (3, 7, 7), 108, 9 * 108),
    "conv2d, grouped": (lambda: nn.Conv2d(8, 4, 3, padding=1, groups=4), (8, 6, 6), 76, 36 * 76),
    "conv2d, depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (8, 6, 6), 80, 16 * 80),
    "conv2d, dilated": (lambda: nn.Conv2d(2, 4, 3, dilation=2), (2, 9, 9), 76, 25 * 76),
    "conv2d, same": (lambda: nn.Conv2d(2, 4, 3, padding="same"), (2, 6, 6), 76, 36 * 76),
    "conv2d, reflected": (
        lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 6), 76, 36 * 76
    ),
    "conv2d, channels last": (
        lambda: Does(lambda x, f: f(x.contiguous(memory_format=torch.channels_last)),
                     nn.Conv2d(8, 4, 3)), (8, 6, 6), 292, 16 * 292,
    ),
    "conv2d of one image": (lambda: Does(lambda x, f: f(x[0])[None], nn.Conv2d(2, 4, 3)),
                            (2, 4, 4), 76, 4 * 76),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, groups=2), (2, 3, 4, 5), 36, 24 * 36),
    "conv1d, transposed": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 5), 78,
                           5 * 72 + 11 * 6),
    "conv2d, transposed": (
        lambda: nn.ConvTranspose2d(8, 4, 2, stride=2), (8, 6, 6), 132, 36 * 128 + 144 * 4
    ),
    "conv2d, transposed, grouped": (
        lambda: nn.ConvTranspose2d(8, 4, 2, groups=4, bias=False), (8, 6, 6), 32, 36 * 32
    ),
    "conv3d, transposed": (lambda: nn.ConvTranspose3d(2, 4, 2), (2, 3, 3, 3), 68,
                           27 * 64 + 64 * 4),
    "conv over time first": (
        lambda: Does(lambda x, f: torch.conv_tbc(x.permute(2, 0, 1), f.weight.permute(2, 1, 0),
                                                 f.bias), nn.Conv1d(2, 6, 3)), (2, 10), 42, 8 * 42,
    ),
    "matrices": (lambda: Does(lambda x: x[:, 0] @ x[:, 1].mT), (2, 5, 8), 0, 5 * 8 * 5),
    "matrix by matrix": (lambda: Does(lambda x: torch.mm(x[0], x[0].T)), (5, 8), 0, 5 * 8 * 5),
    "many matrices": (lambda: Does(lambda x: x @ x.mT), (2, 3, 5, 8), 0, 6 * 5 * 8 * 5),
    "matrix by vector": (lambda: Does(lambda x: x[0] @ x[0, 0]), (5, 8), 0, 5 * 8),
    "matrices by vector": (lambda: Does(lambda x: x @ x[0, 0]), (5, 8), 0, 5 * 8),
    "vector by vector": (lambda: Does(lambda x: torch.dot(x[0], x[0])), (8,), 0, 8),
    "bmm": (lambda: Does(lambda x: torch.bmm(x[0], x[0].mT)), (3, 5, 8), 0, 3 * 5 * 8 * 5),
    "baddbmm": (
        lambda: Does(lambda x: torch.baddbmm(x[0, :, :, :5], x[0], x[0].mT)), (3, 5, 8), 0, 600
    ),
    "addbmm": (
        lambda: Does(lambda x: torch.addbmm(x[0, 0, :, :5], x[0], x[0].mT)), (3, 5, 8), 0, 600
    ),
    "einsum": (
        lambda: Does(lambda x, f: torch.einsum("bni,oi->bno", x, f.weight), nn.Linear(8, 4)),
        (5, 8), 36, 5 * 32,
    ),
    "tensordot": (lambda: Does(lambda x: torch.tensordot(x, x, ([2], [2]))), (5, 8), 0, 200),
    "by value": (lambda: Does(lambda x: (x * x).sum(-1) + torch.outer(x[0, 0], x[0, 0])[0]),
                 (8, 8), 0, 0),
    "attention": (lambda: Does(attention), (2, 5, 8), 0, 2 * (2 * 5 * 5 * 8)),
    "attention, causal": (
        lambda: Does(lambda x: attention(x, is_causal=True)), (2, 5, 8), 0, 2 * (2 * 5 * 5 * 8)
    ),
    "attention, masked": (
        lambda: Does(lambda x: attention(x, attn_mask=x.new_zeros(5, 5))), (2, 5, 8), 0, 800
    ),
    "attention across": (
        lambda: Does(lambda x: F.scaled_dot_product_attention(x[:, :, :2], x, x[..., :4])),
        (2, 5, 8), 0, 2 * 2 * 5 * (8 + 4),
    ),
    "attention, heads in groups": (
        lambda: Does(lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2],
                                                              enable_gqa=True)),
        (4, 5, 8), 0, 2 * (4 * 5 * 5 * 8),
    ),
    "attention without heads": (lambda: Does(attention), (5, 8), 0, 2 * (5 * 5 * 8)),
    "multi-head": (
        lambda: Does(attend, nn.MultiheadAttention(8, 2, batch_first=True)),
        (5, 8), HEADS, 5 * HEADS + 2 * 5 * 5 * 8,
    ),
    "multi-head without weights": (
        lambda: Does(lambda x, f: attend(x, f, need_weights=False),
                     nn.MultiheadAttention(8, 2, batch_first=True)),
        (5, 8), HEADS, 5 * HEADS + 2 * 5 * 5 * 8,
    ),
    "multi-head, time first": (
        lambda: Does(lambda x, f: attend(x.transpose(0, 1), f), nn.MultiheadAttention(8, 2)),
        (5, 8), HEADS, 5 * HEADS + 2 * 5 * 5 * 8,
    ),
    "encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        (5, 8), 2 * (BLOCK + 32), 2 * (5 * BLOCK + 2 * 5 * 5 * 8),
    ),
    "lstm": (lambda: Does(first, nn.LSTM(8, 6, batch_first=True)), (5, 8),
             4 * 6 * (8 + 6 + 2), 5 * 4 * 6 * (8 + 6 + 2)),
    "lstm, two ways, two layers": (
        lambda: Does(first, nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)), (5, 8),
        2 * 24 * (8 + 6 + 2) + 2 * 24 * (12 + 6 + 2),
        5 * (2 * 24 * (8 + 6 + 2) + 2 * 24 * (12 + 6 + 2)),
    ),
    "lstm, projected": (
        lambda: Does(first, nn.LSTM(8, 6, batch_first=True, proj_size=3, bias=False)), (5, 8),
        24 * (8 + 3) + 3 * 6, 5 * (24 * (8 + 3) + 3 * 6),
    ),
    "gru": (lambda: Does(first, nn.GRU(8, 6)), (5, 8), 18 * (8 + 6 + 2), 5 * 18 * (8 + 6 + 2)),
    "rnn": (lambda: Does(first, nn.RNN(8, 6, batch_first=True)), (5, 8), 96, 5 * 96),
    "rnn, rectified": (lambda: Does(first, nn.RNN(8, 6, nonlinearity="relu")), (5, 8), 96, 5 * 96),
    "lstm cell": (lambda: Does(first, nn.LSTMCell(8, 6)), (8,), 384, 384),
    "gru cell": (lambda: nn.GRUCell(8, 6), (8,), 288, 288),
    "rnn cell": (lambda: nn.RNNCell(8, 6, bias=False), (8,), 84, 84),
    "packed": (
        lambda: Does(lambda x, f: f(nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor([3], device="cpu"), batch_first=True))[0].data,
            nn.GRU(8, 6, batch_first=True)),
        (5, 8), 288, 3 * 288,
    ),
    "embedding": (lambda: Does(lambda x, f: f(x.long()), nn.Embedding(9, 3)), (5,), 27, 0),
    "bags": (lambda: Does(lambda x, f: f(x.long()), nn.EmbeddingBag(9, 3)), (5,), 27, 0),
    "batch norm": (lambda: nn.BatchNorm2d(4), (4, 3, 3), 8, 0),
    "layer norm": (lambda: nn.LayerNorm(8), (5, 8), 16, 0),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3), 8, 0),
    "activation and pool": (lambda: nn.Sequential(nn.PReLU(), nn.AvgPool2d(2)), (4, 4, 4), 1, 0),
    "lazy": (
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(),
                              nn.LazyLinear(3)),
        (2, 6, 6), 76 + 8 + 64 * 3 + 3, 16 * 76 + 64 * 3 + 3,
    ),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)), (8,), 40, 36
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_layers_count_as_worked_out_by_hand(name: str) -> None:
    build, shape, params, macs = CASES[name]
    assert count_network(build, shape) == Costs(params, macs)


@pytest.mark.parametrize("name", CASES)
def test_a_network_counts_the_same_on_a_cpu_and_without_memory(name: str) -> None:
    build, shape, params, macs = CASES[name]
    for device in ("meta", "cpu"):
        with torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an encoder tells why it is not fused
            network, images = build().eval(), torch.zeros(1, *shape)
            if (name, device) == ("packed", "meta"):
                continue  # it looks at lengths
            for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
                with mode(), MacCounter() as counter:
                    network(images)
                assert counter.macs == macs, (device, mode)
        assert count_trainable(network) == params


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_every_backend_of_attention_counts_alike(backend: SDPBackend) -> None:
    images = torch.randn(3, 2, 5, 8)
    with sdpa_kernel(backend), MacCounter() as counter:
        attention(images, is_causal=True)
    assert counter.macs == 3 * 800


def test_kernels_that_are_called_by_their_own_names_count() -> None:
    images = torch.randn(3, 2, 5, 8)
    with MacCounter() as counter:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(images, images, images)
    assert counter.macs == 3 * 800
    with MacCounter() as counter:
        torch.ops.aten._scaled_dot_product_attention_math(images, images, images)
    assert counter.macs == 3 * 800


def test_counting_leaves_results_and_settings() -> None:
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    images = torch.randn(2, 5, 8)
    for before in (True, False):
        torch.backends.mha.set_fastpath_enabled(before)
        try:
            with torch.no_grad(), MacCounter():
                found = network(images)
            assert torch.backends.mha.get_fastpath_enabled() is before
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        torch.testing.assert_close(found, network(images))
    with pytest.raises(AssertionError, match="1-D query"), MacCounter():
        network(images[0, 0])
    assert network(images).requires_grad  # gradients are recorded again


def test_a_counter_goes_on_and_counters_may_be_nested() -> None:
    layer, images = nn.Linear(8, 4), torch.zeros(1, 5, 8).transpose(0, 1)
    outer, inner = MacCounter(), MacCounter()
    with outer:
        layer(images)
        with inner:
            layer(images)
    with outer:
        layer(images)
    assert (outer.macs, inner.macs) == (3 * 5 * 36, 5 * 36)


sizes = st.integers(1, 4)


@settings(max_examples=60, deadline=None)
@given(
    dims=st.sampled_from((1, 2, 3)), groups=sizes, per_in=sizes, per_out=sizes, kernel=sizes,
    stride=sizes, dilation=st.integers(1, 2), padding=st.integers(0, 2), bias=st.booleans(),
    transposed=st.booleans(), data=st.data(),
)  # fmt: skip
def test_any_convolution_counts_one_per_weight_and_position(
    dims: int, groups: int, per_in: int, per_out: int, kernel: int, stride: int, dilation: int,
    padding: int, bias: bool, transposed: bool, data: Any,
) -> None:  # fmt: skip
    reach = dilation * (kernel - 1)
    least = max(1, reach + 1 - 2 * padding) if not transposed else 1 + 2 * padding
    sides = data.draw(st.lists(st.integers(least, least + 4), min_size=dims, max_size=dims))
    name = f"Conv{'Transpose' * transposed}{dims}d"
    settings = {"stride": stride, "padding": padding, "groups": groups, "bias": bias}

    def build() -> nn.Module:
        made: nn.Module = getattr(nn, name)(
            groups * per_in, groups * per_out, kernel, dilation=dilation, **settings
        )
        return made

    weights = groups * per_in * per_out * kernel**dims
    if transposed:
        outs = [(side - 1) * stride - 2 * padding + reach + 1 for side in sides]
    else:
        outs = [(side + 2 * padding - reach - 1) // stride + 1 for side in sides]
    positions = math.prod(sides if transposed else outs)
    biases = groups * per_out * bias
    found = count_network(build, (groups * per_in, *sides))
    assert found == Costs(weights + biases, positions * weights + math.prod(outs) * biases)


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(sizes, min_size=1, max_size=3), out=sizes, bias=st.booleans(), data=st.data())
def test_a_linear_layer_counts_the_same_however_its_input_lies(
    shape: list[int], out: int, bias: bool, data: Any
) -> None:
    order = data.draw(st.permutations(range(len(shape) + 1)))
    images = torch.zeros(2, *shape).permute(*order)
    layer = nn.Linear(images.shape[-1], out, bias)
    with MacCounter() as counter:
        layer(images)
    positions = math.prod(images.shape[:-1])
    assert counter.macs == positions * out * (images.shape[-1] + bias)


@settings(max_examples=40, deadline=None)
@given(
    heads=sizes, groups=sizes, queries=sizes, keys=sizes, width=sizes, values=sizes,
    causal=st.booleans(),
)  # fmt: skip
def test_attention_counts_each_pair_of_positions_twice(
    heads: int, groups: int, queries: int, keys: int, width: int, values: int, causal: bool
) -> None:
    query = torch.zeros(2, heads * groups, queries, width)
    key, value = torch.zeros(2, groups, keys, width), torch.zeros(2, groups, keys, values)
    with MacCounter() as counter:
        F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True)
    assert counter.macs == 2 * heads * groups * queries * keys * (width + values)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_a_layer_used_twice_has_its_weights_once_and_its_macs_twice():
    assert count_network(Twice, (4,)) == Costs(20, 40)


def test_frozen_weights_are_not_counted():
    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        layer.weight.requires_grad_(False)
        return layer

    assert count_network(build, (4,)) == Costs(4, 20)


def test_tied_weights_count_once_and_buffers_do_not() -> None:
    def build() -> nn.Module:
        one, two = nn.Linear(4, 4), nn.Linear(4, 4)
        two.weight = one.weight
        one.register_buffer("mask", torch.ones(4))
        return nn.Sequential(one, two)

    assert count_network(build, (4,)) == Costs(16 + 8, 40)


class LooksAtValues(nn.Module):
    """Cannot run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.sum().item() == 0
        return self.head(self.conv(x).flatten(1))


def test_a_network_that_looks_at_values_is_counted_on_the_cpu():
    assert count_network(LooksAtValues, (1, 4, 4)) == Costs(20 + 27, 4 * 20 + 27)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        warnings.warn("built", stacklevel=1)
        torch.rand(3, device="cpu")
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        warnings.warn("ran", stacklevel=1)
        return self.layer(x)


@pytest.mark.parametrize("build", [Noisy, lambda: LooksAtValues()])
def test_counting_is_silent_and_leaves_the_random_state(build, capfd):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    count_network(build, (4,) if build is Noisy else (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_network_comes_through():
    with pytest.raises(RuntimeError, match="shape"):
        count_network(lambda: nn.Linear(8, 4), (7,))


def test_the_package_imports_torch_only_when_counting():
    code = "import sys, raynas.costs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_missing():
    import raynas.costs

    with pytest.raises(AttributeError, match="weigh"):
        raynas.costs.weigh  # noqa: B018
