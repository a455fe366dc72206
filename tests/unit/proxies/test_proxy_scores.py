"""Batches, and many proxies of one network."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from proxy_toys import CLASSES, make_batch, small_net
from torch import Tensor, nn

import raynas.proxies
from raynas.core import InvalidScore, UserError
from raynas.data.base import DataView, Images
from raynas.proxies import (
    NASWOT,
    SNIP,
    TENAS,
    Batch,
    GraSP,
    JacobCov,
    NetworkScores,
    Params,
    Probe,
    Proxy,
    ZenScore,
    check_proxies,
    score,
)

BATCH = make_batch()


def make_view(count: int = 20) -> DataView:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 4, 5, 2)).astype(np.uint8)
    pixels.flags.writeable = False
    images = Images(pixels, np.arange(count) % 3)
    return DataView(images, images, "val", 3, (10.0, 100.0), (2.0, 50.0))


# -- batches -----------------------------------------------------------------------------------


def test_a_drawn_batch_is_normalised_images_of_the_view_with_their_labels() -> None:
    view = make_view()
    batch = Batch.draw(view, 12, seed=4)
    assert batch.images.shape == (12, 2, 4, 5)
    assert batch.images.dtype == torch.float32
    assert len(batch) == 12
    pixels = batch.images * torch.tensor([2.0, 50]).view(2, 1, 1) + torch.tensor([10.0, 100]).view(
        2, 1, 1
    )
    found = pixels.permute(0, 2, 3, 1).round().numpy().astype(np.uint8)
    numbers = [int(np.argmax((view.train.pixels == f).all((1, 2, 3)))) for f in found]
    assert len(set(numbers)) == 12
    np.testing.assert_array_equal(found, view.train.pixels[numbers])
    np.testing.assert_array_equal(batch.labels, view.train.labels[numbers])


def test_the_seed_draws_the_batch() -> None:
    view, state = make_view(), torch.get_rng_state()
    first, again, other = (Batch.draw(view, 12, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(Batch.draw(view, 20)) == 20


@pytest.mark.parametrize("size", [21, 1, 0, -3])
def test_a_batch_that_cannot_be_drawn_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"a batch of {size} images from 20"):
        Batch.draw(make_view(), size)


@pytest.mark.parametrize(
    ("images", "labels"), [((4, 3, 8), (4,)), ((4, 3, 8, 8), (3,)), ((4, 3, 8, 8), (4, 1))]
)
def test_shapes_of_a_batch_are_checked(images: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"images \(n, channels, height, width\) and labels \(n,\)"):
        Batch(torch.zeros(images), torch.zeros(labels, dtype=torch.int64))


def test_equal_images_are_found() -> None:
    assert BATCH.equal_images is None
    images = BATCH.images.clone()
    images[9] = images[2]
    assert Batch(images, BATCH.labels).equal_images == (2, 9)
    moved = BATCH.to("cpu")
    assert torch.equal(moved.images, BATCH.images)


# -- which proxies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "no proxies"),
        ((NASWOT,), "NASWOT is not a proxy object"),
        (("naswot",), "str is not a proxy object"),
        (NASWOT(), "proxies is not a sequence"),
        ((NASWOT(), SNIP(), NASWOT()), "two proxies give naswot"),
        ((ZenScore(), ZenScore(repeats=2)), "two proxies give zen"),
        ((TENAS(), TENAS(images=8)), "two proxies give tenas_ntk, tenas_regions"),
    ],
)
def test_proxies_that_cannot_stand_together_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_proxies(given)


def test_good_proxies_pass() -> None:
    check_proxies([NASWOT(), TENAS(), Params()])


# -- sharing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fixed(Proxy):
    """Gives a value, or a reason."""

    name: ClassVar[str] = "fixed"
    value: float | str = 0.0
    parts_: tuple[str, ...] = ("fixed",)

    @property
    def parts(self) -> tuple[str, ...]:
        return self.parts_

    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        if isinstance(self.value, str):
            raise InvalidScore(self.value)
        if len(self.parts_) == 1:
            return self.value
        return dict.fromkeys(self.parts_, self.value) | {self.parts_[0]: 1.0}


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.sizes = small_net(), []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.body(x)  # type: ignore[no-any-return]


def test_proxies_share_one_pass_of_the_batch() -> None:
    network = Counted()
    found = score(network, BATCH, (NASWOT(), SNIP(), GraSP(), JacobCov()))
    assert network.sizes == [12]
    assert list(found.values) == ["naswot", "snip", "grasp", "jacob_cov"]


def test_a_refused_pass_is_not_tried_again() -> None:
    class Nan(Counted):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * math.nan

    network = Nan()
    found = score(network, BATCH, (NASWOT(), SNIP(), JacobCov()))
    assert network.sizes == [12]
    assert found.note == "no naswot, snip, jacob_cov: the logits are not finite"


def test_missing_scores_have_reasons_and_the_others_stay() -> None:
    two = Fixed(math.inf, ("a", "b"))
    found = score(small_net(), BATCH, (Params(), Fixed(math.nan), two))
    assert found.values == {"params": pytest.approx(350, abs=100), "a": 1.0}
    assert found.invalid == {"fixed": "it is nan", "b": "it is inf"}
    assert found.value("a") == 1
    with pytest.raises(InvalidScore, match="it is inf"):
        found.value("b")
    with pytest.raises(InvalidScore, match="it is nan"):
        Fixed(math.nan)(small_net(), BATCH)


def test_a_reason_stands_for_every_part_and_is_said_once() -> None:
    found = score(small_net(), BATCH, (Fixed("too flat", ("a", "b")), Fixed("why not")))
    assert found.invalid == {"a": "too flat", "b": "too flat", "fixed": "why not"}
    assert found.note == "no a, b: too flat; no fixed: why not"
    assert NetworkScores({"a": 1.0}).note == ""


def test_a_proxy_has_a_column_for_each_part_with_the_first_paragraph() -> None:
    (metric,) = NASWOT().metrics
    assert metric.name == "naswot"
    assert metric.doc == (
        "Log-determinant of the matrix that counts at how many ReLUs two images agree."
    )
    assert [m.name for m in TENAS().metrics] == ["tenas_ntk", "tenas_regions"]


def test_the_seed_is_that_of_proxies_that_draw() -> None:
    network = small_net()
    scores = [score(network, BATCH, (ZenScore(images=2), SNIP()), seed=s).values for s in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0]["zen"] != scores[2]["zen"]
    assert scores[0]["snip"] == scores[2]["snip"]


def test_embeddings_are_no_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(4, 3), nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean((2, 3)) + self.table(torch.tensor(1)))  # type: ignore[no-any-return]

    network = Net()
    assert Probe(network, BATCH).weight_names == ("head.weight",)
    assert Params()(network, BATCH) == 12 + 12


# -- the package -------------------------------------------------------------------------------


def test_every_name_of_the_package_is_there_and_torch_comes_with_the_first() -> None:
    for name in raynas.proxies.__all__:
        assert getattr(raynas.proxies, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'NASWAT'"):
        raynas.proxies.NASWAT  # noqa: B018
    code = "import sys, raynas.proxies as p; assert 'torch' not in sys.modules; p.NASWOT"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- networks on which some proxies fail -------------------------------------------------------

SCORED = (NASWOT(), SNIP(), GraSP(), JacobCov(), ZenScore(), Params())


class Places(nn.Module):
    """Adds a number to each image by its place in the batch: knows as many as ``BATCH`` has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_net()
        self.places = torch.linspace(0, 1, len(BATCH)).tolist()

    def forward(self, x: Tensor) -> Tensor:
        added = torch.tensor([self.places[number] for number in range(len(x))])
        logits: Tensor = self.inner(x + added[:, None, None, None])
        return logits


class Once(torch.autograd.Function):
    """Can be differentiated once."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise NotImplementedError("no second derivative")
        return gradient.clone()


class Wrapped(nn.Module):
    """``inner`` with something of its own before and behind it."""

    def __init__(self, before: Any = None, behind: Any = None, inner: Any = None) -> None:
        super().__init__()
        self.inner = inner or small_net()
        self.before, self.behind = before or (lambda x: x), behind or (lambda y: y)

    def forward(self, x: Tensor) -> Any:
        return self.behind(self.inner(self.before(x)))


class Silent(nn.Module):
    """No gradient goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.inner(x)
            return logits


@dataclass(frozen=True)
class Failing(Proxy):
    """A user's proxy that raises, or gives what it has not promised."""

    name: ClassVar[str] = "failing"
    error: Exception | None = None

    def measure(self, probe: Probe) -> Any:
        if self.error is not None:
            raise self.error
        return {"other": 1.0}


@pytest.mark.parametrize(
    ("network", "without", "why"),
    [
        (lambda: Wrapped(behind=Once.apply), {"grasp"}, "NotImplementedError: no second"),
        (lambda: small_net(nn.Hardsigmoid), {"naswot", "grasp"}, "hardsigmoid_backward"),
        (Places, {"zen"}, "IndexError: list index out of range"),
        (Silent, {"snip", "grasp", "jacob_cov"}, "does not require grad"),
        (lambda: small_net().half(), {p.name for p in SCORED} - {"params"}, "(?i)half"),
    ],
    ids=["once", "hardsigmoid", "places", "no_grad", "float16"],
)
def test_a_torch_error_costs_only_the_scores_of_that_proxy(
    network: Any, without: set[str], why: str
) -> None:
    found = score(network(), BATCH, SCORED)
    assert set(found.invalid) == without
    assert set(found.values) == {p.name for p in SCORED} - without
    assert any(re.search(why, reason) for reason in found.invalid.values())
    assert all("\n" not in reason and len(reason) <= 300 for reason in found.invalid.values())


def test_the_score_of_a_failing_proxy_raises_its_reason() -> None:
    with pytest.raises(InvalidScore, match="IndexError: list index out of range"):
        Failing(IndexError("list index out of range\nin a second line"))(small_net(), BATCH)
    found = score(small_net(), BATCH, [Failing(), NASWOT()])
    assert found.invalid == {"failing": "it gives other, not its parts failing"}
    assert set(found.values) == {"naswot"}


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_is_short_is_no_missing_score(error: Exception) -> None:
    with pytest.raises(type(error)):
        score(small_net(), BATCH, [Failing(error), NASWOT()])
    with pytest.raises(type(error)):
        score(Wrapped(before=Raise(error)), BATCH, [NASWOT()])


@dataclass
class Raise:
    error: Exception

    def __call__(self, _: Tensor) -> Tensor:
        raise self.error


def test_layers_without_weights_are_named_and_stay_without() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))
    found = score(network, BATCH, SCORED)
    assert found.values == {}
    assert all("layer '0' has no weights yet" in why for why in found.invalid.values())
    assert torch.nn.parameter.is_lazy(network[0].weight)


# -- which output is the logits ----------------------------------------------------------------


def with_features(order: str) -> nn.Module:
    """Logits (n, 3), features (n, 5) and a map, in some order, as a tuple or by name."""
    given = {
        "logits first": lambda y: (y, y.repeat(1, 2)[:, :5], y[..., None]),
        "logits last": lambda y: [y[..., None], y.repeat(1, 2)[:, :5], y],
        "by name": lambda y: {"features": y.repeat(1, 2)[:, :5], "logits": y},
    }
    return Wrapped(behind=given[order])


@pytest.mark.parametrize("order", ["logits first", "logits last", "by name"])
def test_the_output_of_the_tasks_shape_is_scored(order: str) -> None:
    batch = Batch(BATCH.images, BATCH.labels, CLASSES)
    for proxy in (SNIP(), JacobCov(), GraSP()):
        plain = proxy(Wrapped(), batch)
        assert proxy(with_features(order), batch) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("order", ["logits first", "logits last", "by name"])
def test_without_a_number_of_classes_two_tables_are_refused(order: str) -> None:
    with pytest.raises(InvalidScore, match="of which several may be logits: say which"):
        SNIP()(with_features(order), BATCH)


def test_an_output_of_other_classes_is_refused() -> None:
    batch = Batch(BATCH.images, BATCH.labels, CLASSES + 1)
    with pytest.raises(InvalidScore, match=r"gives \(12, 3\), not logits of shape \(12, 4\)"):
        SNIP()(small_net(), batch)
    with pytest.raises(UserError, match=r"label 2 and num_classes=2"):
        Batch(BATCH.images, BATCH.labels, 2)


def test_drawn_batches_know_the_classes_of_their_view() -> None:
    batch = Batch.draw(make_view(), 12)
    assert batch.num_classes == batch.to("cpu").num_classes == 3
