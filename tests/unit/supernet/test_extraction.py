"""A network that is taken out is compared with the supernet, and its parameters are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from raynas.core import Costs, RaynasError, UserError
from raynas.spaces import ElasticResNet, NASBench201
from raynas.supernet.extraction import extract_checked

SMALL = ElasticResNet(((8, 16),), (1,), depths=(1, 2), kernels=(3, 5), expansions=(0.5, 1.0))
SHAPE = (1, 8, 8)


@pytest.mark.parametrize("space", [SMALL, NASBench201(channels=4, cells=1)])
def test_what_is_taken_out_computes_the_same(space: Any) -> None:
    supernet = space.supernet(SHAPE, 10).train()
    for seed in range(4):
        arch = space.sample_canonical(np.random.default_rng(seed))
        network, difference = extract_checked(supernet, arch)
        assert 0 <= difference < 1e-5
        assert not network.training
        assert sum(p.numel() for p in network.parameters()) == space.costs(arch, SHAPE, 10).params
    assert supernet.training


def test_another_function_or_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = SMALL.supernet(SHAPE, 10)
    arch = SMALL.extremes()[1]
    real = supernet.extract

    def altered(arch: Mapping[str, Any], by: float) -> torch.nn.Module:
        network = real(arch)
        with torch.no_grad():
            list(network.parameters())[-1].add_(by)
        return network

    monkeypatch.setattr(supernet, "extract", lambda arch: altered(arch, 1e-3))
    with pytest.raises(RaynasError, match="something else than the supernet: logits differ by"):
        extract_checked(supernet, arch)
    monkeypatch.setattr(supernet, "extract", lambda arch: altered(arch, float("nan")))
    with pytest.raises(RaynasError, match="differ by nan"):
        extract_checked(supernet, arch)
    monkeypatch.setattr(supernet, "extract", real)
    monkeypatch.setattr(ElasticResNet, "costs", lambda *_: Costs(7, 7))
    with pytest.raises(RaynasError, match="MACs, not 7 and 7 as the space counts"):
        extract_checked(supernet, arch)


def test_an_architecture_of_another_space_is_refused() -> None:
    other = NASBench201().extremes()[0]
    with pytest.raises(UserError, match="is of space 'nasbench201', not of"):
        extract_checked(SMALL.supernet(SHAPE, 10), other)
