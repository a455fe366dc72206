"""This module has progressive ASHA, with long trainings only while they change the ranking.

Bohdal, Balles, Wistuba, Ermis, Archambeau, Zappella, "PASHA: Efficient HPO and NAS with
Progressive Resource Allocation", ICLR 2023, https://arxiv.org/abs/2207.06940.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from raynas.core import UserError
from raynas.schedulers.promotion import PromotionScheduler
from raynas.schedulers.rungs import RungRanking


@dataclass
class PASHA(PromotionScheduler):
    """A scheduler that promotes trials as PromotionASHA does, at first to the second rung only.

    The rung above the top one is opened while the top rung and the one below it order their common
    trials differently. Ranks may differ among trials whose values in the lower rung are within
    ``epsilon`` of each other.

    Unlike the published method, which never goes back, the top rung follows from the present
    measurements, whatever the order in which they came; so a resumed search goes on as it was.

    Attributes:
        min_step: Step of the lowest rung.
        factor: Ratio of the steps of neighboring rungs, 2 or more.
        max_step: Step below which rungs are; None takes the problem's last step.
        epsilon: Difference up to which values count as equal, in the objective's unit; 0 or more.

    Raises:
        UserError: A setting is outside its range.
    """

    epsilon: float = field(default=0.5, metadata={"infinite": True})

    name: ClassVar[str] = "pasha"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise UserError(f"PASHA: epsilon = {self.epsilon}", expected="0 or more")

    def promoting_rungs(self) -> Sequence[RungRanking]:
        """Return the rungs up to the top one, which is opened as rankings change."""
        top = 1
        while top < len(self._rungs) and not self._agree(self._rungs[top - 1], self._rungs[top]):
            top += 1
        return self._rungs[:top]

    def _agree(self, low: RungRanking, high: RungRanking) -> bool:
        """Return whether both rungs order the trials of ``high`` alike; a single one always is."""
        common = [n for n in high.best(len(high.entries)) if n in low.entries]
        if len(common) < 2:
            return True
        kept = set(common)
        before = [n for n in low.best(len(low.entries)) if n in kept]
        return all(self._close(low, a, b) for a, b in zip(common, before, strict=True))

    def _close(self, rung: RungRanking, one: int, other: int) -> bool:
        pairs = zip(rung.entries[one][1], rung.entries[other][1], strict=True)
        return one == other or all(abs(a - b) <= self.epsilon for a, b in pairs)
