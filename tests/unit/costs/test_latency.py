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


class Slow(nn.Module):
    """Sleeps as long as it is told, pass by pass; keeps what it saw."""

    seen: list[tuple[torch.Size, bool, bool, int]]

    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.left = list(milliseconds)
        self.weight = nn.Parameter(torch.ones(1))
        Slow.seen = []

    def forward(self, x):
        Slow.seen.append((x.shape, self.training, torch.is_grad_enabled(), torch.get_num_threads()))
        time.sleep(self.left.pop(0) / 1000)
        return x * self.weight


def test_median_and_quartiles_after_the_warm_up_in_milliseconds():
    network = Slow(*[40] * 10, 2, 4, 6, 8, 90)
    found = measure_latency(network, (3, 8, 8), repeats=5, threads=2)  # two: by the clock
    assert 6 <= found.median_ms < 12
    assert 3.5 <= found.iqr_ms < 12
    assert (found.repeats, found.batch, found.dtype) == (5, 1, "float32")
    assert (found.device, found.threads, found.clock) == ("cpu", 2, "wall")
    assert str(found).endswith("batch 1, float32, cpu, threads 2, wall time)")


class Busy(nn.Module):
    """Computes for 3 ms, and sleeps for 10."""

    def forward(self, x):
        time.sleep(0.01)
        began = time.thread_time()
        while time.thread_time() - began < 0.003:
            pass
        return x


def test_the_turns_of_others_do_not_count_for_one_thread():
    found = measure_latency(Busy(), (3, 8, 8), repeats=5)
    assert 3 <= found.median_ms < 6
    assert found.clock == "processor"
    assert measure_latency(Busy(), (3, 8, 8), repeats=5, threads=2).median_ms >= 13


def test_latency_ms_is_the_median(monkeypatch):
    times = iter([0.0, 1.0] * 10 + [0.0, 0.002, 0.0, 0.003, 0.0, 0.007])
    monkeypatch.setattr(time, "thread_time", lambda: next(times))
    assert latency_ms(nn.Identity(), (3, 8, 8), repeats=3) == pytest.approx(3)


def test_other_number_formats():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert measure_latency(network, (3, 8, 8), repeats=1, dtype="bfloat16").dtype == "bfloat16"
    assert network[0].weight.dtype is torch.float32
    with pytest.raises(UserError, match="dtype='float8'; allowed: float32, bfloat16, float16"):
        measure_latency(network, (3, 8, 8), dtype="float8")


def test_a_pass_is_in_eval_mode_without_gradients_of_a_whole_batch():
    before = torch.get_num_threads()
    latency_ms(Slow(*[0] * 11), (3, 8, 8), batch=4, repeats=1, threads=2)
    assert set(Slow.seen) == {((4, 3, 8, 8), False, False, 2)}
    assert len(Slow.seen) == 11
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
        latency_ms(Slow(), (3, 8, 8), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["batch", "repeats", "threads"])
def test_bad_settings_are_named(name):
    with pytest.raises(UserError, match=f"{name}=0; allowed: 1 or more"):
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
