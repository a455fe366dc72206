"""Latency from a table of layers."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from raynas.core import UserError
from raynas.costs import LatencyTable
from raynas.costs import table as module

torch.set_num_threads(1)

LAST = torch.channels_last


class Burn(nn.Module):
    """Computes for so many milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def extra_repr(self) -> str:
        return f"{self.milliseconds}"

    def forward(self, x):
        began = time.thread_time()
        while time.thread_time() - began < self.milliseconds / 1000:
            pass
        return x


def burning(*milliseconds: float) -> nn.Sequential:
    """A network that takes their sum, and one millisecond beside its layers."""
    return nn.Sequential(Beside(nn.Sequential(*(Burn(m) for m in milliseconds))))


class Beside(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        began = time.thread_time()
        while time.thread_time() - began < 0.001:
            pass
        return self.inner(x)


@pytest.fixture
def timed(monkeypatch):
    """The layers and networks whose time is taken, in this order."""
    seen = []
    measure = module.measure_latency

    def spy(network, *args, **kwargs):
        seen.append((type(network).__name__, str(network)))
        return measure(network, *args, **kwargs)

    monkeypatch.setattr(module, "measure_latency", spy)
    return seen


def test_a_distinct_layer_is_timed_once_and_the_sum_counts_each_use(timed):
    table = LatencyTable((3, 4, 4), repeats=3)
    network = burning(1, 2, 1, 1)
    assert table.total_ms(network) == pytest.approx(5, rel=0.3)
    assert [text for _, text in timed] == ["Burn(1)", "Burn(2)"]
    assert table.total_ms(burning(2, 2)) == pytest.approx(4, rel=0.3)
    assert len(table) == len(timed) == 2


def test_layers_with_another_input_or_other_weights_are_others():
    table = LatencyTable((3, 8, 8), repeats=1)
    table.total_ms(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)))
    assert len(table) == 1
    table.total_ms(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, stride=2), nn.ReLU()))
    assert len(table) == 3
    halved = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 3, 3, padding=1), nn.Identity())
    table.total_ms(halved)
    assert len(table) == 5  # the pool, the convolution of smaller maps; the identity costs nothing
    table.total_ms(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)))
    assert len(table) == 6


def test_a_line_stands_for_what_lies_between_layers(timed):
    table = LatencyTable((1, 2, 2), repeats=3)
    table.fit([burning(1), burning(4), burning(8)])
    assert table.predict_ms(burning(4, 1)) == pytest.approx(6, rel=0.15)
    error = table.error([burning(1, 1), burning(4, 4), burning(8, 4)])
    assert error.networks == 3
    assert error.median_percent <= error.worst_percent < 30
    assert error.tau == 1
    assert str(error).endswith("tau 1.00 on 3 networks")
    assert sum(name == "Burn" for name, _ in timed) == 3  # nothing is timed twice


def test_networks_that_are_all_alike_give_their_mean():
    table = LatencyTable((1, 2, 2), repeats=3)
    table.fit([burning(3), burning(3)])
    assert table.predict_ms(burning(3)) == pytest.approx(4, rel=0.2)


def test_the_network_stays_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    network[1].eval()
    mean = network[1].running_mean.clone()
    LatencyTable((3, 8, 8), repeats=1).total_ms(network)
    assert [m.training for m in network.modules()] == [True, True, False]
    assert torch.equal(network[1].running_mean, mean)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Bilinear(4, 4, 2)

    def forward(self, x):
        return self.mix(x, x)


def test_what_a_table_cannot_do_is_said():
    with pytest.raises(UserError, match="layers such as Bilinear; expected: layers that take"):
        LatencyTable((4,), repeats=1).total_ms(TwoInputs())
    with pytest.raises(UserError, match="fitted on 1 networks"):
        LatencyTable((4,), repeats=1).fit([nn.ReLU()])
    with pytest.raises(UserError, match="repeats=0"):
        LatencyTable((4,), repeats=0)


class Silent(nn.Module):
    """Shows nothing of itself in its ``repr``."""

    factor = 1

    def __init__(self, rounds=1, **settings):
        super().__init__()
        self._rounds = rounds
        self.settings = settings

    def forward(self, x):
        for _ in range(self._rounds):
            x = x * self.factor
        return x


class Gate(nn.Module):
    """Does more where its weight says so."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, x):
        return x @ x if self.weight > 0 else x


class Scale(nn.Module):
    def __init__(self, channels, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), value))
        self.register_buffer("shift", torch.zeros(1, dtype=torch.float64), persistent=False)

    def forward(self, x):
        return x * self.weight + self.shift.float()


def other_class():
    """A class of one name and ``repr`` with :class:`Scale` that does something else."""

    class Scale(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))

        def forward(self, x):
            return (x * self.weight).exp()

    return Scale


def with_hook(layer):
    layer.register_forward_hook(lambda *_: None)
    return layer


def with_own_forward(layer):
    layer.forward = lambda x: x.exp().exp()
    return layer


def typed_buffer(dtype):
    layer = Scale(3)
    layer.shift = layer.shift.to(dtype)
    return layer


def frozen_scale(value):
    return Scale(3, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Silent(1), lambda: Silent(9)),
        (lambda: Silent(mode="a"), lambda: Silent(mode="b")),
        (lambda: Silent(sizes=[1, 2]), lambda: Silent(sizes=[1, 3])),
        (lambda: Silent(inner=Silent(1)), lambda: Silent(inner=Silent(2))),
        (lambda: Scale(3), lambda: other_class()(3)),
        (lambda: typed_buffer(torch.float64), lambda: typed_buffer(torch.float16)),
        (nn.ReLU, lambda: with_hook(nn.ReLU())),
        (nn.ReLU, lambda: with_own_forward(nn.ReLU())),
        (lambda: Gate(1), lambda: Gate(-1)),
        (lambda: nn.Conv2d(3, 3, 3), lambda: nn.Conv2d(3, 3, 3).to(memory_format=LAST)),
    ],
)
def test_layers_that_differ_in_what_no_repr_shows_are_others(one, other):
    table = LatencyTable((3, 8, 8), repeats=1)
    table.total_ms(nn.Sequential(one()))
    table.total_ms(nn.Sequential(other()))
    assert len(table) == 2


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(3, 6, 3, bias=False),
        lambda: nn.BatchNorm2d(3),
        lambda: Silent(2, mode="a", shape=torch.Size([1]), table={"x": (1.0, None)}),
        lambda: frozen_scale(torch.rand(()).item()),
        lambda: nn.Dropout(0.25),
    ],
)
def test_equal_layers_of_other_weights_are_timed_once(layer, timed):
    table = LatencyTable((3, 8, 8), repeats=1)
    table.total_ms(nn.Sequential(layer()))
    table.total_ms(nn.Sequential(layer()))
    assert len(table) == len(timed) == 1


def test_a_class_that_was_changed_meanwhile_is_another(monkeypatch):
    table = LatencyTable((3, 8, 8), repeats=1)
    table.total_ms(nn.Sequential(Silent()))
    monkeypatch.setattr(Silent, "factor", 2)
    table.total_ms(nn.Sequential(Silent()))
    monkeypatch.setattr(Silent, "forward", lambda _self, x: x)
    table.total_ms(nn.Sequential(Silent()))
    assert len(table) == 3


def test_a_layer_without_a_sure_key_is_timed_each_time(timed):
    import threading

    table = LatencyTable((3, 8, 8), repeats=1)
    layer = Gate(1)
    branching = nn.Sequential(layer)
    for _ in range(2):
        table.total_ms(branching)
    assert [kind for kind, _ in timed] == ["Gate", "Gate"]
    hidden = Silent(iterator=threading.local())
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    with pytest.raises(TypeError, match="pickle"):  # a copy is timed, and this one has none
        table.total_ms(nn.Sequential(hidden))
    assert torch.equal(torch.random.get_rng_state(), before)
