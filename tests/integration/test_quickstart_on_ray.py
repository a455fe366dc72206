"""The first experiment of the README on a Ray of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from integration.test_experiments import CHECKOUT, whole


@pytest.mark.ray
def test_quickstart_on_ray_as_a_user_types_it(tmp_path: Path) -> None:
    """In a process of its own, from another folder: workers must find the experiment's file."""
    command = [sys.executable, "-m", "raynas.cli.main", "run",
               str(CHECKOUT / "experiments" / "quickstart.py"), "--smoke",
               "--set", "resources.concurrent=1"]  # fmt: skip
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    heads = dict.fromkeys(line.split(":")[0] for line in lines)
    assert [head for head in heads if "%" not in head or "100%" in head] == [
        "search · tpe 100%", "search · random 100%", "final · tpe 100%", "best network", "report",
    ]  # fmt: skip
    # none of Tune's own lines; ours come every ten seconds, so a busy machine has more
    assert all("·" in head for head in [*heads][:-2])
    run = tmp_path / "runs" / "quickstart"
    whole(run)
    assert not (run / "tune").exists() or not any((run / "tune").iterdir())
