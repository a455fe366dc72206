"""Gauges and counters of Ray."""

from __future__ import annotations

import pytest

from raynas.core import UserError
from raynas.runners.ray import gauges as meters


def test_a_ray_that_serves_no_metrics_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"pip install \"ray\[default\]\""):
        meters.make_meter("gauge", "raynas_last", "last value", ("run",))
