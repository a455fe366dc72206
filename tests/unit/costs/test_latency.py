"""The time of a forward pass."""

import copy
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from raynas.core import UserError
from raynas.costs import latency_ms, measure_latency


class Watched(nn.Module):
    """Keeps what it saw; ``passes`` at most."""

    seen: list[tuple[torch.Size, bool, bool, int]]

    def __init__(self, passes: int = 100) -> None:
        super().__init__()
        self.left = passes
        self.weight = nn.Parameter(torch.ones(1))
        Watched.seen = []

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise IndexError("one pass too many")
        state = (x.shape, self.training, torch.is_grad_enabled(), torch.get_num_threads())
        Watched.seen.append(state)
        return x * self.weight


def passing(*milliseconds: float):
    """A clock that is read before and after each pass: ten of a second, then these."""
    moments, now = [], 0.0
    for took in (*[1000.0] * 10, *milliseconds):
        moments += [now, now + took / 1000]
        now += 5 + took / 1000  # what is between passes does not count
    left = iter(moments)
    return lambda: next(left)


def test_median_and_quartiles_after_the_warm_up_in_milliseconds(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", passing(8, 4, 90, 2, 6))
    found = measure_latency(nn.Identity(), (3, 8, 8), repeats=5, threads=2)  # two: by the clock
    assert found.median_ms == pytest.approx(6)
    assert found.iqr_ms == pytest.approx(4)
    assert (found.repeats, found.batch, found.dtype) == (5, 1, "float32")
    assert (found.device, found.threads, found.clock) == ("cpu", 2, "wall")
    assert str(found) == "6 ms (IQR 4; batch 1, float32, cpu, threads 2, wall time)"


class Asleep(nn.Module):
    """Sleeps for 50 ms, as a process does that waits for its turn."""

    def forward(self, x):
        time.sleep(0.05)
        return x


def test_the_turns_of_others_do_not_count_for_one_thread():
    found = measure_latency(Asleep(), (3, 8, 8), repeats=3)
    assert 0 < found.median_ms < 50
    assert found.clock == "processor"
    assert measure_latency(Asleep(), (3, 8, 8), repeats=3, threads=2).median_ms >= 50


def test_latency_ms_is_the_median(monkeypatch):
    monkeypatch.setattr(time, "thread_time", passing(2, 3, 7))
    assert latency_ms(nn.Identity(), (3, 8, 8), repeats=3) == pytest.approx(3)


def test_other_number_formats():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert measure_latency(network, (3, 8, 8), repeats=1, dtype="bfloat16").dtype == "bfloat16"
    assert network[0].weight.dtype is torch.float32
    with pytest.raises(UserError, match="dtype='float8'; expected: float32, bfloat16, float16"):
        measure_latency(network, (3, 8, 8), dtype="float8")


def test_a_pass_is_in_eval_mode_without_gradients_of_a_whole_batch():
    before = torch.get_num_threads()
    latency_ms(Watched(), (3, 8, 8), batch=4, repeats=1, threads=2)
    assert set(Watched.seen) == {((4, 3, 8, 8), False, False, 2)}
    assert len(Watched.seen) == 11
    assert torch.get_num_threads() == before


def test_the_network_stays_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    network[1].eval()
    state, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    latency_ms(network, (3, 8, 8), repeats=2)
    assert [m.training for m in network.modules()] == [True, True, False, True]
    assert all(torch.equal(network.state_dict()[k], v) for k, v in state.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_threads_come_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(IndexError):
        latency_ms(Watched(passes=3), (3, 8, 8), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["batch", "repeats", "threads"])
def test_bad_settings_are_named(name):
    with pytest.raises(UserError, match=f"{name}=0; expected: 1 or more"):
        latency_ms(nn.Identity(), (3, 8, 8), **{name: 0})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_waited_for():
    network = nn.Conv2d(256, 256, 7, padding=3)
    small, large = (latency_ms(network, (256, s, s), 8, "cuda") for s in (16, 128))
    assert large > 8 * small
    assert next(network.parameters()).device.type == "cpu"


def test_the_package_imports_torch_only_when_used():
    code = (
        "import sys, raynas.costs as c; assert 'torch' not in sys.modules;"
        "c.latency_ms; c.count_network; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
