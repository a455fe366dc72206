"""Who hangs is ended from outside the interpreter, and what is known of a process's memory."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from raynas.runners.placement import DeviceKind, ResourceRequest
from raynas.runners.ray.devices import _devices, _kind
from raynas.runners.ray.memory import PeakMemory, watched

HANG = """
import ctypes, sys
from raynas.runners.ray.memory import watched
with watched(0.2):
    print("begun", flush=True)
    {hang}
"""


@pytest.mark.parametrize("hang", ["import time; time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"])
def test_a_step_that_hangs_ends_its_process_and_says_where(hang: str) -> None:
    """The second one keeps the interpreter locked."""
    ended = subprocess.run(
        [sys.executable, "-c", HANG.format(hang=hang)], capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stdout) == (1, "begun\n")
    assert "Timeout" in ended.stderr
    assert 'File "<string>", line 6' in ended.stderr


def test_what_is_in_time_or_has_no_limit_goes_on() -> None:
    with pytest.raises(ValueError, match="mine"), watched(2.0):
        raise ValueError("mine")
    with watched(2.0), watched(None):
        pass
    time.sleep(2.2)  # the watch was taken off


def test_a_peak_of_main_memory_is_known_where_it_is_higher_than_all_before() -> None:
    first = PeakMemory("cpu", ResourceRequest())
    before = first.bytes()
    block = np.ones(50_000_000, np.uint8)
    while not first.bytes():  # higher than what this process has ever had
        block = np.ones(2 * len(block), np.uint8)
    assert first.bytes() > max(before, len(block))
    del block
    assert PeakMemory("cpu", ResourceRequest()).bytes() == 0


def test_devices_of_a_cluster() -> None:
    assert _devices([]) == ()
    assert _devices([("A100", 80, 8.0), ("A100", 79, 4.0)]) == (DeviceKind(79, 12),)
    assert _devices([("A100", 80, 8.0), ("T4", 16, 1.0)]) == (
        DeviceKind(80, 8, "A100"),
        DeviceKind(16, 1, "T4"),
    )
    assert _devices([("", 80, 8.0), ("T4", 16, 1.0)]) == (DeviceKind(16, 9),)
    assert _kind({"CPU": 2.0, "accelerator_type:T4": 1.0}) == "T4"
    assert _kind({"GPU": 1.0}) == ""
