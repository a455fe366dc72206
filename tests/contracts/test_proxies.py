"""What every proxy must do, on any network. A new proxy: one line in ``PROXIES``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import InvalidScore
from raynas.core.describe import describe
from raynas.core.metrics import SCORE_UNIT
from raynas.proxies import (
    AZNAS,
    EPENAS,
    NASWOT,
    SNIP,
    TENAS,
    Batch,
    Fisher,
    GradNorm,
    GraSP,
    JacobCov,
    L2Norm,
    MACs,
    MeCo,
    NetworkScores,
    Params,
    Plain,
    Proxy,
    SynFlow,
    ZenScore,
    ZiCo,
    proxies,
    score,
)
from raynas.spaces import NASBench201, ZenNAS

torch.set_num_threads(1)

PROXIES: dict[str, Proxy] = {
    "naswot": NASWOT(),
    "zen": ZenScore(images=4),
    "epe_nas": EPENAS(),
    "jacob_cov": JacobCov(),
    "synflow": SynFlow(),
    "snip": SNIP(),
    "grasp": GraSP(),
    "fisher": Fisher(),
    "grad_norm": GradNorm(),
    "l2_norm": L2Norm(),
    "plain": Plain(),
    "zico": ZiCo(),
    "tenas": TENAS(images=4, patches=20),
    "aznas": AZNAS(images=6),
    "meco": MeCo(),
    "params": Params(),
    "macs": MACs(),
}
COSTS = {"params", "macs", "l2_norm"}  # of any network, whatever it computes
OWN_WEIGHTS = {"zen", "aznas"}  # look neither at the network's weights nor at the batch's images
CLASSES = 3


# -- networks as users bring them --------------------------------------------------------------


class Functional(nn.Module):
    """No modules at all: parameters, buffers and functions."""

    running_mean: Tensor
    running_var: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 3, 3, 3) / 5)
        self.second = nn.Parameter(torch.randn(8, 6, 3, 3) / 7)
        self.last = nn.Parameter(torch.randn(CLASSES, 8) / 3)
        self.scale = nn.Parameter(torch.ones(6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = F.conv2d(x, self.first, padding=1)
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.scale, self.shift, self.training
        )
        x = torch.relu(F.conv2d(torch.clamp(x, min=0), self.second, padding=1))
        return F.linear(F.relu(x).mean((2, 3)), self.last)


class PreActivation(nn.Module):
    """Changes in place what convolutions and other blocks give."""

    def __init__(self, width_in: int, width: int, inplace: bool, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x, self.inplace)
        out: Tensor = self.conv2(F.relu(self.conv1(self.norm(x)), self.inplace))
        shortcut: Tensor = self.shortcut(x)
        if self.inplace:
            out += shortcut
            return out
        return out + shortcut


class Residual(nn.Module):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(PreActivation(4, 6, inplace), PreActivation(6, 6, inplace)),
                nn.Sequential(PreActivation(6, 8, inplace, stride=2)),
            ]
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class WithFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).mean((2, 3))
        return features, self.head(features)


class Centred(nn.Module):
    """Changes its input in place before anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = in_place()

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.1
        logits: Tensor = self.body(x)
        return logits


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def in_place() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(inplace=True), *head(8),
    )  # fmt: skip


def dropout() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, CLASSES),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 1, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *head(8),
    )  # fmt: skip


def fixed_size() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def cell(text: str) -> nn.Module:
    space = NASBench201(channels=4, cells=1)
    return space.build(space.architecture(text), (3, 8, 8), CLASSES)


def whole_cell() -> nn.Module:
    return cell("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|")


def zen() -> nn.Module:
    start = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,2)SuperResIDWE2K3(8,8,1,8,1)"
    space = ZenNAS(start=start, kinds=("SuperResK3K3", "SuperResIDWE2K3"))
    return space.build(space.architecture(start), (3, 8, 8), CLASSES)


def frozen() -> nn.Module:
    return whole_cell().requires_grad_(False)


def in_use() -> nn.Module:
    """In eval mode, with gradients of a training, and with hooks."""
    network = Residual().eval()
    network.head.requires_grad_(False)
    for number, parameter in enumerate(network.parameters()):
        if number % 2 == 0:
            parameter.grad = torch.full_like(parameter, number)
    network.stem.register_forward_hook(lambda _m, _i, _o: None)
    network.stem.register_forward_pre_hook(lambda _m, _i: None)
    network.head.register_full_backward_hook(lambda _m, _i, _o: None)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cell": whole_cell,
    "functional": Functional,
    "in place": in_place,
    "residual": Residual,
    "residual in place": lambda: Residual(inplace=True),
    "dropout": dropout,
    "features": WithFeatures,
    "zen": zen,
    "grouped": grouped,
    "fixed size": fixed_size,
    "input in place": Centred,
    "frozen": frozen,
    "in use": in_use,
}
PATCHES = "does not take patches of 3 x 3 pixels"
UNPADDED = "turns (8, 8) pixels into (6, 6), which is not a whole stride"
INVALID = {  # (network, proxy) -> words of the reason; all other pairs have a score
    ("functional", "aznas"): "no chain of blocks",
    ("functional", "meco"): "no module gives a feature map",
    ("fixed size", "meco"): "one value per channel",
    **{(n, "tenas"): PATCHES for n in ("in place", "grouped", "fixed size", "input in place")},
    **{
        (n, "aznas"): UNPADDED
        for n in ("in place", "dropout", "features", "grouped", "fixed size", "input in place")
    },
}


def make_batch(size: int = 12, seed: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 3, 8, 8)).astype(np.float32)
    labels = torch.from_numpy(rng.integers(0, CLASSES, size))
    return Batch(torch.from_numpy(images), labels, CLASSES)


def make(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return NETWORKS[name]()


def alone(proxy: Proxy, network: nn.Module, batch: Batch) -> NetworkScores:
    return score(network, batch, (proxy,))


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return PROXIES[request.param]


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def batch() -> Batch:
    return make_batch()


# -- what there is to change -------------------------------------------------------------------


def everything(network: nn.Module, batch: Batch) -> dict[str, Any]:
    """All that a proxy could leave changed, as values that compare with ``==``."""

    def bits(tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        values = tensor.detach().numpy().tobytes()
        return id(tensor), tensor.data_ptr(), tensor.stride(), values, tensor._version

    found: dict[Any, Any] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),  # type: ignore[index, union-attr]
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


# -- the suite ---------------------------------------------------------------------------------


def test_every_listed_proxy_is_tested_here() -> None:
    assert {name: type(p) for name, p in PROXIES.items()} == proxies()


def test_it_is_a_frozen_value_of_settings_with_columns_that_are_scores(proxy: Proxy) -> None:
    settings = {f.name: getattr(proxy, f.name) for f in fields(proxy)}  # type: ignore[arg-type]
    assert replace(proxy, **settings) == proxy  # type: ignore[type-var]
    assert hash(proxy) == hash(replace(proxy, **settings))  # type: ignore[type-var]
    assert describe(proxy)
    assert [m.name for m in proxy.metrics] == list(proxy.parts)
    assert all(m.unit == SCORE_UNIT and m.direction == "max" and m.doc for m in proxy.metrics)


def test_a_finite_score_or_a_reason_twice_the_same_and_nothing_is_changed(
    proxy: Proxy, name: str, batch: Batch
) -> None:
    network = make(name)
    before = everything(network, batch)
    first = alone(proxy, network, batch)
    assert everything(network, batch) == before
    torch.manual_seed(99)  # the score does not hang on it
    assert alone(proxy, network, batch) == first
    reason = INVALID.get((name, proxy.name))
    if reason is None:
        assert first.invalid == {}
        assert set(first.values) == set(proxy.parts)
        assert all(type(v) is float and math.isfinite(v) for v in first.values.values())
    else:
        assert first.values == {}
        assert set(first.invalid) == set(proxy.parts)
        assert all(reason in text for text in first.invalid.values())


def test_a_call_gives_the_score_or_raises_the_reason(proxy: Proxy, batch: Batch) -> None:
    network = make("cell")
    if len(proxy.parts) == 1:
        assert proxy(network, batch) == alone(proxy, network, batch).values[proxy.name]
    else:
        with pytest.raises(InvalidScore, match="ranks networks against each other"):
            proxy(network, batch)


def test_together_they_score_as_each_alone(name: str, batch: Batch) -> None:
    network = make(name)
    before = everything(network, batch)
    together = score(network, batch, list(PROXIES.values()))
    assert everything(network, batch) == before
    for proxy in PROXIES.values():
        one = alone(proxy, network, batch)
        assert {p: together.invalid.get(p) for p in proxy.parts if p in together.invalid} == (
            one.invalid
        )
        # NASWOT alone lays memory out another way, and a few signs near zero differ
        rel = 1e-3 if proxy.name == "naswot" else 1e-4
        for part, value in one.values.items():
            assert together.values[part] == pytest.approx(value, rel=rel), part


@pytest.mark.parametrize("where", ["no_grad", "inference"])
def test_it_works_where_the_caller_switched_gradients_off(
    proxy: Proxy, batch: Batch, where: str
) -> None:
    network = make("cell")
    expected = alone(proxy, network, batch)
    with torch.set_grad_enabled(False) if where == "no_grad" else torch.inference_mode():
        before = everything(network, batch)
        assert alone(proxy, network, batch) == expected
        assert everything(network, batch) == before
        assert torch.is_inference_mode_enabled() == (where == "inference")


@pytest.mark.parametrize("layout", ["channels last", "strided", "transposed"])
def test_memory_layout_of_the_batch_does_not_matter(
    proxy: Proxy, batch: Batch, layout: str
) -> None:
    images = {
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "strided": lambda x: torch.stack((x, x), dim=-1)[..., 0],
        "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    }[layout](batch.images)
    assert not images.is_contiguous()
    network = make("cell")
    other = Batch(images, batch.labels, CLASSES)
    before = everything(network, other)
    assert alone(proxy, network, other) == alone(proxy, network, batch)
    assert everything(network, other) == before


def test_operations_in_place_do_not_matter(proxy: Proxy, batch: Batch) -> None:
    kept, changed = (alone(proxy, make(n), batch) for n in ("residual", "residual in place"))
    assert kept.values == pytest.approx(changed.values, rel=1e-5)


def test_mode_freezing_and_statistics_do_not_matter(proxy: Proxy, batch: Batch) -> None:
    network, used = make("residual"), make("in use")
    for module in used.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.full_like(module.running_mean, 3.0)  # type: ignore[arg-type]
    if proxy.name != "params":  # frozen weights are none that are trained
        assert alone(proxy, used, batch) == alone(proxy, network, batch)


# -- no score ----------------------------------------------------------------------------------

UNREACHABLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|"


def test_a_network_whose_output_is_out_of_reach_has_no_score(proxy: Proxy, batch: Batch) -> None:
    network = cell(UNREACHABLE)
    before = everything(network, batch)
    found = alone(proxy, network, batch)
    assert set(found.values) == (set(proxy.parts) if proxy.name in COSTS else set())
    assert all(found.invalid.values())
    assert everything(network, batch) == before
    if found.invalid and len(proxy.parts) == 1:
        with pytest.raises(InvalidScore):
            proxy(network, batch)


def test_equal_images_have_no_score(proxy: Proxy, batch: Batch) -> None:
    images = batch.images.clone()
    images[3] = images[1]
    twins = Batch(images, batch.labels, CLASSES)
    network = make("cell")
    before = everything(network, twins)
    found = alone(proxy, network, twins)
    assert everything(network, twins) == before
    # these do not look at the batch's images
    if proxy.name in {*COSTS, *OWN_WEIGHTS, "synflow"}:
        assert found.invalid == {}
    else:
        assert set(found.invalid.values()) == {"images 1 and 3 of the batch are equal"}


def test_weights_that_are_no_numbers_give_no_score(proxy: Proxy, batch: Batch) -> None:
    network = make("cell")
    with torch.no_grad():
        next(network.parameters())[0] = math.nan
    found = alone(proxy, network, batch)
    if proxy.name in {"params", "macs", *OWN_WEIGHTS}:
        assert found.invalid == {}
    else:
        assert all("nan" in why or "not finite" in why for why in found.invalid.values())
        assert found.values == {}


@pytest.mark.parametrize("output", ["a map", "nothing", "a list"])
def test_an_output_that_is_no_logits_gives_no_score(
    proxy: Proxy, batch: Batch, output: str
) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.conv(x))
            return {"a map": x, "nothing": None, "a list": ["logits"]}[output]

    found = alone(proxy, Odd(), batch)
    if proxy.name in COSTS:
        assert found.invalid == {}
    else:
        assert set(found.invalid) == set(proxy.parts)
        assert all("not logits of shape" in why for why in found.invalid.values())


class Broken(nn.Module):
    """Fails after a block and a draw, with all that a pass has set still in place."""

    residual = True

    def __init__(self) -> None:
        super().__init__()
        self.block = PreActivation(3, 4, inplace=True)
        self.residual = True

    def forward(self, x: Tensor) -> Tensor:
        F.dropout(self.block(x))
        raise ZeroDivisionError("in the user's code")


def test_an_error_in_the_network_is_the_reason_and_leaves_nothing(
    proxy: Proxy, batch: Batch
) -> None:
    network = Broken().eval()
    before = everything(network, batch)
    found = alone(proxy, network, batch)
    if proxy.name in COSTS - {"macs"}:
        assert found.invalid == {}
    else:
        assert set(found.invalid) == set(proxy.parts)
        assert all("ZeroDivisionError: in the user's code" in w for w in found.invalid.values())
    assert everything(network, batch) == before


def test_a_network_without_weights_gives_no_score(proxy: Proxy, batch: Batch) -> None:
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = alone(proxy, network, batch)
    assert all(math.isfinite(v) for v in found.values.values())
    assert all(found.values.values()) or proxy.name in COSTS
    if proxy.name in {"synflow", "snip", "grasp", "grad_norm", "l2_norm", "plain", "zico", "tenas"}:
        assert set(found.invalid.values()) == {"the network has no weights"}
