"""The Zen-Score against real batch norms and a slow formula."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from proxy_toys import CLASSES, make_batch, seeded, small_net
from torch import Tensor, nn

from raynas.core import InvalidScore, UserError
from raynas.proxies import Probe, ZenScore
from raynas.proxies.zen import MIXUP
from raynas.spaces import ZenNAS

BATCH = make_batch()


def draws(network: nn.Module, seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = {
        name: draw(*p.shape) if p.dim() > 1 else torch.full_like(p, float(name.endswith("weight")))
        for name, p in network.named_parameters()
    }
    # a long step, so that the order of the two passes counts
    return weights, draw(5, 3, 8, 8), 300 * draw(5, 3, 8, 8)


def by_hand(network: nn.Sequential, weights: dict[str, Tensor], x: Tensor, e: Tensor) -> float:
    """Two forwards in train mode; running variances are what torch makes of them."""
    network = copy.deepcopy(network).train()
    network.load_state_dict(weights, strict=False)
    maps: list[Tensor] = []
    network[-3].register_forward_pre_hook(lambda _m, given: maps.append(given[0]))
    with torch.no_grad():
        network(x)
        network(x + MIXUP * e)
    moved = sum(float((a - b).abs().sum()) for a, b in zip(*maps, strict=True)) / len(x)
    norms = [m for m in network if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2
    deviations = [float(m.get_buffer("running_var").mean()) ** 0.5 for m in norms]
    return math.log(moved) + sum(map(math.log, deviations))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_is_what_real_batch_norms_give(seed: int) -> None:
    network = small_net()
    weights, x, e = draws(network, seed)
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.fill_(50.0)  # of a training; the score starts at one
    expected_of = small_net()
    probe = Probe(network, BATCH)
    found = ZenScore().change(probe, weights, x, e)
    assert found == pytest.approx(by_hand(expected_of, weights, x, e), rel=1e-4)
    assert ZenScore().change(probe, weights, x, e) == found  # no drift from repeat to repeat


def test_weights_are_drawn_norms_start_fresh_and_the_seed_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, seen = small_net(), []

    def change(_self: Any, _probe: Any, weights: dict[str, Tensor], x: Tensor, e: Tensor) -> float:
        seen.append((weights, x, e))
        return float(len(seen))

    monkeypatch.setattr(ZenScore, "change", change)
    assert ZenScore(images=4, repeats=3)(network, BATCH) == 2  # the mean of 1, 2 and 3
    assert len(seen) == 3
    for weights, x, e in seen:
        assert x.shape == e.shape == (4, 3, 8, 8)
        assert list(weights) == sorted(name for name, _ in network.named_parameters())
        drawn = torch.cat([w.flatten() for w in weights.values() if w.dim() > 1])
        assert float(drawn.mean()) == pytest.approx(0, abs=0.2)
        assert float(drawn.std()) == pytest.approx(1, abs=0.15)
        ones = [n for n, w in weights.items() if w.dim() == 1 and w.eq(1).all()]
        zeros = [n for n, w in weights.items() if w.dim() == 1 and w.eq(0).all()]
        assert ones == ["1.weight", "4.weight"]
        assert zeros == ["0.bias", "1.bias", "3.bias", "4.bias", "8.bias"]
    (first, x, _), (second, y, _), _ = seen
    assert not torch.equal(first["0.weight"], second["0.weight"])
    assert not torch.equal(x, y)
    ZenScore(images=4)(network, make_batch(3, seed=9))
    assert torch.equal(seen[3][1], x)  # the batch's images do not count
    ZenScore(images=4).measure(Probe(network, BATCH, seed=1))
    assert not torch.equal(seen[4][1], x)


def test_residual_links_are_left_out_where_the_network_allows_it() -> None:
    start = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,2)"
    space = ZenNAS(start=start)
    network = seeded(lambda: space.build(space.architecture(start), (3, 8, 8), CLASSES))
    found = ZenScore()(network, BATCH)
    assert network.residual is True
    network.residual = False
    assert ZenScore()(network, BATCH) == found
    network.residual = None  # no flag: scored as it is
    assert ZenScore()(network, BATCH) == found
    network.residual = 1  # links on, and no flag
    assert ZenScore()(network, BATCH) != found


def test_no_feature_map_is_invalid() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten())
    with pytest.raises(InvalidScore, match="no feature map that is pooled or flattened"):
        ZenScore()(flat, BATCH)


@pytest.mark.parametrize("settings", [{"images": 1}, {"repeats": 0}])
def test_settings_that_give_no_score_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="images from 2, repeats from 1"):
        ZenScore(**settings)
