"""Proxies of the input gradient against numpy's own correlations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_toys import CLASSES, jacobian, make_batch, small_cell, small_net
from torch import nn

from raynas.core import InvalidScore
from raynas.proxies import EPENAS, Batch, JacobCov
from raynas.proxies.jacob_cov import correlations

NETWORKS = {"cell": small_cell(), "net": small_net()}
BATCH = make_batch()
K = 1e-5


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(2, 30), st.integers(0, 99))
def test_correlations_are_numpys(n: int, d: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32) + 3
    expected = np.corrcoef(rows.astype(np.float64)).reshape(n, n)
    np.testing.assert_allclose(correlations(rows), expected, atol=1e-9)


def test_a_constant_row_correlates_with_nothing() -> None:
    rows = np.ones((3, 4), dtype=np.float32)
    rows[:2, 0] = 5
    with pytest.raises(InvalidScore, match="image 2 has a constant input gradient"):
        correlations(rows)


def test_jacob_cov_is_its_formula(network: nn.Module) -> None:
    values = np.linalg.eig(np.corrcoef(jacobian(network, BATCH.images)))[0].real
    expected = -np.sum(np.log(values + K) + 1 / (values + K))
    assert JacobCov()(network, BATCH) == pytest.approx(expected, rel=1e-3)


def of_classes(rows: Any, labels: list[int]) -> dict[int, tuple[float, int]]:
    """Class -> (sum of log(|correlation| + k) over all pairs, number of its images)."""
    found = {}
    for label in set(labels):
        own = rows[[i for i, other in enumerate(labels) if other == label]]
        matrix = np.corrcoef(own).reshape(len(own), len(own))
        found[label] = sum(math.log(abs(c) + K) for c in matrix.flat), len(own)
    return found


def test_epe_nas_adds_the_classes_up_to_a_hundred_of_them(network: nn.Module) -> None:
    classes = of_classes(jacobian(network, BATCH.images), BATCH.labels.tolist())
    expected = sum(abs(total) for total, _ in classes.values())
    assert EPENAS()(network, BATCH) == pytest.approx(expected, rel=1e-3)
    assert EPENAS(classes=100)(network, BATCH) == EPENAS()(network, BATCH)


def test_epe_nas_compares_the_classes_above_a_hundred(network: nn.Module) -> None:
    labels = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 0]
    batch = Batch(BATCH.images, torch.tensor(labels))
    classes = of_classes(jacobian(network, BATCH.images), labels)
    means = [total / size for total, size in classes.values()]
    expected = sum(abs(a - b) for a, b in itertools.combinations(means, 2)) / 3
    assert EPENAS(classes=101)(network, batch) == pytest.approx(expected, rel=1e-3)


def test_epe_nas_takes_the_number_of_classes_from_the_logits() -> None:
    wide = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 120))
    assert EPENAS()(wide, BATCH) == EPENAS(classes=120)(wide, BATCH)
    assert EPENAS()(wide, BATCH) != EPENAS(classes=CLASSES)(wide, BATCH)


def test_epe_nas_needs_two_images_of_a_class_and_two_classes() -> None:
    few = make_batch(3)
    with pytest.raises(InvalidScore, match="no class has two images in the batch"):
        EPENAS()(small_net(), Batch(few.images, torch.arange(3)))
    one = Batch(BATCH.images, torch.zeros(12, dtype=torch.int64))
    assert EPENAS()(small_net(), one) > 0
    with pytest.raises(InvalidScore, match="all images of the batch are of one class"):
        EPENAS(classes=200)(small_net(), one)


def test_a_network_that_does_not_look_has_no_gradient() -> None:
    class Signs(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.sign().mean((2, 3))

    with pytest.raises(InvalidScore, match="no gradient with respect to the images"):
        JacobCov()(Signs(), BATCH)
