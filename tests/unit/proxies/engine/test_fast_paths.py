"""What a pass computes by another way than torch's own is the same, or nearer to the truth."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.proxies.engine import batch_norm, relu_patterns
from raynas.proxies.engine.memory import keep_memory
from raynas.proxies.engine.passes import PassRecording, run
from raynas.proxies.engine.relu_patterns import both_on

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)
values = st.sampled_from([-1.0, -0.0, 0.0, 1e-45, 1.0, float("inf"), float("nan")])


@settings(deadline=None)
@given(hnp.arrays(np.float32, shapes, elements=values))
def test_common_units_are_counted_exactly(x: NDArray[np.float32]) -> None:
    on = (x > 0).astype(np.int64)
    assert np.array_equal(both_on(torch.tensor(x)).numpy(), on @ on.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("byte_products", [True, False])
def test_common_units_of_any_number_type(
    dtype: torch.dtype, byte_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relu_patterns, "_BYTES", byte_products and relu_patterns._BYTES)
    x = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    on = (x > 0).long()
    assert torch.equal(both_on(x), on @ on.T)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_with_channels_last_is_exact(affine: bool) -> None:
    norm = nn.BatchNorm2d(8, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    images = (torch.randn(64, 8, 32, 32) * 2 + 3).contiguous(memory_format=torch.channels_last)
    maps: list[Tensor] = []
    network = nn.Sequential(norm, Keep(maps), nn.Flatten())
    found = run(
        network, images, parameters=dict(network.named_parameters()), watch=PassRecording.NORMS
    )
    weight, bias = (None if p is None else p.detach().double() for p in (norm.weight, norm.bias))
    exact = F.batch_norm(images.double(), None, None, weight, bias, training=True)
    assert torch.allclose(maps[0].double(), exact, rtol=0, atol=3e-6)
    assert torch.allclose(found.variances[0].double(), images.double().var(dim=(0, 2, 3)))


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 40), channels=st.sampled_from([1, 3, 16, 48]), side=st.integers(1, 24),
    mean=st.sampled_from([0.0, 1.0, 2.0, 5.0, 300.0]), part=st.sampled_from([500, 1 << 17]),
)  # fmt: skip
def test_moments_are_exact_in_any_number_of_parts_and_far_from_zero(
    images: int, channels: int, side: int, mean: float, part: int
) -> None:
    generator = torch.Generator().manual_seed(images + side)
    x = torch.randn(images, channels, side, side, generator=generator) + mean
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch_norm, "_IN_CACHE", part)
        found = batch_norm.moments(x.contiguous(memory_format=torch.channels_last))
    exact = x.double()
    assert torch.allclose(found[0].double(), exact.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
    variance = exact.var(dim=(0, 2, 3), unbiased=False)
    assert torch.allclose(found[1].double(), variance, rtol=2e-5, atol=1e-6)


def test_a_constant_channel_has_no_variance_and_not_a_negative_one() -> None:
    _, variance = batch_norm.moments(torch.full((64, 4, 32, 32), 0.1))
    assert bool((variance >= 0).all())
    assert float(variance.max()) < 1e-12


class Keep(nn.Module):
    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        self.maps.append(x)
        return x


def test_memory_is_kept_more_than_once() -> None:
    keep_memory()
    keep_memory()
