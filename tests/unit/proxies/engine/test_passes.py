"""What a pass sees, on networks where it can be counted by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_toys import CLASSES, make_batch, small_cell, small_net
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import InvalidScore
from raynas.proxies.engine.blocks import blocks_of
from raynas.proxies.engine.passes import Norm, PassRecording, PassResult, run
from raynas.proxies.engine.relu_patterns import ReLUAgreement, ReLUCodes, rows

IMAGES = make_batch().images


class Function(nn.Module):
    """``function`` of the images and a weight, then a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.function(x).mean((2, 3)))
        return logits


def run_of(
    network: nn.Module,
    watch: PassRecording = PassRecording.NOTHING,
    images: Tensor = IMAGES,
    **settings: Any,
) -> PassResult:
    return run(
        network, images, parameters=dict(network.named_parameters()), watch=watch, **settings
    )


def agreement(values: Tensor) -> Any:
    """By a double loop: at how many places two rows are on the same side of zero."""
    on = (values.flatten(1) > 0).numpy()
    n = len(on)
    return np.array([[np.sum(on[i] == on[j]) for j in range(n)] for i in range(n)])


# -- the network's own computation ---------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "off"])
def test_logits_are_those_of_the_network_in_train_mode(norm: Norm) -> None:
    network = small_net().eval()
    own = copy.deepcopy(network).train()
    if norm == "off":
        own[1], own[4] = nn.Identity(), nn.Identity()
    torch.testing.assert_close(run_of(network, norm=norm).logits, own(IMAGES).detach())


def test_both_functions_of_batch_norm_are_seen_however_they_are_called() -> None:
    mean, var = torch.full((3,), 9.0), torch.full((3,), 4.0)
    weight, bias = torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5, 6])
    expected = F.batch_norm(IMAGES, None, None, weight, bias, training=True, eps=0.5).mean((2, 3))
    calls: list[Callable[[Tensor], Tensor]] = [
        lambda x: F.batch_norm(x, mean, var, weight, bias, True, 0.1, 0.5),
        lambda x: F.batch_norm(x, mean, var, weight=weight, bias=bias, eps=0.5),
        lambda x: torch.batch_norm(x, weight, bias, mean, var, False, 0.1, 0.5, False),
    ]
    for call in calls:
        network = Function(call)
        with torch.no_grad():
            logits = network.head(expected)
        torch.testing.assert_close(run_of(network).logits, logits)
    assert mean.eq(9).all()


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3), (6, 4, 2, 3, 2)])
@pytest.mark.parametrize("last", [False, True])
def test_variances_are_those_that_batch_norm_keeps(shape: tuple[int, ...], last: bool) -> None:
    norm = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][len(shape) - 2](4)
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 2
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, _: Tensor) -> Tensor:
            out: Tensor = self.norm(x).flatten(1)
            return out

    (variances,) = run_of(Net(), PassRecording.NORMS, images=IMAGES[:6]).variances
    norm.momentum = 1.0
    logits = norm.train()(x).flatten(1)
    torch.testing.assert_close(variances, norm.running_var)
    torch.testing.assert_close(run_of(Net(), images=IMAGES[:6]).logits, logits)


def test_one_value_per_channel_has_no_variance() -> None:
    network = Function(lambda x: F.batch_norm(x[:1, :, :1, :1], None, None, training=True))
    with pytest.raises(InvalidScore, match="one value per channel"):
        run_of(network)
    one = run_of(Function(lambda x: x[:, :, :1, :1]), images=IMAGES[:1], norm="off")
    assert one.logits.shape == (1, CLASSES)


@pytest.mark.parametrize("last", [False, True])
def test_maps_of_zeros_give_what_they_give_anywhere(last: bool) -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, CLASSES, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            dead = x * 0.0
            out = self.conv(dead) + self.conv(F.avg_pool2d(dead, 3, stride=1, padding=1))
            out = F.relu(out, inplace=True) + F.avg_pool2d(dead, 1)
            return (out + self.conv(x)).mean((2, 3))  # type: ignore[no-any-return]

    network = Dead()
    images = IMAGES.contiguous(memory_format=torch.channels_last) if last else IMAGES
    found = run(
        network, images, parameters=dict(network.named_parameters()), watch=PassRecording.AGREEMENT
    )
    torch.testing.assert_close(found.logits, network(images).detach())
    assert found.relus == CLASSES * 64
    np.testing.assert_array_equal(found.agreement, np.full((12, 12), CLASSES * 64))


def test_random_networks_draw_the_same_for_the_same_seed() -> None:
    network = Function(nn.Dropout(0.5)).eval()  # the pass itself is in train mode
    first, again, other = (run_of(network, seed=s).logits for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("output", "chosen"),
    [
        (lambda a, b: (a, b), 0),
        (lambda a, _: a, 0),
        (lambda a, b: [b.mean(), a], 0),
        (lambda _, b: (b, b.view(12, 3, 1, 1)), 1),
    ],
)
def test_logits_among_several_outputs(output: Callable[..., Any], chosen: int) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return output(x[:, :, 0, 0], x[:, :, 1, 1])

    found = run_of(Net(), num_classes=3).logits
    assert torch.equal(found, IMAGES[:, :, chosen, chosen])


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidScore, match="logits are not finite"):
        run_of(Function(lambda x: x / 0))


# -- ReLUs -------------------------------------------------------------------------------------

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "by keyword": lambda x: F.relu(input=x),
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "F in place": lambda x: F.relu(x, inplace=True),
    "module in place": nn.ReLU(inplace=True),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by place": lambda x: torch.clamp(x, 0),
    "clamp_min": lambda x: x.clamp_min(0.0),
}


@pytest.mark.parametrize("relu", RELUS)
def test_every_way_to_call_a_relu_is_seen_once(relu: str) -> None:
    found = run_of(Function(RELUS[relu]), PassRecording.AGREEMENT | PassRecording.PATTERNS)
    assert found.relus == 3 * 8 * 8
    np.testing.assert_array_equal(found.agreement, agreement(IMAGES))
    assert found.activations == {"relu": 1}
    assert found.codes is not None
    assert len(np.unique(found.codes.numpy(), axis=0)) == len(IMAGES)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (F.relu6, {"relu6"}),
        (nn.ReLU6(inplace=True), {"relu6"}),
        (nn.Hardtanh(), {"hardtanh"}),
        (F.silu, {"silu"}),
        (nn.GELU(), {"gelu"}),
        (nn.LeakyReLU(inplace=True), {"leaky_relu"}),
        (lambda x: x.clamp(0, 6), set()),
        (lambda x: x.clamp(min=0.5), set()),
        (lambda x: x.tanh() + torch.sigmoid(x), {"tanh", "sigmoid"}),
        (lambda x: x + F.relu(torch.ones(2, 3)).sum(), {"relu"}),  # not a row per image
    ],
)
def test_other_activations_are_no_relus(function: Any, names: set[str]) -> None:
    found = run_of(Function(function), PassRecording.AGREEMENT)
    assert found.relus == 0
    assert set(found.activations) == names


class ReLUThenSum(nn.Module):
    """Named as the authors of NASWOT find ReLUs, with a ReLU of its own input inside."""

    def __init__(self, before: bool = False) -> None:
        super().__init__()
        self.relu, self.before = nn.ReLU(), before

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + 1 if self.before else x) * 2  # type: ignore[no-any-return]


def test_a_relu_counts_again_for_a_module_named_after_it_with_the_same_input() -> None:
    twice, once = Function(ReLUThenSum()), Function(ReLUThenSum(before=True))
    assert run_of(twice, PassRecording.AGREEMENT).relus == 2 * 192
    assert run_of(once, PassRecording.AGREEMENT).relus == 192
    np.testing.assert_array_equal(
        run_of(twice, PassRecording.AGREEMENT).agreement, 2 * agreement(IMAGES)
    )


def test_a_module_named_after_a_relu_may_be_called_by_keyword() -> None:
    block = ReLUThenSum()
    assert (
        run_of(Function(lambda x: block(x=x)), PassRecording.AGREEMENT).relus == 192
    )  # not a part of it

    class Net(Function):
        def __init__(self) -> None:
            super().__init__(lambda x: self.block(x=x))
            self.block = ReLUThenSum()

    assert run_of(Net(), PassRecording.AGREEMENT).relus == 2 * 192


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=4))
def test_agreement_is_the_double_loop(layers: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(sum(units for units, _ in layers))
    found, expected = ReLUAgreement(5), np.zeros((5, 5))
    for units, times in layers:
        x = torch.randn(5, units, generator=generator)
        x[:, 0] = 0  # zero is not above zero
        for _ in range(2):  # the second time from memory
            found.add(x, times)
            expected += times * agreement(x)
        x.neg_()  # the same tensor, with other values
        found.add(x)
        expected += agreement(x)
    np.testing.assert_array_equal(found.matrix(), expected)
    assert found.units == expected[0, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=2, max_size=12))
def test_codes_are_equal_for_equal_patterns_only(patterns: list[list[bool]]) -> None:
    values = torch.tensor(patterns).float() * 2 - 1
    codes = ReLUCodes(len(patterns))
    for part in (values[:, :2], values[:, 2:]):
        codes.add(part)
    found = len(np.unique(codes.codes.numpy().round(6), axis=0))
    assert found == len({tuple(p) for p in patterns})


def test_rows_keep_the_values_of_an_image_together() -> None:
    x = IMAGES.contiguous(memory_format=torch.channels_last)
    assert rows(x).data_ptr() == x.data_ptr()  # no copy
    assert torch.equal(rows(x).sort(1).values, rows(IMAGES).sort(1).values)
    assert torch.equal(rows(IMAGES), IMAGES.flatten(1))


# -- layers, blocks, features ------------------------------------------------------------------


def test_layers_are_the_calls_of_convolutions_and_linear_layers() -> None:
    network = small_net()
    layers = run_of(network, PassRecording.LAYERS, gradients=True).layers
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 3, 3, 3), (4, 5, 3, 3), (3, 4)]
    torch.testing.assert_close(layers[0].output, network[0](IMAGES))
    assert run_of(network).layers == []


def test_what_layers_and_blocks_gave_is_kept_from_changes_in_place() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.relu_()).mul_(0)  # type: ignore[no-any-return]

    network = Function(nn.Sequential(Block(), Block()))
    found = run_of(network, PassRecording.LAYERS | PassRecording.BLOCKS, gradients=True)
    with torch.no_grad():
        assert torch.equal(found.layers[0].output, network.function[0].conv(IMAGES.relu()))  # type: ignore[index]
    before, *after = found.blocks
    assert torch.equal(before, IMAGES)
    assert [bool(b.any()) for b in after] == [False, False]
    assert found.layers[1].output.any()  # the bias


def test_blocks_are_modules_of_modules_else_convolutions() -> None:
    cells = small_cell()
    names = [type(block).__name__ for block in blocks_of(cells)]
    assert names == ["Cell", "ResidualBlock", "Cell", "ResidualBlock", "Cell"]
    plain = small_net()
    assert blocks_of(plain) == [plain[0], plain[3]]
    maps = run_of(cells, PassRecording.BLOCKS).blocks
    assert [tuple(m.shape[1:]) for m in maps] == [
        (4, 8, 8), (4, 8, 8), (8, 4, 4), (8, 4, 4), (16, 2, 2), (16, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.mean((2, 3)),
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: F.avg_pool2d(x, 8).squeeze(),
        lambda x: x.amax(dim=(-1, -2)),
        lambda x: x.flatten(1),
        lambda x: x.reshape(len(x), -1),
    ],
)
def test_features_are_the_last_map_before_pooling(pool: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.LazyLinear(CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            gate = x.mean((2, 3), keepdim=True)  # pooled on the way, as in squeeze-excitation
            logits: Tensor = self.head(pool(x * gate.sigmoid()))
            return logits

    network = Net()
    network(IMAGES)
    features = run_of(network, PassRecording.FEATURES).features
    assert features is not None
    torch.testing.assert_close(features, IMAGES * IMAGES.mean((2, 3), keepdim=True).sigmoid())
