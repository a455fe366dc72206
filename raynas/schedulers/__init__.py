"""Schedulers: which trials go on and which stop early.

Adding one is a file in this folder and a line in ``SCHEDULERS``.
"""

from raynas.schedulers.asha import ASHA
from raynas.schedulers.base import Rung, Scheduler
from raynas.schedulers.none import NoStopping

SCHEDULERS: tuple[type[Scheduler], ...] = (ASHA, NoStopping)

__all__ = ["ASHA", "NoStopping", "Rung", "Scheduler", "schedulers"]


def schedulers() -> dict[str, type[Scheduler]]:
    """Every scheduler that raynas brings, by its name."""
    return {cls.name: cls for cls in SCHEDULERS}
