"""Proxies of the loss's gradient against plain backward passes; SynFlow in closed form."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from proxy_toys import CLASSES, backward, make_batch, small_cell, small_net, weighted
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import InvalidScore
from raynas.proxies import (
    SNIP,
    Batch,
    Fisher,
    GradNorm,
    GraSP,
    L2Norm,
    Plain,
    Proxy,
    SynFlow,
    ZiCo,
)

BATCH = make_batch()
NETWORKS = {"cell": small_cell(), "net": small_net()}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]


def pairs(network: nn.Module) -> list[tuple[Any, Any]]:
    """(weight, gradient) of every layer; zero where the network does not use it."""
    found = []
    for module in weighted(backward(network, BATCH)):
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        found.append((weight.detach().double(), grad.double()))
    return found


def test_snip_plain_grad_norm_and_l2_norm_are_their_formulas(network: nn.Module) -> None:
    expected = pairs(network)
    assert any(not g.any() for _, g in expected) == (network is NETWORKS["cell"])  # dead edges
    sums = {
        SNIP(): sum((w * g).abs().sum() for w, g in expected),
        Plain(): sum((w * g).sum() for w, g in expected),
        GradNorm(): sum(g.square().sum().sqrt() for _, g in expected),
        L2Norm(): sum(w.square().sum().sqrt() for w, _ in expected),
    }
    for proxy, value in sums.items():
        assert proxy(network, BATCH) == pytest.approx(float(value), rel=1e-4, abs=1e-6)


def test_fisher_is_its_formula(network: nn.Module) -> None:
    copied = copy.deepcopy(network).train()
    outputs: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append((module, output))

    for module in weighted(copied):
        module.register_forward_hook(keep)
    F.cross_entropy(copied(BATCH.images), BATCH.labels).backward()  # type: ignore[no-untyped-call]
    total = 0.0
    for module, output in outputs:
        assert isinstance(module.weight, Tensor)
        if output.grad is None:  # of an edge that leads nowhere
            continue
        for channel in range(output.shape[1]):
            of_images = [
                float((output[i, channel].detach() * output.grad[i, channel]).sum())
                for i in range(len(output))
            ]
            mean = float(np.mean(np.square(of_images)))
            total += 0.5 * mean * module.weight[channel].numel()
    assert Fisher()(network, BATCH) == pytest.approx(total, rel=1e-4)


def test_fisher_of_a_linear_layer_on_maps_sums_over_positions() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, CLASSES, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x.movedim(1, -1)).mean((1, 2))  # type: ignore[no-any-return]

    class Conv(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.mix.weight[:, :, None, None]).mean((2, 3))

    linear = Mixer()
    conv = Conv()
    conv.load_state_dict(linear.state_dict())
    assert Fisher()(linear, BATCH) == pytest.approx(Fisher()(conv, BATCH), rel=1e-5)


def test_grasp_is_minus_w_h_g_by_differences_of_gradients() -> None:
    network = small_net(nn.Softplus).double()  # smooth, so that differences converge
    batch = Batch(BATCH.images.double(), BATCH.labels)

    def gradients(step: float, direction: list[Tensor]) -> list[Tensor]:
        moved = copy.deepcopy(network)
        with torch.no_grad():
            for module, d in zip(weighted(moved), direction, strict=True):
                module.weight += step * d  # type: ignore[operator]
        return [m.weight.grad for m in weighted(backward(moved, batch))]  # type: ignore[misc]

    g = gradients(0.0, [torch.zeros(1).double()] * 3)
    ahead, behind = gradients(1e-4, g), gradients(-1e-4, g)
    expected = -sum(
        float((m.weight.detach() * (a - b)).sum()) / 2e-4  # type: ignore[misc,operator]
        for m, a, b in zip(weighted(network), ahead, behind, strict=True)
    )
    assert GraSP()(network, batch) == pytest.approx(expected, rel=1e-5)
    assert GraSP()(network.float(), BATCH) == pytest.approx(expected, rel=1e-3)


def test_grasp_needs_a_gradient_that_depends_on_the_weights() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(InvalidScore, match="the gradient does not depend on the weights"):
        GraSP()(Unused(), BATCH)


@pytest.mark.parametrize("proxy", [SNIP(), GraSP(), ZiCo()])
def test_labels_beyond_the_logits_are_refused(proxy: Proxy) -> None:
    labels = BATCH.labels.clone()
    labels[[0, -1]] = 3
    with pytest.raises(InvalidScore, match="label 3, but 3 logits"):
        proxy(small_net(), Batch(BATCH.images, labels))


# -- SynFlow -----------------------------------------------------------------------------------


def test_synflow_of_a_linear_chain_in_closed_form() -> None:
    first, second, third = nn.Linear(12, 5, False), nn.Linear(5, 4, False), nn.Linear(4, 3, False)
    chain = nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(5), second, nn.ReLU(), third)
    with torch.no_grad():
        second.weight.neg_()  # signs do not count
    ones = np.ones(12)
    a, b, c = (layer.weight.detach().abs().double().numpy() for layer in (first, second, third))
    flow = (c @ b @ a @ ones).sum()
    # the flow is linear in each of the three layers
    found = SynFlow()(chain, make_batch(side=2))
    assert found == pytest.approx(math.log(3 * flow), rel=1e-12)


def test_synflow_lets_biases_flow_but_does_not_count_them() -> None:
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().abs().double(), layer.bias.detach().abs().double()
    network = nn.Sequential(nn.Flatten(), layer, nn.Linear(2, 1, bias=False))
    out = network[2].get_parameter("weight").detach().abs().double()
    expected = (out @ weight).sum() + (out @ (weight.sum(1) + bias)).sum()
    found = SynFlow()(network, make_batch(side=1))
    assert found == pytest.approx(math.log(float(expected)), rel=1e-12)


def test_synflow_holds_where_float32_would_overflow() -> None:
    layers = [nn.Linear(8, 8, bias=False) for _ in range(30)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1e3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 8, bias=False), *layers)
    with torch.no_grad():
        network[1].get_parameter("weight").fill_(1.0)
    expected = math.log(31 * 8 * 3) + 30 * math.log(8e3)
    assert SynFlow()(network, make_batch(side=1)) == pytest.approx(expected, rel=1e-12)


def test_synflow_without_a_path_is_invalid() -> None:
    network = small_net(bias=False)
    with torch.no_grad():
        network[3].get_parameter("weight").zero_()
        network[8].get_parameter("bias").fill_(1.0)
    with pytest.raises(InvalidScore, match="does not depend on the input"):
        SynFlow()(network, BATCH)


# -- ZiCo --------------------------------------------------------------------------------------


def test_zico_is_its_formula_over_two_halves(network: nn.Module) -> None:
    halves = [Batch(BATCH.images[p], BATCH.labels[p]) for p in (slice(6), slice(6, None))]
    first, second = (weighted(backward(network, half)) for half in halves)
    total = 0.0
    for a, b in zip(first, second, strict=True):
        assert isinstance(a.weight, Tensor)
        assert isinstance(b.weight, Tensor)
        if a.weight.grad is None or b.weight.grad is None:
            continue
        both = np.stack([a.weight.grad.double().numpy(), b.weight.grad.double().numpy()])
        spread = both.std(axis=0)
        ratios = np.abs(both).mean(axis=0)[spread > 0] / spread[spread > 0]
        if ratios.sum() > 0:
            total += math.log(ratios.sum())
    assert ZiCo()(network, BATCH) == pytest.approx(total, rel=1e-4)


def test_zico_needs_two_halves_that_differ() -> None:
    with pytest.raises(InvalidScore, match="a batch of 3 images cannot be split into two halves"):
        ZiCo()(small_net(), make_batch(3))

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight.mean(0) + 0 * x.mean((2, 3))

    batch = Batch(BATCH.images, torch.zeros(12, dtype=torch.int64))
    with pytest.raises(InvalidScore, match="no gradient varies"):
        ZiCo()(Constant(), batch)
