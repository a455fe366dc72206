"""TE-NAS, AZ-NAS and MeCo on networks where their parts are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from proxy_toys import CLASSES, make_batch, small_cell, small_net
from torch import Tensor, nn

from raynas.core import InvalidScore, UserError
from raynas.proxies import AZNAS, TENAS, Batch, MACs, MeCo, Params, score
from raynas.proxies.az_nas import _entropy, _folded, _gain
from raynas.spaces import ElasticResNet, NASBench201, ZenNAS

BATCH = make_batch()


def pooled(*before: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *before, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES, bias=False)
    )


# -- TE-NAS ------------------------------------------------------------------------------------


def test_the_tangent_kernel_of_a_linear_layer_is_that_of_its_inputs() -> None:
    images = BATCH.images.abs()
    inputs = images[:3].mean((2, 3)).double().numpy()
    values = np.linalg.eigvalsh(inputs @ inputs.T)  # a factor, the number of logits, cancels
    found = score(pooled(nn.ReLU()), Batch(images, BATCH.labels), [TENAS(images=3)])
    expected = -math.log(values[-1] / values[0])
    assert found.values["tenas_ntk"] == pytest.approx(expected, rel=1e-3)
    assert found.values["tenas_regions"] == 1  # all pixels are above zero


def test_regions_are_the_relu_patterns_of_the_patches() -> None:
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [1, 1, 1], [-1, -1, -1]])
    images = BATCH.images[:4].abs() * signs[:, :, None, None]
    batch = Batch(images, BATCH.labels[:4])
    proxy = TENAS(images=2, patches=60, side=2)
    assert score(pooled(nn.ReLU()), batch, [proxy]).values["tenas_regions"] == 3
    twice = pooled(nn.ReLU(), nn.ReLU())  # a pattern of ReLUs of ReLUs adds nothing
    assert score(twice, batch, [proxy]).values["tenas_regions"] == 3
    one_image = Batch(images[:2], BATCH.labels[:2])
    assert score(pooled(nn.ReLU()), one_image, [proxy]).values["tenas_regions"] == 2


def test_te_nas_without_relus_or_with_a_singular_kernel_is_invalid() -> None:
    silu = score(small_net(nn.SiLU), BATCH, [TENAS(images=4)])
    assert "no ReLU was called" in silu.note
    many = score(pooled(nn.ReLU()), BATCH, [TENAS(images=8)])  # of rank 3
    assert "singular" in many.note or many.values["tenas_ntk"] < -10


def test_te_nas_ranks_are_summed() -> None:
    table: dict[str, list[float]] = {"tenas_ntk": [-1.0, -3.0, -2.0], "tenas_regions": [10, 30, 10]}
    np.testing.assert_array_equal(TENAS().combine(table), [3 + 1.5, 1 + 3, 2 + 1.5])


@pytest.mark.parametrize("settings", [{"images": 1}, {"patches": 1}, {"side": 0}])
def test_te_nas_refuses_settings(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="images and patches from 2, side from 1"):
        TENAS(**settings)


# -- AZ-NAS ------------------------------------------------------------------------------------


def with_shares(shares: list[float]) -> Tensor:
    """(2, channels, 2, 2) maps whose principal components have these shares of the variance."""
    hadamard = np.array([[1.0]])
    for _ in range(3):
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    columns = hadamard[:, 1 : len(shares) + 1] * np.sqrt(shares)  # orthogonal, without a mean
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((len(shares),) * 2))[0]
    rows = columns @ rotation + 5
    return torch.tensor(rows.reshape(2, 2, 2, -1)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.7, 0.2, 0.1], [0.25] * 4, [0.9, 0.1]])
def test_expressivity_is_the_entropy_of_the_principal_components(shares: list[float]) -> None:
    expected = -sum(p * math.log(p) for p in shares)
    assert _entropy(with_shares(shares)) == pytest.approx(expected, abs=1e-5)
    assert _entropy(7 * with_shares(shares)) == pytest.approx(expected, abs=1e-5)


def test_constant_features_have_no_entropy() -> None:
    with pytest.raises(InvalidScore, match="constant features"):
        _entropy(torch.ones(2, 3, 4, 4))


def gain(weight: Tensor, stride: int = 1) -> float:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, weight.shape[1], 32, 32, generator=generator).requires_grad_()
    after = nn.functional.conv2d(before, weight, stride=stride)
    return _gain(before, after, generator)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_trainability_is_zero_for_an_orthogonal_block_and_falls_with_its_scale(
    scale: float,
) -> None:
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    weight = scale * torch.tensor(rotation).float()[:, :, None, None]
    assert gain(weight) == pytest.approx(2 - scale - 1 / scale, abs=0.04)
    # the largest singular value counts
    weight[1:] *= 0.1
    assert gain(weight) == pytest.approx(2 - scale - 1 / scale, abs=0.04)


def test_pixels_of_a_stride_become_channels() -> None:
    signs, back = torch.zeros(2, 5, 3, 4), torch.arange(2 * 6 * 6 * 8.0).reshape(2, 6, 6, 8)
    folded = _folded(back, signs)
    assert folded.shape == (2, 24, 3, 4)
    for (dy, dx), channel in zip([(0, 0), (0, 1), (1, 0), (1, 1)], range(4), strict=True):
        assert torch.equal(folded[:, 4 * 3 + channel], back[:, 3, dy::2, dx::2])
    assert _folded(back[..., :3, :4], signs) is not None
    with pytest.raises(InvalidScore, match=r"turns \(5, 8\) pixels into \(3, 4\)"):
        _folded(back[:, :, :5], signs)
    # a 2 x 2 convolution of stride 2 whose four taps are orthogonal keeps lengths
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    weight = torch.tensor(rotation).float().reshape(4, 1, 2, 2)
    assert gain(weight, stride=2) == pytest.approx(0, abs=0.05)


def test_blocks_that_change_or_give_nothing_are_invalid() -> None:
    x = torch.randn(2, 3, 4, 4).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InvalidScore, match="does not depend on the one before"):
        _gain(x, x.detach().requires_grad_(), generator)
    with pytest.raises(InvalidScore, match="does not depend on the one before"):
        _gain(x, x * 0, generator)
    with pytest.raises(InvalidScore, match="unchanged"):
        _gain(x, x * 1, generator)


def test_az_nas_parts_are_sums_minima_and_means_over_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entropies, gains = iter([1.0, 4.0, 3.5, 5.0, 6.0, 7.0]), iter([-1.0, -2.0, -3.0, -4.0, -5.0])
    monkeypatch.setattr("raynas.proxies.az_nas._entropy", lambda _: next(entropies))
    monkeypatch.setattr("raynas.proxies.az_nas._gain", lambda *_: next(gains))
    found = score(small_cell(), BATCH, [AZNAS(images=4), MACs()]).values
    assert found["aznas_expressivity"] == 26.5
    assert found["aznas_progressivity"] == -0.5
    assert found["aznas_trainability"] == -3.0
    assert found["aznas_complexity"] == found["macs"]


def test_az_nas_multiplies_ranks() -> None:
    kinds = AZNAS().parts
    columns = [[1.0, 2, 3, 4], [4.0, 3, 2, 1], [1.0, 1, 2, 3], [1.0, 4, 2, math.nan]]
    ranked: list[list[float]] = [[1, 2, 3, 4], [4, 3, 2, 1], [1.5, 1.5, 3, 4], [2, 4, 3, 1]]
    expected = [sum(math.log(r[i] / 4) for r in ranked) for i in range(4)]
    found = AZNAS().combine(dict(zip(kinds, columns, strict=True)))
    np.testing.assert_allclose(found, expected)


def test_az_nas_refuses_one_image() -> None:
    with pytest.raises(UserError, match="from 2"):
        AZNAS(images=1)


# -- MeCo, params, macs ------------------------------------------------------------------------


def test_meco_is_the_sum_of_smallest_eigenvalues_of_every_map() -> None:
    network, maps = small_net().train(), []
    for module in network.modules():
        module.register_forward_hook(lambda _m, _i, out: maps.append(out))
    with torch.no_grad():
        network(BATCH.images[:1])
    hooked = [
        m[0].flatten(1).double().numpy() for m in maps if m.dim() == 4 and m[0, 0].numel() > 1
    ]
    assert len(hooked) == 6
    expected = sum(max(np.linalg.eigvals(_corr(m)).real.min(), 0) for m in hooked)
    assert expected > 0.1
    assert MeCo()(small_net(), BATCH) == pytest.approx(expected, abs=1e-4)


def _corr(channels: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(channels))


@pytest.mark.parametrize(
    "space",
    [
        NASBench201(channels=4, cells=1),
        ElasticResNet(widths=((4, 8), (8,)), strides=(1, 2), depths=(1, 2), resolutions=(8,)),
        ZenNAS(),
    ],
    ids=lambda space: space.name,
)
def test_params_and_macs_are_those_of_the_space(space: Any) -> None:
    arch = space.sample(np.random.default_rng(3))
    network = space.build(arch, (3, 8, 8), CLASSES)
    costs = space.costs(arch, (3, 8, 8), CLASSES)
    assert Params()(network, BATCH) == costs.params
    assert MACs()(network, BATCH) == costs.macs
