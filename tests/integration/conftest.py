"""Runners on the Ray that the tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from raynas.runners.ray.tune import TuneRunner


@pytest.fixture
def tune(ray_session: TuneRunner, tmp_path: Any) -> Any:
    """Makes runners on the module's session; their scratch folder is ``tmp_path/tune``."""
    from raynas.runners.base import Resources
    from raynas.runners.ray.tune import TuneRunner

    def make(**resources: Any) -> TuneRunner:
        return TuneRunner(
            Resources(**resources), scratch=tmp_path / "tune", modules=ray_session.modules
        )

    return make
