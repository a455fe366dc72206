"""The contract suite of proxies.

Example: a test file for a proxy of your own.

.. code-block:: python

    from dataclasses import dataclass
    from typing import ClassVar

    import pytest
    import torch

    from raynas.proxies import Plain, Proxy
    from raynas.testing.proxies import ProxyTestCase


    @dataclass(frozen=True)
    class OnePlain(Plain):
        name: ClassVar[str] = "one_plain"


    class TestOnePlain(ProxyTestCase):
        @pytest.fixture
        def proxy(self):
            return OnePlain()
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import InvalidScore
from raynas.core.describe import describe
from raynas.core.metrics import SCORE_UNIT
from raynas.proxies import SNIP, Batch, L2Norm, NetworkScores, Params, Proxy, score
from raynas.testing.networks import (
    CLASSES,
    NETWORKS,
    UNREACHABLE,
    Broken,
    cell,
    make_batch,
    make_network,
)


@dataclass(frozen=True)
class ProxyTraits:
    """What a proxy depends on, as far as proxies differ in it. The defaults are the common case.

    Attributes:
        invalid: Name of a network of :data:`~raynas.testing.networks.NETWORKS` that has no score ->
            words of the reason.
        depends_on_output: False for a cost, which every network has, whatever it computes.
        depends_on_images: False when it does not look at the images of the batch.
        depends_on_weights: False when it does not look at the weights of the network.
        runs_network: False when it never calls the network.
        depends_on_frozen: True when weights without gradients count differently.
        no_weights_is_invalid: True when a network without weights has no score.
    """

    invalid: Mapping[str, str] = field(default_factory=dict)
    depends_on_output: bool = True
    depends_on_images: bool = True
    depends_on_weights: bool = True
    runs_network: bool = True
    depends_on_frozen: bool = False
    no_weights_is_invalid: bool = False


class ProxyTestCase:
    """What every proxy does, on any network. A subclass defines the fixture ``proxy``.

    A proxy that differs from the common case has a fixture ``traits``, too.
    """

    @pytest.fixture
    def proxy(self) -> Proxy:
        """Return the proxy to test."""
        raise NotImplementedError("define the fixture `proxy` in your subclass")

    @pytest.fixture
    def traits(self) -> ProxyTraits:
        """Return what the proxy depends on."""
        return ProxyTraits()

    @pytest.fixture(params=NETWORKS)
    def name(self, request: pytest.FixtureRequest) -> str:
        """Return the name of a network."""
        return str(request.param)

    @pytest.fixture
    def batch(self) -> Batch:
        """Return twelve images with labels."""
        return make_batch()

    def test_beside_others_it_scores_asscore_alone(self, proxy: Proxy, batch: Batch) -> None:
        """Beside others it scores as alone."""
        network = make_network("residual")
        before = state_of(network, batch)
        together = score(network, batch, [SNIP(), proxy, L2Norm(), Params()])
        assert state_of(network, batch) == before
        one = score_alone(proxy, network, batch)
        for part, value in one.values.items():
            assert together.values[part] == pytest.approx(value, rel=1e-3), part

    def test_it_is_a_frozen_value_of_settings_with_columns_that_are_scores(
        self, proxy: Proxy
    ) -> None:
        """It is a frozen value of settings with columns that are scores."""
        settings = {f.name: getattr(proxy, f.name) for f in fields(proxy)}  # type: ignore[arg-type]
        assert replace(proxy, **settings) == proxy  # type: ignore[type-var]
        assert hash(proxy) == hash(replace(proxy, **settings))  # type: ignore[type-var]
        assert describe(proxy)
        assert [m.name for m in proxy.metrics] == list(proxy.parts)
        assert all(m.unit == SCORE_UNIT and m.direction == "max" and m.doc for m in proxy.metrics)

    def test_a_finite_score_or_a_reason_twice_the_same_and_nothing_is_changed(
        self, proxy: Proxy, traits: ProxyTraits, name: str, batch: Batch
    ) -> None:
        """A finite score or a reason twice the same and nothing is changed."""
        network = make_network(name)
        before = state_of(network, batch)
        first = score_alone(proxy, network, batch)
        assert state_of(network, batch) == before
        torch.manual_seed(99)  # the score does not hang on it
        assert score_alone(proxy, network, batch) == first
        reason = traits.invalid.get(name)
        if reason is None:
            assert first.invalid == {}
            assert set(first.values) == set(proxy.parts)
            assert all(type(v) is float and math.isfinite(v) for v in first.values.values())
        else:
            assert first.values == {}
            assert set(first.invalid) == set(proxy.parts)
            assert all(reason in text for text in first.invalid.values())

    def test_a_call_gives_the_score_or_raises_the_reason(self, proxy: Proxy, batch: Batch) -> None:
        """A call gives the score or raises the reason."""
        network = make_network("cell")
        if len(proxy.parts) == 1:
            assert proxy(network, batch) == score_alone(proxy, network, batch).values[proxy.name]
        else:
            with pytest.raises(InvalidScore, match="ranks networks against each other"):
                proxy(network, batch)

    @pytest.mark.parametrize("where", ["no_grad", "inference"])
    def test_it_works_where_the_caller_switched_gradients_off(
        self, proxy: Proxy, batch: Batch, where: str
    ) -> None:
        """It works where the caller switched gradients off."""
        network = make_network("cell")
        expected = score_alone(proxy, network, batch)
        with torch.set_grad_enabled(False) if where == "no_grad" else torch.inference_mode():
            before = state_of(network, batch)
            assert score_alone(proxy, network, batch) == expected
            assert state_of(network, batch) == before
            assert torch.is_inference_mode_enabled() == (where == "inference")

    @pytest.mark.parametrize("layout", ["channels last", "strided", "transposed"])
    def test_memory_layout_of_the_batch_does_not_matter(
        self, proxy: Proxy, batch: Batch, layout: str
    ) -> None:
        """Memory layout of the batch does not matter."""
        layouts: dict[str, Callable[[Tensor], Tensor]] = {
            "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
            "strided": lambda x: torch.stack((x, x), dim=-1)[..., 0],
            "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
        }
        images = layouts[layout](batch.images)
        assert not images.is_contiguous()
        network = make_network("cell")
        other = Batch(images, batch.labels, CLASSES)
        before = state_of(network, other)
        assert score_alone(proxy, network, other) == score_alone(proxy, network, batch)
        assert state_of(network, other) == before

    def test_operations_in_place_do_not_matter(self, proxy: Proxy, batch: Batch) -> None:
        """Operations in place do not matter."""
        kept, changed = (
            score_alone(proxy, make_network(n), batch) for n in ("residual", "residual in place")
        )
        assert kept.values == pytest.approx(changed.values, rel=1e-5)

    def test_mode_freezing_and_statistics_do_not_matter(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """Mode freezing and statistics do not matter."""
        network, used = make_network("residual"), make_network("in use")
        for module in used.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.full_like(module.running_mean, 3.0)  # type: ignore[arg-type]
        if not traits.depends_on_frozen:
            assert score_alone(proxy, used, batch) == score_alone(proxy, network, batch)

    def test_a_network_whose_output_is_out_of_reach_has_no_score(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """A network whose output is out of reach has no score."""
        network = cell(UNREACHABLE)
        before = state_of(network, batch)
        found = score_alone(proxy, network, batch)
        assert set(found.values) == (set() if traits.depends_on_output else set(proxy.parts))
        assert all(found.invalid.values())
        assert state_of(network, batch) == before
        if found.invalid and len(proxy.parts) == 1:
            with pytest.raises(InvalidScore):
                proxy(network, batch)

    def test_equal_images_have_no_score(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """Equal images have no score."""
        images = batch.images.clone()
        images[3] = images[1]
        twins = Batch(images, batch.labels, CLASSES)
        network = make_network("cell")
        before = state_of(network, twins)
        found = score_alone(proxy, network, twins)
        assert state_of(network, twins) == before
        if not traits.depends_on_images:
            assert found.invalid == {}
        else:
            assert set(found.invalid.values()) == {"images 1 and 3 of the batch are equal"}

    def test_weights_that_are_no_numbers_give_no_score(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """Weights that are no numbers give no score."""
        network = make_network("cell")
        with torch.no_grad():
            next(network.parameters())[0] = math.nan
        found = score_alone(proxy, network, batch)
        if not traits.depends_on_weights:
            assert found.invalid == {}
        else:
            assert all("nan" in why or "not finite" in why for why in found.invalid.values())
            assert found.values == {}

    @pytest.mark.parametrize("output", ["a map", "nothing", "a list"])
    def test_an_output_that_is_no_logits_gives_no_score(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch, output: str
    ) -> None:
        """An output that is no logits gives no score."""

        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 3)

            def forward(self, x: Tensor) -> Any:
                x = F.relu(self.conv(x))
                return {"a map": x, "nothing": None, "a list": ["logits"]}[output]

        found = score_alone(proxy, Odd(), batch)
        if not traits.depends_on_output:
            assert found.invalid == {}
        else:
            assert set(found.invalid) == set(proxy.parts)
            assert all("not logits of shape" in why for why in found.invalid.values())

    def test_an_error_in_the_network_is_the_reason_and_leaves_nothing(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """An error in the network is the reason and leaves nothing."""
        network = Broken().eval()
        before = state_of(network, batch)
        found = score_alone(proxy, network, batch)
        if not traits.runs_network:
            assert found.invalid == {}
        else:
            assert set(found.invalid) == set(proxy.parts)
            assert all("ZeroDivisionError: in the user's code" in w for w in found.invalid.values())
        assert state_of(network, batch) == before

    def test_a_network_without_weights_gives_no_score(
        self, proxy: Proxy, traits: ProxyTraits, batch: Batch
    ) -> None:
        """A network without weights gives no score."""
        network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        found = score_alone(proxy, network, batch)
        assert all(math.isfinite(v) for v in found.values.values())
        assert all(found.values.values()) or not traits.depends_on_output
        if traits.no_weights_is_invalid:
            assert set(found.invalid.values()) == {"the network has no weights"}


def score_alone(proxy: Proxy, network: nn.Module, batch: Batch) -> NetworkScores:
    """Return the scores of one proxy."""
    return score(network, batch, (proxy,))


def state_of(network: nn.Module, batch: Batch) -> dict[str, Any]:
    """Return all that a proxy could leave changed, as values that compare with ``==``."""

    def bits(tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        values = tensor.detach().numpy().tobytes()
        return id(tensor), tensor.data_ptr(), tensor.stride(), values, tensor._version

    found: dict[Any, Any] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),  # type: ignore[index]
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "images": (bits(batch.images), batch.images.grad, batch.images.requires_grad),
        "labels": bits(batch.labels),
        "buffers": {n: bits(b) for n, b in network.named_buffers()},
    }
    for name, parameter in network.named_parameters():
        found[name] = bits(parameter), bits(parameter.grad), parameter.requires_grad
        found[name, "hooks"] = parameter._backward_hooks
    for name, module in network.named_modules():
        found[name, "mode"] = module.training
        found[name, "attributes"] = sorted(vars(module))
        found[name, "hooks"] = {k: list(v) for k, v in vars(module).items() if k.endswith("hooks")}
    return found
