"""A run folder, its writer, and rows for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raynas.core import Metric
from raynas.store import Provenance, RunFolder, RunInfo, Writer

METRICS = (
    Metric("val_accuracy", "%", "max", "share right"),
    Metric("latency_ms", "ms", "min", "median"),
)
Row = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def info() -> RunInfo:
    return RunInfo(
        run="digits-1",
        name="digits",
        fingerprint="0123456789ab",
        description={"trials": 32, "sampler": {"class": "TPE", "seed": 1}, "bounds": [1, 2]},
        source_file="/somewhere/digits.py",
        overrides={"trials": 32},
        metrics=METRICS,
    )


@pytest.fixture
def folder(tmp_path: Path, info: RunInfo) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "digits", info, "x = 1\n")


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance("abc", {"python": "3", "raynas": "0"}, "a-host", "an-os", 2)


@pytest.fixture
def writer(folder: RunFolder, provenance: Provenance) -> Iterator[Writer]:
    with Writer(folder, 1, provenance) as writer:
        yield writer


@pytest.fixture(scope="session")
def row() -> Row:
    def make(trial: int = 0, step: int | None = 1, **changes: Any) -> dict[str, Any]:
        return {
            "stage": "search", "arm": "random", "trial": trial, "attempt": 0,
            "arch_id": f"{trial:012x}", "arch": f"arch {trial}", "proposal": f"asked {trial}",
            "seed": 7, "step": step, "state": "RUNNING", "seconds": 0.5, "device": "cpu",
            "val_accuracy": None if step is None else 10.0 * step, **changes,
        }  # fmt: skip

    return make
