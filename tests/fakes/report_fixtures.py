"""The synthetic runs of report_data.py as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from report_data import Rows, describe_run, info_of, screened, synthetic, zero_shot

from raynas.store import RunInfo


@pytest.fixture
def make_run() -> Callable[..., pa.Table]:
    return synthetic


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def description() -> dict[str, Any]:
    return describe_run()


@pytest.fixture
def describing() -> Callable[..., dict[str, Any]]:
    return describe_run


@pytest.fixture
def info() -> Callable[..., RunInfo]:
    return info_of


@pytest.fixture
def make_screened() -> Callable[..., pa.Table]:
    return screened


@pytest.fixture
def make_zero_shot() -> Callable[..., pa.Table]:
    return zero_shot
