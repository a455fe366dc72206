"""More of the same: what `make test-long` repeats of a test that `make test` runs in part."""

from __future__ import annotations

from typing import Any

import pytest


def more(*values: Any) -> list[Any]:
    """Return parameters of a test for which it is marked ``long``."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]
