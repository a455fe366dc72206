"""The benchmark of size still runs, and a driver of 2,000 evaluations has not grown by much."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.long]
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_scale.py"


def test_a_trial_costs_the_driver_a_few_kilobytes() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--sides", "quick", "--quick", "2000"],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = re.search(r"^\| quick \| 2000 \| (-?[\d.]+) \|", done.stdout, re.MULTILINE)
    assert row, done.stdout
    assert float(row[1]) < 50  # 5 on a quiet machine; plain Ray Tune: some hundred
