"""Schedulers decide which trials go on and which stop early.

To add one, write a file in this folder and a line in ``SCHEDULERS``.
"""

from raynas.schedulers.asha import ASHA
from raynas.schedulers.base import Rung, Scheduler
from raynas.schedulers.curves import CurvePrediction
from raynas.schedulers.hyperband import Hyperband, SuccessiveHalving
from raynas.schedulers.none import NoStopping
from raynas.schedulers.pasha import PASHA
from raynas.schedulers.promotion import PromotionASHA

SCHEDULERS: tuple[type[Scheduler], ...] = (
    ASHA,
    PromotionASHA,
    PASHA,
    Hyperband,
    SuccessiveHalving,
    CurvePrediction,
    NoStopping,
)

__all__ = [
    "ASHA", "CurvePrediction", "PASHA", "Hyperband", "NoStopping", "PromotionASHA", "Rung",
    "Scheduler", "SuccessiveHalving", "schedulers",
]  # fmt: skip


def schedulers() -> dict[str, type[Scheduler]]:
    """Return every scheduler of the package.

    Returns:
        Name -> class.
    """
    return {cls.name: cls for cls in SCHEDULERS}
