"""Networks that a recording may get wrong: measured right, with a remark where they run alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tiny_supernet import Tiny, tiny_view
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Architecture, UserError
from raynas.layers import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, Flatten, Sequential
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import calibration_batches, recalibrate
from raynas.supernet.evaluation import batched as together_module
from raynas.supernet.evaluation import racer as races_module
from raynas.supernet.evaluation import subnets as module
from raynas.supernet.evaluation.agreement import TraceAgreement
from raynas.supernet.evaluation.batched import BatchedExecutor
from raynas.supernet.evaluation.execution_plan import ExecutionPlan, steps
from raynas.supernet.evaluation.measurements import Looks, SubnetMeasurement
from raynas.supernet.evaluation.race import Race
from raynas.supernet.evaluation.racer import SubnetRacer
from raynas.supernet.evaluation.subnets import SubnetEvaluator
from raynas.supernet.evaluation.tracing import ValueTable, record
from raynas.training import Recipe
from raynas.training.augment import on_device
from raynas.training.loop import measure

VIEW = Looks(64).of(tiny_view(64))
SPACE = Tiny()
ARCH = SPACE.extremes()[0]


def around(*inner: nn.Module) -> SubnetEvaluator:
    """A supernet with ``inner``, (n, 4, 8, 8) -> (n, 4, h, w), in its midst."""
    torch.manual_seed(0)
    body = Sequential(
        ElasticConv2d(1, 4, 3),
        ElasticBatchNorm2d(4),
        *inner,
        nn.AdaptiveAvgPool2d(2),
        Flatten(4),
        ElasticLinear(16, 4),
    )
    return SubnetEvaluator(Supernet(SPACE, body, (1, 8, 8), 4), VIEW)


def by_hand(subnets: SubnetEvaluator, arch: Architecture = ARCH) -> SubnetMeasurement:
    """As anyone would find it: extract, calibrate, look at all images."""
    data, recipe = on_device(VIEW, torch.device("cpu")), Recipe()
    network = subnets.supernet.extract(arch)
    recalibrate(network, calibration_batches(data, recipe, 64, seed=0))
    found = measure(network, data.held_out, data, recipe)
    return SubnetMeasurement(found["accuracy"], found["loss"], 40)


class Does(nn.Module):
    """``what(x)``, on a copy of its input."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x * 1.0)


def view_before_its_base_is_overwritten(x: Tensor) -> Tensor:
    view = x[:, :2]
    x.mul_(2.0)
    return torch.cat([view, x[:, 2:]], dim=1)


def base_after_its_view_is_overwritten(x: Tensor) -> Tensor:
    x[:, :2].mul_(-3.0)
    return x


def base_after_its_data_is_overwritten(x: Tensor) -> Tensor:
    x[:, :2].data.clamp_(-0.1, 0.1)
    return x


def view_of_a_constant_that_is_filled(x: Tensor) -> Tensor:
    mean = torch.zeros(1, 4, 1, 1)
    part = mean[:, :1]
    mean.add_(x.mean(dim=(0, 2, 3), keepdim=True))
    return x - part


def branch_on_equal(x: Tensor) -> Tensor:
    return x if torch.equal(x.var(0), torch.zeros_like(x[0])) else x.abs()


def branch_on_allclose(x: Tensor) -> Tensor:
    return x if torch.allclose(x[0], x[1]) else x.abs()


def slice_that_ends_at_a_value(x: Tensor) -> Tensor:
    end = (x[:1].std() > 0).long() + 1
    return x - x[:, :end].mean(dim=1, keepdim=True)


def through_numpy(x: Tensor) -> Tensor:
    return x * torch.from_numpy(np.sign(np.asarray(x)))


def into_an_argument(x: Tensor) -> Tensor:
    into = torch.zeros(())
    torch.mean(x[0], dim=(0, 1, 2), out=into)
    return x - into


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = x * 2.0
        y.clamp_(-1.0, 1.0)
        return y * 1.0


def expanded(x: Tensor) -> Tensor:
    token = torch.linspace(0, 1, 4).view(1, 4, 1, 1).expand(x.shape[0], -1, 8, 1)
    return torch.cat([token, x], dim=3)


#: refused while they are recorded
REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a view before": (view_before_its_base_is_overwritten, "overwritten through a view"),
    "a base after": (base_after_its_view_is_overwritten, "overwritten through a view"),
    "a base after, by data": (base_after_its_data_is_overwritten, "overwritten through a view"),
    "a view of a constant": (view_of_a_constant_that_is_filled, "shares the memory of a result"),
    "equal": (branch_on_equal, "equal looks at the values"),
    "allclose": (branch_on_allclose, "allclose looks at the values"),
    "nonzero": (lambda x: x if torch.is_nonzero(x.sum()) else -x, "is_nonzero looks at the"),
    "index": (slice_that_ends_at_a_value, "a slice ends at a tensor's value"),
    "numpy": (through_numpy, "looks at the values"),
    "out": (into_an_argument, "overwrites an argument that is given by name"),
    "by name": (lambda x: torch.clamp_(input=x, max=0.5), "overwrites an argument that is given"),
    "random": (lambda x: x + 0 * F.dropout(x), "random numbers are drawn"),
    "divided by len": (lambda x: x / len(x), "number of images is among the arguments"),
    "inference mode": (in_inference_mode, "inference mode"),
    "expand": (expanded, "number of images is in the shape of a constant"),
    "zeros": (
        lambda x: torch.cat([x, torch.zeros(x.shape[0], 4, 8, 2)], dim=3),
        "number of images is in the shape of a constant",
    ),
    "full": (lambda x: x.flatten(1).view(x.size(0), 4, 8, 8), "number of images is among the arg"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_seen_while_recording_runs_by_itself(name: str) -> None:
    what, remark = REFUSED[name]
    subnets = around(Does(what))
    wanted = by_hand(subnets)
    (found,) = subnets.measure([ARCH])
    assert close(found, wanted)
    assert found.note.startswith("measured by itself: ")
    assert remark in found.note


def close(one: SubnetMeasurement, other: SubnetMeasurement) -> bool:
    same = one.accuracy == pytest.approx(other.accuracy, abs=0.01)
    return bool(same and one.loss == pytest.approx(other.loss, rel=1e-4))


class Counts(nn.Module):
    """Multiplies by how often it was called."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Remembers(nn.Module):
    """Adds what it saw in the call before, out of sight of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.before = torch.zeros(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.before
        self.before = self.before + 1.0
        return y


#: seen only when the recording is compared with the network
COMPARED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "len": (lambda: Does(lambda x: x * (10 / len(x))), "logits that differ from the network's by"),
    "shape": (lambda: Does(lambda x: x * (1 / x.shape[0])), "logits that differ"),
    "numel": (lambda: Does(lambda x: x + x.numel() ** 0.5), "logits that differ"),
    "half of the images": (
        lambda: Does(lambda x: torch.cat([x[: len(x) // 2] * 2, x[len(x) // 2 :]])),
        "logits that differ",
    ),
    "rows": (
        lambda: Does(lambda x: x - torch.zeros(2 * len(x), 4, 8, 8)[: 2 * len(x) : 2]),
        "does not run for 3 images: RuntimeError",
    ),
    "a counter": (Counts, "logits that differ"),
    "a memory": (Remembers, "logits that differ"),
}


@pytest.mark.parametrize("name", COMPARED)
def test_what_is_seen_by_comparison_runs_by_itself(name: str) -> None:
    make, remark = COMPARED[name]
    subnets = around(make())
    wanted = by_hand(subnets)
    (found,) = subnets.measure([ARCH])
    assert remark in found.note
    if name not in ("a counter", "a memory"):  # they are never the same twice
        assert close(found, wanted)


def clamped_by_data(x: Tensor) -> Tensor:
    x.data.clamp_(-0.1, 0.1)
    return x


def constant_that_changes(x: Tensor) -> Tensor:
    scale = torch.ones(1)
    y = x * scale
    scale.fill_(3.0)
    return y * scale + y


def constant_that_takes_a_result(x: Tensor) -> Tensor:
    mean = torch.zeros(4, 1, 1)
    y = x - mean
    mean.add_(x[0].mean(dim=(1, 2), keepdim=True))
    return y - mean


def view_that_is_not_used_again(x: Tensor) -> Tensor:
    y, _ = x * 1.0, x[:, :2]
    return y + x.mul_(2.0)


def overwritten_images(x: Tensor) -> Tensor:
    return x.sub_(0.5).relu_()


def view_alone(x: Tensor) -> Tensor:
    return F.relu(x.flatten(2)[:, :2], inplace=True).unflatten(2, (8, 8)).repeat(1, 2, 1, 1)


def eleven(x: Tensor) -> Tensor:
    return F.pad(x, (11, 11))[..., 11:22]


#: recorded, and right
RECORDED: dict[str, Callable[[], nn.Module]] = {
    "data": lambda: Does(clamped_by_data),
    "a constant that changes": lambda: Does(constant_that_changes),
    "a constant that takes a result": lambda: Does(constant_that_takes_a_result),
    "a view that is not used again": lambda: Does(view_that_is_not_used_again),
    "a view alone": lambda: Does(view_alone),
    "contiguous": lambda: Does(lambda x: x.mT.contiguous().contiguous().float()),
    "integers": lambda: Does(lambda x: x * x.gt(0).long() + x.argmax(1, keepdim=True)),
    "a setting of as many": lambda: Does(eleven),
    "doubles": lambda: Does(lambda x: (x.double() * torch.ones(1).double() / 3).float()),
    "zeros of both signs": lambda: Does(
        lambda x: torch.atan2(x * 0.0, x) + torch.atan2(x * -0.0, x).abs()
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_is_right(name: str) -> None:
    subnets = around(RECORDED[name]())
    (found,) = subnets.measure([ARCH])
    assert found.note == ""
    assert close(found, by_hand(subnets))


def test_images_that_a_network_overwrites_serve_the_comparison_of_the_next() -> None:
    torch.manual_seed(0)
    body = Sequential(_Overwrites(), *around().supernet.body.steps)
    subnets = SubnetEvaluator(Supernet(SPACE, body, (1, 8, 8), 4), VIEW)
    for found in subnets.measure(SPACE.extremes()):
        assert found.note == ""
        assert close(found, by_hand(subnets))


class _Overwrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return overwritten_images(x)


class Clamps(nn.Module):
    """Its weight is kept small in the forward pass; ``how`` is an attribute that leads to it."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.how = nn.Parameter(torch.full((4, 1, 1), 3.0)), how
        self.register_buffer("steps", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.how(self.weight).clamp_(-1.0, 1.0)
        return x * self.weight


class CountsInBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return x * self.calls


@pytest.mark.parametrize(
    "make",
    [
        lambda: Clamps(lambda weight: weight),
        lambda: Clamps(lambda weight: weight.data),
        lambda: Clamps(lambda weight: weight[:2]),
        CountsInBuffer,
        lambda: _AlwaysTrains(),
    ],
)
def test_networks_that_change_their_weights_run_by_themselves(
    make: Callable[[], nn.Module],
) -> None:
    (found,) = around(make()).measure([ARCH])
    assert "a weight or a buffer is overwritten" in found.note


class _AlwaysTrains(nn.BatchNorm2d):
    def __init__(self) -> None:
        super().__init__(4)

    def train(self, mode: bool = True) -> _AlwaysTrains:
        return super().train(True)


class Twice(nn.Module):
    """One batch norm for two things."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(self.norm(x * 3.0 + 1.0))))


class FixedNorm(nn.Module):
    """The function without the module: nothing calibrates its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((4,), 0.5))
        self.register_buffer("var", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var)


class NormOfItsOwn(nn.Module):
    """Statistics that follow from the images are no buffers."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, x[0].mean(dim=(1, 2)), x[0].var(dim=(1, 2)))


@pytest.mark.parametrize(
    ("make", "remark"),
    [
        (Twice, "after calibration, .* a batch norm is used more than once"),
        (FixedNorm, "after calibration, its recording gives logits that differ"),
    ],
)
def test_statistics_that_a_network_keeps_otherwise_are_found(
    make: Callable[[], nn.Module], remark: str
) -> None:
    subnets = around(make())
    wanted = by_hand(subnets)
    for found in subnets.measure(SPACE.extremes()):  # both: what differs is not taken for known
        assert close(found, wanted)
        assert re.search(remark, found.note)
    assert subnets.program(ARCH) is None


def test_statistics_from_the_images_themselves_are_recorded() -> None:
    subnets = around(NormOfItsOwn())
    (found,) = subnets.measure([ARCH])
    assert found.note == ""
    assert close(found, by_hand(subnets))


def test_one_module_in_two_places_is_two_networks() -> None:
    shared = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    subnets = around(shared, shared)
    (found,) = subnets.measure([ARCH])
    assert found.note == ""
    assert close(found, by_hand(subnets))


class Pairs(nn.Module):
    """Takes an even number of images only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 2, *x.shape[1:]).flip(1).flatten(0, 1)


def test_a_network_that_refuses_the_images_shown_runs_by_itself() -> None:
    subnets = around(Pairs())
    wanted = by_hand(subnets)
    (found,) = subnets.measure([ARCH])
    assert close(found, wanted)
    assert "its recording failed: RuntimeError: shape" in found.note


def test_an_error_of_the_user_comes_through() -> None:
    def refuse(_: Tensor) -> Tensor:
        raise UserError("no such thing")

    with pytest.raises(UserError, match="no such thing"):
        around(Does(refuse)).measure([ARCH])


@pytest.mark.parametrize("make", [Counts, Twice])
def test_races_measure_it_exactly_with_the_remark(make: Callable[[], nn.Module]) -> None:
    archs = [SPACE.sample_canonical(np.random.default_rng(seed)) for seed in range(6)]
    found = SubnetRacer(around(make())).run(archs, Race(keep=1, first=32, calibration=16))
    assert all(one.note.startswith("measured by itself") for one in found)
    assert [one.images for one in found] == [40] * len(archs)


class InsistsOnFloats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()) + x


def test_a_network_with_a_precision_of_its_own_is_measured_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(together_module, "_packed", lambda conv, _: conv)  # not on any CPU
    monkeypatch.setattr(module, "fastest", lambda _: torch.bfloat16)
    monkeypatch.setattr(races_module, "fastest", lambda _: torch.bfloat16)
    archs = [SPACE.sample_canonical(np.random.default_rng(seed)) for seed in range(6)]
    race = Race(keep=1, first=32, calibration=16)
    subnets = around(InsistsOnFloats())
    assert not any(map(subnets.races, archs))
    found = SubnetRacer(subnets).run(archs, race)
    assert [(one.images, one.note) for one in found] == [(40, "")] * len(archs)
    assert all(map(around(nn.ReLU()).races, archs))


def test_every_recording_is_compared_and_calibration_once_per_set_of_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    subnets = SubnetEvaluator(SPACE.supernet((1, 8, 8), 4), VIEW)
    compared, calibrated = [], []
    remark, extract = TraceAgreement.remark, subnets.supernet.extract
    monkeypatch.setattr(TraceAgreement, "remark", lambda *a: (compared.append(a[1]), remark(*a))[1])
    monkeypatch.setattr(
        subnets.supernet, "extract", lambda arch: (calibrated.append(arch), extract(arch))[1]
    )
    archs = {a.id: a for a in map(SPACE.sample_canonical, map(np.random.default_rng, range(9)))}
    assert not any(map(subnets.remark, archs.values()))
    assert compared == list(archs.values())
    assert calibrated == compared[:1]


def test_a_dead_network_is_compared_after_calibration() -> None:
    """Before, its logits are the same for all images, and would hide the difference."""

    def dead(x: Tensor) -> Tensor:
        return F.relu(x - 1e4)

    subnets = around(nn.Identity())
    assert subnets.remark(ARCH) == ""
    inner = around(Does(lambda x: x), Twice()).supernet
    with torch.no_grad():
        for norm in (m for m in inner.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.fill_(1e6)
    killed = SubnetEvaluator(inner, VIEW)
    assert "after calibration" in killed.remark(ARCH)
    assert around(Does(dead)).remark(ARCH) == ""


#: a function of one tensor, or of two; what it gives joins the tensors that there are
UNARY: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x + 1.0,
    lambda x: x[:, :1],
    lambda x: x[:, 1:],
    lambda x: x.flatten(2),
    lambda x: x.data,
    lambda x: x.detach(),
    lambda x: x.contiguous(),
    lambda x: x.expand_as(x),
    lambda x: x.add_(1.0),
    lambda x: x.data.mul_(-2.0),
    lambda x: x.detach().clamp_(-0.5, 0.5),
    lambda x: F.relu(x, inplace=True),
    lambda x: x.t_() if x.dim() == 2 else x.transpose_(1, 2),
    lambda _: torch.ones(1, 1, 1, 1),
    lambda x: x.mean(dim=0, keepdim=True),
)
BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda x, y: x * y.mean(),
    lambda x, y: x.mul_(y.mean()),
    lambda x, y: torch.add(x, y.mean(), out=x),
    lambda x, y: x.copy_(y.mean() + x * 0.5),
)


@settings(max_examples=100, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from((*UNARY, *BINARY)), st.integers(0, 9), st.integers(0, 9)),
        min_size=2,
        max_size=9,
    ),
    looked_at=st.sets(st.integers(0, 9), min_size=1, max_size=3),
)
def test_what_is_not_refused_is_what_the_network_computes(
    calls: list[tuple[Callable[..., Tensor], int, int]], looked_at: set[int]
) -> None:
    """Views, constants and what overwrites them, in any order; there is no comparison here."""

    def network(x: Tensor) -> Tensor:
        tensors = [x * 2.0, torch.full((1, 2, 1, 1), 3.0)]
        for function, one, other in calls:
            given = tensors[one % len(tensors)], tensors[other % len(tensors)]
            with suppress(RuntimeError, IndexError):  # not of this shape
                tensors.append(function(*given[: 2 if function in BINARY else 1]))
        seen = [tensors[place % len(tensors)].mean() for place in sorted(looked_at)]
        return x.flatten(1) + torch.stack(seen).sum()

    book = ValueTable()
    with suppress(module.NotRecordableError):
        found = steps(record(network, torch.full((2, 3, 3), 0.25), book))
        images = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(1))
        plan = ExecutionPlan([found], [found[-1].number])
        (logits,) = BatchedExecutor(book.number("images")).logits(plan, images)
        torch.testing.assert_close(logits, network(images), equal_nan=True)  # means of nothing
        event("recorded")


def test_views_of_another_type_are_other_constants() -> None:
    weight = nn.Parameter(torch.ones(1))
    book = ValueTable([weight])

    def number(what: Callable[[Tensor], Tensor]) -> int:
        return record(what, torch.zeros(1, 2, 2), book).result

    bits = number(lambda x: x * weight.view(torch.int32))
    assert number(lambda x: x * weight) != bits
    assert number(lambda x: x * weight.view(torch.int32)) == bits
    assert number(lambda x: torch.clamp(x, min=0.0)) != number(lambda x: torch.clamp(x, min=-0.0))


def test_a_network_that_does_nothing_is_refused() -> None:
    with pytest.raises(module.NotRecordableError, match="do not follow from the images"):
        steps(record(lambda x: x, torch.zeros(1, 2, 2), ValueTable()))
