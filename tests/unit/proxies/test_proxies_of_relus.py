"""NASWOT against the authors' procedure, written out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from proxy_toys import CLASSES, make_batch, small_cell, small_net
from torch import nn

from raynas.core import InvalidScore
from raynas.proxies import NASWOT, SNIP, Batch, Needs, Probe, score

BATCH = make_batch(10)


def by_the_authors(network: nn.Module, batch: Batch) -> Any:
    """K: hooks on every module that has ReLU in its name, loops over pairs of images."""
    network = copy.deepcopy(network).train()
    n = len(batch)
    kernel = np.zeros((n, n))

    def count(_module: nn.Module, inputs: Any) -> None:
        c = (inputs[0].flatten(1) > 0).numpy().astype(float)
        for i in range(n):
            for j in range(n):
                kernel[i, j] += c[i] @ c[j] + (1 - c[i]) @ (1 - c[j])

    for module in network.modules():
        if "ReLU" in type(module).__name__:
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        network(batch.images)
    return kernel


@pytest.mark.parametrize("network", [small_cell(), small_net()], ids=["cell", "net"])
def test_the_score_is_the_log_determinant_of_the_authors_kernel(network: nn.Module) -> None:
    kernel = by_the_authors(network, BATCH)
    exact = Probe(network, BATCH, Needs.AGREEMENT | Needs.GRADIENTS)  # memory laid out as theirs
    np.testing.assert_array_equal(exact.agreement, kernel)
    expected = np.linalg.slogdet(kernel)[1]
    together = score(network, BATCH, (NASWOT(), SNIP())).values["naswot"]
    assert together == pytest.approx(expected, rel=1e-12)
    assert NASWOT()(network, BATCH) == pytest.approx(expected, rel=1e-3)


def test_it_is_not_normalised() -> None:
    images = torch.full((3, 3, 2, 2), -1.0)  # patterns: 12, 11 and 9 of 12 units are off
    images[1, 0, 0, 0] = images[2, 2, 1] = 1
    images[2, 0, 1, 1] = 1
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    kernel = np.array([[12, 11, 9], [11, 12, 8], [9, 8, 12]], dtype=float)
    found = NASWOT()(network, Batch(images, torch.tensor([0, 1, 2])))
    assert found == pytest.approx(np.log(np.linalg.det(kernel)))


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (nn.SiLU, "silu"),
        (nn.GELU, "gelu"),
        (nn.ReLU6, "relu6"),
        (nn.Identity, "none at all"),
    ],
)
def test_without_relus_it_names_the_activations_that_there_are(
    act: type[nn.Module], names: str
) -> None:
    with pytest.raises(InvalidScore, match=f"no ReLU .*activations: {names}"):
        NASWOT()(small_net(act), BATCH)


def test_images_with_one_pattern_have_no_determinant() -> None:
    images = BATCH.images.clone()
    images[7] = 2 * images[4]
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    with pytest.raises(InvalidScore, match="images 4 and 7 have the same ReLU pattern"):
        NASWOT()(network, Batch(images, BATCH.labels))
