"""One Ray session a module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from raynas.runners.tune import TuneRunner

# GPUs of the clusters here are only counted; workers inherit it from the process that starts Ray
os.environ.setdefault("RAYNAS_PRETEND_GPUS", "1")


@pytest.fixture(scope="module")
def ray_session() -> Iterator[TuneRunner]:
    """Keeps Ray alive on two CPU cores; other runners of this process join it."""
    import toys
    from integration import toy_runs

    from raynas.runners.tune import TuneRunner

    runner = TuneRunner(modules=(toys, toy_runs), address=None)
    runner.open()
    yield runner
    runner.close()


@pytest.fixture
def tune(ray_session: TuneRunner, tmp_path: Any) -> Any:
    """Makes runners on the module's session; their scratch folder is ``tmp_path/tune``."""
    from raynas.runners.base import Resources
    from raynas.runners.tune import TuneRunner

    def make(**resources: Any) -> TuneRunner:
        return TuneRunner(
            Resources(**resources), scratch=tmp_path / "tune", modules=ray_session.modules
        )

    return make
