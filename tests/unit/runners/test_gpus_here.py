"""A local run that asks for GPUs gets them, or says that there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import experiment_file, raynas

from raynas.core import UserError
from raynas.runners.base import Resources
from raynas.runners.gpus import local_device
from raynas.runners.local import LocalRunner


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """So many GPUs that torch sees."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


@pytest.mark.parametrize(
    ("gpus", "wanted"), [(0, 2), (0, 1.0), (0, 0.25), (1, 2), (2, 3)], indirect=["gpus"]
)
def test_gpus_that_are_not_there_are_refused(gpus: int, wanted: float) -> None:
    sees = f"sees {gpus}" if gpus else "sees none"
    words = rf"resources.gpus={wanted:g} .*{sees}.*resources.gpus={gpus}"
    with pytest.raises(UserError, match=words):
        LocalRunner(Resources(gpus=wanted))


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("gpus", "wanted", "device"),
    [
        (0, None, "cpu"), (0, "fit", "cpu"), (0, 0, "cpu"), (1, None, "cuda"), (1, 0.5, "cuda"),
        (1, 0, "cpu"), (2, 2, "cuda"),
    ],
    indirect=["gpus"],
)  # fmt: skip
def test_what_is_left_open_takes_what_there_is(wanted: float, device: str) -> None:
    assert local_device(wanted) == device
    LocalRunner(Resources(gpus=wanted))


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("gpus", [0], indirect=True)
def test_a_run_says_so_before_there_is_a_folder(tmp_path: Path) -> None:
    file, folder = experiment_file(tmp_path / "toy.py"), tmp_path / "run"
    called = raynas("run", file, "--local", "--output", folder, "--set", "resources.gpus=2")
    assert called.code == 2
    assert called.err.startswith("error: resources.gpus=2 in this process, but torch sees none")
    assert called.err.count("\n") == 1
    assert not folder.exists()
