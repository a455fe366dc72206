"""The suite that every scheduler passes. A new scheduler: a line in ``MAKERS``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raynas.schedulers import (
    ASHA,
    PASHA,
    CurvePrediction,
    Hyperband,
    NoStopping,
    PromotionASHA,
    Scheduler,
    SuccessiveHalving,
    schedulers,
)
from raynas.testing.schedulers import SchedulerTestCase

MAKERS = {
    "asha": ASHA,
    "asha, factor 2 from step 2": lambda: ASHA(min_step=2, factor=2),
    "asha to step 4": lambda: ASHA(max_step=4),
    "promotion": PromotionASHA,
    "promotion, factor 2 to step 6": lambda: PromotionASHA(factor=2, max_step=6),
    "pasha": PASHA,
    "pasha, factor 2": lambda: PASHA(factor=2, epsilon=0.0),
    "hyperband": lambda: Hyperband(min_step=2),
    "hyperband, factor 2": lambda: Hyperband(factor=2, brackets=2),
    "halving": lambda: SuccessiveHalving(min_step=2),
    "halving of four": lambda: SuccessiveHalving(size=4, overlap=False),
    "curves": CurvePrediction,
    "curves, bold": lambda: CurvePrediction(best=1, confidence=0.5, enough=4),
    "none": NoStopping,
}


class TestSchedulers(SchedulerTestCase):
    @pytest.fixture(params=MAKERS)
    def scheduler(self, request: pytest.FixtureRequest) -> Callable[[], Scheduler]:
        make: Callable[[], Scheduler] = MAKERS[request.param]
        return make


def test_the_suite_knows_every_scheduler():
    assert {make().name for make in MAKERS.values()} == set(schedulers())
